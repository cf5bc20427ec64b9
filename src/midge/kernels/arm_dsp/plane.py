"""The micro-kernel of depthwise convolutions: channel by channel, three taps at a time.

A channel's plane is copied to a scratch plane with the zero point around it, so that border and
interior are the same code. A word of four columns becomes (b0, b2), (b1, b3) by `sxtb16`: three
taps are then one `smlad` with (w0, w2) and one `smlabb` with w1, for two neighbouring outputs of
the same word. The weights of a 3x3 window and what scales the sums stay in registers for a plane:
an output takes about 16 cycles on a Cortex-M4, its requantisation included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from midge.core.types import Array, DType
from midge.kernels.arm import assembler as asm
from midge.kernels.arm_dsp import halves
from midge.kernels.arm_dsp.plane_asm import PlaneWriter
from midge.kernels.arm_dsp.plane_rows import RowsWriter
from midge.kernels.arm_dsp.scaling import Scaling
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.lower import nest

_RESIDENT = 3  # chunks whose weights stay in registers


@dataclass(frozen=True, slots=True)
class Plane:
    """y[p * y_pixel + c * y_channel] = scaled sum over the window of x, for every channel c and
    output pixel p (row by row).

    x is i8 with `x_strides` of (row, column, channel); outside the image it counts as `pad`.
    pointers: x is an array of pointers instead, one for each of its "rows" or "columns", which lie
    anywhere; that stride is not used.
    straight: outputs of a row, and half as many loads of a plane's copy, that are written out.
    twins: two output rows at a time, where `twinned` allows it.
    direct: words are read from the rows of x (`direct_fits`), without a scratch plane.
    """

    channels: int
    height: int
    width: int
    x_strides: tuple[int, int, int]
    out_height: int
    out_width: int
    taps: tuple[int, int]
    strides: tuple[int, int]
    top: int
    left: int
    pad: int
    y_pixel: int
    y_channel: int
    scaling: Scaling
    pointers: Literal["", "rows", "columns"] = ""
    straight: int = 8
    twins: bool = True
    direct: bool = False

    @property
    def resident(self) -> bool:
        """Whether the weights of a channel stay in registers."""
        return self.count <= _RESIDENT

    @property
    def twinned(self) -> bool:
        """Whether two output rows are computed at a time: they share the words of their windows."""
        small = self.chunks == 1 and self.resident
        return self.twins and small and self.strides == (1, 1) and self.out_height > 1

    @property
    def chunks(self) -> int:
        """Groups of up to three taps in one row of the window."""
        return -(-self.taps[1] // 3)

    @property
    def count(self) -> int:
        """Of the whole window."""
        return self.taps[0] * self.chunks

    @property
    def words(self) -> int:
        """Of constants per channel: pairs, middles, what scales the sum, borders."""
        return self.weights + self.scaling.words + len(self.borders)

    @property
    def borders(self) -> tuple[int, ...]:
        """Outputs of a row whose sums start with a constant: what the padding beside the image
        adds to them."""
        if not self.direct or self.pad == 0:
            return ()
        firsts = {o: o * self.strides[1] - self.left for o in range(self.out_width)}
        return tuple(o for o, at in firsts.items() if at < 0 or at + self.taps[1] > self.width)

    @property
    def weights(self) -> int:
        """Words of weights per channel."""
        return self.count + (self.count + 1) // 2

    @property
    def pitch(self) -> int:
        return (self.out_width - 1) * self.strides[1] + self.taps[1]

    @property
    def rows(self) -> int:
        return (self.out_height - 1) * self.strides[0] + self.taps[0]

    @property
    def scratch(self) -> int:
        """Bytes of the padded plane, with what the last word reads beyond it."""
        return (self.rows * self.pitch + 4 + 3) // 4 * 4

    @property
    def inside(self) -> tuple[int, int]:
        """Rows and columns of x that are read."""
        return (
            min(self.height, self.rows - self.top),
            min(self.width, self.pitch - self.left),
        )

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Of the operand: pieces, where there are pointers, and elements of one piece."""
        sizes = [self.height, self.width, self.channels]
        if not self.pointers:
            return (self._span(sizes),)
        axis = ("rows", "columns").index(self.pointers)
        count, sizes[axis] = sizes[axis], 1
        return count, self._span(sizes)

    @property
    def x_span(self) -> int:
        """Elements from the first to the last one of a piece of x."""
        return self.x_shape[-1]

    def _span(self, sizes: Sequence[int]) -> int:
        return sum((n - 1) * s for n, s in zip(sizes, self.x_strides, strict=True)) + 1

    @property
    def y_span(self) -> int:
        pixels = self.out_height * self.out_width
        return (pixels - 1) * self.y_pixel + (self.channels - 1) * self.y_channel + 1

    @property
    def name(self) -> str:
        window = f"{self.taps[0]}x{self.taps[1]}"
        return asm.name_of(f"plane_{window}", self)

    def instruction(self) -> Instruction:
        return Instruction(
            self.name,
            meaning(self),
            asm=tuple((RowsWriter if self.direct else PlaneWriter)(self).lines()),
            needs=asm.NEEDS,
            note=repr(self),
        )


def fits(p: Plane) -> bool:
    """Whether the window's rows can be reached from one register."""
    return (p.taps[0] + 2) * p.pitch + 3 * p.chunks + 16 * p.strides[1] < 4096


def direct_fits(p: Plane) -> bool:
    """Whether a kernel can read the words of p's rows where they lie."""
    whole = p.top == 0 and p.height == p.rows and p.width >= 4 and p.x_strides[1] == 1
    offsets = p.width < 256 and p.x_strides[2] < 4096 and p.height <= 16
    spanned = (p.out_width - 1) * p.strides[1] - p.left < p.width and p.left < p.taps[1]
    return p.pointers == "rows" and p.chunks == 1 and p.resident and whole and offsets and spanned


def borders(p: Plane, w: Array) -> Array:
    """The constants of `p.borders` for weights [KH, KW, channels]: i32 [channels, borders]."""
    found = []
    for o in p.borders:
        columns = o * p.strides[1] - p.left + np.arange(p.taps[1])
        outside = (columns < 0) | (columns >= p.width)
        found.append(p.pad * w.astype(np.int64).sum(0)[outside].sum(0))
    return np.array(found, np.int32).reshape(len(found), p.channels).T


def pack(w: Array, constants: Array) -> Array:
    """Weights [KH, KW, channels] (i8) and what scales their sums (i32 [channels, words]), as the
    micro-kernel reads them: i32 [channels * words]."""
    kw = w.shape[1]
    padded = np.pad(w.astype(np.int64), ((0, 0), (0, -kw % 3), (0, 0)))
    taps = padded.reshape(-1, 3, w.shape[2])  # [chunks, 3, channels]
    pairs = halves.pack(taps[:, 0], taps[:, 2])
    middles = np.pad(taps[:, 1], ((0, len(taps) % 2), (0, 0)))
    rows = np.concatenate([pairs, halves.pack(middles[0::2], middles[1::2]), constants.T])
    return np.ascontiguousarray(rows.T).reshape(-1)


def meaning(p: Plane) -> ir.Func:
    c, oh, ow, kh, j = (ir.Var(v) for v in ("c", "oh", "ow", "kh", "j"))
    base = _times(c, p.words)
    chunk = ir.add(_times(kh, p.chunks), j)
    pair = ir.Load("w", (ir.add(base, chunk),))
    at = ir.add(base, ir.add(ir.i32(p.count), ir.Bin("/", chunk, ir.i32(2))))
    middle = ir.Load("w", (at,))
    odd = ir.Bin("==", ir.Bin("%", chunk, ir.i32(2)), ir.i32(1))
    weights = (
        halves.low(pair),
        ir.Select(odd, halves.high(middle), halves.low(middle)),
        halves.high(pair),
    )
    total: ir.Expr = ir.Load("acc", ())
    for tap, weight in enumerate(weights):
        total = ir.Bin("+", total, ir.Bin("*", _pixel(p, c, oh, ow, kh, j, tap), weight))
    sums = nest((kh, j), (p.taps[0], p.chunks), (ir.Store("acc", (), total),))
    places = range(p.weights, p.weights + p.scaling.words)
    constants = [ir.Load("w", (ir.add(base, ir.i32(i)),)) for i in places]
    result = p.scaling.value(ir.Load("acc", ()), constants)
    pixel = ir.add(_times(oh, p.out_width), ow)
    to = ir.add(_times(pixel, p.y_pixel), _times(c, p.y_channel))
    body = (
        ir.Alloc("acc", DType.I32, ()),
        ir.Store("acc", (), _start(p, base, ow)),
        *sums,
        ir.Store("y", (to,), result),
    )
    params = [
        ir.Param("w", DType.I32, (p.channels * p.words,), "const"),
        ir.Param("x", DType.I8, p.x_shape, "in", rows=1 if p.pointers else 0),
        ir.Param("plane", DType.I8, (p.scratch,), "scratch"),
        ir.Param("y", DType.I8, (p.y_span,), "inout"),
    ]
    if p.direct:
        del params[2]
    extents = (p.channels, p.out_height, p.out_width)
    return ir.Func(p.name, tuple(params), nest((c, oh, ow), extents, body))


def _start(p: Plane, base: ir.Expr, ow: ir.Expr) -> ir.Expr:
    """The first value of a sum."""
    value: ir.Expr = ir.i32(0)
    for i, o in enumerate(p.borders):
        place = ir.add(base, ir.i32(p.weights + p.scaling.words + i))
        value = ir.Select(ir.Bin("==", ow, ir.i32(o)), ir.Load("w", (place,)), value)
    return value


def _pixel(
    p: Plane, c: ir.Expr, oh: ir.Expr, ow: ir.Expr, kh: ir.Expr, j: ir.Expr, tap: int
) -> ir.Expr:
    """x under tap `tap` of a chunk, or the padding."""
    ih = ir.sub(ir.add(_times(oh, p.strides[0]), kh), ir.i32(p.top))
    column = ir.add(_times(j, 3), ir.i32(tap - p.left))
    iw = ir.add(_times(ow, p.strides[1]), column)
    row, pixel, channel = p.x_strides
    places = {"rows": _times(ih, row), "columns": _times(iw, pixel)}
    lead = (ih,) if p.pointers == "rows" else (iw,) if p.pointers else ()
    places.pop(p.pointers, None)
    at = ir.total([*places.values(), _times(c, channel)])
    inside = ir.Bin("and", ir.in_range(ih, p.height), ir.in_range(iw, p.width))
    pad = 0 if p.direct else p.pad
    return ir.Select(inside, ir.Cast(DType.I32, ir.Load("x", (*lead, at))), ir.i32(pad))


def _times(e: ir.Expr, n: int) -> ir.Expr:
    return ir.mul(e, ir.i32(n))
