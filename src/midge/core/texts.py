"""Texts out of models, where there is a line for them."""

from __future__ import annotations

_WIDTH = 30  # of which two stand in a line


def shorten(text: str) -> str:
    """`text` on one line, its middle left out if it is long."""
    clean = text if text.isprintable() else repr(text)[1:-1]
    half = (_WIDTH - 3) // 2
    return clean if len(clean) <= _WIDTH else f"{clean[:half]}...{clean[-half:]}"
