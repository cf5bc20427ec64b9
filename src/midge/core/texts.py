"""Texts out of models, where there is a line for them."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

_WIDTH = 30  # of which two stand in a line
_MOST_LISTED = 4
_PLACES = re.compile(r"""\b((?:operator|node) (\d+))(?: ('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"))?""")


def shorten(text: str) -> str:
    """`text` on one line, its middle left out if it is long."""
    clean = text if text.isprintable() else repr(text)[1:-1]
    half = (_WIDTH - 3) // 2
    return clean if len(clean) <= _WIDTH else f"{clean[:half]}...{clean[-half:]}"


def listed(title: str, tensors: Sequence[tuple[str, object]]) -> str:
    """Names and types of the first tensors, a line each, behind a title of at most 8 letters."""
    shown = [f"{shorten(n)}: {shorten(str(t))}" for n, t in tensors[:_MOST_LISTED]]
    more = len(tensors) - len(shown)
    lines = [*shown, *([f"{more} more"] if more else [])]
    return f"  {title:<9}" + f",\n{'':<11}".join(lines)


def words_of(src: str) -> set[str]:
    """What users call the operators of a model file that `src` names (e.g. "node 3 'c2', node 4"):
    by number, "@3" or "node 3", and by the names that they have there."""
    found: set[str] = set()
    for place, number, name in _PLACES.findall(src):
        found |= {place, f"@{number}"} | ({str(ast.literal_eval(name))} if name else set())
    return found
