"""Which rows of an input a row of the output depends on, against NumPy; bands against the whole."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from midge import driver
from midge.core.types import Array, DType, TensorType
from midge.graph.evaluate import evaluate
from midge.graph.ir import OPS, Graph, Node, Rows, Sample
from midge.graph.rows import SAME, Bandable, bandable, cut
from midge.lower.bands import band_group
from midge.lower.fuse import Group

driver.load_operators()


def graph_of(op: str, sample: Sample) -> Graph:
    """The operator alone, its samples' constants and its weights as constants."""
    names = [f"x{i}" for i in range(len(sample.inputs))]
    types = dict(zip(names, sample.inputs, strict=True))
    (types["y"],) = OPS[op].infer(sample.inputs, sample.attrs)
    consts = {names[i]: value for i, value in sample.consts.items()}
    if OPS[op].channel_axis is not None:
        rng = np.random.default_rng(5)
        for name in names[1:]:
            consts.setdefault(name, random_values(types[name], rng, sample))
    inputs = tuple(n for n in names if n not in consts)
    node = Node(op, tuple(names), ("y",), dict(sample.attrs))
    return Graph("g", inputs, ("y",), types, consts, (node,))


def how_of(graph: Graph) -> Bandable | None:
    (node,) = graph.nodes
    return bandable(graph, graph.nodes, None if OPS[node.op].elementwise else node)


def cases() -> Iterator[tuple[str, int]]:
    for name in sorted(OPS):
        for number, sample in enumerate(OPS[name].samples):
            if how_of(graph_of(name, sample)) is not None:
                yield name, number


def random_values(t: TensorType, rng: np.random.Generator, sample: Sample) -> Array:
    if t.dtype.is_float:
        return rng.integers(-8, 9, t.shape).astype(t.dtype.numpy) / 4
    if t.dtype is DType.BOOL:
        return rng.integers(0, 2, t.shape).astype(np.bool_)
    low, high = t.dtype.min, t.dtype.max
    if sample.low is not None and sample.high is not None:
        low, high = max(low, sample.low), min(high, sample.high)
    return rng.integers(low, high, t.shape, endpoint=True, dtype=np.int64).astype(t.dtype.numpy)


CASES = list(cases())


def windows() -> list[tuple[Graph, Bandable, Sample]]:
    """Convolutions and pools in more shapes than those of their samples, 1 high or wide."""
    rng = random.Random(4)
    found = []
    for number in range(60):
        height, width = rng.choice([1, 2, 5, 8]), rng.choice([1, 3])
        kernel = (rng.choice([1, 2, 3, 5]), rng.choice([1, 2]))
        dilation, stride = rng.choice([1, 1, 2]), rng.choice([1, 1, 2, 3])
        reach = (kernel[0] - 1) * dilation
        pads = (rng.randrange(reach + 1), rng.randrange(reach + 2), 0, kernel[1] - 1)
        if height + pads[0] + pads[1] <= reach:
            continue
        attrs = {"strides": (stride, 1), "dilations": (dilation, 1), "padding": pads}
        x = TensorType((1, height, width, 2), DType.F32)
        op = ("conv2d", "depthwise_conv2d", "max_pool2d", "avg_pool2d")[number % 4]
        if op.endswith("pool2d"):
            attrs |= {"window": kernel, "dilations": (1, 1)}
            if height + pads[0] + pads[1] < kernel[0] or max(pads[:2]) >= kernel[0]:
                continue
            sample = Sample((x,), attrs)
        else:
            shape = (3, *kernel, 2) if op == "conv2d" else (1, *kernel, 2)
            sample = Sample((x, TensorType(shape, DType.F32)), attrs)
        graph = graph_of(op, sample)
        how = how_of(graph)
        if how is not None:
            found.append((graph, how, sample))
    return found


def all_cases() -> list[tuple[Graph, Bandable, Sample]]:
    own = []
    for name, number in CASES:
        sample = OPS[name].samples[number]
        graph = graph_of(name, sample)
        how = how_of(graph)
        assert how is not None
        own.append((graph, how, sample))
    return own + windows() + elementwise() + with_constants()


def with_constants() -> list[tuple[Graph, Bandable, Sample]]:
    """Every operator of several inputs with one of them constant: an image that is a constant
    cannot be cut."""
    rng = np.random.default_rng(6)
    found = []
    for name in sorted(OPS):
        for sample in OPS[name].samples:
            for i, t in enumerate(sample.inputs if len(sample.inputs) > 1 else ()):
                consts = {i: random_values(t, rng, sample), **sample.consts}
                fixed = replace(sample, consts=consts)
                if len(consts) < len(sample.inputs):
                    graph = graph_of(name, fixed)
                    how = how_of(graph)
                    found += [] if how is None else [(graph, how, fixed)]
    return found


def elementwise() -> list[tuple[Graph, Bandable, Sample]]:
    """With other operands of every shape that is broadcast."""
    x = TensorType((1, 4, 3, 2), DType.F32)
    others = [
        (1, 4, 3, 2),
        (1, 4, 1, 1),
        (1, 1, 3, 2),
        (4, 3, 2),
        (4, 1, 1),
        (1, 3, 1),
        (3, 2),
        (2,),
    ]
    samples = [("clip", Sample((x,), {"low": -1.0, "high": 1.0}))]
    for op in ("add", "sub", "mul"):
        samples += [(op, Sample((x, TensorType(shape, DType.F32)))) for shape in others]
        # A constant that differs from row to row cannot be cut: its image is all of it.
        samples += [
            (op, Sample((x, TensorType(s, DType.F32)), {}, {1: np.ones(s, np.float32)}))
            for s in others
        ]
    graphs = [(graph_of(op, sample), sample) for op, sample in samples]
    return [(g, how, sample) for g, sample in graphs if (how := how_of(g)) is not None]


def test_there_is_something_to_test() -> None:
    names = {name for name, _ in CASES}
    assert {"conv2d", "depthwise_conv2d", "max_pool2d", "avg_pool2d", "concat", "sum"} <= names
    assert len(windows()) > 30
    assert len(elementwise()) > 20


def test_an_output_row_depends_on_no_other_rows_than_it_says() -> None:
    rng = np.random.default_rng(1)
    for graph, how, sample in all_cases():
        if how.accumulates:
            continue
        given = {v: random_values(graph.types[v], rng, sample) for v in graph.inputs}
        with np.errstate(all="ignore"):
            (want,) = evaluate(graph, given).values()
        for value, rows in how.inputs.items():
            for row in range(graph.types[value].shape[1]):
                other = random_values(graph.types[value], rng, sample)
                changed = given[value].copy()
                changed[:, row] = other[:, row]
                with np.errstate(all="ignore"):
                    (have,) = evaluate(graph, {**given, value: changed}).values()
                for out in range(want.shape[1]):
                    first = out * rows.stride - rows.top
                    if row not in range(first, first + rows.taps):
                        np.testing.assert_array_equal(have[:, out], want[:, out], str(graph))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_bands_are_the_rows_of_the_whole(most: int) -> None:
    """Band by band with the smaller graph, rows beyond the image full of what they count as."""
    rng = np.random.default_rng(2)
    for graph, how, sample in all_cases():
        given = {v: random_values(graph.types[v], rng, sample) for v in graph.inputs}
        with np.errstate(all="ignore"):
            (want,) = evaluate(graph, given).values()
            have = accumulated(graph, how, given, most) if how.accumulates else banded(
                graph, how, given, most
            )  # fmt: skip
        np.testing.assert_array_equal(have, want, str(graph))


def banded(graph: Graph, how: Bandable, given: dict[str, Array], most: int) -> Array:
    height = graph.types["y"].shape[1]
    parts = []
    for start in range(0, height, most):
        count = min(most, height - start)
        band = cut(graph, graph.nodes, how, count)
        own = {
            v: taken(given[v], how.inputs[v], start, count) if v in how.inputs else given[v]
            for v in band.inputs
        }
        (part,) = evaluate(band, own).values()
        assert part.shape[1] == count
        parts.append(part)
    return np.concatenate(parts, axis=1)


def accumulated(graph: Graph, how: Bandable, given: dict[str, Array], most: int) -> Array:
    ((value, rows),) = how.inputs.items()
    assert rows == SAME
    height = given[value].shape[1]
    so_far: dict[str, Array] = {}
    total = None
    for start in range(0, height, most):
        count = min(most, height - start)
        band = band_group(graph, Group(graph.nodes, graph.nodes[0]), how, count, start == 0)
        own = {value: given[value][:, start : start + count]}
        if total is not None:
            so_far = {band.so_far: total}
        (total,) = evaluate(band.graph, own | so_far).values()
    assert total is not None
    return total


def taken(x: Array, rows: Rows, start: int, count: int) -> Array:
    first = start * rows.stride - rows.top
    size = (count - 1) * rows.stride + rows.taps
    full = np.full((1, size, *x.shape[2:]), rows.outside, x.dtype)
    low, high = max(first, 0), min(first + size, x.shape[1])
    if low < high:
        full[:, low - first : high - first] = x[:, low:high]
    return full


def single(op: str, inputs: list[TensorType], attrs: dict[str, object], out: TensorType) -> Graph:
    types = {f"x{i}": t for i, t in enumerate(inputs)} | {"y": out}
    node = Node(op, tuple(f"x{i}" for i in range(len(inputs))), ("y",), attrs)  # type: ignore[arg-type]
    consts = {n: np.ones(types[n].shape, np.float32) for n in node.inputs[1:] if op == "conv2d"}
    inputs = tuple(n for n in node.inputs if n not in consts)
    return Graph("g", inputs, ("y",), types, consts, (node,))


def image(height: int, channels: int = 2, batch: int = 1) -> TensorType:
    return TensorType((batch, height, 3, channels), DType.F32)


def test_what_is_no_stream_of_rows() -> None:
    batch = single("clip", [image(4, batch=2)], {"low": 0.0, "high": 1.0}, image(4, batch=2))
    assert how_of(batch) is None
    flat = TensorType((1, 24), DType.F32)
    assert how_of(single("clip", [flat], {"low": 0.0, "high": 1.0}, flat)) is None
    rows = single("concat", [image(2), image(2)], {"axis": 1}, image(4))
    assert how_of(rows) is None
    attrs = {"window": (2, 2), "strides": (1, 1), "dilations": (1, 1), "padding": (1, 0, 0, 0)}
    padded = single("avg_pool2d", [image(4)], attrs, TensorType((1, 4, 2, 2), DType.F32))
    assert how_of(padded) is None


def test_rows_of_a_constant_are_not_handed_over() -> None:
    types = {"x": image(4), "k": image(4, 1), "y": image(4, 3)}
    for names in (("x", "k"), ("k", "x")):
        node = Node("concat", names, ("y",), {"axis": 3})
        consts = {"k": np.ones((1, 4, 3, 1), np.float32)}
        assert how_of(Graph("g", ("x",), ("y",), types, consts, (node,))) is None
        assert how_of(Graph("g", ("x", "k"), ("y",), types, {}, (node,))) is not None


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [DType.F32, DType.I8])
def test_sums_of_floats_keep_their_order(dtype: DType, rows: int) -> None:
    """By bands they are added one by one too: also where integers are made of them."""
    attrs = {"axes": (1, 2)} | ({"scale": 0.1, "zero": 3} if dtype is DType.I8 else {})
    x, s = TensorType((1, 7, 3, 2), dtype), TensorType((1, 1, 1, 2), DType.F32)
    total = Node("sum", ("x",), ("s",), attrs)
    rounding = Node("quantize", ("s",), ("y",), {"dtype": "i8", "scale": 0.1, "zero": 0})
    types = {"x": x, "s": s, "y": replace(s, dtype=DType.I8)}
    whole = Graph("g", ("x",), ("y",), types, {}, (total, rounding))
    how = bandable(whole, (total,), total)
    assert how is not None
    assert how.accumulates
    alone = Graph("g", ("x",), ("s",), {"x": x, "s": s}, {}, (total,))
    rng = np.random.default_rng(0)
    values = rng.normal(size=x.shape) * 10.0 ** rng.integers(-3, 4, x.shape)
    given = {"x": np.clip(values, -128, 127).astype(dtype.numpy)}
    have, (want,) = accumulated(alone, how, given, rows), evaluate(alone, given).values()
    np.testing.assert_array_equal(have, want)


def test_a_window_of_one_row_with_rows_added_below() -> None:
    """Its input is not as high as its output: row by row they are not the same."""
    types = [image(2), TensorType((2, 1, 1, 2), DType.F32)]
    attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": (0, 1, 0, 0)}
    graph = single("conv2d", types, attrs, image(3))
    assert how_of(graph) is None
    attrs["padding"] = (0, 0, 0, 0)
    how = how_of(single("conv2d", types, attrs, image(2)))
    assert how is not None
    assert how.inputs["x0"] == SAME


def test_an_image_of_one_row_is_read_as_a_whole() -> None:
    graph = single("mul", [image(4), TensorType((1, 1, 1, 2), DType.F32)], {}, image(4))
    assert how_of(graph) == Bandable({"x0": SAME})


def test_a_value_that_is_read_in_two_ways_is_not_cut() -> None:
    """A convolution of 3 rows and the addition of its own input."""
    types = {"x": image(4), "w": TensorType((2, 3, 1, 2), DType.F32), "c": image(4), "y": image(4)}
    attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": (1, 1, 0, 0)}
    nodes = (Node("conv2d", ("x", "w"), ("c",), attrs), Node("add", ("c", "x"), ("y",)))
    weights = {"w": np.ones((2, 3, 1, 2), np.float32)}
    graph = Graph("g", ("x",), ("y",), types, weights, nodes)
    assert bandable(graph, nodes, nodes[0]) is None
    other = Graph("g", ("x", "z"), ("y",), {**types, "z": image(4)}, weights, (
        nodes[0], Node("add", ("c", "z"), ("y",)),
    ))  # fmt: skip
    how = bandable(other, other.nodes, other.nodes[0])
    assert how == Bandable({"x": Rows(1, 3, 1, 0), "z": SAME})
