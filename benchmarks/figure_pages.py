"""Marked places in Markdown that figures are written into.

    <!-- figures: NAME -->        on a line of its own: what is between it and the end is a block
    | ... | ... |
    <!-- end -->

    takes <!-- figures: run kws_int8: arena -->4 722<!-- end --> bytes        inside a line: a value

Marks are comments, which no reader of the page sees. A line that begins with one is no Markdown,
so values stand behind a word. `<!-- figures by hand -->` stands before a line that says where
figures are from that no script measures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from midge.core.errors import UsageError

ROOT = Path(__file__).parents[1]
END = "<!-- end -->"
BY_HAND = "<!-- figures by hand -->"
_MARK = re.compile(rf"<!-- figures: (?P<name>.+?) -->|{END}")


@dataclass(frozen=True, slots=True)
class Place:
    """start, stop: of the text between the marks.  where: page and line, for errors."""

    name: str
    where: str
    start: int
    stop: int


def pages() -> list[Path]:
    """Every page that may have figures."""
    folders = (ROOT / "docs", ROOT / "examples")
    return [ROOT / "README.md", *sorted(p for f in folders for p in f.rglob("*.md"))]


def by_hand() -> list[tuple[str, str]]:
    """Where figures are that no script measures, and what the page says of them."""
    found = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for mark in re.finditer(rf"{BY_HAND}\s*(.+)", text):
            found.append((_where(name_of(page), text, mark.start()), mark[1]))
    return found


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT)) if page.is_relative_to(ROOT) else str(page)


def places(page: str, text: str) -> list[Place]:
    """The marked places of a page in their order; UsageError where marks do not pair."""
    found: list[Place] = []
    begun: re.Match[str] | None = None
    for mark in _MARK.finditer(text):
        if (mark["name"] is None) == (begun is None):
            odd = mark if begun is None else begun
            raise _unpaired(odd["name"], _where(page, text, odd.start()))
        if begun is not None:
            where = _where(page, text, begun.start())
            found.append(Place(begun["name"], where, begun.end(), mark.start()))
        begun = mark if begun is None else None
    if begun is not None:
        raise _unpaired(begun["name"], _where(page, text, begun.start()))
    return found


def _where(page: str, text: str, at: int) -> str:
    return f"{page}:{text.count(chr(10), 0, at) + 1}"


def _unpaired(name: str | None, where: str) -> UsageError:
    if name is None:
        return UsageError(f"{END} without a beginning", where=where, hint="take it out")
    hint = f"write {END} behind its figures"
    return UsageError(f"the figures {name!r} have no end", where=where, hint=hint)


def rewritten(text: str, marked: Iterable[Place], content: Callable[[Place], str]) -> str:
    """`text` with the content of each place between its marks."""
    parts, at = [], 0
    for place in marked:
        inner = content(place)
        if text[place.start : place.start + 1] == "\n":
            inner = f"\n{inner}\n"
        parts += [text[at : place.start], inner]
        at = place.stop
    return "".join([*parts, text[at:]])
