"""Integers that a framework's floats decide: where its last digits are not Midge's, by one step.

Between dequantisation and quantisation a framework adds floats in the order of its vector units and
approximates functions in its own way. Midge adds integers there, or floats in another order; where
the result is next to the middle between two integers, they take different ones. Such values are
bounded: one step of their scale. What follows is judged from the framework's integers, so that a
step which others carry further is not taken for an error, nor an error for such a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from midge.core.types import Array, DType
from midge.graph.evaluate import check_input, evaluate_node
from midge.graph.ir import Graph, Node

_FUNCTIONS = frozenset({
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "elu", "erf", "exp", "expm1",
    "gelu", "log", "log1p", "log_softmax", "logistic", "mish", "pow", "rsqrt", "sin", "sinh",
    "softmax", "softplus", "swish", "tan", "tanh",
})  # fmt: skip
_SUMS = frozenset({
    "conv2d", "conv_transpose2d", "cumulate", "dense", "depthwise_conv2d", "matmul", "mean",
    "reduce_prod", "resample", "resize_bilinear", "sum",
})  # fmt: skip
# Operators on floats whose last digits are another framework's, by the files that it judges.
# LiteRT's reference kernels add floats as Midge does.
_INEXACT: Mapping[str, frozenset[str]] = {".tflite": _FUNCTIONS}
FEW = 50  # of so many elements one may be next to the middle; more are no accident


@dataclass(frozen=True, slots=True)
class Steps:
    """How a bounded value compares. operator: what makes it, as the model file calls it.
    differing: elements, each by a step."""

    operator: str
    elements: int
    differing: int

    @property
    def ok(self) -> bool:
        """Whether these are few enough to be next to the middle by chance."""
        return self.differing <= max(2, self.elements // FEW)

    def merged(self, other: Steps) -> Steps:
        """Over several inputs."""
        return Steps(
            self.operator, self.elements + other.elements, self.differing + other.differing
        )


def bounded(graph: Graph, path: Path) -> frozenset[str]:
    """The integer values of the graph that its framework may have one step away. QLinearAdd of ONNX
    Runtime is other arithmetic on each kind of processor (qladd.cpp of its MLAS)."""
    inexact = _INEXACT.get(path.suffix.lower(), _FUNCTIONS | _SUMS)
    loose: set[str] = set()
    found: set[str] = set()
    sums: set[str] = set()
    for node in graph.nodes:
        (*inputs,) = (n for n in node.inputs if n not in graph.consts)
        types = [graph.types[n] for n in node.outputs]
        passing = any(t.dtype.is_float or (t.dtype is DType.I32 and t.quant is None) for t in types)
        if passing and (_is_inexact(node, inexact) or loose.intersection(inputs)):
            loose.update(node.outputs)
        elif node.op == "quantize":
            added = node.attrs.get("rounding") == "even_sum" and sums.intersection(inputs)
            found.update(node.outputs if added or loose.intersection(inputs) else ())
        elif "scaling" in node.attrs:
            found.update(node.outputs)
        sums.update(node.outputs if node.op == "add" else ())
    return frozenset(found)


def _is_inexact(node: Node, inexact: frozenset[str]) -> bool:
    """An average in an order that the model's format implies is exact."""
    if node.op == "avg_pool2d":
        return "order" not in node.attrs and "sum" in inexact
    return node.op in inexact


def evaluate_beside(
    graph: Graph, inputs: Mapping[str, Array], theirs: Mapping[str, Array], loose: frozenset[str]
) -> tuple[dict[str, Array], dict[str, Steps]]:
    """As `evaluate_all`, but values of `loose` become the framework's where those are no further
    than a step away; and how they compare."""
    values = {**graph.consts, **{n: check_input(graph, n, inputs) for n in graph.inputs}}
    steps: dict[str, Steps] = {}
    for node in graph.nodes:
        values.update(evaluate_node(node, graph.types, graph.consts, values))
        for name in loose.intersection(node.outputs):
            shown = _shown(name, theirs)
            near = _within_a_step(values[name], shown) if shown is not None else None
            if near is not None:
                differing = int((near != values[name]).sum())
                steps[name] = Steps(node.kind or node.op, near.size, differing)
                values[name] = near
    return values, steps


def _shown(name: str, theirs: Mapping[str, Array]) -> Array | None:
    """The framework's array of a value, or of the one that a name of ours continues."""
    while name not in theirs:
        name, slash, _ = name.rpartition("/")
        if not slash:
            return None
    return theirs[name]


def _within_a_step(own: Array, shown: Array) -> Array | None:
    """The framework's integers as an array like `own`, uint8 as int8 with another zero point, in
    the layout in which the fewest differ; None if they are further away than a step in each."""
    dtype = DType.of(own)
    if shown.size != own.size or not dtype.is_integer or shown.dtype.kind not in "iu":
        return None
    moved = 128 if shown.dtype == np.uint8 and dtype is DType.I8 else 0
    wide = shown.astype(np.int64) - moved
    best, fewest = None, own.size + 1
    for view in _views(wide, own.shape):
        apart = np.abs(view - own)
        differing = int(np.count_nonzero(apart))
        if apart.max(initial=0) <= 1 and differing < fewest:
            best, fewest = view, differing
        if fewest == 0:
            break
    return None if best is None else np.ascontiguousarray(best.astype(own.dtype))


def _views(array: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """The array in the shape, and transposed to it in every way; axes of length 1 take no part."""
    yield array.reshape(shape)
    core = array.reshape([n for n in array.shape if n != 1])
    wanted = tuple(n for n in shape if n != 1)
    for perm in permutations(range(core.ndim)):
        turned = core.transpose(perm)
        if turned.shape == wanted:
            yield turned.reshape(shape)
