"""The C that is shipped with a model: headers in `include/`, copied as they are."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

LICENSE = "MIT-0"  # of these headers, and of all that Midge writes into a package


def header(name: str) -> str:
    """The text of a runtime header."""
    return (files(__name__) / "include" / name).read_text(encoding="utf-8")


@cache
def headers() -> tuple[str, ...]:
    """The texts of all of them, by name."""
    return tuple(header(name) for name in sorted(_names()))


def _names() -> list[str]:
    found = (entry.name for entry in (files(__name__) / "include").iterdir())
    return [name for name in found if name.endswith(".h")]


@cache
def included(name: str) -> frozenset[str]:
    """The runtime headers that a header includes, itself among them; midge_compiler.h, which every
    package has, is not counted."""
    found = re.findall(r'^#include "(\w+\.h)"$', header(name), re.MULTILINE)
    others = (included(n) for n in found if n != "midge_compiler.h")
    return frozenset({name}).union(*others)
