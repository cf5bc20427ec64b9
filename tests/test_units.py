"""Sums of which little is left are measured by what was added up, and a wrong one stays wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import NO_SEARCH
from midge import driver
from midge.frontends.onnx import read
from midge.oracle.units import Units
from midge.target import load_target
from midge.verify import FLOAT_BOUND_ULP, difference, verify
from onnx_builder import OnnxModel

driver.load_operators()


def model(kind: str, count: int) -> bytes:
    m = OnnxModel()
    y = m.op("GlobalAveragePool", "x") if kind == "pool" else m.op(kind, "x", keepdims=1)
    return m.build([("x", (1, 1, count // 50, 50))], [y])


def without_one(x: np.ndarray, kind: str) -> np.ndarray:
    wrong = x.astype(np.float64).copy()
    wrong.reshape(-1)[np.abs(wrong).argmax()] = 0
    return np.asarray(wrong.sum() / (1 if kind == "ReduceSum" else x.size), np.float32)


@pytest.mark.parametrize("count", [4_000, 20_000])
@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMean", "pool"])
def test_sums_of_which_little_is_left(kind: str, count: int) -> None:
    graph = read(model(kind, count), "g")
    units = Units.of(graph)
    for seed in range(5):
        x = np.random.default_rng(seed).standard_normal((1, 1, count // 50, 50), np.float32)
        x -= x.mean(dtype=np.float64).astype(np.float32)
        exact = x.sum(dtype=np.float64) / (1 if kind == "ReduceSum" else count)
        (name,) = graph.outputs
        want = np.asarray(exact, np.float32)
        largest = units.largest({name: want}, {graph.inputs[0]: x})
        one_by_one = np.float32(np.cumsum(x.reshape(-1), dtype=np.float32)[-1])
        have = np.asarray(one_by_one / np.float32(1 if kind == "ReduceSum" else count))
        assert difference(name, want, have, largest).ok
        assert difference(name, want, without_one(x, kind), largest).ulp > 4 * FLOAT_BOUND_ULP


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ReduceSum", "ReduceMean", "pool"])
def test_verify_takes_them_for_right(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs pip install '.[verify]'")
    path = tmp_path / "m.onnx"
    path.write_bytes(model(kind, 20_000))
    made = driver.compile_file(path, load_target("host"), NO_SEARCH)
    rng = np.random.default_rng(0)
    given = [{"x": rng.standard_normal((1, 1, 400, 50), np.float32)} for _ in range(3)]
    verdict = verify(made, path, given, runners=("host",))
    assert (verdict.ok, verdict.against) == (True, "framework")
