"""Trees and forests on scikit-learn's digits, as C on the emulated Cortex-M4.

    python benchmarks/trees.py [--optimize speed] [--json FILE] [CASE ...]

The features are 64 integers of 0..16; train and test as of train_test_split(random_state=0). Per
model: instructions and estimated cycles of one inference (mean over all 450 test samples), bytes
of its code and constants in the linked image, and in how many samples the label is scikit-learn's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from sklearn import datasets, ensemble, model_selection, tree

import midge
from midge.cli.output import number, table
from midge.core.files import write_file
from midge.core.package import Package
from midge.core.types import Array
from midge.run import RUNNERS
from midge.toolchain import build_image

_FOREST = ensemble.RandomForestClassifier
CASES: Mapping[str, tuple[Any, str]] = {
    "tree, depth 10": (tree.DecisionTreeClassifier(max_depth=10, random_state=0), "uint8"),
    "forest of 10": (_FOREST(10, random_state=0), "uint8"),
    "forest of 50": (_FOREST(50, random_state=0), "uint8"),
    "tree, depth 10, float": (
        tree.DecisionTreeClassifier(max_depth=10, random_state=0), "float32"
    ),
    "forest of 10, float": (_FOREST(10, random_state=0), "float32"),
    "forest of 10, leaves of 4": (_FOREST(10, min_samples_leaf=4, random_state=0), "uint8"),
    "boosting of 10": (
        ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0), "uint8"
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Row:
    """agreement: of labels with scikit-learn's; accuracy: of scikit-learn."""

    name: str
    instructions: float
    cycles: float
    flash: int
    agreement: float
    accuracy: float


def measure(name: str, optimize: str) -> Row:
    train, test, target, wanted = model_selection.train_test_split(
        *datasets.load_digits(return_X_y=True), random_state=0
    )
    estimator, dtype = CASES[name]
    estimator.fit(train, target)
    package = midge.compile(
        midge.from_sklearn(estimator, dtype=dtype, name="trees"), optimize=optimize
    )
    session = RUNNERS["emulator"].load(package)
    runs = [session.run({"x": row[None]}) for row in test.astype(dtype)]
    session.close()
    label: Array = np.concatenate([r.outputs["label"] for r in runs])
    instructions = float(np.mean([r.instructions or 0 for r in runs]))
    cycles = float(np.mean([r.cycles or 0 for r in runs]))
    agreement = float(np.mean(label == estimator.predict(test)))
    return Row(name, instructions, cycles, flash(package), agreement, estimator.score(test, wanted))


def flash(package: Package) -> int:
    """Bytes of the package's functions and constants, the instructions with a body included."""
    symbols = build_image(package, optimize=package.optimize).symbols
    own = (package.name, "midge_")
    return sum(s.size for n, s in symbols.items() if n.startswith(own))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--optimize", default="speed")
    parser.add_argument("--json", type=Path)
    parser.add_argument("cases", nargs="*", metavar="CASE")
    options = parser.parse_args()
    rows = [measure(name, options.optimize) for name in options.cases or CASES]
    columns = ("model", "instructions", "cycles", "flash", "agreement", "accuracy")
    cells = [
        (r.name, number(round(r.instructions)), number(round(r.cycles)), number(r.flash),
         f"{r.agreement:.4f}", f"{r.accuracy:.3f}")
        for r in rows
    ]  # fmt: skip
    Console().print(table(columns, cells, right=" rrrrr"))
    if options.json:
        write_file(options.json, (json.dumps([asdict(r) for r in rows], indent=2) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
