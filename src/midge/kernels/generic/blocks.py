"""Convolutions and fully connected layers with blocks of accumulators in registers.

A block of 2 channels x 2 pixels loads four values for four products instead of eight. Which block
is best depends on how many registers there are, and on what the compiler makes of it: the orders
below are what was measured on the layers of the MLPerf Tiny models, Zig's clang at -O3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from midge.core.target import Target
from midge.core.types import DType
from midge.kernels.generic.windows import border
from midge.loop import ir
from midge.loop.rewrite import loops_in
from midge.loop.schedule import Pack, Reorder, Split, Step, Unroll
from midge.lower.candidates import PLAIN, TEMPLATES, Candidate, Request, Schedule, Template
from midge.lower.space import Goal, Point

FEW_REGISTERS = "few-registers"
_SHORT = 8  # input channels: below, the innermost loop is soon over


@dataclass(frozen=True, slots=True)
class Block:
    """`channels` x `pixels` sums at a time.

    packed: weights in the order in which they are read.  taps: the window's loops are written out.
    peel: columns at the border apart from those inside, where no tap is tested.
    """

    channels: int
    pixels: int = 1
    packed: bool = False
    taps: bool = False
    peel: bool = True


_ONE = Block(1)
_CONVOLUTION = (
    Block(2, 2, packed=True), Block(2, 2), Block(4, packed=True), Block(4),
    Block(4, 2, packed=True), Block(1, 2), _ONE,
)  # fmt: skip
_CONVOLUTION_RISCV = (
    Block(4, 2, packed=True), Block(2, 2, packed=True), Block(4, packed=True), Block(1, 2),
    Block(2, 4), Block(2, packed=True), _ONE,
)  # fmt: skip
_CONVOLUTION_FEW = (_ONE, Block(4, packed=True), Block(4, 2, packed=True), Block(1, 2), Block(2))
_CONVOLUTION_FLOAT = (Block(4, 4, packed=True), Block(4, 2, packed=True), Block(2, 2), _ONE)
_DEPTHWISE = (
    Block(2, 2, taps=True), Block(4, taps=True), Block(1, 2), Block(2, 2), Block(2, taps=True),
    _ONE,
)  # fmt: skip
_DEPTHWISE_FLOAT = (
    Block(3, 3, taps=True), Block(4, taps=True), Block(4, 2), Block(2, 2, taps=True), _ONE,
)  # fmt: skip
_DENSE = (Block(4), Block(4, packed=True), Block(2))
# Little code: nothing is written twice.
_SMALL = (Block(4, packed=True, peel=False), Block(2, peel=False), Block(1, peel=False))


class Blocks(Template):
    """The operator's own loops, cut into blocks."""

    name = "generic.blocks"
    ops = ("conv2d", "depthwise_conv2d", "dense", "matmul")

    def __init__(self, request: Request) -> None:
        numbers = {"channels": (1, 2, 3, 4, 6, 8), "pixels": (1, 2, 3, 4, 8)}
        flags = dict.fromkeys(("packed", "taps", "peel"), (0, 1))
        super().__init__(self.name, {**numbers, **flags})
        self.request = request
        self.nest = _Nest(request.plain.func, request)

    @classmethod
    def of(cls, request: Request) -> Blocks:
        return cls(request)

    def usual(self, goal: Goal) -> Iterator[Point]:
        """Of points whose loops are the same the first."""
        first = _SMALL if goal.optimize == "size" else ()
        seen = set()
        for block in (*first, *self.preferred()):
            if (steps := self.nest.steps(block)) not in seen:
                seen.add(steps)
                yield self.point(
                    channels=block.channels, pixels=block.pixels, packed=int(block.packed),
                    taps=int(block.taps), peel=int(block.peel),
                )  # fmt: skip

    def preferred(self) -> tuple[Block, ...]:
        """Sums over a window and its channels, over a window, over a row."""
        request, func = self.request, self.request.plain.func
        assert request.group.anchor is not None
        few = FEW_REGISTERS in request.target.features
        match request.group.anchor.op:
            case "matmul":
                return (Block(4), Block(2), _ONE)
            case "dense":
                return (_ONE, _DENSE[1]) if few else _DENSE
            case "depthwise_conv2d":
                return _DEPTHWISE_FLOAT if _is_float(func, request.target) else _DEPTHWISE
        if few:
            depth = next(s.extent for s in loops_in(func.body) if s.var == "ic")
            return (*_CONVOLUTION_FEW[1:], _ONE) if depth < _SHORT else _CONVOLUTION_FEW
        if _is_float(func, request.target):
            return _CONVOLUTION_FLOAT
        return _CONVOLUTION_RISCV if request.target.arch == "riscv" else _CONVOLUTION

    def build(self, point: Point) -> Candidate:
        number = point.number
        block = Block(
            number("channels"), number("pixels"), bool(number("packed")), bool(number("taps")),
            bool(number("peel")),
        )  # fmt: skip
        plain = self.request.plain
        return Candidate(PLAIN, plain.func, plain.args, self.nest.steps(block))


def _is_float(func: ir.Func, target: Target) -> bool:
    x, *_ = func.params
    return x.dtype is DType.F32 and "fpu" in target.features


class _Nest:
    """The loops of an operator, whose names are those of its loop rule."""

    def __init__(self, func: ir.Func, request: Request) -> None:
        self.extents = {s.var: s.extent for s in loops_in(func.body)}
        self.dense = "k" in self.extents
        self.channel = "n" if self.dense else "oc"
        self.summed = tuple(v for v in ("kh", "kw", "ic", "k") if v in self.extents)
        self.border = None if self.dense else border(func, request)

    def steps(self, block: Block) -> Schedule:
        """As much of `block` as the sizes allow."""
        channel, inner = self.channel, f"{self.channel}_i"
        blocked = 1 < block.channels <= self.extents[channel]
        even = blocked and self.extents[channel] % block.channels == 0
        steps: list[Step] = [Unroll("kh"), Unroll("kw")] if block.taps else []
        if blocked:
            steps.append(Split(channel, block.channels, tail="exact" if even else "peel"))
        columns, parts = self.columns(block)
        steps += columns
        inside = [inner] if blocked else []
        if any(isinstance(s, Split) for s in columns):
            # Pixels go inside the loop over channels.
            inside.append("ow_i")
            around: tuple[str, ...] = (f"{channel}_o" if blocked else channel,)
        else:
            around = ()
        if inside:
            steps.append(Reorder((*around, *self.summed, *inside)))
            steps += [Unroll(v) for v in inside]
        for part in parts if even else ():
            steps.append(Reorder((*(v + part for v in self.summed), inner + part)))
            steps.append(Unroll(inner + part))
        # A depthwise layer's are in that order, and a block that is not full would be padded.
        if block.packed and even and ("ic" in self.extents or self.dense):
            rank = 2 if self.dense else 4
            steps.append(Pack("w", ((0, block.channels),), (0, *range(2, rank + 1), 1)))
        return tuple(steps)

    def columns(self, block: Block) -> tuple[list[Step], list[str]]:
        """Steps on the loop over columns, and what the names in its other parts end with."""
        columns, parts = self.extents.get("ow", 1), []
        steps: list[Step] = []
        if block.peel and self.border is not None:
            steps.append(self.border)
            columns -= self.border.first + self.border.last
            ends = (("_first", self.border.first), ("_last", self.border.last))
            parts += [name for name, count in ends if count]
        if 1 < block.pixels <= columns:
            left = columns % block.pixels
            steps.append(Split("ow", block.pixels, tail="peel" if left else "exact"))
            parts += ["_r"] if left else []
        return steps, parts


TEMPLATES.add(Blocks.name, Blocks)
