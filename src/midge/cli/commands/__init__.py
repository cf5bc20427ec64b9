"""Commands by name; each file beside this one adds its own, of its own name."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from midge.core.cache_upkeep import cache_limit
from midge.core.files import check_apart

COMMANDS: dict[str, Callable[..., Any]] = {}


def command(
    name: str, *, writes: tuple[str, ...] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a typer command. writes: its parameters that name what it writes; it does not start
    if that took the place of one of the other files that it is given."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(**words: Any) -> Any:
            cache_limit()  # refused by all, also by those that store nothing
            for word in writes:
                if (output := words[word]) is not None:
                    check_apart(
                        output, f"--{word.replace('_', '-')}", files_of(**{**words, word: None})
                    )
            return function(**words)

        COMMANDS[name] = run
        return function

    return add


def load(words: Sequence[str]) -> None:
    """Import the command that a command line names; all, where it names none that there is: what
    they import takes longer than the quick ones themselves."""
    names = [info.name for info in pkgutil.iter_modules(__path__)]
    named = next((w for w in words if not w.startswith("-")), "")
    if words == ["--version"]:
        return
    for name in [named] if named in names else names:
        importlib.import_module(f"{__name__}.{name}")


def files_of(**words: Any) -> list[Path]:
    """The files that a command line names."""
    paths = [v for v in words.values() if isinstance(v, Path)]
    if isinstance(model := words.get("model"), Path):
        from midge.frontends import model_files

        paths += model_files(model)
    board = words.get("target")
    return [*paths, Path(board)] if board and board.endswith(".toml") else paths
