"""Requantise with one product and one rounding where that gives the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from midge.core.sums import signed_sums
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer
from midge.graph.ir import OPS, Attrs, Graph, Node, fresh

# Bits below the accumulator's that the offset has, the preferred one first. One value for most
# layers keeps their kernels equal.
_UP = (8, 7, 6, 5, 4)
# Multiples that `down` is made of, for the same reason.
_GRAINS = (4, 2, 1)
_WORD = 1 << 31
_FREE = 1 << 60  # a bound that no step gives
_SLOPES = 40  # halvings of the range of multipliers
_AROUND = 1e-3  # of the multiplier, the range searched


def fit_requantize(graph: Graph) -> Graph:
    """acc = sum x*w + b; y = requantize(acc)   ->   acc = sum x*w; y = scale(acc)

    A requantisation is a staircase of at most 255 steps over the accumulators that the weights can
    produce at all. If for each channel some line, rounded once, climbs every step at the same
    accumulator, that line replaces it (`scale`), the bias in its offset; otherwise the node stays.
    So with `rescale`, which climbs its steps by a product in binary32.
    """
    readers = graph.consumers()
    types, consts = dict(graph.types), dict(graph.consts)
    replaced: dict[str, Node] = {}
    made = {n.outputs[0]: n for n in graph.nodes}
    for node in graph.nodes:
        sums = made.get(node.inputs[0]) if node.op in ("requantize", "rescale") else None
        if sums is None or not _fits(graph, sums, node, len(readers[node.inputs[0]])):
            continue
        low, high, bias = _range(graph, sums)
        if not _climbs(graph, node, low + bias, high + bias):
            continue
        line = fit(staircase(graph, node, bias), low, high, node.attrs)
        if line is None:
            continue
        shape = (len(line.multiplier),)
        names = []
        for name, value in (("multiplier", line.multiplier), ("offset", line.offset)):
            names.append(fresh(f"{node.outputs[0]}/{name}", types))
            consts[names[-1]] = value.astype(np.int32)
            types[names[-1]] = TensorType(shape, DType.I32)
        attrs = {k: node.attrs[k] for k in ("low", "high", "dtype")}
        attrs |= {"up": line.up, "down": line.down}
        replaced[node.outputs[0]] = replace(
            node, op="scale", inputs=(sums.outputs[0], *names), attrs=attrs
        )
        replaced[sums.outputs[0]] = replace(sums, inputs=sums.inputs[:2])
    nodes = [replaced.get(n.outputs[0], n) for n in graph.nodes]
    return replace(graph, types=types, consts=consts).with_nodes(nodes)


def _fits(graph: Graph, sums: Node, node: Node, uses: int) -> bool:
    """Whether `node` requantises int8 sums of products with constants, to int8, alone."""
    constants = (*sums.inputs[1:], *node.inputs[1:])
    return (
        OPS[sums.op].channel_axis is not None
        and uses == 1
        and sums.outputs[0] not in graph.outputs
        and graph.types[sums.inputs[0]].dtype is DType.I8
        and node.attrs["dtype"] == "i8"
        and integer(node.attrs, "left_shift", 0) == 0
        and integer(sums.attrs, "x_zero", 0) == 0
        and all(name in graph.consts for name in constants)
    )


def _range(graph: Graph, sums: Node) -> tuple[Array, Array, Array]:
    """Least and greatest sum of products of each channel, and its bias; i64 [channels]."""
    w = graph.consts[sums.inputs[1]]
    channel = OPS[sums.op].channel_axis
    others = tuple(a for a in range(w.ndim) if a != channel)
    x = graph.types[sums.inputs[0]].dtype
    above, below = signed_sums(w, others)
    low, high = above * x.min + below * x.max, above * x.max + below * x.min
    bias = np.zeros_like(low)
    if len(sums.inputs) > 2:
        bias = graph.consts[sums.inputs[2]].astype(np.int64).reshape(-1)
    return low, high, bias


def _climbs(graph: Graph, node: Node, low: Array, high: Array) -> bool:
    """Whether the results of sums in low..high (i64 [channels]) never fall while the sums rise:
    factors are positive, and nothing leaves its 32 bits on the way."""
    factor, second = (graph.consts[n] for n in (*node.inputs[1:], node.inputs[1])[:2])
    if node.op == "rescale":
        return bool(np.isfinite(factor).all() and np.isfinite(second).all() and (factor >= 0).all())
    if not (factor >= 0).all():
        return False
    most = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    match node.attrs["rounding"]:
        case "twice":
            return bool((most * np.exp2(np.maximum(second, 0)) < _WORD).all())
        case "once":
            return bool((most * factor * np.exp2(second.astype(np.float64) - 31) < _WORD / 2).all())
    return bool((most < _WORD).all())


def staircase(graph: Graph, node: Node, bias: Array) -> Callable[[Array], Array]:
    """What `node` makes of sums of products [..., channels] and their bias, i64 to i64."""
    constants = [graph.consts[name] for name in node.inputs[1:]]
    reference = OPS[node.op].reference

    def result(x: Array) -> Array:
        (y,) = reference([x + bias, *constants], node.attrs)
        return y.astype(np.int64)

    return result


@dataclass(frozen=True, slots=True)
class Line:
    """multiplier, offset: i64 [channels]; up, down: as in `scale`."""

    multiplier: Array
    offset: Array
    up: int
    down: int


def fit(steps: Callable[[Array], Array], low: Array, high: Array, attrs: Attrs) -> Line | None:
    """The line that gives `steps` for every x in low..high (i64 [channels]), None if none is found.

    `steps` is monotone in x (see `_climbs`) with values from attrs' low to high.
    """
    least, most = integer(attrs, "low"), integer(attrs, "high")
    if least == most:
        return None
    levels = np.arange(least + 1, most + 1, dtype=np.int64)[:, None]
    first = _first_at_least(steps, levels, low, high)  # [levels, channels]
    slope = _slope(first, levels, low, high)
    for up, down in _shifts(slope.max(initial=0.0)):
        line = _line(first, levels, low, high, slope, up, down)
        if line is not None:
            return line
    return None


def _shifts(steepest: float) -> list[tuple[int, int]]:
    """(up, down) with which the steepest line's multiplier has 31 bits, or as many as `down`'s
    grain leaves."""
    if steepest <= 0.0:
        return []
    most = [
        int(np.floor(np.log2((_WORD - 1) / (steepest * (1 + _AROUND))) - 32 + up)) for up in _UP
    ]
    pairs = [
        (up, down - down % grain) for up, down in zip(_UP, most, strict=True) for grain in _GRAINS
    ]
    return [(up, down) for up, down in dict.fromkeys(pairs) if 0 <= down <= 24]


def _first_at_least(
    steps: Callable[[Array], Array], levels: Array, low: Array, high: Array
) -> Array:
    """The least x in low..high whose step is at least the level; high + 1 if there is none."""
    start = np.broadcast_to(low, (len(levels), len(low))).copy()
    stop = np.broadcast_to(high + 1, start.shape).copy()
    while (start < stop).any():
        middle = (start + stop) >> 1
        reached = steps(np.minimum(middle, high)) >= levels
        stop = np.where(reached, middle, stop)
        start = np.where(reached, start, np.minimum(middle + 1, stop))
    return start


def _slope(first: Array, levels: Array, low: Array, high: Array) -> Array:
    """Steps per x, roughly, from the first and the last step inside the range; f64 [channels]."""
    inside = (first > low) & (first <= high)
    count = inside.sum(0)
    top = np.where(inside, first, low).max(0)
    bottom = np.where(inside, first, high).min(0)
    return np.where(count > 1, (count - 1) / np.maximum(top - bottom, 1), 0.0)


def _line(
    first: Array, levels: Array, low: Array, high: Array, slope: Array, up: int, down: int
) -> Line | None:
    # The product's upper half has `down` bits below the step.
    guess = np.where(slope == 0.0, slope.max(), slope) * 2.0 ** (32 + down - up)
    multiplier, below, above = _search(first, levels, low, high, guess, up, 32 + down)
    if (below > above).any():
        return None
    offset = _between(below, above)
    ends = np.stack([low << up, high << up, (low << up) + offset, (high << up) + offset, offset])
    if np.abs(ends).max() >= _WORD:
        return None
    return Line(multiplier, offset, up, down)


def _between(below: Array, above: Array) -> Array:
    """The middle of a range of offsets, or the end that it has."""
    middle = (below + above) >> 1
    open_below, open_above = below == -_FREE, above == _FREE
    ends = np.where(open_below & open_above, 0, np.where(open_below, above, below))
    return np.where(open_below | open_above, ends, middle)


def _search(
    first: Array, levels: Array, low: Array, high: Array, guess: Array, up: int, shift: int
) -> tuple[Array, Array, Array]:
    """Multipliers near `guess` and the offsets (from, to) that they allow, by bisection: where two
    steps contradict each other, their order says whether the line must be steeper."""
    # Slopes between steps at most one x from where they should be, at either end.
    reach = np.maximum(guess * _AROUND, 8.0)
    least, most = np.floor(guess - 4 * reach), np.ceil(guess + 4 * reach)
    least, most = least.astype(np.int64), most.astype(np.int64)
    multiplier = np.round(guess).astype(np.int64)
    best: tuple[Array, Array, Array] | None = None
    for _ in range(_SLOPES):
        below, above, steeper = _offsets(first, levels, low, high, multiplier, up, shift)
        if best is None:
            best = (multiplier, below, above)
        else:
            better = above - below > best[2] - best[1]
            best = (
                np.where(better, multiplier, best[0]),
                np.where(better, below, best[1]),
                np.where(better, above, best[2]),
            )
        if (best[1] <= best[2]).all():
            break
        least = np.where(steeper, multiplier, least)
        most = np.where(steeper, most, multiplier)
        following = np.clip((least + most) >> 1, 1, _WORD - 1)
        if (following == multiplier).all():
            break
        multiplier = following
    assert best is not None
    return best


def _offsets(
    first: Array, levels: Array, low: Array, high: Array, multiplier: Array, up: int, shift: int
) -> tuple[Array, Array, Array]:
    """The least and the greatest offset with which every step is climbed where it should be, and
    whether a steeper line has a better chance."""
    # (x * 2^up + offset) * multiplier >= level * 2^shift exactly from x = first on.
    needed = -((-levels << shift) // multiplier)
    from_ = np.where(first <= high, needed - (first << up), -_FREE)
    to = np.where(first > low, needed - 1 - ((first - 1) << up), _FREE)
    lowest, highest = from_.argmax(0), to.argmin(0)
    columns = np.arange(from_.shape[1])
    return from_[lowest, columns], to[highest, columns], lowest > highest
