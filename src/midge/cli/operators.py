"""How a user names one operator of a model."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Protocol

from midge.core.errors import UsageError
from midge.core.texts import words_of


class Named(Protocol):
    """name: Midge's, e.g. "conv2d_3".  src: of the model file, e.g. "operator 4, operator 5"."""

    @property
    def name(self) -> str: ...

    @property
    def src(self) -> str: ...


def find_operator(operators: Sequence[Named], text: str, where: str) -> int:
    """Which of `operators` is called `text`: by name, by number from 0, or as "@4" by its number in
    the model file, or by its name there. UsageError, with the names, if none is; `where` is the
    option or argument."""
    wanted = text.strip()
    names = [op.name for op in operators]
    if wanted in names:
        return names.index(wanted)
    if wanted.isdecimal() and int(wanted) < len(names):
        return int(wanted)
    for i, op in enumerate(operators):
        if wanted in words_of(op.src):
            return i
    raise UsageError(f"there is no operator {text!r}", where=where, hint=_hint(wanted, names))


def _hint(wanted: str, names: Sequence[str]) -> str:
    near = get_close_matches(wanted, names, n=3)
    known = f"it has {', '.join(names)}" if names else "the model has none"
    return f"did you mean {', '.join(near)}? {known}" if near else known
