"""Drop channels that nobody needs: those that are constant, and those that only zeros multiply.

Networks trained with regularisation are full of them: an output channel whose weights are all zero
is its bias everywhere, so what it adds to the sums of the next layer is a constant too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer, integers
from midge.graph.ir import OPS, Graph, Node, fresh
from midge.passes.channels import (
    Known,
    Tie,
    channels,
    is_weighted_sum,
    known_channels,
    narrowed,
    tied_inputs,
    ties,
)
from midge.passes.fold_zero_points import fold_zero_points


@dataclass(frozen=True, slots=True)
class Dropped:
    """What became of a plain graph.

    kept: the channels left of each value that lost some.  totals: how many each of them had.
    gone, channels: output channels of the layers with weights, those that went and all of them.
    layers: in how many layers they went.  macs: multiply-accumulates before and after.
    """

    kept: Mapping[str, tuple[int, ...]]
    totals: Mapping[str, int]
    gone: int
    channels: int
    layers: int
    macs: tuple[int, int]

    def __str__(self) -> str:
        gone, channels = (f"{n:,}".replace(",", " ") for n in (self.gone, self.channels))
        before, after = map(_rounded, self.macs)
        layers = f"{self.layers} layer" + "s" * (self.layers != 1)
        return (
            f"dropped {gone} of {channels} channels in {layers}: "
            f"{before} -> {after} multiply-accumulates"
        )


def _rounded(count: int) -> str:
    return f"{count / 1e6:.2f} M" if count >= 1_000_000 else f"{count:,}".replace(",", " ")


def drop_channels(graph: Graph) -> Graph:
    """t = requantize(conv2d(x, w, b), m, s); y = conv2d(t, v, c)   ->   the same with w, b, m, s
    and v of those channels of t that are kept, and c + sum of constant * v over the others

    Exact: integers only; of float layers, where rounding would differ, goes what nobody reads.
    A constant channel leaves a convolution if it adds the same to every sum. Where windows reach
    over the border and padding counts as another value than the channel's, weights decide that.
    Elementwise operators, pools, moved data and depthwise convolutions (the outputs of one channel
    together, however many) lose what both their input and their readers can do without. Grouped
    convolutions and other operators that mix channels keep theirs, so do the graph's inputs and
    outputs. Every value keeps at least one channel.
    """
    return drop_and_report(graph)[0]


def drop_and_report(graph: Graph) -> tuple[Graph, Dropped]:
    """`drop_channels`, and what it dropped."""
    # After this x_zero is 0 wherever weights are constant, and no part of a sum can overflow.
    graph = fold_zero_points(graph)
    needs = _Needs(graph)
    needs.settle()
    narrow = _Narrowing(graph, needs).graph()
    return narrow, _report(graph, narrow, needs.keep)


def _report(before: Graph, after: Graph, keep: Mapping[str, Array]) -> Dropped:
    lost = {n: mask for n, mask in keep.items() if not mask.all()}
    layers = [n.outputs[0] for n in before.nodes if OPS[n.op].channel_axis is not None]
    return Dropped(
        {n: tuple(np.flatnonzero(mask).tolist()) for n, mask in lost.items()},
        {n: mask.size for n, mask in lost.items()},
        sum(int((~keep[n]).sum()) for n in layers),
        sum(keep[n].size for n in layers),
        sum(n in lost for n in layers),
        (_macs(before), _macs(after)),
    )


def _macs(graph: Graph) -> int:
    total = 0
    for node in graph.nodes:
        if (count := OPS[node.op].macs) is not None:
            inputs, outputs = ([graph.types[v] for v in vs] for vs in (node.inputs, node.outputs))
            total += count(inputs, outputs)
    return total


@dataclass(frozen=True, slots=True)
class _Sums:
    """What a weighted sum makes of each input channel, by output and input channel.

    needs: whether it must be there.  adds: the constant that it adds if it is not.
    """

    needs: Array
    adds: Array


def _sums(node: Node, graph: Graph, known: Known | None) -> _Sums:
    x, w = graph.types[node.inputs[0]], graph.consts[node.inputs[1]]
    oc, ic = w.shape[0], w.shape[-1]
    if x.dtype.is_float:  # 0 * infinity is not 0
        return _Sums(np.ones((oc, ic), bool), np.zeros((oc, ic), np.int64))
    w = w.reshape(oc, *(w.shape[1:3] if w.ndim == 4 else (1, 1)), ic)
    needs: Array = np.asarray(w.any((1, 2)))
    if known is None:
        return _Sums(needs, np.zeros((oc, ic), np.int64))
    pad, inside = integer(node.attrs, "pad_value", 0), _inside(node, graph, w)
    value = np.where(known.uniform, known.values.reshape(-1, ic)[0].astype(np.int64), pad)
    free = known.uniform & ((value == pad) | (inside == inside[0]).all(0))
    adds = pad * w.sum((1, 2), dtype=np.int64) + (value - pad) * inside[0]
    return _Sums(needs & ~free, np.where(free, adds, 0))


def _inside(node: Node, graph: Graph, w: Array) -> Array:
    """The sum of the weights under which there is image, [oc, ic] for each way in which a window
    can lie over the border; the first axis counts those ways."""
    if node.op == "dense":
        whole: Array = w.sum((1, 2), dtype=np.int64)[None]
        return whole
    x, y = graph.types[node.inputs[0]], graph.types[node.outputs[0]]
    padding = integers(node.attrs, "padding", 4)
    steps = zip(
        integers(node.attrs, "strides", 2), integers(node.attrs, "dilations", 2), strict=True
    )
    rows, cols = (
        _ways(x.shape[d + 1], w.shape[d + 1], y.shape[d + 1], stride, dilation, padding[2 * d])
        for d, (stride, dilation) in enumerate(steps)
    )
    sums = np.tensordot(cols, np.tensordot(rows, w.astype(np.int64), (1, 1)), (1, 2))
    ways: Array = sums.reshape(-1, w.shape[0], w.shape[3])
    return ways


def _ways(n: int, taps: int, outputs: int, stride: int, dilation: int, before: int) -> Array:
    """Which taps can be inside an axis of `n` elements together: a row of 0 and 1 for each way."""
    at = np.arange(outputs)[:, None] * stride + np.arange(taps) * dilation - before
    ways: Array = np.unique((at >= 0) & (at < n), axis=0).astype(np.int64)
    return ways


class _Needs:
    """keep: for each computed value the channels that somebody needs."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        known = known_channels(graph)
        values = (n for n in graph.types if n not in graph.consts)
        self.keep = {n: np.zeros(channels(graph.types[n]), bool) for n in values}
        self.sums: dict[str, _Sums] = {}
        self.ties: dict[str, tuple[Tie | None, ...]] = {}
        self.whole(*graph.inputs, *graph.outputs)
        for node in graph.nodes:
            if is_weighted_sum(node, graph):
                self.sums[node.outputs[0]] = _sums(node, graph, known.get(node.inputs[0]))
            else:
                self.tie(node)

    def whole(self, *names: str) -> None:
        for name in names:
            if name in self.keep:
                self.keep[name][:] = True

    def tie(self, node: Node) -> None:
        tied = ties(node, self.graph.types)
        if tied is None:
            self.whole(*node.inputs, *node.outputs)
            return
        output = node.outputs[0]
        self.ties[output] = tied
        for name, tie in zip(node.inputs, tied, strict=True):
            if tie is None:
                self.whole(name)
            elif name in self.graph.consts and tie.outer.size < self.keep[output].size:
                self.keep[output][tie.outer] = True  # part of a concat must not become empty

    def settle(self) -> None:
        """Follow the needs upwards, and the ties both ways, until nothing changes."""
        self.spread()
        for mask in reversed(self.keep.values()):
            if mask.size and not mask.any():
                mask[0] = True
                self.spread()

    def spread(self) -> None:
        count = -1
        while count != (count := sum(int(m.sum()) for m in self.keep.values())):
            for node in reversed(self.graph.nodes):
                self.demand(node)

    def demand(self, node: Node) -> None:
        y = self.keep[node.outputs[0]]
        if (sums := self.sums.get(node.outputs[0])) is not None:
            self.keep[node.inputs[0]] |= sums.needs[y].any(0)
            return
        for name, tie in zip(node.inputs, self.ties.get(node.outputs[0], ()), strict=False):
            if tie is not None and name in self.keep:
                x = self.keep[name]
                x |= tie.inwards(y, x.size)
                y |= tie.outwards(x, y.size)


class _Narrowing:
    """Rewrites the graph to the channels that are needed."""

    def __init__(self, graph: Graph, needs: _Needs) -> None:
        self.before, self.needs, self.keep = graph, needs, needs.keep
        self.consts = dict(graph.consts)
        self.types = {n: self.type(n, t) for n, t in graph.types.items()}
        self.parts: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def type(self, name: str, t: TensorType) -> TensorType:
        mask = self.keep.get(name)
        if mask is None or mask.all():
            return t
        return replace(t, shape=(*t.shape[:-1], int(mask.sum())))

    def graph(self) -> Graph:
        nodes = [self.node(n) for n in self.before.nodes]
        return replace(self.before, types=self.types, consts=self.consts).with_nodes(nodes)

    def node(self, node: Node) -> Node:
        values = [n for n in (*node.inputs, *node.outputs) if n in self.keep]
        if all(self.keep[n].all() for n in values):
            return node
        if (sums := self.needs.sums.get(node.outputs[0])) is not None:
            return self.weighted(node, sums)
        tied, outer = self.needs.ties[node.outputs[0]], self.keep[node.outputs[0]]
        parts = tied_inputs(node, self.before, tied, outer)
        masks = [self.keep.get(n, part) for n, part in zip(node.inputs, parts, strict=True)]
        inputs = tuple(
            n if tie is None or n in self.keep else self.part(n, self.before.consts[n][..., mask])
            for n, tie, mask in zip(node.inputs, tied, masks, strict=True)
        )
        return replace(node, inputs=inputs, attrs=narrowed(node, self.before, masks[0], outer))

    def weighted(self, node: Node, sums: _Sums) -> Node:
        """The sum over the channels left; what the others add goes into the bias."""
        x, w, *biases = node.inputs
        inner, outer = self.keep[x], self.keep[node.outputs[0]]
        added = sums.adds[outer][:, ~inner].sum(1)
        bias = [self.before.consts[b].reshape(-1)[outer] for b in biases]
        if added.any():
            acc = self.before.types[node.outputs[0]].dtype
            total = sum(bias, added)
            assert acc.min <= total.min() <= total.max() <= acc.max, f"{node.where}: overflow"
            biases = [self.const(f"{node.outputs[0]}/bias", total.astype(acc.numpy))]
        else:
            biases = [self.part(b, array) for b, array in zip(biases, bias, strict=True)]
        weights = self.part(w, self.before.consts[w][outer][..., inner])
        return replace(node, inputs=(x, weights, *biases))

    def part(self, name: str, array: Array) -> str:
        """`array`, a part of constant `name`, as a constant; each part is made once."""
        if array.size == self.before.consts[name].size:
            return name
        key = (name, array.shape, array.tobytes())
        if key not in self.parts:
            self.parts[key] = self.const(f"{name}/kept", array)
        return self.parts[key]

    def const(self, name: str, array: Array) -> str:
        name = fresh(name, self.types)
        self.consts[name] = np.ascontiguousarray(array)
        self.types[name] = TensorType(array.shape, DType.of(array))
        return name
