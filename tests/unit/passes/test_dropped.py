"""What was dropped is told, what is left is verified: from a TFLite file to the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from conftest import DIGITS, NO_SEARCH, Cli
from midge import driver
from midge.data import random_inputs
from midge.target import load_target
from midge.verify import Verdict, verify
from small_models import CONV, RELU, SAME, VALID, builder

pytestmark = pytest.mark.slow

SHAPES = {"first": (1, 6, 5, 8), "second": (1, 6, 5, 8), "third": (1, 6, 5, 6), "mean": (1, 6)}
KEPT = {"first": (0, 2, 3, 4, 5, 7), "second": (0, 2, 3, 4, 5, 7), "third": (0, 1, 3, 4, 5)}
TOLD = "dropped 5 of 26 channels in 3 layers: 10 104 -> 7 400 multiply-accumulates"


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """A file whose first layer has three channels of zero weights, one of which (4) is not what
    padding counts as, so that it stays for the sake of the second; the third layer has one."""
    rng, m = np.random.default_rng(3), builder()

    def parameters(
        shape: tuple[int, ...], axis: int, zeros: tuple[int, ...], biases: list[int]
    ) -> list[int]:
        weights = np.moveaxis(rng.integers(-127, 128, shape).astype(np.int8), axis, 0)
        weights[list(zeros)] = 0
        scales = [0.01] * (len(weights) if len(shape) == 4 else 1)
        w = m.const(np.ascontiguousarray(np.moveaxis(weights, 0, axis)), scales, axis=axis)
        return [w, m.const(np.array(biases, np.int32), [0.0005] * len(scales))]

    x = m.input((1, 6, 5, 3), "int8", 0.05, -3, name="x")
    a, b, c, d = (
        m.value(shape, "int8", 0.05, -128 if name == "first" else 5, name=name)
        for name, shape in SHAPES.items()
    )
    y = m.value((1, 4), "int8", 0.05, -7, name="scores")
    first = parameters((8, 3, 3, 3), 0, (1, 4, 6), [9, -2000, 9, 9, 4000, 9, -1000, 9])
    second = parameters((1, 3, 3, 8), 3, (), [100] * 8)
    third = parameters((6, 1, 1, 8), 0, (2,), [50] * 6)
    conv = {**CONV, "fusedActivationFunction": RELU}
    m.op("CONV_2D", [x, *first], [a], "Conv2DOptions", padding=SAME, **conv)
    conv["depthMultiplier"] = 1
    m.op("DEPTHWISE_CONV_2D", [a, *second], [b], "DepthwiseConv2DOptions", padding=SAME, **conv)
    del conv["depthMultiplier"]
    m.op("CONV_2D", [b, *third], [c], "Conv2DOptions", padding=VALID, **conv)
    axes = m.const(np.array([1, 2], np.int32))
    m.op("MEAN", [c, axes], [d], "ReducerOptions", keepDims=False)
    fourth = parameters((4, 6), 0, (), [10] * 4)
    m.op("FULLY_CONNECTED", [d, *fourth], [y], "FullyConnectedOptions")
    path = tmp_path / "sparse.tflite"
    path.write_bytes(m.build([y]))
    return path


def test_what_goes_and_what_stays(sparse: Path) -> None:
    dropped = driver.compile_file(sparse, load_target("cortex-m3"), NO_SEARCH).dropped
    assert {n: dropped.kept[n] for n in KEPT} == KEPT
    assert str(dropped) == TOLD


def verdict(compiled: driver.Compiled, path: Path) -> Verdict:
    inputs = random_inputs(compiled.model, 3, 1)
    return verify(compiled, path, inputs, runners=("host", "emulator"), layers=True)


def test_every_layer_is_verified_where_channels_are_left(sparse: Path) -> None:
    result = verdict(driver.compile_file(sparse, load_target("cortex-m3"), NO_SEARCH), sparse)
    assert result.ok, [s.first_difference for s in result.stages]
    whole = {n: 3 * int(np.prod(s)) for n, s in SHAPES.items() if n != "mean"}
    left = {n: whole[n] * len(k) // SHAPES[n][3] for n, k in KEPT.items()}
    for stage in result.stages[1:]:
        sizes = {n: d.elements for n, d in stage.layers.items() if n in whole}
        assert sizes == (whole if stage.name == "reference" else left)
        assert stage.outputs["scores"].elements == 12


def test_other_channels_would_differ(sparse: Path) -> None:
    compiled = driver.compile_file(sparse, load_target("cortex-m3"), NO_SEARCH)
    wrong = replace(compiled.dropped, kept={**compiled.dropped.kept, "second": (0, 1, 2, 3, 4, 5)})
    stages = {s.name: s for s in verdict(replace(compiled, dropped=wrong), sparse).stages}
    assert stages["reference"].ok
    assert stages["host"].first_bad == "second"


def test_the_package_says_so(sparse: Path) -> None:
    package = driver.compile_file(sparse, load_target("cortex-m3"), NO_SEARCH).package
    rows = {r["src"]: r["channels"] for r in package.metadata["operators"]}
    assert rows["operator 0"] == {"kept": 6, "total": 8}
    assert rows["operator 2"] == {"kept": 5, "total": 6}
    assert rows["operator 4"] is None
    readme = package.files["README.md"]
    assert "CONV_2D (operator 0), 6 of 8 channels |" in readme
    assert "the results are the same.\n" in readme


def test_a_package_with_all_channels_says_nothing() -> None:
    package = driver.compile_file(DIGITS, load_target("cortex-m3"), NO_SEARCH).package
    assert all(r["channels"] is None for r in package.metadata["operators"])
    assert "channels" not in package.files["README.md"]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_the_command_line_says_so(sparse: Path, midge: Cli) -> None:
    compiled, inspected = midge("compile", sparse), midge("inspect", sparse)
    assert TOLD in flat(compiled.out)
    assert TOLD in flat(inspected.out)
    assert "i8[1x6x5x8], 6 kept" in inspected.out
    rows = midge("inspect", sparse, "--json").json["operators"]
    assert rows[0]["channels"] == {"kept": 6, "total": 8}


def test_the_command_line_says_nothing_where_nothing_went(midge: Cli) -> None:
    for command in ("compile", "inspect"):
        out = midge(command, DIGITS).out
        assert "dropped" not in out
        assert "kept" not in out
