"""Measures the figures that README.md, docs and examples show, and writes them there.

    python benchmarks/figures.py [NAME, PAGE or KEY...] [--check] [--pages] [--list]

A page marks what is a figure (figure_pages.py), figure_tables.py says what stands there,
figure_sources.py measures it; figures.json, beside this file, keeps what was measured, and with
which versions. Without names everything is measured, which takes the better part of an hour.

--check    write nothing; say what would change, exit 1 if anything does
--pages    measure nothing; write the pages from figures.json
--list     the figures by page, and what each is measured by
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import figure_pages as pages
import figure_sources as sources
import figure_tables as tables

from midge.core.errors import MidgeError, UsageError
from midge.core.files import write_file

KEPT = Path(__file__).with_name("figures.json")
NOISE = 0.3  # by how much seconds and memory of a compile may differ on a busy machine
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    path: Path
    text: str
    places: tuple[pages.Place, ...]

    @property
    def name(self) -> str:
        return pages.name_of(self.path)

    def written(self, figures: Mapping[str, Any]) -> str:
        """The text with today's figures; UsageError where a page does not say what they rest on."""
        named = {p.name for p in self.places}
        if named and "versions" not in named:
            hint = "<!-- figures: versions --> on a line of its own, and <!-- end -->"
            raise UsageError("has figures, and not what they rest on", where=self.name, hint=hint)

        def content(place: pages.Place) -> str:
            text = tables.text_of(place.name, place.where)
            return tables.rendered(text, figures, place.where)

        return pages.rewritten(self.text, self.places, content)


def read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    return Page(path, text, tuple(pages.places(pages.name_of(path), text)))


def needed(found: Sequence[Page], names: Sequence[str]) -> list[str]:
    """The keys behind the figures of these names, pages or keys; of all without names."""
    wanted: dict[str, set[str]] = {}  # key -> what it can be asked for by
    for page in found:
        for place in page.places:
            for key in tables.needs(tables.text_of(place.name, place.where)):
                wanted.setdefault(key, {key}).update((page.name, place.name))
    for name in set(names).difference(*wanted.values()):
        raise UsageError("no page shows such figures", where=name, hint="--list has the names")
    keys = [key for key, by in wanted.items() if not names or by & set(names)]
    return [key for key in keys if key != "versions"]


def measured(keys: Iterable[str], kept: Figures, asked: bool) -> Iterable[tuple[str, Any]]:
    """Each key with its figures. What lacks a package stays as it is, unless it was asked for."""
    for key in keys:
        lacking = sources.missing(key)
        if lacking and not asked and key in kept and kept["versions"] == sources.versions():
            print(f"{key}: as it was, without {lacking}", flush=True)
            yield key, kept[key]
            continue
        print(key, flush=True)
        yield key, sources.measure(key)


def same(key: str, a: Any, b: Any) -> bool:
    if not key.startswith("cost "):
        return bool(a == b)
    pairs = [(a.get(f, 0), b.get(f, 0)) for f in {*a, *b}]
    return all(abs(x - y) <= NOISE * max(x, y, 10) for x, y in pairs)


def update(found: Sequence[Page], names: Sequence[str], check: bool) -> list[str]:
    """Measure, and write down unless it is a check; what has changed."""
    sources.check_versions()
    kept: Figures = json.loads(KEPT.read_text()) if KEPT.exists() else {"versions": {}}
    here = dict(sources.versions())
    if names and kept["versions"] != here:
        have = ", ".join(f"{n} {v}" for n, v in here.items() if kept["versions"].get(n) != v)
        what = f"its figures were measured without {have}"
        raise UsageError(what, where=str(KEPT.name), hint="measure all of them, without names")
    now: Figures = {**kept, "versions": here} if names or check else {"versions": here}
    changed = [] if kept["versions"] == here else ["versions"]
    for key, figures in measured(needed(found, names), kept, bool(names)):
        if key not in kept or not same(key, kept[key], figures):
            changed.append(key)
        now[key] = figures
        if not check:
            keep(now)
    return changed


def keep(figures: Figures) -> None:
    """A line for each key, in order."""
    rows = sorted((k, v) for k, v in figures.items() if k != "versions")
    lines = [
        f"{json.dumps(k)}: {json.dumps(v)}" for k, v in (("versions", figures["versions"]), *rows)
    ]
    write_file(KEPT, ("{\n" + ",\n".join(lines) + "\n}\n").encode())


def write(found: Sequence[Page], check: bool) -> list[str]:
    """Write the pages from what is kept unless it is a check; which have changed."""
    figures = json.loads(KEPT.read_text())
    changed = [(page, text) for page in found if (text := page.written(figures)) != page.text]
    for page, text in () if check else changed:
        write_file(page.path, text.encode())
    return [page.name for page, _ in changed]


def show(found: Sequence[Page]) -> None:
    for place in (place for page in found for place in page.places):
        print(f"{place.where}: {place.name}")
        for key in tables.needs(tables.text_of(place.name, place.where)):
            if place.name in tables.TABLES and key != "versions":
                print(f"    {key}")
    for place, text in pages.by_hand():
        print(f"{place}: by hand: {text}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="figures, pages or keys, see --list"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if it would")
    parser.add_argument("--pages", action="store_true", help="measure nothing, write the pages")
    parser.add_argument("--list", action="store_true", help="what there is, and where from")
    options = parser.parse_args()
    found = [page for path in pages.pages() if (page := read(path)).places]
    if options.list:
        show(found)
        return 0
    changed = [] if options.pages else update(found, options.names, options.check)
    changed += write(found, options.check)
    for name in changed:
        print(f"{name}: {'not what is kept' if options.check else 'written'}")
    return 1 if options.check and changed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except MidgeError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
