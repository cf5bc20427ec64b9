"""How results are shown: tables for people, JSON for programs.

What is printed may hold names out of a model file. They are text and nothing else: no markup is
looked for in them, what would move the cursor becomes "?", and what the terminal has no letter for
is written with the letters that it has.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Our own signs, in plain letters: an ellipsis, bars and progress.
_PLAIN = dict(
    zip(
        "\u2026\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588\u2501\u2578\u257a",
        "~.:-=+*%##--",
        strict=True,
    )
)


def plain_streams() -> None:
    """Let the standard streams write every text, whatever their encoding."""
    codecs.register_error("midge", _spelled)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):  # of a stream that is closed
                stream.reconfigure(errors="midge")


def _spelled(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c, "?") for c in wrong), error.end


def clean(text: str) -> str:
    """`text` with "?" for what is no letter, sign, blank, tab or end of a line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


class _Console(Console):
    """Texts are cleaned, and are markup only where the caller says so."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(clean(o) if isinstance(o, str) else o for o in objects), **options)


def console() -> Console:
    """Standard output, 80 columns where there is no terminal."""
    made = _Console(highlight=False, markup=False)
    if made.is_terminal:
        return made
    return _Console(highlight=False, markup=False, width=max(made.width, 80))


class _Forgiving:
    """A stream that need not take anything: what is said beside an answer ends no command."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            return self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def error_console() -> Console:
    stream: Any = None if sys.stderr is None else _Forgiving(sys.stderr)
    return _Console(stderr=True, file=stream, highlight=False, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """Something that was done to what the user gave; on the error stream."""
    error_console().print(f"note: {text}")


def warn(text: str) -> None:
    """Something that the user should know of; on the error stream."""
    console = error_console()
    console.print("warning: ", end="", style="bold yellow")
    console.print(text)


def print_json(value: Any) -> None:
    """The whole answer of a `--json` run, on standard output."""
    print(json.dumps(value, indent=2))


def number(value: float | None) -> str:
    """12345 -> "12 345"; None -> "-"."""
    if value is None:
        return "-"
    return f"{value:,}".replace(",", " ")


def counted(count: int, what: str) -> str:
    """1, "sample" -> "1 sample"; 2 -> "2 samples"."""
    return f"{count} {what}{'s' * (count != 1)}"


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "", right: str = ""
) -> Table:
    """A plain table; `right` has an "r" for each column of numbers, e.g. "  rr"."""
    made = Table(
        title=Text(clean(title), "bold") if title else None, title_justify="left", box=None,
        pad_edge=False, header_style="dim",
    )  # fmt: skip
    for i, name in enumerate(columns):
        numeric = right[i : i + 1] == "r"
        made.add_column(
            name, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold"
        )
    for row in rows:
        made.add_row(*(Text(clean(cell)) for cell in row))
    return made


def shorten(text: str, width: int) -> str:
    """`text`, its middle left out if it is longer than `width`."""
    if len(text) <= width:
        return text
    keep = width - 1
    return f"{text[: keep // 2]}\u2026{text[len(text) - (keep - keep // 2) :]}"
