"""NaN, infinities and zeros of both signs: C gives NumPy's bits."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from conftest import unsearched
from midge import driver
from midge.core.types import Array
from midge.graph.evaluate import evaluate
from midge.graph.text import parse_graph
from midge.loop import ir
from midge.run import RUNNERS
from midge.target import load_target

pytestmark = pytest.mark.slow

SPECIAL = np.array(
    [0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3e38, -3e38, 2.0], np.float32
)
# An operator on x (and y) [1, 4, 6, 12].
STEPS = {
    "abs": "abs(x)",
    "sign": "sign(x)",
    "limits": "clip(x, high=1.0, low=-1.0)",
    "relu": "clip(x, high=3e38, low=0.0)",
    "greater": "maximum(x, y)",
    "smaller": "minimum(x, y)",
    "hard sigmoid": "hard_sigmoid(x, alpha=0.2, beta=0.5)",
    "leaky": "leaky_relu(x, alpha=-0.0)",
}
SHAPE = (1, 4, 6, 12)


def outcomes(text: str, given: dict[str, Array], target: str = "cortex-m4") -> None:
    """NumPy, this host and a core agree in every bit; NaN is NaN."""
    driver.load_operators()
    graph = parse_graph(text)
    made = driver.compile_graph(graph, load_target(target), unsearched())
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("error")
        want = evaluate(made.graph, given)
    for runner in ("host", "emulator"):
        session = RUNNERS[runner].load(made.package, toolchain=None, optimize=None)
        have = session.run(given).outputs
        session.close()
        for mine, theirs in zip(made.package_outputs, made.graph.outputs, strict=True):
            a, b = have[mine], want[theirs]
            np.testing.assert_array_equal(a, b, err_msg=f"{runner}: {theirs}")
            if b.dtype.kind == "f":
                known = ~np.isnan(b)
                np.testing.assert_array_equal(
                    np.signbit(a)[known], np.signbit(b)[known], err_msg=f"{runner}: {theirs}"
                )


def images() -> dict[str, Array]:
    """Every pair of special values, and runs of equal ones."""
    x, y = np.meshgrid(SPECIAL, SPECIAL, indexing="ij")
    return {
        n: np.concatenate([a.ravel(), a.T.ravel()]).reshape(SHAPE) for n, a in (("x", x), ("y", y))
    }


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus"])
def test_element_by_element(target: str) -> None:
    types = "f32[1x4x6x12]"
    lines = [f'  v{i}: {types} = {step} @ "{i}" "A"' for i, step in enumerate(STEPS.values())]
    names = ", ".join(f"v{i}" for i in range(len(STEPS)))
    text = f"graph g(x: {types}, y: {types}):\n" + "\n".join(lines) + f"\n  return {names}\n"
    outcomes(text, images(), target)


def test_over_axes_and_windows() -> None:
    """NaN is passed over; what has no number at all is an infinity."""
    window = "dilations=(1 1), padding=(1 0 0 0), strides=(1 1), window=(2 2)"
    text = f"""graph g(x: f32[1x4x6x12]):
  a: f32[1x4x6x1] = reduce_max(x, axes=(3)) @ "0" "A"
  b: f32[1x1x1x12] = reduce_min(x, axes=(1 2)) @ "1" "A"
  c: f32[1x4x5x12] = max_pool2d(x, {window}) @ "2" "A"
  d: i32[1x4x1x12] = arg_max(x, axis=2, dtype="i32") @ "3" "A"
  e: i32[1x4x1x12] = arg_min(x, axis=2, dtype="i32", last=1) @ "4" "A"
  return a, b, c, d, e
"""
    given = images()
    given["x"][0, :, :, 3] = np.nan
    given["x"][0, :, :, 4] = -np.inf
    outcomes(text, {"x": given["x"]})


def test_kernels_that_differ_in_the_sign_of_a_zero_are_two() -> None:
    text = """graph g(x: f32[1x12]):
  const p: f32[1] = [0.0]
  const n: f32[1] = [-0.0]
  a: f32[1x12] = mul(x, p) @ "0" "A"
  b: f32[1x12] = mul(x, n) @ "1" "A"
  c: f32[1x12] = leaky_relu(x, alpha=0.0) @ "2" "A"
  d: f32[1x12] = leaky_relu(x, alpha=-0.0) @ "3" "A"
  return a, b, c, d
"""
    outcomes(text, {"x": SPECIAL[None]})


def test_constants_are_their_bits() -> None:
    assert ir.f32(0.0) != ir.f32(-0.0)
    assert ir.f32(float("nan")) == ir.f32(float("nan"))
    assert hash(ir.f32(float("nan"))) == hash(ir.f32(float("nan")))
    assert ir.i32(1) == ir.i32(1)
    assert ir.i32(1) != ir.f32(1)


@pytest.mark.parametrize("wrap", [0, 1])
@pytest.mark.parametrize("dtype", ["i8", "u8", "i16", "i32"])
def test_floats_become_the_nearest_integers_there_are(dtype: str, wrap: int) -> None:
    """Wrapping is for integers that become narrower."""
    text = f"""graph g(x: f32[1x14]):
  a: {dtype}[1x14] = cast(x, dtype="{dtype}", wrap={wrap}) @ "0" "A"
  return a
"""
    outcomes(text, {"x": np.append(SPECIAL, np.float32([300, -70000]))[None]})
