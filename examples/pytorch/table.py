"""Accuracy at each step, from what train.py has written: `python table.py [FOLDER]`.

float: PyTorch.  int8: quantised by Midge from the ONNX file and from the .pt2 file, run on this
computer.  on the board: the former's C on the emulated Cortex-M4, all test samples, byte for byte
the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import midge
from midge.core.package import Package
from midge.driver import load
from midge.run import RUNNERS

NAMES = ("cnn", "mlp", "cnn1d", "lstm", "transformer")
COLUMNS = ("", "float", "int8", "from .pt2", "on the board", "cycles", "RAM", "flash")


def answers(package: Package, runner: str, inputs: Any) -> tuple[Any, int]:
    """The scores for every sample, and the cycles of the last."""
    session = RUNNERS[runner].load(package, toolchain=None, optimize="speed")
    name, found = package.inputs[0].name, []
    for x in inputs:
        run = session.run({name: x[None]})
        found.append(next(iter(run.outputs.values())).reshape(-1))
    session.close()
    return np.stack(found), run.cycles or 0


def row(folder: Path, name: str) -> list[str]:
    test = np.load(folder / f"{name}_test.npz")
    calibration = np.load(folder / f"{name}_calibration.npy")
    x, labels = test["x"], test["labels"]

    def percent(scores: Any) -> str:
        return f"{100 * float((scores.argmax(1) == labels).mean()):.1f} %"

    results = []
    packages = []
    for suffix in ("onnx", "pt2"):
        model = midge.quantize(load(folder / f"{name}.{suffix}"), calibration, float_io=True)
        packages.append(midge.compile(model, target="cortex-m4"))
        results.append(answers(packages[-1], "host", x)[0])
    board, cycles = answers(packages[0], "emulator", x)
    assert np.array_equal(board, results[0]), "the board's bytes are the computer's"
    flash = packages[0].weights_size
    return [
        name, percent(test["answers"]), *map(percent, results), percent(board), f"{cycles:,}",
        f"{packages[0].arena_size:,}", f"{flash:,}",
    ]  # fmt: skip


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    table = Table(*COLUMNS, box=None, pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for name in NAMES:
        table.add_row(*row(folder, name))
    Console(width=88).print(table)


if __name__ == "__main__":
    main()
