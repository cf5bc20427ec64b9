"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from midge.core.errors import UsageError

Model = Annotated[
    Path,
    typer.Argument(
        help="The model: .tflite, .onnx, .pt2, .keras, .h5, .midge, or a SavedModel.",
        show_default=False,
    ),
]
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
Bands = Annotated[
    bool,
    typer.Option(
        "--bands/--whole-tensors",
        help="Compute operators some rows at a time where that needs less RAM, or only as a whole.",
    ),
]
StreamInput = Annotated[
    bool,
    typer.Option(
        "--stream-input", help="The caller hands over the input row by row; no buffer holds it all."
    ),
]
StreamTime = Annotated[
    int | None,
    typer.Option(
        "--stream-time",
        metavar="[FRAMES]",
        help="The input is a sliding window (axis 1 is time): each call takes FRAMES more of it, "
        "default the fewest, and computes what they change.",
        show_default=False,
    ),
]
Pools = Annotated[
    list[str] | None,
    typer.Option(
        "--pool",
        help="A memory for the arena, the fastest first, e.g. --pool dtcm=16K --pool sram=128K.",
        metavar="NAME=BYTES",
    ),
]
HotWeights = Annotated[
    bool,
    typer.Option(
        "--hot-weights", help="Copy constants that are read most to what the first --pool has left."
    ),
]
MaxRam = Annotated[
    str | None,
    typer.Option(
        "--max-ram", help="The fastest plan whose arena is no larger, e.g. 64K; fail without one."
    ),
]
ChannelsLast = Annotated[
    bool,
    typer.Option(
        "--channels-last",
        help="Images go in and come out [H, W, C], where the model would transpose them.",
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


def with_optional_numbers(args: Sequence[str]) -> list[str]:
    """Command line words, where --stream-time without a number behind it gets the number 0."""
    found = list(args)
    for i, word in enumerate(args):
        if word == "--stream-time" and not "".join(args[i + 1 : i + 2]).lstrip("-").isdigit():
            found[i] = "--stream-time=0"
    return found


def check_stream_time(frames: int | None) -> int | None:
    """UsageError unless it is a number of frames or not given."""
    if frames is not None and frames < 0:
        raise UsageError(f"{frames} is no number of frames", where="--stream-time")
    return frames


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


def pool_sizes(pools: list[str] | None) -> tuple[tuple[str, int], ...]:
    """["dtcm=16K", ...] as names and bytes. UsageError for anything else."""
    found = []
    for text in pools or ():
        name, _, size = text.partition("=")
        bytes_ = byte_size(size, "--pool") if size else None
        if not name or not bytes_:
            raise UsageError(f"{text!r} is not NAME=BYTES", where="--pool", hint="e.g. dtcm=16K")
        found.append((name.strip(), bytes_))
    return tuple(found)


def byte_size(text: str | None, option: str) -> int | None:
    """ "96K", "1M" or a number of bytes; None stays None. UsageError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+)([KM]?)", text.strip().upper())
    if found is None:
        raise UsageError(f"{text!r} is not a size", where=option, hint="e.g. 65536, 64K or 1M")
    return int(found[1]) * {"": 1, "K": 1 << 10, "M": 1 << 20}[found[2]]
