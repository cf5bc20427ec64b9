"""How results are shown: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Standard output, 80 columns where there is no terminal."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=max(made.width, 80))


def error_console() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """The whole answer of a `--json` run, on standard output."""
    print(json.dumps(value, indent=2))


def number(value: float | None) -> str:
    """12345 -> "12 345"; None -> "-"."""
    if value is None:
        return "-"
    return f"{value:,}".replace(",", " ")


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: str = ""
) -> Table:
    """A plain table; `right` has an "r" for each column of numbers, e.g. "  rr"."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", box=None, pad_edge=False,
        header_style="dim",
    )  # fmt: skip
    for i, name in enumerate(columns):
        numeric = right[i : i + 1] == "r"
        made.add_column(
            name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold"
        )
    for row in rows:
        made.add_row(*(cell.replace("[", "\\[") for cell in row))
    return made


def shorten(text: str, width: int) -> str:
    """`text`, its middle left out if it is longer than `width`."""
    if len(text) <= width:
        return text
    keep = width - 1
    return f"{text[: keep // 2]}\u2026{text[len(text) - (keep - keep // 2) :]}"
