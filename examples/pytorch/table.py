"""Accuracy at each step, from what train.py has written: `python table.py [FOLDER] [--json FILE]`.

float: PyTorch.  int8: quantised by Midge from the ONNX file and from the .pt2 file, run on this
computer.  on the board: the former's C on the emulated Cortex-M4, all test samples, byte for byte
the same.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import midge
from midge.cli.output import number
from midge.core.files import write_file
from midge.core.package import Package
from midge.driver import load
from midge.run import RUNNERS

NAMES = ("cnn", "mlp", "cnn1d", "lstm", "transformer")
COLUMNS = ("", "float", "int8", "from .pt2", "on the board", "cycles", "RAM", "constants")


def answers(package: Package, runner: str, inputs: Any) -> tuple[Any, int]:
    """The scores for every sample, and the cycles of the last."""
    session = RUNNERS[runner].load(package, toolchain=None, optimize="speed")
    name, found = package.inputs[0].name, []
    for x in inputs:
        run = session.run({name: x[None]})
        found.append(next(iter(run.outputs.values())).reshape(-1))
    session.close()
    return np.stack(found), run.cycles or 0


def measure(folder: Path, name: str) -> dict[str, Any]:
    """Shares of the test samples that are right, cycles of the last, and bytes."""
    test = np.load(folder / f"{name}_test.npz")
    calibration = np.load(folder / f"{name}_calibration.npy")
    x, labels = test["x"], test["labels"]

    def right(scores: Any) -> float:
        return float((scores.argmax(1) == labels).mean())

    results = []
    packages = []
    for suffix in ("onnx", "pt2"):
        model = midge.quantize(load(folder / f"{name}.{suffix}"), calibration, float_io=True)
        packages.append(midge.compile(model, target="cortex-m4"))
        results.append(answers(packages[-1], "host", x)[0])
    board, cycles = answers(packages[0], "emulator", x)
    assert np.array_equal(board, results[0]), "the board's bytes are the computer's"
    return {
        "name": name, "float": right(test["answers"]), "int8": right(results[0]),
        "pt2": right(results[1]), "board": right(board), "cycles": cycles,
        "ram": packages[0].arena_size, "constants": packages[0].weights_size,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, default=Path("build"))
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    rows = [measure(args.folder, name) for name in NAMES]
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        name, *shares, cycles, ram, constants = row.values()
        sizes = map(number, (cycles, ram, constants))
        table.add_row(name, *(f"{100 * share:.1f} %" for share in shares), *sizes)
    Console(width=88).print(table)
    if args.json is not None:
        write_file(args.json, (json.dumps(rows, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
