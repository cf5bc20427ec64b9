"""Quantised sums, products and means in as few operations as give the same bytes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.affine_fit import Fit, Line, Staircase, fit_all
from midge.graph.attrs import Attrs, integer, number
from midge.graph.ir import Attr, Graph, Node, fresh
from midge.graph.region import BYTES, Region, Regions, computed, reference, tabulate, vectors
from midge.passes.fit_requantize import Line as ScaleLine
from midge.passes.fit_requantize import fit as fit_scale

_LEFT = 2  # bits that a product is shifted left before its high word is taken
_MOST_POINTS = 1 << 17  # of a staircase of one 32-bit operand


_Operand: TypeAlias = str | tuple[str, Array]


@dataclass(frozen=True, slots=True)
class _Fitted:
    """A node to be, in place of `region`; operands: values, and constants with their roles."""

    region: Region
    op: str
    operands: tuple[_Operand, ...]
    attrs: Attrs


def fit_elementwise(graph: Graph) -> Graph:
    """u = requantize(a, ..); v = requantize(b, ..); y = requantize(add(u, v), ..)
       ->   y = affine(a, b): clamp((a * A + b * B + C) >> s)

    And so sums with a constant per channel. The requantisation of a product or of the sum of a
    mean, whose operand is small, becomes one multiplication, too: by fitted integers or by an
    identity. A fit is exact, checked on every value of the operands; what has none stays.
    """
    types, consts = dict(graph.types), dict(graph.consts)
    regions = Regions(graph)
    makers = {n.outputs[0]: n for n in graph.nodes}
    gone: set[str] = set()
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if node.outputs[0] in gone:
            continue
        fitted = _sum(graph, regions, node) or _scaled(graph, makers, node)
        if fitted is not None:
            gone.update(n.outputs[0] for n in fitted.region.nodes[:-1])
            node = _as_node(fitted, types, consts)
        kept.append(node)
    return replace(graph, types=types, consts=consts).with_nodes(kept[::-1])


def _as_node(fitted: _Fitted, types: dict[str, TensorType], consts: dict[str, Array]) -> Node:
    """The node; its constants are added to `types` and `consts`."""
    region = fitted.region
    inputs = []
    for operand in fitted.operands:
        if isinstance(operand, str):
            inputs.append(operand)
            continue
        role, value = operand
        name = fresh(f"{region.output}/{role}", types)
        axes = () if types[region.output].shape == () else -1
        consts[name] = value.astype(np.int32).reshape(axes)
        types[name] = TensorType(consts[name].shape, DType.I32)
        inputs.append(name)
    return region.as_node(fitted.op, inputs, fitted.attrs)


# Sums: all nodes between the bytes that are read and the byte that is written go.


def _sum(graph: Graph, regions: Regions, node: Node) -> _Fitted | None:
    """`node` as the end of a sum of two int8 tensors, or of one and constants."""
    y = graph.types[node.outputs[0]]
    if node.op not in ("requantize", "quantize") or y.dtype is not DType.I8:
        return None
    region = next(regions.ending_with(node), None)
    if region is None or not _is_sum(graph, region):
        return None
    fits = _fits(graph, region)
    if not fits:
        return None
    factors = [("factor", _merged(f)) for f in zip(*(f.factors for f in fits), strict=True)]
    operands: list[_Operand] = [region.roots[0], factors[0]]
    operands += [("offset", _merged([f.offset for f in fits])), *region.roots[1:], *factors[1:]]
    return _Fitted(region, "affine", tuple(operands), _attrs(fits[0], node))


def _is_sum(graph: Graph, region: Region) -> bool:
    """Whether its shapes are those of a sum: two tensors, or one and constants per channel."""
    known = all(n.op in _REAL and not _is_product(graph, n) for n in region.nodes)
    if not known or not 1 <= len(region.roots) <= 2:
        return False
    constants = [graph.consts[v].shape for v in vectors(region, graph)]
    if constants and len(region.roots) > 1:
        return False
    roots = np.broadcast_shapes(*(graph.types[r].shape for r in region.roots))
    return roots == graph.types[region.output].shape and all(set(c[:-1]) <= {1} for c in constants)


def _is_product(graph: Graph, node: Node) -> bool:
    """Of two computed operands."""
    return node.op == "mul" and not any(v in graph.consts for v in node.inputs)


def _fits(graph: Graph, region: Region) -> list[Fit]:
    """A fit for each channel, or one for all; none if there is not one for each."""
    last, count = region.nodes[-1], len(region.roots)
    roots = dict(zip(region.roots, _axes(count, BYTES), strict=True))
    y = tabulate(region, graph, roots).astype(np.int64)
    y = np.broadcast_to(y, (*(BYTES.size,) * count, y.shape[-1])).reshape(-1, y.shape[-1])
    x = np.stack([g.ravel() for g in np.meshgrid(*[BYTES.astype(np.int64)] * count, indexing="ij")])
    low, high = (integer(_limits(last), n) for n in ("low", "high"))
    stairs = [Staircase(x, y[:, c], low, high) for c in range(y.shape[1])]
    return fit_all(stairs, _lines(graph, region))


def _axes(count: int, values: Array) -> list[Array]:
    """`values` along an axis for each of `count` roots; the last axis is for channels."""
    shapes = [[-1 if i == j else 1 for j in range(count)] for i in range(count)]
    return [values.reshape(*shape, 1) for shape in shapes]


def _lines(graph: Graph, region: Region) -> list[Line]:
    """What the region computes in real numbers, for each channel."""
    count = len(region.roots)
    roots = dict(zip(region.roots, _axes(count, np.arange(2.0)), strict=True))
    real = computed(region, graph, roots, lambda node, inputs: _REAL[node.op](node, inputs))
    real = np.broadcast_to(real, (*(2,) * count, real.shape[-1]))
    base = real[(0,) * count]
    slopes = [real[tuple(int(i == j) for j in range(count))] - base for i in range(count)]
    last = region.nodes[-1]
    zero = integer(last.attrs, "zero" if last.op == "quantize" else "zero_out")
    return [
        Line(tuple(float(s[c]) for s in slopes), float(base[c]) - zero, zero)
        for c in range(base.size)
    ]


def _requantized(node: Node, inputs: Sequence[Array]) -> Array:
    """`requantize` in real numbers, without limits; shifts may be stated as right shifts."""
    x, multiplier, shift = inputs
    sign = -1 if node.attrs["rounding"] == "right" else 1
    scale = multiplier * np.exp2(sign * shift.astype(np.float64) - 31)
    left = 2.0 ** integer(node.attrs, "left_shift", 0)
    y: Array = (x - integer(node.attrs, "zero_in", 0)) * left * scale
    return y + integer(node.attrs, "zero_out")


def _quantized(node: Node, inputs: Sequence[Array]) -> Array:
    """`quantize` in real numbers, without limits."""
    scaled: Array = inputs[0] / number(node.attrs, "scale")
    return scaled + integer(node.attrs, "zero")


_REAL: dict[str, Callable[[Node, Sequence[Array]], Array]] = {
    "requantize": _requantized,
    "quantize": _quantized,
    "cast": lambda node, inputs: inputs[0],
    "add": lambda node, inputs: inputs[0] + inputs[1],
    "sub": lambda node, inputs: inputs[0] - inputs[1],
    "mul": lambda node, inputs: inputs[0] * inputs[1],
}


def _merged(values: Sequence[int]) -> Array:
    """One number if all are the same."""
    return np.array(values if len(set(values)) > 1 else values[:1])


def _attrs(fit: Fit, last: Node) -> Attrs:
    """Of the `affine` node in place of the requantisation `last`."""
    nudge: Attrs = {"nudge": fit.nudge, "centre": fit.centre} if fit.nudge else {}
    return {**_limits(last), "shift": fit.shift, **nudge}


def _limits(last: Node) -> Attrs:
    """What the result is limited to, and its type."""
    if last.op == "quantize":
        return {"low": DType.I8.min, "high": DType.I8.max, "dtype": "i8"}
    return {n: last.attrs[n] for n in ("low", "high", "dtype")}


# Products and means: only the requantisation of their small result goes.


def _scaled(graph: Graph, makers: Mapping[str, Node], node: Node) -> _Fitted | None:
    """`node` as the requantisation, by one multiplier, of a small result."""
    if node.op != "requantize" or node.attrs["rounding"] != "right":
        return None
    value, multiplier, shift = (graph.consts.get(v) for v in node.inputs)
    if value is not None or multiplier is None or shift is None:
        return None
    shifted = integer(node.attrs, "zero_in", 0) or integer(node.attrs, "left_shift", 0)
    bounds = _interval(graph, makers, node.inputs[0])
    if shifted or bounds is None or multiplier.size != 1 or shift.size != 1:
        return None
    m, k = int(multiplier.reshape(())), int(shift.reshape(()))
    ways = (_as_affine, _as_scale, _by_identity)
    return next((f for way in ways if (f := way(node, bounds, m, k)) is not None), None)


@lru_cache(1024)  # the steps of a recurrent layer are alike
def _affine_fit(
    op: str, attrs: tuple[tuple[str, Attr], ...], bounds: tuple[int, int], m: int, k: int
) -> Fit | None:
    node = Node(op, (), (), dict(attrs))
    x = np.arange(bounds[0], bounds[1] + 1)
    y = reference(node, [x, np.array(m), np.array(k)]).astype(np.int64)
    low, high, zero = (integer(node.attrs, n) for n in ("low", "high", "zero_out"))
    line = Line((math.ldexp(m, -31 - k),), 0.0, zero)
    return Staircase(x[None], y, low, high).fit(line, may_nudge=False)


def _as_affine(node: Node, bounds: tuple[int, int], m: int, k: int) -> _Fitted | None:
    """As (x * A + C) >> s, all of 32 bits."""
    if bounds[1] - bounds[0] >= _MOST_POINTS:
        return None
    fit = _affine_fit(node.op, tuple(sorted(node.attrs.items())), bounds, m, k)
    if fit is None:
        return None
    factor, offset = np.array(fit.factors), np.array(fit.offset)
    return _replaced(node, "affine", factor, offset, _attrs(fit, node))


@lru_cache(1024)  # the steps of a recurrent layer are alike
def _scale_line(
    op: str, attrs: tuple[tuple[str, Attr], ...], bounds: tuple[int, int], m: int, k: int
) -> ScaleLine | None:
    node = Node(op, (), (), dict(attrs))

    def steps(x: Array) -> Array:
        return reference(node, [x, np.array(m), np.array(k)]).astype(np.int64)

    return fit_scale(steps, np.array([bounds[0]]), np.array([bounds[1]]), node.attrs)


def _as_scale(node: Node, bounds: tuple[int, int], m: int, k: int) -> _Fitted | None:
    """As the high word of (x * 2^up + C) * A, for int8."""
    if node.attrs["dtype"] != "i8":
        return None
    line = _scale_line(node.op, tuple(sorted(node.attrs.items())), bounds, m, k)
    if line is None:
        return None
    attrs = {**_limits(node), "up": line.up, "down": line.down}
    return _replaced(node, "scale", line.multiplier, line.offset, attrs)


def _by_identity(node: Node, bounds: tuple[int, int], m: int, k: int) -> _Fitted | None:
    """As (t + (-2 if t < 0) + 2^k + 1) >> (k + 1), where t = 4 * x * m >> 32.

    With M = m / 2^31 the framework rounds x * M to r, ties up, and r / 2^k, ties away from zero:
    the result is at least q > 0 where r >= (q - 1/2) * 2^k, that is t = floor(2 * x * M) >=
    (2 * q - 1) * 2^k - 1; it is at least -q <= 0 where r > -(q + 1/2) * 2^k, that is t >=
    1 - (2 * q + 1) * 2^k. Both say the same of t + 1, or t - 1 for t < 0.
    """
    zero = integer(node.attrs, "zero_out")
    offset = (1 << k) + 1 + (zero << (k + 1))
    largest = max(abs(b) for b in bounds) << _LEFT
    if k < 1 or largest + abs(offset) > DType.I32.max:
        return None
    attrs = {**_limits(node), "shift": k + 1, "nudge": -2, "left_shift": _LEFT}
    return _replaced(node, "affine", np.array(m), np.array(offset), attrs)


def _replaced(node: Node, op: str, factor: Array, offset: Array, attrs: Attrs) -> _Fitted:
    """`node` by `op` of the same tensor."""
    operands = (node.inputs[0], ("factor", factor), ("offset", offset))
    return _Fitted(Region((node,), node.inputs[:1]), op, operands, attrs)


def _interval(graph: Graph, makers: Mapping[str, Node], value: str) -> tuple[int, int] | None:
    """Between which numbers the elements of `value` lie; None if that is not known to be small."""
    t = graph.types[value]
    if value in graph.consts and t.dtype.is_integer and t.elements:
        return int(graph.consts[value].min()), int(graph.consts[value].max())
    if t.dtype in (DType.I8, DType.I16):
        return t.dtype.min, t.dtype.max
    node = makers.get(value)
    if t.dtype is not DType.I32 or node is None or node.op not in ("sum", *_ON_INTERVALS):
        return None
    known = [_interval(graph, makers, v) for v in node.inputs]
    inputs = [i for i in known if i is not None]
    if len(inputs) < len(known):
        return None
    if node.op == "sum":
        count = graph.types[node.inputs[0]].elements // t.elements
        low, high = (count * (end - integer(node.attrs, "x_zero", 0)) for end in inputs[0])
        return low, high
    return _ON_INTERVALS[node.op](*inputs)


def _of_product(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    corners = [x * y for x in a for y in b]
    return min(corners), max(corners)


_ON_INTERVALS: dict[str, Callable[..., tuple[int, int]]] = {
    "cast": lambda a: a,
    "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "mul": _of_product,
}
