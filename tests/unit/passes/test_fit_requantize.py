"""The fitted line gives the bytes of the requantisation it replaces, at every step of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midge import ops
from midge.core.types import Array, DType, TensorType
from midge.graph.evaluate import evaluate
from midge.graph.fixed_point import multipliers
from midge.graph.ir import OPS, Attrs, Graph, Node, verify
from midge.passes.fit_requantize import fit, fit_requantize

ops.load()


def requantized(reals: list[float], bias: Array, attrs: Attrs) -> Callable[[Array], Array]:
    m, s = multipliers(reals)
    if attrs["rounding"] == "right":
        s = -s

    def steps(x: Array) -> Array:
        (y,) = OPS["requantize"].reference([x + bias, m, s], attrs)
        return y.astype(np.int64)

    return steps


def lined(line: object, x: Array, attrs: Attrs) -> Array:
    given_ = {k: attrs[k] for k in ("low", "high", "dtype")}
    scale = {**given_, "up": line.up, "down": line.down}  # type: ignore[attr-defined]
    arrays = [x, line.multiplier, line.offset]  # type: ignore[attr-defined]
    (y,) = OPS["scale"].reference(arrays, scale)
    return y.astype(np.int64)


def around_steps(steps: Callable[[Array], Array], low: Array, high: Array) -> Array:
    """Values in low..high with both sides of every step among them."""
    found = []
    for c in range(len(low)):
        start, stop = int(low[c]), int(high[c])
        x = np.linspace(start, stop, 4000).astype(np.int64)
        y = steps(np.broadcast_to(x[:, None], (len(x), len(low))))[:, c]
        for a, b in zip(x[:-1][y[1:] != y[:-1]], x[1:][y[1:] != y[:-1]], strict=True):
            while b - a > 1:
                middle = (a + b) // 2
                full = np.full((1, len(low)), middle)
                edge = np.full((1, len(low)), a)
                same = steps(full)[0, c] == steps(edge)[0, c]
                a, b = (middle, b) if same else (a, middle)
            found += [a, b]
        found += [start, stop, (start + stop) // 2]
    return np.clip(np.array(found, np.int64)[:, None], low, high)


@given(
    st.lists(st.floats(2e-4, 0.05), min_size=1, max_size=4),
    st.integers(-128, 100),
    st.sampled_from(["right", "once"]),
    st.integers(2, 400),
    st.integers(0, 2**32),
)
def test_the_line_is_the_staircase(
    reals: list[float], zero: int, rounding: str, size: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    # A ReLU: results start at the zero point.
    attrs: Attrs = {
        "zero_out": zero, "low": zero, "high": 127, "dtype": "i8", "rounding": rounding,
    }  # fmt: skip
    bias = rng.integers(-2000, 2000, len(reals))
    high = rng.integers(1, 128 * size, len(reals))
    low = -rng.integers(1, 128 * size, len(reals))
    steps = requantized(reals, bias, attrs)
    line = fit(steps, low, high, attrs)
    if line is None:
        return
    x = around_steps(steps, low, high)
    np.testing.assert_array_equal(lined(line, x, attrs), steps(x))


def test_relu_layers_are_fitted() -> None:
    rng = np.random.default_rng(1)
    attrs: Attrs = {
        "zero_out": -128, "low": -128, "high": 127, "dtype": "i8", "rounding": "right",
    }  # fmt: skip
    reals = list(rng.uniform(0.001, 0.01, 64))
    bound = np.full(64, 100_000)
    line = fit(requantized(reals, rng.integers(-5000, 5000, 64), attrs), -bound, bound, attrs)
    assert line is not None
    assert line.up == 8


def test_two_roundings_on_both_sides_of_zero_have_no_line() -> None:
    attrs: Attrs = {"zero_out": 3, "low": -128, "high": 127, "dtype": "i8", "rounding": "right"}
    bound = np.full(1, 100_000)
    assert fit(requantized([0.0021], np.zeros(1), attrs), -bound, bound, attrs) is None


def conv(outputs: tuple[str, ...] = ("y",), zero: int = -128) -> Graph:
    rng = np.random.default_rng(0)
    m, s = multipliers([0.004, 0.0071, 0.002])
    w = rng.integers(-127, 128, (3, 3, 3, 2)).astype(np.int8)
    w[2] = 0  # a channel that is constant
    consts = {
        "w": w,
        "b": np.array([300, -4000, 2500], np.int32),
        "m": m,
        "s": -s,
    }
    types = {n: TensorType(a.shape, DType.of(a)) for n, a in consts.items()}
    types |= {
        "x": TensorType((1, 5, 6, 2), DType.I8),
        "acc": TensorType((1, 5, 6, 3), DType.I32),
        "y": TensorType((1, 5, 6, 3), DType.I8),
    }
    window: Attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": (1, 1, 1, 1)}
    attrs: Attrs = {
        "zero_out": zero, "low": -128, "high": 127, "dtype": "i8", "rounding": "right",
    }  # fmt: skip
    nodes = (
        Node("conv2d", ("x", "w", "b"), ("acc",), {**window, "x_zero": 0, "pad_value": -7}),
        Node("requantize", ("acc", "m", "s"), ("y",), attrs),
    )
    return Graph("g", ("x",), outputs, types, consts, nodes)


@pytest.mark.parametrize("fill", [-128, 127, None])
def test_the_pass_keeps_the_bytes(fill: int | None) -> None:
    before = conv()
    after = fit_requantize(before)
    verify(after)
    assert [n.op for n in after.nodes] == ["conv2d", "scale"]
    assert len(after.nodes[0].inputs) == 2, "the bias is in the offset"
    rng = np.random.default_rng(2)
    x = rng.integers(-128, 128, (1, 5, 6, 2)) if fill is None else np.full((1, 5, 6, 2), fill)
    given_ = {"x": x.astype(np.int8)}
    np.testing.assert_array_equal(evaluate(after, given_)["y"], evaluate(before, given_)["y"])


def test_sums_that_others_need_stay() -> None:
    graph = conv(("y", "acc"))
    assert fit_requantize(graph) == graph


def test_without_a_line_nothing_changes() -> None:
    graph = conv(zero=5)
    assert fit_requantize(graph) == graph
