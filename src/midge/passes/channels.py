"""What is known of channels: which belong together, and which hold constants.

A channel is an index of a value's last axis; a set of channels is a mask over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, TensorType
from midge.graph.attrs import integers
from midge.graph.ir import OPS, Attrs, Graph, Node


@dataclass(frozen=True, slots=True)
class Tie:
    """Channel `inner[k]` of an input and channel `outer[k]` of the output, for every k, stay or go
    together. What stands in no pair is free on its own side."""

    inner: Array
    outer: Array

    def outwards(self, mask: Array, channels: int) -> Array:
        """The output's channels, of `channels`, that are tied to the input's in `mask`."""
        return _marked(channels, self.outer[mask[self.inner]])

    def inwards(self, mask: Array, channels: int) -> Array:
        """The input's channels, of `channels`, that are tied to the output's in `mask`."""
        return _marked(channels, self.inner[mask[self.outer]])


def _marked(channels: int, indices: Array) -> Array:
    mask = np.zeros(channels, bool)
    mask[indices] = True
    return mask


# One per input; None for one that is read whole. None altogether: the operator mixes channels.
Ties = tuple[Tie | None, ...] | None


def channels(t: TensorType) -> int:
    """Channels of a value; a scalar has one."""
    return t.shape[-1] if t.shape else 1


def ties(node: Node, types: Mapping[str, TensorType]) -> Ties:
    """How the channels of `node`, which has one output, belong together."""
    inputs, output = [types[n] for n in node.inputs], types[node.outputs[0]]
    if not output.shape or not all(t.elements for t in (*inputs, output)):
        return None
    if (rule := _RULES.get(node.op)) is not None:
        return rule(inputs, output, node.attrs)
    return _elementwise(node, inputs, output) if OPS[node.op].elementwise else None


def _same(count: int) -> Tie:
    return Tie(np.arange(count), np.arange(count))


def _elementwise(node: Node, inputs: Sequence[TensorType], output: TensorType) -> Ties:
    """Operands with as many channels as the output; others are broadcast, or tables."""
    count = channels(output)
    whole = OPS[node.op].tables
    return tuple(
        _same(count) if i not in whole and t.shape[-1:] == (count,) else None
        for i, t in enumerate(inputs)
    )


def _each(inputs: Sequence[TensorType], output: TensorType, attrs: Attrs) -> Ties:
    """The first input channel by channel; what follows it is a table."""
    return (_same(channels(output)), *(None for _ in inputs[1:]))


def _reduced(inputs: Sequence[TensorType], output: TensorType, attrs: Attrs) -> Ties:
    last = len(inputs[0].shape) - 1
    same = _same(channels(output))
    return None if last in integers(attrs, "axes") else (same,) * len(inputs)


def _transposed(inputs: Sequence[TensorType], output: TensorType, attrs: Attrs) -> Ties:
    perm = integers(attrs, "perm")
    return (_same(channels(output)),) if perm[-1] == len(perm) - 1 else None


def _reshaped(inputs: Sequence[TensorType], output: TensorType, attrs: Attrs) -> Ties:
    """Pixels of C channels as rows of a multiple of C, or the other way round."""
    x, y = inputs[0].shape[-1:], channels(output)
    if not x or (x[0] % y and y % x[0]):
        return None
    every = np.arange(max(x[0], y))
    return (Tie(every % x[0], every % y),)


def _concatenated(inputs: Sequence[TensorType], output: TensorType, attrs: Attrs) -> Ties:
    if attrs["axis"] != len(output.shape) - 1:
        return tuple(_same(channels(output)) for _ in inputs)
    counts = [channels(t) for t in inputs]
    starts = np.cumsum([0, *counts[:-1]])
    return tuple(Tie(np.arange(n), s + np.arange(n)) for n, s in zip(counts, starts, strict=True))


def _padded(inputs: Sequence[TensorType], output: TensorType, attrs: Attrs) -> Ties:
    inner = np.arange(channels(inputs[0]))
    return (Tie(inner, inner + integers(attrs, "paddings")[-2]),)


def _sliced(inputs: Sequence[TensorType], output: TensorType, attrs: Attrs) -> Ties:
    if integers(attrs, "strides")[-1] != 1:
        return None
    outer = np.arange(channels(output))
    return (Tie(outer + integers(attrs, "begin")[-1], outer),)


def _depthwise(inputs: Sequence[TensorType], output: TensorType, attrs: Attrs) -> Ties:
    """All outputs of one input channel, however many, stay or go with it."""
    count = channels(output)
    if any(t.shape[-1:] != (count,) for t in inputs[1:]):
        return None
    outer = np.arange(count)
    x = Tie(outer // (count // channels(inputs[0])), outer)
    return (x, *(_same(count) for _ in inputs[1:]))


_RULES: dict[str, Callable[[Sequence[TensorType], TensorType, Attrs], Ties]] = {
    "avg_pool2d": _each,
    "concat": _concatenated,
    "depthwise_conv2d": _depthwise,
    "max_pool2d": _each,
    "mean": _reduced,
    "pad": _padded,
    "reshape": _reshaped,
    "resize_bilinear": _each,
    "resize_nearest": _each,
    "sigmoid_lut": _each,
    "slice": _sliced,
    "sum": _reduced,
    "transpose": _transposed,
}


def narrowed(node: Node, graph: Graph, inner: Array, outer: Array) -> Attrs:
    """The attributes of a tied `node` that is left channels `inner` of its first input and `outer`
    of its output."""
    attrs = dict(node.attrs)
    match node.op:
        case "reshape":
            attrs["shape"] = (*integers(attrs, "shape")[:-1], int(outer.sum()))
        case "pad":
            *rest, before, _ = integers(attrs, "paddings")
            after = before + channels(graph.types[node.inputs[0]])
            attrs["paddings"] = (*rest, int(outer[:before].sum()), int(outer[after:].sum()))
        case "slice":
            begin, size = integers(attrs, "begin"), integers(attrs, "size")
            attrs["begin"] = (*begin[:-1], int(inner[: begin[-1]].sum()))
            attrs["size"] = (*size[:-1], int(outer.sum()))
    return attrs


def tied_inputs(node: Node, graph: Graph, tied: Sequence[Tie | None], outer: Array) -> list[Array]:
    """The channels of each input that are tied to `outer` of the output; all of those that are
    read whole."""
    counts = [channels(graph.types[n]) for n in node.inputs]
    return [
        np.ones(n, bool) if tie is None else tie.inwards(outer, n)
        for n, tie in zip(counts, tied, strict=True)
    ]


def is_weighted_sum(node: Node, graph: Graph) -> bool:
    """Whether each output channel sums over all channels of a computed input, by constant weights:
    output channels first, input channels last."""
    if node.op not in ("conv2d", "dense") or node.inputs[0] in graph.consts:
        return False
    x, w = (graph.types[n] for n in node.inputs[:2])
    return x.shape[-1] == w.shape[-1] and are_constant(graph, node.inputs[1:])


def are_constant(graph: Graph, names: Iterable[str]) -> bool:
    return all(n in graph.consts for n in names)


@dataclass(frozen=True, slots=True)
class Known:
    """Channels whose values rest on no input of the graph. values: of the whole tensor, 0 in the
    other channels."""

    mask: Array
    values: Array

    @property
    def uniform(self) -> Array:
        """The known channels that hold one value everywhere."""
        rows = self.values.reshape(-1, self.mask.size)
        same: Array = self.mask & (rows == rows[:1]).all(0)
        return same


_MAX_ELEMENTS = 1 << 22  # of a tensor that is looked into; that takes time and memory


def known_channels(graph: Graph) -> dict[str, Known]:
    """Of the values computed from integers, those with known channels; each is computed by the
    operators' references, borders included."""
    known: dict[str, Known] = {}
    for node in graph.nodes:
        types = [graph.types[n] for n in (*node.inputs, *node.outputs)]
        small = types[-1].elements <= _MAX_ELEMENTS
        if small and all(t.dtype.is_integer for t in types):
            found = _Forward(graph, known, node).known()
            if found is not None and found.mask.any():
                known[node.outputs[0]] = found
    return known


class _Forward:
    """What is known of the output of `node`, from what is known of its inputs."""

    def __init__(self, graph: Graph, known: Mapping[str, Known], node: Node) -> None:
        self.graph, self.node = graph, node
        self.type = graph.types[node.outputs[0]]
        self.inputs = [self.input(known, n) for n in node.inputs]

    def input(self, known: Mapping[str, Known], name: str) -> Known:
        t = self.graph.types[name]
        if name in self.graph.consts:
            return Known(np.ones(channels(t), bool), self.graph.consts[name])
        nothing = Known(
            np.zeros(channels(t), bool), np.broadcast_to(t.dtype.numpy.type(0), t.shape)
        )
        return known.get(name, nothing)

    def known(self) -> Known | None:
        if is_weighted_sum(self.node, self.graph):
            return self.summed()
        tied = ties(self.node, self.graph.types)
        if tied is None:
            return None
        outer = self.tied(tied)
        found = self.nothing()
        if outer.any():
            masks = tied_inputs(self.node, self.graph, tied, outer)
            attrs = narrowed(self.node, self.graph, masks[0], outer)
            arrays = [
                k.values if tie is None else k.values[..., mask]
                for k, tie, mask in zip(self.inputs, tied, masks, strict=True)
            ]
            self.fill(found, outer, arrays, attrs)
        fixed = are_constant(self.graph, self.node.inputs[1:])
        if self.node.op == "depthwise_conv2d" and fixed:
            weights = self.inputs[1].values.reshape(-1, channels(self.type))
            self.fill_biases(found, ~weights.any(0) & ~outer)
        return found

    def tied(self, tied: Sequence[Tie | None]) -> Array:
        """Output channels that are tied to known channels only, as those are to them."""
        pairs = [(tie, ~k.mask) for tie, k in zip(tied, self.inputs, strict=True)]
        if any(tie is None and mask.any() for tie, mask in pairs):
            return np.zeros(channels(self.type), bool)
        unknown = np.zeros(channels(self.type), bool)
        count = -1
        while count != (count := int(unknown.sum())):
            for tie, mask in pairs:
                if tie is not None:
                    mask |= tie.inwards(unknown, mask.size)
                    unknown |= tie.outwards(mask, unknown.size)
        return ~unknown

    def summed(self) -> Known:
        """Output channels whose weights are zero but for known channels."""
        x, weights = self.inputs[:2]
        w = weights.values
        uses: Array = np.asarray(w.reshape(w.shape[0], -1, w.shape[-1]).any(1))
        outer: Array = ~np.asarray(uses[:, ~x.mask].any(1))
        found = self.nothing()
        if not uses[outer].any():
            self.fill_biases(found, outer)
            return found
        biases = [b.values.reshape(-1)[outer] for b in self.inputs[2:]]
        arrays = [x.values[..., x.mask], w[outer][..., x.mask], *biases]
        self.fill(found, outer, arrays, self.node.attrs)
        return found

    def nothing(self) -> Known:
        t = self.type
        return Known(np.zeros(channels(t), bool), np.zeros(t.shape, t.dtype.numpy))

    def fill(self, found: Known, outer: Array, arrays: Sequence[Array], attrs: Attrs) -> None:
        """Channels `outer` are what the operator makes of `arrays`."""
        with np.errstate(all="ignore"):
            (found.values[..., outer],) = OPS[self.node.op].reference(arrays, attrs)
        found.mask[outer] = True

    def fill_biases(self, found: Known, outer: Array) -> None:
        """Channels `outer` are their biases."""
        for bias in self.inputs[2:]:
            found.values[..., outer] = bias.values.reshape(-1)[outer]
        found.mask[outer] = True
