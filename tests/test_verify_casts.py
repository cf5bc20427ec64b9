"""Casts of floats that an integer type cannot hold: ONNX defines no result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from conftest import NO_SEARCH, Cli
from midge import driver
from midge.core.types import Array
from midge.target import load_target
from midge.verify import Verdict, verify
from onnx_builder import OnnxModel

pytestmark = pytest.mark.usefixtures("compiled_once")

TYPES = {
    "u8": (TensorProto.UINT8, np.uint8), "i8": (TensorProto.INT8, np.int8),
    "i16": (TensorProto.INT16, np.int16), "i32": (TensorProto.INT32, np.int32),
    "i64": (TensorProto.INT64, np.int64),
}  # fmt: skip


def around(dtype: Any) -> tuple[Array, Array]:
    """Floats at the limits of the type, and which of them it holds."""
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    ends = np.float32([low - 1, low, high, high + 1])
    near = [np.nextafter(ends, np.float32(to)) for to in (-np.inf, np.inf)]
    odd = np.float32([0, -0.0, 0.99, -0.99, 1.5, np.inf, -np.inf, np.nan, 3e38, -3e38])
    x = np.concatenate([ends, *near, odd])
    return x, np.array([np.isfinite(v) and low <= int(v) <= high for v in x])


def casting(
    path: Path, code: int, count: int, *, like: bool = False, shift: float | None = None
) -> Path:
    """y = cast of x (+ shift), z = 2 * y as a float."""
    m = OnnxModel(opset=17)
    x = m.op("Add", "x", m.const(shift)) if shift is not None else "x"
    if like:
        dtype = next(d for c, d in TYPES.values() if c == code)
        m.op("CastLike", x, m.const(0, dtype), output="y")
    else:
        m.op("Cast", x, output="y", to=code)
    real = m.op("Cast", "y", to=TensorProto.FLOAT)
    m.op("Mul", real, m.const(2), output="z")
    path.write_bytes(m.build([("x", (count,))], ["y", "z"]))
    return path


def verdict(path: Path, x: Array, judge: Path | None = None) -> Verdict:
    compiled = driver.compile_file(path, load_target("host"), NO_SEARCH)
    return verify(compiled, judge or path, [{"x": x}], runners=("host",))


@pytest.mark.parametrize("like", [False, True])
@pytest.mark.parametrize("name", TYPES)
def test_what_the_type_cannot_hold_is_no_difference(tmp_path: Path, name: str, like: bool) -> None:
    code, dtype = TYPES[name]
    x, inside = around(dtype)
    found = verdict(casting(tmp_path / "cast.onnx", code, x.size, like=like), x)
    assert found.judged
    assert found.ok, found.stages[1].outputs
    (note,) = found.stages[0].notes
    assert note.startswith(f"y: {(~inside).sum()} of {x.size} floats are no {name}, ")


@pytest.mark.parametrize("name", TYPES)
def test_what_it_holds_is_judged(tmp_path: Path, name: str) -> None:
    """By a model that adds 1: of what both limit nothing differs, of all else everything."""
    code, _ = TYPES[name]
    x = np.float32([-1e30, *range(100), 1e30, np.nan])
    mine = casting(tmp_path / "mine.onnx", code, x.size, shift=0)
    found = verdict(mine, x, casting(tmp_path / "other.onnx", code, x.size, shift=1))
    assert not found.ok
    assert found.stages[1].outputs["y"].differing == 100
    assert found.stages[1].outputs["z"].differing == 100


def test_nothing_is_said_where_all_fit(midge: Cli, tmp_path: Path) -> None:
    x = np.linspace(-128.9, 127.9, 64, dtype=np.float32)
    path = casting(tmp_path / "cast.onnx", TensorProto.INT8, x.size)
    assert not verdict(path, x).stages[0].notes
    wide = np.where(x > 0, x * 300, x).astype(np.float32)
    np.save(tmp_path / "x.npy", wide)
    result = midge("verify", path, "-i", tmp_path / "x.npy", "--on", "host", "--no-search")
    assert result.code == 0
    text = " ".join(result.out.split())
    assert "of 64 floats are no i8, for which ONNX defines no result" in text


def test_booleans_are_onnxruntimes(tmp_path: Path) -> None:
    x = np.float32([0, -0.0, 1e-45, -1e-45, 0.3, -0.3, np.nan, np.inf, -np.inf])
    m = OnnxModel(opset=17)
    m.op("Cast", "x", output="y", to=TensorProto.BOOL)
    path = tmp_path / "bool.onnx"
    path.write_bytes(m.build([("x", (x.size,))], ["y"]))
    found = verdict(path, x)
    assert found.judged
    assert found.ok
    assert not found.stages[0].notes
