"""int8 convolutions by the blocks of `gemm`: pixels in a line, or rows with margins."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence

from midge.kernels.arm.geometry import Layer
from midge.kernels.arm_dsp.geometry import int8_layer
from midge.kernels.arm_dsp.kernel import usable_scaling
from midge.kernels.arm_dsp.rows import PixelWriter, RowWriter
from midge.kernels.arm_dsp.scaling import Scaling
from midge.kernels.arm_dsp.strips import columns_of
from midge.lower.candidates import TEMPLATES, Candidate, Request, Template
from midge.lower.space import Goal, Point, Value
from midge.lower.writer import in_pieces

# Bytes of widened pixels at a time: calls become rare with half a KB of scratch memory.
_MOST_WIDE = 512
# The same of bands, where scratch memory is dear: at most so much as long as there are two pixels.
# A single one costs a fourth more.
_SMALL_PIXELS = (512, 256, 128, 64, 1024)
_SMALL_ROWS = (600, 1200, 320)
_WHOLE = "whole"  # rows at once
_MANY = 16  # products of an output from which on blocks of two pixels are best


class _Forms(Template):
    """int8 convolutions with constant weights: whatever follows is fused, what makes the sums int8
    in registers.

    block: pixels of a block of sums.  straight: steps written out.  room: bytes of scratch memory
    that widened activations may take at a time, 0: those of one pixel.
    """

    ops = ("conv2d",)
    priority = 10

    def __init__(
        self, request: Request, layer: Layer, scaling: Scaling | None, rooms: Sequence[Value]
    ) -> None:
        straight = request.straight((32, 64, 16, 8, 4))
        super().__init__(self.name, {"block": (2, 4), "straight": straight, "room": rooms})
        self.request, self.layer, self.scaling = request, layer, scaling

    @classmethod
    def fused(cls, request: Request, layer: Layer, scaling: Scaling | None) -> bool:
        """Whether pixels cannot come one after the other: rows are apart, or more is computed."""
        pixels = layer.pointwise and scaling is not None and len(request.group.nodes) <= 2
        return not pixels or in_pieces(request)

    def usual(self, goal: Goal) -> Iterator[Point]:
        """Of points of one form the first."""
        request = self.request
        straight = request.straight(goal.pick((32, 64, 16), (8, 16), (4, 8)))
        blocks: tuple[int, ...] = (2, 4) if self.layer.products >= _MANY else (4, 2)
        if request.small:
            straight, blocks = straight[:1], blocks[:1]
        seen = set()
        for block in blocks:
            for room in self.rooms:
                for n in straight:
                    point = self.point(block=block, straight=n, room=room)
                    key = (self.writer(point).form, n)
                    if key not in seen:
                        seen.add(key)
                        yield point

    @property
    @abstractmethod
    def rooms(self) -> Sequence[Value]:
        """Those that are usual, the best first."""

    @abstractmethod
    def writer(self, point: Point) -> PixelWriter | RowWriter: ...

    def build(self, point: Point) -> Candidate:
        return self.writer(point).candidate()


class Pixels(_Forms):
    """A convolution of one tap: pixels in a line, some at a time."""

    name = "arm_dsp.pixels"

    @classmethod
    def of(cls, request: Request) -> Pixels | None:
        layer = int8_layer(request)
        if layer is None:
            return None
        scaling = usable_scaling(request.graph, request.group)
        if cls.fused(request, layer, scaling):
            return None
        return cls(request, layer, scaling, (*_SMALL_PIXELS, 0))

    @property
    def rooms(self) -> Sequence[Value]:
        two = 2 * 2 * 2 * self.layer.words
        return _limits(_SMALL_PIXELS, two) if self.request.small else (_MOST_WIDE,)

    def writer(self, point: Point) -> PixelWriter:
        assert self.scaling is not None
        straight, block, room = (point.number(k) for k in ("straight", "block", "room"))
        return PixelWriter(self.request, self.layer, self.scaling, straight, block, room)


class Rows(_Forms):
    """Any other: rows with margins, in strips."""

    name = "arm_dsp.rows"

    @classmethod
    def of(cls, request: Request) -> Rows | None:
        layer = int8_layer(request)
        if layer is None:
            return None
        scaling = usable_scaling(request.graph, request.group)
        if not cls.fused(request, layer, scaling):
            return None
        return cls(request, layer, scaling, (_WHOLE, *_SMALL_ROWS, 0))

    @property
    def rooms(self) -> Sequence[Value]:
        two = 2 * self.layer.taps[0] * self.layer.depth * columns_of(self.layer, 2)
        return (*_limits(_SMALL_ROWS, two), _WHOLE) if self.request.small else (_WHOLE,)

    def writer(self, point: Point) -> RowWriter:
        room = point["room"]
        return RowWriter(
            self.request, self.layer, self.scaling, point.number("straight"),
            point.number("block"), None if room == _WHOLE else int(room),
        )  # fmt: skip


def _limits(limits: Sequence[int], two: int) -> tuple[int, ...]:
    """`limits`, and 0 if it takes less than the first; two: bytes of two pixels."""
    return (*limits, 0) if two > limits[0] else tuple(limits)


TEMPLATES.add(Pixels.name, Pixels)
TEMPLATES.add(Rows.name, Rows)
