"""Compiling with the search: right, repeatable, and no slower than without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import NO_SEARCH
from midge import driver
from midge.core.errors import UsageError
from midge.core.options import GOALS, CompileOptions
from midge.data import random_inputs
from midge.run import RUNNERS
from midge.target import load_target

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits_int8.tflite"


@pytest.mark.parametrize("goal", GOALS)
def test_searched_packages_are_right_and_repeatable(goal: str) -> None:
    target = load_target("cortex-m4")
    first = driver.compile_file(DIGITS, target, CompileOptions(search=False, optimize=goal))
    found = driver.compile_file(DIGITS, target, CompileOptions(optimize=goal))
    again = driver.compile_file(DIGITS, target, CompileOptions(optimize=goal))
    assert found.package.files == again.package.files
    given = random_inputs(found.model, 1, 3)[0]
    runs = []
    for package in (first.package, found.package):
        session = RUNNERS["emulator"].load(package, toolchain=None, optimize=None)
        runs.append(session.run(given))
        session.close()
    for name, value in runs[0].outputs.items():
        np.testing.assert_array_equal(runs[1].outputs[name], value)
    if goal == "speed":
        cycles = [run.cycles or 0 for run in runs]
        assert 0 < cycles[1] <= cycles[0]


def test_without_an_emulator_the_first_is_taken() -> None:
    target = load_target("cortex-m55")
    searched = driver.compile_file(DIGITS, target, CompileOptions())
    assert searched.package.files == driver.compile_file(DIGITS, target, NO_SEARCH).package.files
    assert searched.package.metadata["options"]["search"] is False


def test_an_unknown_goal_is_refused() -> None:
    with pytest.raises(UsageError, match="speed, balanced, size"):
        CompileOptions(optimize="fast")
