"""Figures in pages are those that were measured, and nobody types them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT
from midge.core.errors import UsageError

sys.path.append(str(ROOT / "benchmarks"))

import figure_pages
import figure_sources
import figure_tables
import figures

MEASURED = json.loads(figures.KEPT.read_text())
PAGES = [figures.read(path) for path in figure_pages.pages()]
SHOWING = [page for page in PAGES if page.places]
VERSIONS = "<!-- figures: versions -->\n<!-- end -->\n"
KWS = "<!-- figures: run kws_int8: arena -->"


def page(text: str) -> figures.Page:
    return figures.Page(Path("a.md"), text, tuple(figure_pages.places("a.md", text)))


@pytest.mark.parametrize("shown", SHOWING, ids=lambda p: p.name)
def test_pages_show_what_was_measured(shown: figures.Page) -> None:
    assert shown.written(MEASURED) == shown.text, "run benchmarks/figures.py --pages"


def test_nothing_else_is_kept() -> None:
    assert {*figures.needed(SHOWING, []), "versions"} == set(MEASURED)
    named = {place.name for shown in SHOWING for place in shown.places}
    assert set(figure_tables.TABLES) <= named


def test_figures_rest_on_the_versions_that_are_pinned() -> None:
    pins = figure_sources.pins()
    assert {"ziglang", "unicorn", "capstone", "ortools"} <= set(pins)
    assert pins == {name: MEASURED["versions"][name] for name in pins}


def test_tables_with_large_numbers_are_not_typed() -> None:
    """Outside of the marks no table has a number of four digits or more."""
    for shown in PAGES:
        rest = figure_pages.rewritten(shown.text, shown.places, lambda _: "")
        rows = [line for line in rest.splitlines() if line.startswith("|")]
        assert [r for r in rows if re.search(r"\b\d{1,3} \d{3}\b|\| \d+\.\d+ M", r)] == []


def test_blocks_and_values_are_written_between_their_marks() -> None:
    text = f"# A\n\n{VERSIONS}\ntakes {KWS}5<!-- end --> bytes\n"
    written = page(text).written(MEASURED)
    arena = f"{MEASURED['run kws_int8']['arena']:,}".replace(",", " ")
    assert f"takes {KWS}{arena}<!-- end --> bytes\n" in written
    block = re.search(r"<!-- figures: versions -->\n(.+?)\n<!-- end -->\n", written, re.DOTALL)
    assert block is not None
    assert f"ziglang {MEASURED['versions']['ziglang']}" in block[1]
    assert page(written).written(MEASURED) == written


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a\n<!-- figures: peers -->\n| |\n", "a.md:2: the figures 'peers' have no end"),
        (f"<!-- figures: peers -->\n\n{VERSIONS}", "a.md:1: the figures 'peers' have no end"),
        ("a\n\n<!-- end -->\n", "a.md:3: <!-- end --> without a beginning"),
    ],
)
def test_marks_that_do_not_pair(text: str, error: str) -> None:
    with pytest.raises(UsageError, match=re.escape(error)):
        page(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            f"{VERSIONS}a <!-- figures: pears --><!-- end -->",
            "a.md:3: no figures are called 'pears'",
        ),
        (
            f"{VERSIONS}a <!-- figures: run kws_int8: size --><!-- end -->",
            "a.md:3: no figure {run kws_int8: size}",
        ),
        (
            f"{VERSIONS}a <!-- figures: run x: arena --><!-- end -->",
            "a.md:3: no figure {run x: arena}",
        ),
        (f"a {KWS}<!-- end -->\n", "a.md: has figures, and not what they rest on"),
    ],
)
def test_figures_that_are_not_there(text: str, error: str) -> None:
    with pytest.raises(UsageError, match=re.escape(error)):
        page(text).written(MEASURED)


BOTH = "a <!-- figures: run a: arena --><!-- end --> <!-- figures: cost a: cpu --><!-- end -->"


class Bench:
    """Two figures that are kept, 5 each, with the pinned versions; what is measured is given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.versions = {**figure_sources.pins(), "midge": "1"}
        self.found: dict[str, Any] = {"run a": {"arena": 5}, "cost a": {"cpu": 5}}
        monkeypatch.setattr(figures, "KEPT", folder / "figures.json")
        figures.keep({"versions": self.versions, **self.found})
        monkeypatch.setattr(figure_sources, "versions", lambda: self.versions)
        monkeypatch.setattr(figure_sources, "measure", lambda key: self.found[key])

    def update(self, *names: str, check: bool = False) -> list[str]:
        return figures.update([page(BOTH)], names, check)

    def kept(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(figures.KEPT.read_text())
        return found


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Bench:
    return Bench(monkeypatch, tmp_path)


def test_only_what_is_named_is_measured(bench: Bench) -> None:
    bench.found = {"run a": {"arena": 6}}
    assert bench.update("run a: arena") == ["run a"]
    assert bench.kept() == {
        "versions": bench.versions, "run a": {"arena": 6}, "cost a": {"cpu": 5},
    }  # fmt: skip
    bench.found = {"run a": {"arena": 7}}
    assert bench.update("run a") == ["run a"]
    with pytest.raises(KeyError, match="cost a"):
        bench.update("a.md")
    with pytest.raises(UsageError, match="run b: no page shows such figures"):
        bench.update("run b")


def test_a_check_says_what_would_change_and_writes_nothing(bench: Bench) -> None:
    before = bench.kept()
    assert bench.update(check=True) == []
    bench.found["cost a"] = {"cpu": 6}  # as seconds on a busy machine do
    assert bench.update(check=True) == []
    bench.found = {"run a": {"arena": 6}, "cost a": {"cpu": 50}}
    assert bench.update(check=True) == ["run a", "cost a"]
    assert bench.kept() == before


def test_other_versions_are_refused(bench: Bench) -> None:
    bench.versions = {**bench.versions, "ziglang": "0.1"}
    with pytest.raises(UsageError, match=r"rest on ziglang 0\.1") as error:
        bench.update()
    assert f"ziglang=={figure_sources.pins()['ziglang']}" in error.value.hint


def test_another_midge_measures_everything_or_nothing(bench: Bench) -> None:
    bench.versions = {**bench.versions, "midge": "2"}
    with pytest.raises(UsageError, match="measured without midge 2"):
        bench.update("run a: arena")
    assert bench.update() == ["versions"]
    assert bench.kept()["versions"]["midge"] == "2"


def test_what_lacks_a_package_stays_if_all_else_is_the_same(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = {"cost a": "torch"}
    monkeypatch.setattr(figure_sources, "missing", lambda key: lacking.get(key, ""))
    bench.found["cost a"] = {"cpu": 50}
    assert bench.update() == []
    assert "cost a: as it was, without torch" in capsys.readouterr().out
    assert bench.update("cost a: cpu") == ["cost a"]  # which says itself what it needs


def test_a_source_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_sources, "installed", lambda name: "")
    with pytest.raises(UsageError, match="networks: needs torch, onnxscript, sktime"):
        figure_sources.measure("networks")
    with pytest.raises(UsageError, match="rum kws: is no source of figures"):
        figure_sources.measure("rum kws")
    with pytest.raises(UsageError, match="no model nothing"):
        figure_sources.measure("run nothing")


def test_marks_by_hand_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    figures.show(SHOWING)
    said = capsys.readouterr().out
    assert "docs/performance.md" in said
    assert "    run kws_int8 --stream-input\n" in said
    assert re.search(r"docs/trees\.md:\d+: by hand: Taken over from", said)
