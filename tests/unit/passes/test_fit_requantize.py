"""The fitted line gives the bytes of the requantisation it replaces, at every step of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

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


def levels(low: int, high: int, **more: int | str) -> Attrs:
    given_: Attrs = {"zero_out": 0, "low": low, "high": high, "dtype": "i8", "rounding": "once"}
    return given_ | more


WORD = 1 << 23  # sums that reach 2^31 with 8 bits more
# Real factor, sums, levels -> up and down of the line; None where there is none.
LIMITS = {
    "two steps of 50": (100.0, (-1, 1), (-50, 50), (8, 0)),
    "two steps of 127": (200.0, (-1, 1), (-128, 127), None),
    "slopes of 2^-17": (0.9 * 2.0**-17, (-1 << 22, 1 << 22), (-128, 127), (8, 24)),
    "slopes of 2^-20": (0.9 * 2.0**-20, (1 - WORD, WORD >> 1), (-128, 127), (8, 24)),
    "slopes of 2^-21": (0.9 * 2.0**-21, (1 - WORD, WORD >> 1), (-128, 127), (7, 24)),
    "few steps of 2^-21": (0.9 * 2.0**-21, (0, WORD >> 1), (0, 3), (7, 24)),
    "sums down to the last": (2.0**-10, (1 - WORD, WORD >> 1), (-128, 127), (8, 16)),
    "sums below it": (2.0**-10, (-WORD, WORD >> 1), (-128, 127), (7, 12)),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(name: str) -> None:
    real, (low, high), ends, wanted = LIMITS[name]
    attrs = levels(*ends)
    steps = requantized([real], np.zeros(1, np.int64), attrs)
    line = fit(steps, np.array([low]), np.array([high]), attrs)
    assert (None if line is None else (line.up, line.down)) == wanted
    if line is not None:
        x = around_steps(steps, np.array([low]), np.array([high]))
        np.testing.assert_array_equal(lined(line, x, attrs), steps(x))


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


def changed(place: int, graph: Graph | None = None, **attrs: object) -> Graph:
    """The convolution or its requantisation with other attributes; None takes one away."""
    graph = graph or conv()
    node = graph.nodes[place]
    kept = {k: v for k, v in {**node.attrs, **attrs}.items() if v is not None}
    nodes = [replace(node, attrs=kept) if n is node else n for n in graph.nodes]  # type: ignore[arg-type]
    (result,) = OPS[node.op].infer([graph.types[n] for n in node.inputs], nodes[place].attrs)
    types = {**graph.types, node.outputs[0]: result}
    return replace(graph, types=types).with_nodes(nodes)


def given_constant(name: str, values: Array, graph: Graph | None = None) -> Graph:
    graph = graph or conv()
    return replace(graph, consts={**graph.consts, name: values.astype(graph.consts[name].dtype)})


def read_twice() -> Graph:
    graph = conv(("y", "z"))
    again = replace(graph.nodes[1], outputs=("z",))
    types = {**graph.types, "z": graph.types["y"]}
    return replace(graph, types=types).with_nodes((*graph.nodes, again))


def of_bytes() -> Graph:
    graph = changed(0, pad_value=0)
    x = TensorType(graph.types["x"].shape, DType.U8)
    return replace(graph, types={**graph.types, "x": x})


def of_computed(name: str) -> Graph:
    graph = conv()
    consts = {n: a for n, a in graph.consts.items() if n != name}
    return replace(graph, inputs=(*graph.inputs, name), consts=consts)


def quiet(real: float, shift: int, rounding: str) -> Graph:
    """Channel 1 has one product, of another factor: it rises by a step where it rises at all."""
    m, s = multipliers([0.002, abs(real), 0.002])
    m[1], s[1] = np.copysign(m[1], real), shift or s[1]
    w = conv().consts["w"].copy()
    w[1] = 0
    w[1, 1, 1, 1] = 1
    graph = given_constant("m", m, changed(1, rounding=rounding))
    for name, array in (("s", s), ("w", w), ("b", np.zeros(3))):
        graph = given_constant(name, array, graph)
    return graph


def of_all_pixels() -> Graph:
    """Sums without products."""
    graph = conv()
    total = Node("sum", ("x",), ("acc",), {"axes": (1, 2), "x_zero": 0})
    shape = (1, 1, 1, 2)
    types = {**graph.types, "acc": TensorType(shape, DType.I32), "y": TensorType(shape, DType.I8)}
    types |= dict.fromkeys(("m", "s"), TensorType((2,), DType.I32))
    consts = {n: a[:2] for n, a in graph.consts.items()}
    return replace(graph, types=types, consts=consts).with_nodes((total, graph.nodes[1]))


M = conv().consts["m"]
FITTED = {
    "no zero point said": changed(0, x_zero=None),
    "a channel of factor 0": given_constant("m", M * [1, 1, 0]),
}
UNFITTED = {
    "sums read twice": read_twice(),
    "unsigned bytes": of_bytes(),
    "to 16 bits": changed(1, dtype="i16"),
    "shifted left first": changed(1, left_shift=1),
    "a zero point": changed(0, x_zero=3),
    "computed weights": of_computed("w"),
    "a computed factor": of_computed("m"),
    "a falling channel": quiet(-0.006, 0, "once"),
    "a channel that wraps": quiet(2.0**-31, 25, "twice"),
    "sums of no products": of_all_pixels(),
}


@pytest.mark.parametrize("name", FITTED)
def test_what_is_fitted(name: str) -> None:
    before = FITTED[name]
    verify(before)
    after = fit_requantize(before)
    assert [n.op for n in after.nodes] == ["conv2d", "scale"]
    x = {"x": np.random.default_rng(2).integers(-128, 128, (1, 5, 6, 2)).astype(np.int8)}
    np.testing.assert_array_equal(evaluate(after, x)["y"], evaluate(before, x)["y"])


@pytest.mark.parametrize("name", UNFITTED)
def test_what_is_not_fitted(name: str) -> None:
    graph = UNFITTED[name]
    verify(graph)
    assert fit_requantize(graph) == graph
