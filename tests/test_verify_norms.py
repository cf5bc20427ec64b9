"""InstanceNormalization: ONNX Runtime's result is the difference of what may be larger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import NO_SEARCH
from midge import driver
from midge.core.types import Array
from midge.graph.evaluate import evaluate
from midge.oracle import oracle_for
from midge.oracle.units import largest_value
from midge.target import load_target
from midge.verify import FLOAT_BOUND_ULP, Verdict, difference, verify
from onnx_builder import OnnxModel

pytestmark = pytest.mark.usefixtures("compiled_once")

SCALE, BIAS = np.float32([0.7, -1.3, 0.9]), np.float32([0.1, 0.8, -0.5])


def norm(path: Path, shape: Any, error: float = 0) -> Path:
    """y = norm(x) + error"""
    m = OnnxModel(opset=17)
    z = m.op("InstanceNormalization", "x", m.const(SCALE), m.const(BIAS))
    m.op("Add", z, m.const(error), output="y")
    path.write_bytes(m.build([("x", shape)], ["y"]))
    return path


def verdict(path: Path, x: Array, judge: Path) -> Verdict:
    compiled = driver.compile_file(path, load_target("host"), NO_SEARCH)
    return verify(compiled, judge, [{"x": x}], runners=("host",))


def test_the_mean_of_one_element(tmp_path: Path) -> None:
    """Midge's result is exact, ONNX Runtime's is not; of each judge nothing is wrong."""
    x = np.float32([[0.3, -2.1, 1.7], [1.1, 0.9, -3.3]])[:, :, None]
    path = norm(tmp_path / "one.onnx", x.shape)
    graph = driver.compile_file(path, load_target("host"), NO_SEARCH).model
    exact = np.broadcast_to(BIAS[:, None], x.shape)
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], exact)
    oracle = oracle_for(path)
    assert oracle is not None
    theirs = oracle.load(path, graph).run({"x": x})["y"]
    assert difference("y", exact, theirs, largest_value({"x": x})).ulp > FLOAT_BOUND_ULP
    found = verdict(path, x, path)
    assert found.judged
    assert found.ok, found.stages[1].outputs


@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 40), (1, 3, 2)])
def test_an_error_is_one_in_ordinary_networks(tmp_path: Path, shape: Any) -> None:
    """Of twice the bound."""
    x = np.random.default_rng(3).normal(0.5, 1, shape).astype(np.float32)
    mine, same = norm(tmp_path / "mine.onnx", shape), norm(tmp_path / "same.onnx", shape)
    assert verdict(mine, x, same).ok
    unit = float(np.spacing(np.float32(np.abs(x).max())))
    other = norm(tmp_path / "other.onnx", shape, 2.2 * FLOAT_BOUND_ULP * unit)
    assert not verdict(mine, x, other).ok
