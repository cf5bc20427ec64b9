"""Attributes of operators: what they may be, and reading one as what it should be.

Reading one that is missing or of another kind raises VerifyError: attributes come from files.
"""

from __future__ import annotations

from collections.abc import Mapping

from midge.core.errors import VerifyError

Attr = int | float | str | tuple[int | float, ...]
Attrs = Mapping[str, Attr]


def integer(attrs: Attrs, name: str, default: int | None = None) -> int:
    value = attrs.get(name, default)
    if not isinstance(value, int):
        raise _wrong(name, value, "an integer")
    return value


def number(attrs: Attrs, name: str, default: float | None = None) -> float:
    value = attrs.get(name, default)
    if not isinstance(value, int | float):
        raise _wrong(name, value, "a number")
    return float(value)


def text(attrs: Attrs, name: str, default: str | None = None) -> str:
    value = attrs.get(name, default)
    if not isinstance(value, str):
        raise _wrong(name, value, "a word")
    return value


def integers(attrs: Attrs, name: str, count: int | None = None) -> tuple[int, ...]:
    """A tuple of integers, of `count` if given."""
    value = attrs.get(name)
    if not isinstance(value, tuple) or (count is not None and len(value) != count):
        raise _wrong(name, value, "integers" if count is None else f"{count} integers")
    if not all(isinstance(v, int) for v in value):
        raise _wrong(name, value, "integers")
    return tuple(map(int, value))


def _wrong(name: str, value: object, expected: str) -> VerifyError:
    return VerifyError(f"attribute {name} is {value!r}, expected {expected}", where="attributes")
