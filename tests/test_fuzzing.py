"""Random models through the whole house: framework, NumPy and C agree, whatever the options.

`benchmarks/fuzz.py` does the same with thousands.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from fuzzing.check import WrongError, check, compared
from fuzzing.onnx_graphs import random_onnx
from fuzzing.options import (
    SETTINGS,
    UNTRIED,
    covering_rows,
    impossible,
    pairs,
    possible_pairs,
)
from fuzzing.tflite_graphs import random_tflite
from midge.core.options import CompileOptions

pytestmark = pytest.mark.slow

MAKERS = {"tflite": random_tflite, "onnx": random_onnx}
ROWS = [{**row, "search": False, "prove": False} for row in covering_rows()]


# One of the first ends LiteRT's process.
HUNDRED = [("tflite", seed) for seed in range(51) if seed != 23] + [("onnx", i) for i in range(50)]


@pytest.mark.parametrize(("format_", "seed"), HUNDRED)
def test_a_random_model_is_right(format_: str, seed: int, tmp_path: Path) -> None:
    row = {**ROWS[seed % len(ROWS)], "build": "debug"}
    made = MAKERS[format_](seed)
    outcome = check(made, row, tmp_path)
    assert outcome.verdict == "right", (outcome, made.steps, row)


def test_the_same_number_makes_the_same_model() -> None:
    for make in MAKERS.values():
        assert make(5).data == make(5).data != make(6).data


def test_rows_have_every_pair_of_choices_that_is_possible() -> None:
    rows = covering_rows()
    assert not any(map(impossible, rows))
    assert frozenset().union(*map(pairs, rows)) == possible_pairs()
    assert len(rows) < 40
    assert len(possible_pairs()) > 600


def test_every_option_is_tried() -> None:
    assert {f.name for f in fields(CompileOptions)} == set(SETTINGS) | UNTRIED


def test_what_differs_is_found() -> None:
    ones = {"y": np.ones(4, np.int8)}
    compared("numpy", ["y"], [np.ones(4, np.int8)], ones)
    for other in (np.array([1, 1, 1, 2], np.int8), np.ones((2, 2), np.int8)):
        with pytest.raises(WrongError, match="numpy: y"):
            compared("numpy", ["y"], [other], ones)
