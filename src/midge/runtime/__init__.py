"""The C that is shipped with a model: headers in `include/`, copied as they are."""

from __future__ import annotations

from importlib.resources import files


def header(name: str) -> str:
    """The text of a runtime header."""
    return (files(__name__) / "include" / name).read_text(encoding="utf-8")
