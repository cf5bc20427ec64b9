"""What C leaves open, the oracle refuses; what C need not evaluate, it does not."""

from __future__ import annotations

import numpy as np
import pytest

from midge.core.types import Array
from midge.loop.evaluate import EvaluationError, evaluate
from midge.loop.text import parse_func

X = "x: i32[2x3] in, n: i32[1] in, w: i64[1] in, f: f32[2] in, y: i32[4] out, z: f32[2] out"


def run(body: str, x: int = 5, n: int = 0, w: int = 0, f: float = 1.0) -> dict[str, Array]:
    func = parse_func(f"func g({X}):\n" + "".join(f"  {line}\n" for line in body.splitlines()))
    memory = {
        "x": np.full((2, 3), x, np.int32), "n": np.array([n], np.int32),
        "w": np.array([w], np.int64), "f": np.array([f, -0.0], np.float32),
        "y": np.zeros(4, np.int32), "z": np.zeros(2, np.float32),
    }  # fmt: skip
    evaluate(func, memory)
    return memory


@pytest.mark.parametrize(
    ("body", "given", "error"),
    [
        ("y[n[0]] = 1", {"n": 4}, "outside"),
        ("y[n[0]] = 1", {"n": -1}, "outside"),
        ("y[0] = x[1, n[0]]", {"n": 3}, "outside"),
        ("y[0] = x[n[0], 0]", {"n": -1}, "outside"),
        ("y[0] = x[0, 0] + 1", {"x": 2**31 - 1}, "overflows"),
        ("y[0] = x[0, 0] - 1", {"x": -(2**31)}, "overflows"),
        ("y[0] = x[0, 0] * x[0, 1]", {"x": 1 << 16}, "overflows"),
        ("y[0] = x[0, 0] << 31", {"x": 1}, "overflows"),
        ("y[0] = x[0, 0] / n[0]", {"x": -(2**31), "n": -1}, "overflows"),
        ("y[0] = x[0, 0] / n[0]", {}, "division by zero"),
        ("y[0] = x[0, 0] % n[0]", {}, "division by zero"),
        ("y[0] = x[0, 0] >> n[0]", {"n": 64}, "shift"),
        ("y[0] = x[0, 0] << n[0]", {"n": -1}, "shift"),
        ("y[0] = i32(w[0] + i64(x[0, 0]))", {"w": 2**63 - 1}, "overflows"),
        ("y[0] = i32(w[0])", {"w": 2**31}, "does not fit"),
        ("y[0] = i32(f[0])", {"f": float("nan")}, "does not fit"),
        ("y[0] = i32(i8(x[0, 0]))", {"x": 128}, "does not fit"),
        ("alloc t: i32[2]\nt[0] = 1\ny[0] = t[n[0]]", {"n": 1}, "before it is written"),
        ("alloc t: i32\ny[0] = t", {}, "before it is written"),
        ("for i in 2:\n  alloc t: i32\n  if i == 0:\n    t = 1\n  y[i] = t", {}, "before it"),
    ],
)
def test_what_c_leaves_open(body: str, given: dict[str, int], error: str) -> None:
    with pytest.raises(EvaluationError, match=error):
        run(body, **given)


@pytest.mark.parametrize(
    ("body", "given", "want"),
    [
        ("y[0] = x[0, 0] / n[0]", {"x": -7, "n": 2}, -3),
        ("y[0] = x[0, 0] % n[0]", {"x": -7, "n": 2}, -1),
        ("y[0] = x[0, 0] >> 1", {"x": -7}, -4),
        ("y[0] = i32((w[0] + i64(x[0, 0])) >> 32:i64)", {"w": 2**62, "x": 1}, 2**30),
        ("y[0] = select(n[0] == 0, 7, x[0, 0] / n[0])", {}, 7),
        ("y[0] = select(n[0] != 0 and x[0, 0] / n[0] == 1, 7, 8)", {}, 8),
        ("y[0] = select(n[0] == 0 or x[0, 0] / n[0] == 1, 7, 8)", {}, 7),
        ("y[0] = select(f[0] < f[1], 1, 2)", {"f": float("nan")}, 2),
        ("y[0] = select(f[0] == f[1], 1, 2)", {"f": 0.0}, 1),
        ("y[0] = min(x[0, 0], 3) + max(x[1, 1], 9)", {}, 12),
        ("y[0] = i32(f[0])", {"f": -2.75}, -2),
    ],
)
def test_what_c_says(body: str, given: dict[str, int], want: int) -> None:
    assert run(body, **given)["y"][0] == want


def test_floats_are_rounded_once_and_may_be_infinite() -> None:
    found = run("z[0] = f[0] * f[0]\nz[1] = f[0] + f[1]", f=3e38)["z"]
    assert found.tolist() == [float("inf"), np.float32(3e38)]
    third = run("z[0] = f[0] / 3.0\nz[1] = 0.0 / f[1]", f=1.0)["z"]
    assert third[0] == np.float32(1) / np.float32(3)
    assert np.isnan(third[1])


def test_memory_of_another_shape_or_type() -> None:
    func = parse_func("func g(y: i32[2] out):\n  y[0] = 1\n")
    for wrong in (np.zeros(3, np.int32), np.zeros(2, np.int64)):
        with pytest.raises(EvaluationError):
            evaluate(func, {"y": wrong})


def test_a_function_of_another_text_is_another() -> None:
    for value in range(600):
        y = np.zeros(1, np.int32)
        evaluate(parse_func(f"func g(y: i32[1] out):\n  y[0] = {value}\n"), {"y": y})
        assert y[0] == value
