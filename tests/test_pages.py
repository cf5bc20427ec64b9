"""Pages name files, and link to places, that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from conftest import ROOT
from midge import pipeline

PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    words = (re.sub(r"[^\w\- ]", "", h.lower()) for h in headings)
    return {w.replace(" ", "-") for w in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text()):
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors(path), target


def test_contributing_names_files_that_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| a")]
    named = [n for row in rows for n in re.findall(r"`([\w/]+\.(?:py|toml))`", row)]
    assert len(named) >= 8
    for name in named:
        assert list((ROOT / "src" / "midge").rglob(name)), name
    (row,) = (row for row in rows if row.startswith("| a pass"))
    assert "`pipeline.py`" in row
    assert pipeline.MODEL_PASSES


def test_words_that_people_look_for_are_where_they_look() -> None:
    memory = (ROOT / "docs" / "memory.md").read_text()
    assert "patch-based inference" in memory.partition("\n## ")[0].lower()
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    words = re.findall(r"^\| \*\*(.+?)\*\* \|", glossary, re.MULTILINE)
    wanted = (
        "package, arena, band, cascade, ring, kernel, schedule, candidate, target, runner, scratch"
    )
    assert set(wanted.split(", ")) <= set(words)
    assert len(words) == len(set(words))
    assert "patch-based inference" in glossary
    for page in ("README.md", "docs/memory.md", "docs/architecture.md"):
        assert "glossary.md" in (ROOT / page).read_text(), page


def test_the_readme_counts_the_official_cases_as_their_page_does() -> None:
    row = re.search(
        r"^\| node \| \d+ \| (\d+) \|", (ROOT / "docs/onnx.md").read_text(), re.MULTILINE
    )
    assert row is not None
    text = " ".join((ROOT / "README.md").read_text().split())
    assert f"of the official node tests {int(row[1]):,} pass".replace(",", " ") in text
