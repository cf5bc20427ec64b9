"""What differs in one thing from a graph: each pass must know whether it still applies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from midge.core.errors import MidgeError
from midge.core.types import DType, TensorType
from midge.graph.attrs import Attr
from midge.graph.ir import Graph, Node, verify

# Operators of the same operands, of which the next one is taken.
_RINGS = (
    ("add", "mul", "sub", "div", "maximum"),
    ("erf", "tanh", "sqrt", "abs", "neg"),
    ("max_pool2d", "avg_pool2d"),
    ("sum", "mean", "reduce_max"),
)
_FUSED = ("add", "mul", "sub", "div", "conv2d", "depthwise_conv2d", "dense", "max_pool2d",
          "avg_pool2d")  # fmt: skip


def near_misses(graph: Graph) -> Iterator[tuple[str, Graph]]:
    """The graph, and all that is still valid of its neighbours, with what was done."""
    yield "as it is", graph
    for what, other in _all(graph):
        try:
            verify(other)
        except MidgeError:
            continue
        yield what, other


def _all(graph: Graph) -> Iterator[tuple[str, Graph]]:
    for number, node in enumerate(graph.nodes):
        for output in node.outputs:
            if output not in graph.outputs:
                yield f"{output} is an output", replace(graph, outputs=(*graph.outputs, output))
            yield f"{output} is read", _read(graph, output)
        for what, made in _nodes(graph, node):
            nodes = (*graph.nodes[:number], made, *graph.nodes[number + 1 :])
            yield f"{node.outputs[0]}: {what}", graph.with_nodes(nodes)
    for name in graph.consts:
        yield from _constants(graph, name)
    for name, t in graph.types.items():
        if t.quant is not None and t.quant.axis is None:
            yield from _quantised(graph, name, t)


def _read(graph: Graph, value: str) -> Graph:
    """With a reader more, that makes an output."""
    name = f"{value}/seen"
    types = {**graph.types, name: graph.types[value]}
    node = Node("copy", (value,), (name,), {}, "operator 99", "COPY")
    wider = replace(graph, types=types, outputs=(*graph.outputs, name))
    return wider.with_nodes((*graph.nodes, node))


def _nodes(graph: Graph, node: Node) -> Iterator[tuple[str, Node]]:
    for ring in _RINGS:
        if node.op in ring:
            op = ring[(ring.index(node.op) + 1) % len(ring)]
            yield op, replace(node, op=op)
    if len(node.inputs) > 1:
        first, second, *others = node.inputs
        yield "swapped", replace(node, inputs=(second, first, *others))
        yield "the first twice", replace(node, inputs=(first, first, *others))
    if len(node.inputs) > 2:
        yield "without the last input", replace(node, inputs=node.inputs[:-1])
    for source in graph.inputs:
        alike = node.inputs and graph.types[source].dtype is graph.types[node.inputs[0]].dtype
        if alike and source not in node.inputs:
            yield f"of {source}", replace(node, inputs=(source, *node.inputs[1:]))
    for key, value in node.attrs.items():
        if "order" in node.attrs and key != "order":
            continue  # which says the same once more
        for other in _other(value):
            yield f"{key}={other}", replace(node, attrs={**node.attrs, key: other})
    if node.op in _FUSED and "activation" not in node.attrs:
        yield "relu", replace(node, attrs={**node.attrs, "activation": "relu"})


def _other(value: Attr) -> Iterator[Attr]:
    match value:
        case bool():
            yield not value
        case int():
            yield from (value + 1, value - 1)
        case float():
            yield from (value + 1.0, 1.001 * value)
        case tuple() if value and all(isinstance(v, int) for v in value):
            for i, v in enumerate(value):
                yield (*value[:i], int(v) + 1, *value[i + 1 :])
            yield value[::-1]


def _constants(graph: Graph, name: str) -> Iterator[tuple[str, Graph]]:
    array, t = graph.consts[name], graph.types[name]

    def with_array(what: str, made: np.ndarray, kind: TensorType = t) -> tuple[str, Graph]:  # type: ignore[type-arg]
        types = {**graph.types, name: replace(kind, shape=made.shape)}
        return f"{name} {what}", replace(graph, types=types, consts={**graph.consts, name: made})

    consts = {n: a for n, a in graph.consts.items() if n != name}
    yield f"{name} is an input", replace(graph, consts=consts, inputs=(*graph.inputs, name))
    yield f"{name} is an output", replace(graph, outputs=(*graph.outputs, name))
    with np.errstate(all="ignore"):
        if array.dtype.kind == "f":
            yield with_array("* 1.00005", (array * np.float32(1.00005)).astype(array.dtype))
            yield with_array("* 1.01", (array * np.float32(1.01)).astype(array.dtype))
            yield with_array("is half", array.astype(np.float16), replace(t, dtype=DType.F16))
        if array.dtype.kind == "i":
            yield with_array("+ 1", (array + array.dtype.type(1)).astype(array.dtype))
    if array.dtype.kind in "fi":
        yield with_array("negative", (-array).astype(array.dtype))
        yield with_array("0", np.zeros_like(array))
    if array.size == 1:
        yield with_array("twice", np.repeat(array.reshape(-1), 2))
        yield with_array("of another rank", array.reshape((1,) * (array.ndim + 1)))
        yield with_array("a scalar", array.reshape(()))
    if array.ndim and array.size:
        yield with_array("of one", array[..., :1])


def _quantised(graph: Graph, name: str, t: TensorType) -> Iterator[tuple[str, Graph]]:
    assert t.quant is not None
    (scale,), (zero,) = t.quant.scale, t.quant.zero_point
    for what, quant in (
        ("another scale", replace(t.quant, scale=(2 * scale,))),
        ("another zero point", replace(t.quant, zero_point=(zero + 1,))),
    ):
        yield (
            f"{name} has {what}",
            replace(graph, types={**graph.types, name: replace(t, quant=quant)}),
        )
