"""The micro-kernel of depthwise convolutions over a column of pixels that lie anywhere.

A word of each of two pixels, four channels, becomes the pairs (this pixel, the next one) of every
channel: two taps are then one `smlad`. Outputs at odd places see the pairs shifted by a pixel, so
there are weights for either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, DType
from midge.kernels.arm import assembler as asm
from midge.kernels.arm_dsp import halves
from midge.kernels.arm_dsp.scaling import Scaling
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.lower import nest

_FREE = (*(f"r{i}" for i in range(1, 13)), "lr")  # r0 walks over w
_TOGETHER = 4  # channels


@dataclass(frozen=True, slots=True)
class Column:
    """y[r * y_pixel + c * y_channel] = scaled sum over t of x[r + t][c] * w[t, c].

    x is an array of pointers to `rows` + `taps` - 1 pixels of `channels` (a multiple of 4) i8.
    """

    channels: int
    rows: int
    taps: int
    y_pixel: int
    y_channel: int
    scaling: Scaling

    @property
    def height(self) -> int:
        return self.rows + self.taps - 1

    @property
    def pairs(self) -> int:
        """Of pixels."""
        return (self.height + 1) // 2

    @property
    def even(self) -> int:
        """Words of weights of outputs at even places: (w0, w1), (w2, w3) ..."""
        return (self.taps + 1) // 2

    @property
    def odd(self) -> int:
        """Words of weights of those at odd places: (w1, w2), (w3, w4) ...; what is left of the
        window is found in the others."""
        return (self.taps - 1) // 2

    @property
    def weights(self) -> int:
        return self.even + self.odd

    @property
    def words(self) -> int:
        """Of constants per channel: weights, what scales the sum."""
        return self.weights + self.scaling.words

    @property
    def y_span(self) -> int:
        return (self.rows - 1) * self.y_pixel + (self.channels - 1) * self.y_channel + 1

    @property
    def name(self) -> str:
        return asm.name_of(f"column_{self.taps}", self)

    def instruction(self) -> Instruction:
        return Instruction(
            self.name, meaning(self), asm=tuple(_lines(self)), needs=asm.NEEDS, note=repr(self)
        )


def fits(c: Column) -> bool:
    """Whether a channel's pairs and sums fit the registers."""
    return c.channels % _TOGETHER == 0 and c.pairs + c.rows + 2 <= len(_FREE)


def pack(w: Array, constants: Array) -> Array:
    """Weights [taps, channels] (i8) and what scales their sums (i32 [channels, words]), as the
    micro-kernel reads them: i32 [channels * words]."""
    even = np.pad(w.astype(np.int64), ((0, w.shape[0] % 2), (0, 0)))
    odd = w[1 : 1 + (w.shape[0] - 1) // 2 * 2].astype(np.int64)
    packed = [halves.pack(v[0::2], v[1::2]) for v in (even, odd)]
    rows = np.concatenate([*packed, constants.T])
    return np.ascontiguousarray(rows.T).reshape(-1)


def meaning(p: Column) -> ir.Func:
    c, r, t = (ir.Var(v) for v in ("c", "r", "t"))
    base = ir.mul(c, ir.i32(p.words))
    own = ir.Bin("==", ir.Bin("%", r, ir.i32(2)), ir.i32(1))
    shifted = ir.conjunction(
        (own, ir.Bin("<", ir.i32(0), t), ir.Bin("<=", t, ir.i32(2 * p.odd))),
    )
    assert shifted is not None
    half = ir.Select(shifted, ir.add(t, ir.i32(2 * p.even - 1)), t)
    word = ir.Load("w", (ir.add(base, ir.Bin("/", half, ir.i32(2))),))
    upper = ir.Bin("==", ir.Bin("%", half, ir.i32(2)), ir.i32(1))
    weight = ir.Select(upper, halves.high(word), halves.low(word))
    x = ir.Cast(DType.I32, ir.Load("x", (ir.add(r, t), c)))
    total = ir.Bin("+", ir.Load("acc", ()), ir.Bin("*", x, weight))
    constants = [ir.Load("w", (ir.add(base, ir.i32(i)),)) for i in range(p.weights, p.words)]
    to = ir.add(ir.mul(r, ir.i32(p.y_pixel)), ir.mul(c, ir.i32(p.y_channel)))
    body = (
        ir.Alloc("acc", DType.I32, ()),
        ir.Store("acc", (), ir.i32(0)),
        *nest((t,), (p.taps,), (ir.Store("acc", (), total),)),
        ir.Store("y", (to,), p.scaling.value(ir.Load("acc", ()), constants)),
    )
    params = (
        ir.Param("w", DType.I32, (p.channels * p.words,), "const"),
        ir.Param("x", DType.I8, (p.height, p.channels), "in", rows=1),
        ir.Param("y", DType.I8, (p.y_span,), "inout"),
    )
    return ir.Func(p.name, params, nest((c, r), (p.channels, p.rows), body))


def _lines(p: Column) -> list[str]:
    """The frame holds the pairs of four channels, x, y, how far x has moved and the end of w."""
    pairs = 4 * _TOGETHER * p.pairs
    x, y, moved, end = (f"[sp, #{pairs + 4 * i}]" for i in range(4))
    out = [f"sub sp, #{pairs + 16}", f"str r1, {x}", f"str r2, {y}"]
    out += [*asm.add("r3", "r0", 4 * p.channels * p.words, "r3"), f"str r3, {end}"]
    out += ["movs r2, #0", f"str r2, {moved}", "9:"]
    out += [f"ldr r1, {x}", f"ldr r2, {moved}", *_unpack(p)]
    out += ["adds r2, #4", f"str r2, {moved}"]
    for channel in range(_TOGETHER):
        out += _channel(p, channel, y)
    out += [f"ldr r1, {y}", *asm.add("r1", "r1", _TOGETHER * p.y_channel, "r2"), f"str r1, {y}"]
    return [*out, f"ldr r2, {end}", "cmp r0, r2", "bne 9b", f"add sp, #{pairs + 16}"]


def _unpack(p: Column) -> list[str]:
    """The pairs of four channels, r2 bytes from r1's pointers, to the frame."""
    out: list[str] = []
    for first in range(0, p.height, 4):
        rows = ("r3", "r4", "r5", "r6")[: p.height - first]
        single = len(rows) == 1
        out.append("ldr r3, [r1], #4" if single else f"ldm r1!, {{{', '.join(rows)}}}")
        out += [f"ldr {r}, [{r}, r2]" for r in rows]
        for i in range(0, len(rows), 2):
            a, b = rows[i], rows[i + 1] if i + 1 < len(rows) else rows[i]
            out += [f"sxtb16 r7, {a}", f"sxtb16 r8, {a}, ror #8"]
            out += [f"sxtb16 r9, {b}", f"sxtb16 r10, {b}, ror #8"]
            made = (f"{a}", "r11", "r12", "lr")
            out += [f"pkhbt {a}, r7, r9, lsl #16", "pkhbt r11, r8, r10, lsl #16"]
            out += ["pkhtb r12, r9, r7, asr #16", "pkhtb lr, r10, r8, asr #16"]
            places = (4 * (c * p.pairs + (first + i) // 2) for c in range(_TOGETHER))
            out += [f"str {r}, {asm.at('sp', at)}" for r, at in zip(made, places, strict=True)]
    return out


def _channel(p: Column, channel: int, y: str) -> list[str]:
    """The outputs of one of four channels."""
    pairs, sums = _FREE[: p.pairs], _FREE[p.pairs : p.pairs + p.rows]
    spare = _FREE[p.pairs + p.rows :]
    at = 4 * channel * p.pairs
    base = "sp" if at == 0 else spare[0]
    out = [f"add {base}, sp, #{at}"] if at else []
    some = ", ".join(pairs)
    out.append(f"ldm {base}, {{{some}}}" if len(pairs) > 1 else f"ldr {some}, [{base}]")
    started: set[str] = set()
    for first in range(0, p.weights, len(spare)):
        registers = spare[: p.weights - first]
        if len(registers) > 1:
            out.append(f"ldm r0!, {{{', '.join(registers)}}}")
        else:
            out.append(f"ldr {registers[0]}, [r0], #4")
        for word, register in enumerate(registers, first):
            for op, total, pair in _products(p, word, pairs, sums):
                if total in started:
                    out.append(f"smla{op} {total}, {pair}, {register}, {total}")
                else:
                    first_op = "ad" if op == "d" else f"l{op}"
                    out.append(f"smu{first_op} {total}, {pair}, {register}")
                started.add(total)
    out += p.scaling.lines(sums, 0, "r0", (spare[0], spare[1]))
    out.append(f"ldr {spare[0]}, {y}")
    for r, total in enumerate(sums):
        place = r * p.y_pixel + channel * p.y_channel
        out += asm.store("strb", total, spare[0], place, spare[1])
    return out


def _products(
    p: Column, word: int, pairs: tuple[str, ...], sums: tuple[str, ...]
) -> list[tuple[str, str, str]]:
    """Of a word of weights, as (smlaXX, sum, pair)."""
    out = []
    if word >= p.even:
        i = word - p.even
        return [("d", sums[r], pairs[(r + 1) // 2 + i]) for r in range(1, p.rows, 2)]
    tap = 2 * word
    both = tap + 1 < p.taps
    for r, total in enumerate(sums):
        if r % 2 == 0:
            out.append(("d" if both else "bb", total, pairs[r // 2 + word]))
            continue
        if word == 0:
            out.append(("tb", total, pairs[r // 2]))
        if both and tap + 2 == p.taps:
            out.append(("bt", total, pairs[(r + tap + 1) // 2]))
    return out
