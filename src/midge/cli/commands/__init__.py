"""Commands by name; each file beside this one adds its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

COMMANDS: dict[str, Callable[..., Any]] = {}


def command(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a typer command."""

    def add(function: Callable[..., Any]) -> Callable[..., Any]:
        COMMANDS[name] = function
        return function

    return add
