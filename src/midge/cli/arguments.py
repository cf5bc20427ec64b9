"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from midge.core.errors import UsageError

Model = Annotated[Path, typer.Argument(help="The model file (.tflite).", show_default=False)]
TargetName = Annotated[
    str, typer.Option("--target", "-t", help="A target of `midge targets`, or a .toml file.")
]
Name = Annotated[
    str | None,
    typer.Option("--name", help="Prefix of all C symbols; default: the file's name."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Toolchain = Annotated[
    str | None,
    typer.Option("--toolchain", help="zig, arm-none-eabi-gcc, clang, ...; default: the target's."),
]
Optimize = Annotated[str, typer.Option("--optimize", "-O", help="speed, balanced, size or debug.")]
Search = Annotated[
    bool,
    typer.Option(
        "--search/--no-search",
        help="Measure the ways to compute each operator in the emulator and take the best, or take "
        "the first.",
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Of the random inputs.")]
Inputs = Annotated[
    Path | None,
    typer.Option(
        "--input", "-i", help="Inputs: .npy or .npz; default: random.", show_default=False
    ),
]

OPTIMIZE = ("speed", "balanced", "size", "debug")
DEFAULT_TARGET = "cortex-m4"


def check_optimize(value: str) -> str:
    if value not in OPTIMIZE:
        raise UsageError(
            f"{value!r} is not known", where="--optimize", hint=f"one of {', '.join(OPTIMIZE)}"
        )
    return value


def check_count(value: int, option: str = "--count") -> int:
    if value < 1:
        raise UsageError(f"{value} is not a count", where=option, hint="give 1 or more")
    return value


def byte_size(text: str | None, option: str) -> int | None:
    """ "96K", "1M" or a number of bytes; None stays None. UsageError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)([KM]?)", text.strip().upper())
    if found is None:
        raise UsageError(f"{text!r} is not a size", where=option, hint="e.g. 65536, 64K or 1M")
    return int(found[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20}[found[2]]
