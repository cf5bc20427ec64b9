"""What compiling costs, in counts that are the same on every machine."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midge import driver
from midge.cli.app import run
from midge.codegen import weights
from midge.core.cache import ENVIRONMENT_VARIABLE
from midge.core.options import CompileOptions
from midge.core.sums import magnitudes, signed_sums
from midge.data import random_inputs
from midge.lower.lower import find_options
from midge.pipeline import prepare, spell_out
from midge.plan.buffers import Buffer
from midge.plan.differences import problem
from midge.target import load_target
from midge.tune import constants
from midge.verify import verify
from onnx_builder import OnnxModel
from small_models import cnn_int8
from tflite_builder import TFLiteModel


def most_held(work: Callable[[], Any]) -> int:
    """The most bytes that `work` holds at a time, in Python's and NumPy's memory."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_texts_of_constants_are_few() -> None:
    array = np.random.default_rng(0).integers(-128, 128, 1 << 19).astype(np.int8)
    size = sum(map(len, weights.files("m", [("w", array)], "0").values()))
    assert most_held(lambda: weights.files("m", [("w", array)], "0")) < 5 * size
    floats = np.random.default_rng(0).normal(size=1 << 16).astype(np.float32)
    size = sum(map(len, weights.files("m", [("w", floats)], "0").values()))
    assert most_held(lambda: weights.files("m", [("w", floats)], "0")) < 8 * size


def dense(inputs: int, outputs: int) -> bytes:
    rng = np.random.default_rng(0)
    m = TFLiteModel()
    w = m.const(rng.integers(-127, 128, (outputs, inputs)).astype(np.int8), [0.001] * outputs)
    b = m.const(rng.integers(-99, 99, outputs).astype(np.int32), [0.0001] * outputs)
    x, y = m.input((1, inputs), "int8", 0.1, 3), m.value((1, outputs), "int8", 0.1, 0)
    m.op("FULLY_CONNECTED", [x, w, b], [y], "FullyConnectedOptions")
    return m.build([y])


def dense_float(inputs: int, outputs: int) -> bytes:
    m = OnnxModel()
    y = m.op("Gemm", "x", m.weights(outputs, inputs), m.weights(outputs), transB=1)
    return m.build([("x", [1, inputs])], [y])


@pytest.mark.parametrize(
    ("file", "make", "size"), [("d.tflite", dense, 1), ("d.onnx", dense_float, 4)]
)
def test_memory_in_proportion_to_weights(
    tmp_path: Path, file: str, make: Callable[[int, int], bytes], size: int
) -> None:
    """With the proof, for which trials are written as C and compiled."""
    options = CompileOptions(search=False, name="d")
    target = load_target("cortex-m4")
    small, large = tmp_path / f"small_{file}", tmp_path / file
    small.write_bytes(make(16, 16))
    large.write_bytes(make((1 << 20) // 512 // size, 512))
    before = most_held(lambda: driver.compile_file(small, target, options))
    assert most_held(lambda: driver.compile_file(large, target, options)) < before + (30 << 20)


def test_differences_are_views_of_few_arrays() -> None:
    """Each buffer's share of a large table once stood for a copy of all of it."""
    found = problem([Buffer.solid(f"b{i}", 8, 0, 9) for i in range(50)])
    for views in (found.others, found.low, found.high):
        assert len({id(view.base) for view in views}) == 1


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_sums_by_sign(dtype: str) -> None:
    rng = np.random.default_rng(0)
    ends = np.iinfo(dtype)
    w = rng.integers(ends.min, ends.max, (5, 3, 4), endpoint=True).astype(dtype)
    w[0, 0], w[0, 1] = ends.min, ends.max
    wide = w.astype(np.int64)
    above, below = signed_sums(w, (1, 2))
    np.testing.assert_array_equal(above, np.where(wide > 0, wide, 0).sum((1, 2)))
    np.testing.assert_array_equal(below, np.where(wide < 0, wide, 0).sum((1, 2)))
    np.testing.assert_array_equal(magnitudes(w, (0,)), np.abs(wide).sum(0))


def test_sums_make_no_wide_copy() -> None:
    w = np.ones((1 << 10, 1 << 10), np.int8)
    assert most_held(lambda: magnitudes(w, (1,))) < 2 << 20


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "float32", "bool"])
def test_constants_of_trials_are_the_same_bytes(dtype: str) -> None:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, 3000 * np.dtype(dtype).itemsize).astype(np.uint8).view(dtype)
    if dtype == "bool":
        array = np.arange(3000) % 3 == 0
    text = constants.files("trial", [("k0_w", array)], "0")["trial_weights.c"]
    head, *lines, end = text.splitlines()
    assert head == f"_Alignas({array.itemsize}) const char k0_w[{array.nbytes}] ="
    assert end == ";"
    octal = "".join(line.strip('"') for line in lines)
    assert bytes(int(o, 8) for o in octal.split("\\")[1:]) == array.tobytes()


def chain(form: str) -> bytes:
    """1200 elementwise operators."""
    m = OnnxModel()
    x = m.op("Gemm", "x", m.weights(8, 8)) if form == "behind a layer" else "x"
    term, factor, limit = m.const([0.1]), m.const([-1.001]), m.const([8.0])
    for i in range(300):
        y = m.op("Min", m.op("Mul", m.op("Add", x, term), factor), limit)
        x = m.op("Max", y, term if i % 2 else factor)
    return m.build([("x", [1, 8])], [x])


@pytest.mark.parametrize("form", ["alone", "behind a layer"])
def test_a_chain_longer_than_pythons_stack(tmp_path: Path, form: str) -> None:
    """A thousand elementwise operators are one kernel, of expressions that are not as deep."""
    path = tmp_path / "chain.onnx"
    path.write_bytes(chain(form))
    options = CompileOptions(search=False, prove=False)
    compiled = driver.compile_file(path, load_target("cortex-m4"), options)
    assert len(compiled.program.operations) == 1
    inputs = random_inputs(compiled.model, 2, 0)
    assert verify(compiled, path, inputs, runners=("host",)).ok


@pytest.mark.parametrize("search", [False, True])
def test_progress_says_what_is_done_and_how_much_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: bool
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "cache"))
    path = tmp_path / "d.tflite"
    path.write_bytes(dense(16, 16))
    told: list[tuple[str, int, int]] = []
    options = CompileOptions(search=search)
    m4 = load_target("cortex-m4")
    compiled = driver.compile_file(path, m4, options, lambda *now: told.append(now))
    driver.beside_others(compiled, options, lambda *now: told.append(now))
    kernels = "measuring kernels" if search else "comparing kernels with their plain loops"
    steps = ["simplifying", "trying plans (whole)", "placing tensors", "writing C"]
    steps.insert(2 if search else 4, kernels)
    steps.append("looking at other plans")
    assert list(dict.fromkeys(what for what, _, _ in told)) == steps
    left = [total - done for what, done, total in told if what == kernels]
    assert left[0] > 0
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0


def test_a_pipe_is_told_no_progress(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cnn.tflite"
    path.write_bytes(cnn_int8())
    monkeypatch.chdir(tmp_path)
    assert run(["compile", str(path), "--target", "cortex-m4", "--no-search"]) == 0
    shown = capfd.readouterr()
    assert shown.err == ""
    assert "simplifying" not in shown.out


def test_candidates_share_packed_weights(tmp_path: Path) -> None:
    """Some dozens of them, for bands of several sizes, of few different contents."""
    path = tmp_path / "cnn.tflite"
    path.write_bytes(cnn_int8())
    graph = driver.load(path)
    plain, _ = spell_out(prepare(graph).graph)
    known: dict[object, Any] = {}
    for _ in range(2):
        found = find_options(plain, load_target("cortex-m4"), plain.types, known=known)
        known.clear()
        arrays = [a for c in found.choices for o in c.options for a in o.consts.values()]
        held = {id(a) for a in arrays}
        contents = {(a.dtype.str, a.shape, a.tobytes()) for a in arrays}
        assert len(held) == len(contents) < len(arrays)
