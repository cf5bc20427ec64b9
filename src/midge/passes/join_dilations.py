"""Make one dilated convolution of what frameworks without dilation write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from midge.core.types import TensorType
from midge.graph.attrs import integers, number
from midge.graph.ir import OPS, Attrs, Graph, Node, fresh, live

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
Sides = tuple[int, int, int, int]  # top, bottom, left, right


def join_dilations(graph: Graph) -> Graph:
    """t = space_to_batch(x, block); u = conv2d(t, w); y = batch_to_space(u, block)
    ->   y = conv2d(x, w), dilated by the block

    Both are spelled as moves: a reshape that splits rows and columns by the block, a transpose
    that brings the block in front, a reshape; and back. Padding before them and a crop after them
    become the convolution's padding. Signals [batch, time, channels] are images in between.
    """
    finder = _Finder(graph)
    joins = (finder.join(n) for n in graph.nodes if n.op in _CONVOLUTIONS)
    found = {join.last: join for join in joins if join is not None}
    types = dict(graph.types)
    nodes: list[Node] = []
    for node in graph.nodes:
        join = found.get(node.outputs[0])
        nodes.extend((node,) if join is None else join.nodes(types))
    return replace(graph, types=types).with_nodes(live(nodes, graph.outputs))


@dataclass(frozen=True, slots=True)
class _Split:
    """What is split into images: `source`, an image of `shape` with `pads` around it. block: rows
    and columns of one residue class are so far apart.  flat: the axis that a signal has not."""

    source: str
    shape: tuple[int, ...]
    pads: Sides
    block: tuple[int, int]
    flat: int | None = None


@dataclass(frozen=True, slots=True)
class _Merged:
    """The value `last`, and what is cut off around it."""

    last: str
    crops: Sides


@dataclass(frozen=True, slots=True)
class _Join:
    conv: Node
    split: _Split
    merged: _Merged

    @property
    def last(self) -> str:
        return self.merged.last

    def nodes(self, types: dict[str, TensorType]) -> list[Node]:
        """The convolution of the image, and a crop of what its padding has not."""
        shape, target = self.split.shape, types[self.last].shape
        pads = tuple(zip(self._pads(), self.merged.crops, strict=True))
        chain: list[tuple[str, Attrs]] = []
        if types[self.split.source].shape != shape:
            chain.append(("reshape", {"shape": shape}))
        attrs: Attrs = {
            **self.conv.attrs,
            "dilations": self._scaled(integers(self.conv.attrs, "dilations", 2)),
            "padding": tuple(max(p - c, 0) for p, c in pads),
        }
        chain.append((self.conv.op, attrs))
        top, bottom, left, right = (max(c - p, 0) for p, c in pads)
        if top + bottom + left + right:
            image = replace(types[self.split.source], shape=shape)
            weights = [types[n] for n in self.conv.inputs[1:]]
            (whole,) = OPS[self.conv.op].infer([image, *weights], attrs)
            n, h, w, c = whole.shape
            size = (n, h - top - bottom, w - left - right, c)
            cut: Attrs = {"begin": (0, top, left, 0), "size": size, "strides": (1, 1, 1, 1)}
            chain.append(("slice", cut))
        if len(target) != 4:
            chain.append(("reshape", {"shape": target}))
        return self._spelled(chain, types)

    def _pads(self) -> list[int]:
        """All padding, in rows and columns of the image."""
        top, bottom, left, right = integers(self.conv.attrs, "padding", 4)
        own = (*self._scaled((top, left)), *self._scaled((bottom, right)))
        ordered = (own[0], own[2], own[1], own[3])
        return [a + b for a, b in zip(ordered, self.split.pads, strict=True)]

    def _scaled(self, pair: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(n * b for n, b in zip(pair, self.split.block, strict=True))

    def _spelled(self, chain: list[tuple[str, Attrs]], types: dict[str, TensorType]) -> list[Node]:
        """The operators one after the other, the last one makes `last`."""
        nodes: list[Node] = []
        value, quant = self.split.source, types[self.split.source].quant
        for i, (op, attrs) in enumerate(chain):
            own = op == self.conv.op
            inputs = (value, *self.conv.inputs[1:]) if own else (value,)
            quant = types[self.last].quant if own else quant
            value = self.last if i == len(chain) - 1 else fresh(f"{self.last}/{op}", types)
            (made,) = OPS[op].infer([types[n] for n in inputs], attrs)
            types[value] = replace(made, quant=quant)
            nodes.append(replace(self.conv, op=op, inputs=inputs, outputs=(value,), attrs=attrs))
        return nodes


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.types: Mapping[str, TensorType] = graph.types
        self.makers = {o: n for n in graph.nodes for o in n.outputs}
        self.readers = graph.consumers()

    def join(self, conv: Node) -> _Join | None:
        if integers(conv.attrs, "strides", 2) != (1, 1):
            return None
        split = self.split(conv.inputs[0])
        merged = None if split is None else self.merged(conv.outputs[0], split)
        return None if split is None or merged is None else _Join(conv, split, merged)

    def split(self, images: str) -> _Split | None:
        """What `images` are the residue classes of."""
        turn = self.makers.get(images)
        while turn is not None and turn.op == "reshape":
            turn = self.makers.get(turn.inputs[0])
        parts = None if turn is None else self.makers.get(turn.inputs[0])
        if turn is None or turn.op != "transpose" or parts is None or parts.op != "reshape":
            return None
        perm, shape = integers(turn.attrs, "perm"), self.types[parts.outputs[0]].shape
        source, result = parts.inputs[0], self.types[images].shape
        whole = self.types[source].shape
        if perm == (2, 4, 0, 1, 3, 5):
            n, h, bh, w, bw, c = shape
            found = _Split(source, (n, h * bh, w * bw, c), (0,) * 4, (bh, bw))
            fits = (whole, result) == (found.shape, (n * bh * bw, h, w, c))
            return self.padded(found) if fits else None
        if perm != (2, 0, 1, 3):
            return None
        n, w, b, c = shape
        if whole != (n, w * b, c):
            return None
        if result == (n * b, 1, w, c):
            return self.padded(_Split(source, (n, 1, w * b, c), (0,) * 4, (1, b), 1))
        if result == (n * b, w, 1, c):
            return self.padded(_Split(source, (n, w * b, 1, c), (0,) * 4, (b, 1), 2))
        return None

    def padded(self, split: _Split) -> _Split:
        """With the padding before it, if that counts as zero, as its own."""
        pad = self.makers.get(split.source)
        if pad is None or pad.op != "pad":
            return split
        around = integers(pad.attrs, "paddings")
        x, y = self.types[pad.inputs[0]], self.types[pad.outputs[0]]
        zero = 0 if x.quant is None else x.quant.zero_point[0]
        other = any((*around[:2], *around[-2:])) or x.quant != y.quant
        if other or number(pad.attrs, "value") != zero:
            return split
        sides = _sides(around[2:-2], split.flat)
        n, h, w, c = split.shape
        shape = (n, h - sides[0] - sides[1], w - sides[2] - sides[3], c)
        pads = tuple(a + b for a, b in zip(split.pads, sides, strict=True))
        assert len(pads) == 4
        return self.padded(replace(split, source=pad.inputs[0], shape=shape, pads=pads))

    def merged(self, images: str, split: _Split) -> _Merged | None:
        """What is made of the residue classes `images`, if nothing else is."""
        n, h, w, c = self.types[images].shape
        bh, bw = split.block
        n //= bh * bw
        parts: tuple[int, ...] = (bh, bw, n, h, w, c)
        perm: tuple[int, ...] = (2, 3, 0, 4, 1, 5)
        whole: tuple[int, ...] = (n, h * bh, w * bw, c)
        if split.flat is not None:
            if (h, w)[split.flat - 1] != 1:
                return None
            parts, perm, whole = (bh * bw, n, h * w, c), (1, 2, 0, 3), (n, h * w * bh * bw, c)
        turn = self.reader(images)
        while turn is not None and turn.op == "reshape":
            turn = self.reader(turn.outputs[0])
        if turn is None or turn.op != "transpose" or integers(turn.attrs, "perm") != perm:
            return None
        last = self.reader(turn.outputs[0])
        if last is None:
            return None
        before, after = (self.types[n].shape for n in (turn.inputs[0], last.outputs[0]))
        if (last.op, before, after) != ("reshape", parts, whole):
            return None
        return self.cropped(last.outputs[0], whole, split.flat)

    def cropped(self, value: str, whole: tuple[int, ...], flat: int | None) -> _Merged:
        cut = self.reader(value)
        if cut is None or cut.op != "slice" or set(integers(cut.attrs, "strides")) != {1}:
            return _Merged(value, (0,) * 4)
        begin, size = integers(cut.attrs, "begin"), integers(cut.attrs, "size")
        pairs = [(b, n - b - s) for n, b, s in zip(whole, begin, size, strict=True)]
        if any((*pairs[0], *pairs[-1])):
            return _Merged(value, (0,) * 4)
        return _Merged(cut.outputs[0], _sides([n for pair in pairs[1:-1] for n in pair], flat))

    def reader(self, name: str) -> Node | None:
        """Who reads a value, if only one node does."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.graph.outputs else None


def _sides(pairs: list[int] | tuple[int, ...], flat: int | None) -> Sides:
    """(before, after) of rows and columns; of a signal's only axis, the other has none."""
    given = tuple(pairs) if flat is None else ((0, 0, *pairs) if flat == 1 else (*pairs, 0, 0))
    top, bottom, left, right = given
    return top, bottom, left, right
