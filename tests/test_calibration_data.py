"""Calibration data that says nothing, or cannot be: refused with where, what and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge as package
from conftest import Cli
from midge import driver
from midge.core.errors import MidgeWarning, ModelError, UsageError
from midge.core.types import DType
from midge.frontends.onnx import read
from midge.graph.ir import Graph
from onnx_builder import OnnxModel
from small_models import cnn_float

SHAPE = (3, 8, 6, 2)
REAL = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)


def with_one(value: float) -> Any:
    found = REAL.copy()
    found[1, 2, 3, 0] = value
    return found


# What is given, and what is said of it.
WRONG: dict[str, tuple[Any, str]] = {
    "zeros": (np.zeros(SHAPE, np.float32), "data of input 'x': is 0 everywhere"),
    "one number": (np.full(SHAPE, 2.5, np.float32), "data of input 'x': is 2.5 everywhere"),
    "infinite": (with_one(np.inf), "sample 1 of input 'x': has infinite values"),
    "minus infinity": (with_one(-np.inf), "sample 1 of input 'x': has infinite values"),
    "NaN": (with_one(np.nan), r"sample 1 of input 'x': has values that are not numbers \(NaN\)"),
    "no sample": (REAL[:0], "empty batch"),
    "beyond float32": (REAL.astype(np.float64) * 1e300, "beyond float32"),
    "no numbers": (np.full(SHAPE, "a"), "'x': is <U1"),
    "objects": (np.full(SHAPE, None), "'x': is object"),
    "complex": (REAL * 1j, "'x': is complex"),
    "another shape": (REAL[:, :3], "shape"),
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "net.tflite"
    path.write_bytes(cnn_float())
    return path


@pytest.mark.parametrize("kind", WRONG)
def test_in_python(model: Path, kind: str) -> None:
    data, what = WRONG[kind]
    with pytest.raises(UsageError, match=what) as error:
        package.quantize(model, data)
    assert error.value.hint


@pytest.mark.parametrize("kind", ["zeros", "infinite", "NaN", "no sample", "objects"])
def test_on_the_command_line(midge: Cli, model: Path, tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "calib.npy", WRONG[kind][0], allow_pickle=True)
    answer = midge("quantize", model, "--data", "calib.npy", "-o", "q.midge")
    assert answer.code == 2
    assert "hint: " in answer.err
    assert not (tmp_path / "q.midge").exists()


@pytest.mark.parametrize("value", [[1.0, 2.0], object(), "x", None])
def test_what_is_no_array_is_told_by_its_type(model: Path, value: Any) -> None:
    with pytest.raises(UsageError, match=f"data: 'x': is {type(value).__name__}") as error:
        package.quantize(model, {"x": value})
    assert error.value.hint == "give ndarray"


def two_inputs() -> Graph:
    m = OnnxModel()
    m.op("Add", m.linear("a", 4, 6), m.linear("b", 4, 6), output="y")
    data = m.build([("a", (1, 4)), ("b", (1, 4))], ["y"])

    driver.load_operators()
    return read(data, "net")


def test_one_input_of_several_that_is_one_number_is_a_warning() -> None:
    rng = np.random.default_rng(0)
    data = {"a": rng.standard_normal((5, 4)).astype(np.float32), "b": np.ones((5, 4), np.float32)}
    with pytest.warns(MidgeWarning, match="of input 'b': is 1 everywhere; give inputs"):
        package.quantize(two_inputs(), data)
    data["a"][:] = 3.0
    with pytest.raises(UsageError, match="of input 'a': is 3 everywhere"):
        package.quantize(two_inputs(), data)


def test_a_value_that_is_not_finite_names_the_sample() -> None:
    m = OnnxModel()
    m.linear(m.op("Mul", "a", "a"), 4, 6, output="y")
    driver.load_operators()
    graph = read(m.build([("a", (1, 4))], ["y"]), "net")
    data = REAL.reshape(-1, 4)[:4] * np.array([[1], [1], [1e30], [1]], np.float32)
    with pytest.raises(ModelError, match="sample 2: is not finite on the calibration data"):
        package.quantize(graph, data)


@pytest.mark.parametrize("budget", ["-3", "-0.5", "nan", "inf", "abc", ""])
def test_a_budget_that_is_none(midge: Cli, model: Path, tmp_path: Path, budget: str) -> None:
    np.save(tmp_path / "calib.npy", REAL)
    answer = midge("quantize", model, "--data", "calib.npy", "--mixed", budget)
    assert answer.code == 2
    assert "--mixed" in answer.err
    assert "hint: 0 or more" in answer.err or budget in ("abc", "")


@pytest.mark.parametrize("percentile", [20.0, 200.0, float("nan"), "a", None])
def test_a_percentile_that_is_none(model: Path, percentile: Any) -> None:
    with pytest.raises(UsageError, match="is no percentile"):
        package.quantize(model, REAL, percentile=percentile)


def test_one_layer_may_be_a_text(model: Path) -> None:
    one, several = (package.quantize(model, REAL, int16=x) for x in ("@0", ["@0"]))
    assert one == several
    assert DType.I16 in {t.dtype for t in one.types.values()}
