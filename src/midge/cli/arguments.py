"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import typer

from midge.cli.output import note
from midge.core.errors import UsageError
from midge.core.options import flags

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
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Toolchain = Annotated[
    str | None,
    typer.Option("--toolchain", help="zig, arm-none-eabi-gcc, clang, ...; default: the target's."),
]
Count = Annotated[
    int | None,
    typer.Option(
        "--count", "-n", help="Number of random inputs; default: 1, of verify 5.",
        show_default=False,
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option("--seed", help="Of the random inputs.")]
Inputs = Annotated[
    Path | None,
    typer.Option(
        "--input", "-i", help="Inputs: .npy or .npz; default: random.", show_default=False
    ),
]
InputShapes = Annotated[
    list[str] | None,
    typer.Option(*flags()["shapes"].words, help=flags()["shapes"].help, metavar="NAME=SIZE,..."),
]
QuantizeInputs = Annotated[
    bool,
    typer.Option(
        "--quantize-inputs", help="Floats in --input become the integers of a quantised model."
    ),
]
Accuracy = Annotated[
    Path | None,
    typer.Option(
        "--accuracy",
        metavar="LABELS.npy",
        help="Class numbers, one for each input: say how often the first output is greatest there.",
        show_default=False,
    ),
]

DEFAULT_TARGET = "cortex-m4"


NO_FILE = Path("-")  # of an option that takes one or none
PICTURES = (".svg", ".png")


def with_optional_values(args: Sequence[str]) -> list[str]:
    """Command line words, where --stream-time without a number behind it gets the number 0, and
    --trade-off without a picture behind it no file."""
    found = list(args)
    for i, word in enumerate(args):
        value = "".join(args[i + 1 : i + 2])
        if word == "--stream-time" and not value.lstrip("-").isdigit():
            found[i] = "--stream-time=0"
        if word == "--trade-off" and not value.lower().endswith(PICTURES):
            found[i] = f"--trade-off={NO_FILE}"
    return found


def check_words(args: Sequence[str]) -> None:
    """UsageError for an empty word, which as a path would be the current folder."""
    for before, word in pairwise(("", *args)):
        option, _, value = word.partition("=")
        if not word or (word.startswith("--") and "=" in word and not value):
            where = option or (before if before.startswith("-") else "command line")
            raise UsageError(
                'there is "", where a value is needed',
                where=where,
                hint="give one; a shell puts it there for a variable that is not set",
            )


def check_count(value: int, option: str = "--count") -> int:
    if value < 1:
        raise UsageError(f"{value} is not a count", where=option, hint="give 1 or more")
    return value


def count_of(count: int | None, inputs: Path | None, usual: int) -> int:
    """How many random inputs; the user is told where those of a file are taken instead."""
    if count is not None and inputs is not None:
        note(f"--count is of random inputs: those of {inputs} are taken, all of them")
    return usual if count is None else check_count(count)


def check_toolchain(name: str | None) -> None:
    """UsageError for one that nobody knows, wherever the model would run."""
    from midge.toolchain import TOOLCHAINS

    if name is not None:
        TOOLCHAINS[name]
