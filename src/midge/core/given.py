"""What a Python program gives for an argument, as what it is meant to be, or a UsageError."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from midge.core.errors import UsageError


def of_kind(value: object, where: str, *kinds: type) -> None:
    """UsageError for what is none of `kinds`."""
    if not isinstance(value, kinds):
        known = ", ".join("None" if k is type(None) else k.__name__ for k in kinds)
        raise UsageError(f"is {type(value).__name__}", where=where, hint=f"give {known}")


def path_of(value: object, where: str) -> Path:
    """The path of a file or a folder. UsageError for "", which would be the current folder, and
    for what no system takes."""
    of_kind(value, where, str, Path)
    text = str(value)
    if not text:
        raise UsageError("is empty", where=where, hint='give a path; "." is the current folder')
    if "\0" in text:
        raise UsageError(f"{text!r} has a NUL", where=where, hint="give a path without one")
    return Path(text)


def texts_of(value: str | Collection[str], where: str) -> tuple[str, ...]:
    """One text, or several, each once."""
    of_kind(value, where, str, Collection)
    found = (value,) if isinstance(value, str) else tuple(value)
    for text in found:
        of_kind(text, where, str)
    return tuple(dict.fromkeys(found))


@contextmanager
def in_python() -> Iterator[None]:
    """What a UsageError calls --max-ram, Python calls max_ram."""
    try:
        yield
    except UsageError as error:
        what, where, hint = map(_python_of, (error.what, error.where, error.hint))
        raise UsageError(what, where=where, hint=hint) from None


_PAIR = re.compile(r"--pool (\w+)=(\w+)")
_FLAG = re.compile(r"--([a-z][a-z0-9-]*)")
_SEVERAL = {"pool": "pools", "shape": "shapes"}


def _python_of(text: str) -> str:
    """ "--pool a=1K" -> 'pools={"a": "1K"}', "--max-ram" -> "max_ram"."""
    if pairs := ", ".join(f'"{name}": "{size}"' for name, size in _PAIR.findall(text)):
        text = _PAIR.sub("", _PAIR.sub(lambda _: f"pools={{{pairs}}}", text, count=1)).rstrip()
    return _FLAG.sub(lambda m: _SEVERAL.get(m[1], m[1].replace("-", "_")), text)
