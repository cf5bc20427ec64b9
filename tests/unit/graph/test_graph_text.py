"""The graph's text form: what is printed parses back, what is broken names its line."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midge.core.errors import VerifyError
from midge.core.types import Array, DType, Quant, TensorType
from midge.graph.ir import Attr, Graph, Node
from midge.graph.text import parse_graph, print_graph

WORDS = [
    "x", "const", "return", "graph", "axis", "i8", "a/b.c", "a b", "", '"', "\\", "=", "1", "-1",
    "x:0", "#00000000", "Infinity", "NaN", "true", "\n", "\u00fc", "\u4e16\u754c", "\x00", "a,b",
]  # fmt: skip
names = st.one_of(st.sampled_from(WORDS), st.text(max_size=6))
scales = st.floats(min_value=1e-38, max_value=1e38, allow_nan=False)
sources = st.one_of(st.text(max_size=8), st.just("operator 3"))
attrs: st.SearchStrategy[dict[str, Attr]] = st.dictionaries(
    st.sampled_from(["strides", "low", "dtype", "x_zero", "const", "axis"]),
    st.one_of(
        st.integers(-(2**63), 2**63),
        st.floats(allow_nan=False),
        st.text(max_size=5),
        st.lists(st.integers(-9, 9), max_size=4).map(tuple),
    ),
    max_size=3,
)


@st.composite
def types(draw: st.DrawFn, dtype: DType | None = None) -> TensorType:
    shape = tuple(draw(st.lists(st.integers(0, 4), max_size=3)))
    dtype = dtype or draw(st.sampled_from(list(DType)))
    axes = [i for i, n in enumerate(shape) if n]
    quant = None
    match draw(st.sampled_from(["none", "tensor", "channel"])):
        case "tensor":
            quant = Quant.per_tensor(draw(scales), draw(st.integers(-(2**31), 2**31)))
        case "channel" if axes:
            axis = draw(st.sampled_from(axes))
            count = shape[axis]
            zeros = draw(st.lists(st.integers(-128, 127), min_size=count, max_size=count))
            several = draw(st.lists(scales, min_size=count, max_size=count))
            quant = Quant(tuple(several), tuple(zeros), axis)
    return TensorType(shape, dtype, quant)


@st.composite
def arrays(draw: st.DrawFn, t: TensorType) -> Array:
    if t.dtype.is_float:
        width: Any = 8 * t.dtype.size
        element: st.SearchStrategy[Any] = st.floats(width=width).map(
            lambda v: math.nan if v != v else v
        )
    elif t.dtype is DType.BOOL:
        element = st.booleans()
    else:
        element = st.integers(t.dtype.min, t.dtype.max)
    values = draw(st.lists(element, min_size=t.elements, max_size=t.elements))
    return np.array(values, t.dtype.numpy).reshape(t.shape)


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Anything that can be printed; nodes need not make sense."""
    unique = iter(draw(st.lists(names, min_size=7, max_size=12, unique=True)))
    table: dict[str, TensorType] = {}
    consts: dict[str, Array] = {}
    inputs = [next(unique) for _ in range(draw(st.integers(0, 2)))]
    for name in inputs:
        table[name] = draw(types())
    for _ in range(draw(st.integers(0, 2))):
        name = next(unique)
        table[name] = draw(types())
        consts[name] = draw(arrays(table[name]))
    nodes = []
    known = [*table, "somewhere else"]
    for _ in range(draw(st.integers(0, 3))):
        outputs = [name for name, _ in zip(unique, range(draw(st.integers(1, 2))), strict=False)]
        if not outputs:
            break
        for name in outputs:
            table[name] = draw(types())
        reads = draw(st.lists(st.sampled_from(known), max_size=3))
        op = draw(st.sampled_from(["conv2d", "const", "return", "add"]))
        node = Node(op, tuple(reads), tuple(outputs), draw(attrs), draw(sources), draw(sources))
        nodes.append(node)
        known += outputs
    results = draw(st.lists(st.sampled_from(known), min_size=1, max_size=3))
    return Graph(draw(names), tuple(inputs), tuple(results), table, consts, tuple(nodes))


@given(graphs())
@settings(max_examples=250, deadline=None)
def test_what_is_printed_parses_back(graph: Graph) -> None:
    text = print_graph(graph)
    parsed = parse_graph(text, graph.consts)
    assert parsed == graph
    assert print_graph(parsed) == text


@given(graphs(), st.data())
@settings(max_examples=250, deadline=None)
def test_broken_text_is_a_verify_error_with_its_line(graph: Graph, data: st.DataObject) -> None:
    text = print_graph(graph)
    at = data.draw(st.integers(0, len(text)))
    gone = data.draw(st.integers(0, 8))
    put = data.draw(st.one_of(st.sampled_from(WORDS), st.sampled_from(list('[]{}(),:;=@"'))))
    where = "graph text line "
    try:
        parse_graph(text[:at] + put + text[at + gone :], graph.consts)
    except VerifyError as error:
        where = error.where
    assert where.startswith("graph text line ")


TEXT = """graph g(x: i8[1x4]{0.1; 3}):
  const c: f32[2] = [1.5, 2]
  y: i8[1x4] = clip(x, high=6.0, low=0.0) @ "operator 0" "RELU6"
  return y
"""


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("graph g", "grph g", 1, "expected 'graph'"),
        ("i8[1x4]{", "i9[1x4]{", 1, "expected an element type"),
        ("[1x4]{", "[1x]{", 1, "expected a shape such as"),
        ("{0.1; 3}", "{0.1 0.2; 3}", 1, "expected a valid quantisation"),
        ("{0.1; 3}", "{0.1; 3.5}", 1, "expected an integer"),
        ("):\n", ")\n", 2, "expected ':'"),
        ("[1.5, 2]", "[1.5, ]", 2, "expected a list of 2 values"),
        ("[1.5, 2]", "[1.5]", 2, "expected a list of 2 values"),
        ("[1.5, 2]", '["one", 2]', 2, "expected a list of 2 values"),
        ("[1.5, 2]", "#01234567", 2, "the array of constant 'c'"),
        (' @ "operator 0"', "", 3, "expected '@'"),
        ('"RELU6"', "", 4, "expected a string"),
        ('"RELU6"', '"\\q"', 3, "expected a string"),
        ("clip(x,", "clip(x x,", 3, "expected ','"),
        ("high=6.0", "high=", 3, "expected a number"),
        ("  return y\n", "", 4, "found 'the end'"),
        ("return y", "return y z", 4, "expected the end"),
    ],
)
def test_messages_name_the_line(old: str, new: str, line: int, message: str) -> None:
    assert TEXT.count(old) == 1
    with pytest.raises(VerifyError) as caught:
        parse_graph(TEXT.replace(old, new))
    assert message in caught.value.what
    assert caught.value.where == f"graph text line {line}"


def test_a_wrong_array_is_noticed() -> None:
    array = np.arange(9, dtype=np.int8)
    graph = Graph("g", (), ("c",), {"c": TensorType((9,), DType.I8)}, {"c": array}, ())
    text = print_graph(graph)
    assert parse_graph(text, {"c": array}) == graph
    with pytest.raises(VerifyError, match="an array with this checksum for constant 'c'"):
        parse_graph(text, {"c": array + 1})


def test_small_constants_are_printed_and_large_ones_are_not() -> None:
    for n, inline in ((8, True), (9, False)):
        t = TensorType((n,), DType.I8)
        graph = Graph("g", (), ("c",), {"c": t}, {"c": np.zeros(n, np.int8)}, ())
        assert ("[0, 0" in print_graph(graph)) == inline
