"""The micro-kernel of int16 layers: sums of products of int16 activations and int8 weights.

Two products per `smlad` where the sums fit 32 bits, else per `smlald`. Weights are bytes, those of
two channels in a word, which two `sxtb16` take apart: 16 multiply-accumulates of 2 channels x 4
pixels take 17 cycles on a Cortex-M4; or halfwords, twice the memory: 16 cycles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, DType
from midge.kernels.arm import assembler as asm
from midge.kernels.arm_dsp.scaling16 import Scaling16
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.lower import nest

_SUMS = tuple(f"r{i}" for i in range(2, 10))
_FREE = ("r10", "r11", "r12", "lr")
_MOST_REACH = 3800  # bytes between the pixels of a block: an offset is less than 4096


@dataclass(frozen=True, slots=True)
class Gemm16:
    """Sums of x[p * pixel_stride + r * run_stride + k] * w[c, r, k] over r < runs and k < length

    for `blocks` blocks of `channels` channels, one after the other, and `pixels` pixels, all that
    for `turns` places, `x_turn` and `y_turn` elements apart. Strides count elements of x and y.

    scaling: y is i16, scaled by what stands behind the weights of each block; None: the sums.
    long: sums of 64 bits.  narrow: weights are bytes; `channels` is even.
    straight: words of x that are written out at most.
    """

    channels: int
    pixels: int
    pixel_stride: int
    runs: int
    run_stride: int
    length: int
    blocks: int
    y_pixel: int
    y_channel: int
    scaling: Scaling16 | None
    long: bool = False
    narrow: bool = True
    straight: int = 32
    turns: int = 1
    x_turn: int = 0
    y_turn: int = 0

    def __post_init__(self) -> None:
        sums = self.channels * self.pixels * (2 if self.long else 1)
        assert sums <= len(_SUMS), "sums do not fit"
        assert self.pixels <= 2 or self.channels <= 2, "neither side stays in registers"
        assert not (self.narrow and self.channels % 2), "a single channel has no other for its word"
        assert not (self.long and self.scaling), "only 32 bits are scaled"
        assert self.pixels <= most_pixels(self.pixel_stride), "pixels are too far apart"

    @property
    def words(self) -> int:
        """Words of x in a run."""
        return (self.length + 1) // 2

    @property
    def step_words(self) -> int:
        """Words of weights for each of them."""
        return self.channels // 2 if self.narrow else self.channels

    @property
    def weights(self) -> int:
        """Words of weights of a block."""
        return self.runs * self.words * self.step_words

    @property
    def block_words(self) -> int:
        """Words of weights and constants of a block."""
        constants = self.scaling.words if self.scaling is not None else 0
        return self.weights + self.channels * constants

    @property
    def x_span(self) -> int:
        last = (self.pixels - 1) * self.pixel_stride + (self.runs - 1) * self.run_stride
        return (self.turns - 1) * self.x_turn + last + self.length

    @property
    def y_span(self) -> int:
        channels = self.blocks * self.channels
        first = (self.turns - 1) * self.y_turn
        return first + (self.pixels - 1) * self.y_pixel + (channels - 1) * self.y_channel + 1

    @property
    def result(self) -> DType:
        if self.scaling is not None:
            return DType.I16
        return DType.I64 if self.long else DType.I32

    @property
    def name(self) -> str:
        kind = "gemm16l" if self.long else "gemm16"
        return asm.name_of(f"{kind}_{self.channels}x{self.pixels}", self)

    def instruction(self) -> Instruction:
        return Instruction(
            self.name, meaning(self), asm=tuple(_Writer(self).lines()), needs=asm.NEEDS,
            note=repr(self),
        )  # fmt: skip


def most_pixels(pixel_stride: int) -> int:
    """Pixels that a block may have."""
    return min(4, _MOST_REACH // max(2 * pixel_stride, 1) + 1)


def pack(w: Array, constants: Array | None, channels: int, narrow: bool) -> Array:
    """What `Gemm16` reads, i32: weights [blocks * channels, runs, length] (i8) and what scales
    their sums (i32 [blocks * channels, words])."""
    blocks, length = w.shape[0] // channels, w.shape[2]
    steps = np.pad(w, ((0, 0), (0, 0), (0, length % 2))).reshape(blocks, channels, -1, 2)
    if narrow:
        pairs = steps.reshape(blocks, channels // 2, 2, -1, 2)
        ordered = pairs.transpose(
            0, 3, 1, 4, 2
        )  # bytes: both channels of an element, then the next
    else:
        ordered = steps.transpose(0, 2, 1, 3).astype(np.int16)
    words = np.ascontiguousarray(ordered).reshape(blocks, -1).view(np.int32)
    if constants is not None:
        words = np.concatenate([words, constants.reshape(blocks, -1)], axis=1)
    return np.ascontiguousarray(words).reshape(-1)


def meaning(g: Gemm16) -> ir.Func:
    """`g` as loops. y is "inout" because elements between those that are written stay."""
    t, b, n, p, r, k = (ir.Var(v) for v in "tbnprk")
    kind = DType.I64 if g.long else DType.I32
    place = ir.add(ir.add(_times(t, g.x_turn), _times(p, g.pixel_stride)), k)
    x = ir.Cast(DType.I32, ir.Load("x", (ir.add(place, _times(r, g.run_stride)),)))
    product = ir.cast(kind, ir.Bin("*", x, _weight(g, b, n, r, k)), DType.I32)
    update = ir.Store("acc", (), ir.Bin("+", ir.Load("acc", ()), product))
    pixel = ir.add(_times(t, g.y_turn), _times(p, g.y_pixel))
    at = ir.add(pixel, _times(ir.add(_times(b, g.channels), n), g.y_channel))
    body = (
        ir.Alloc("acc", kind, ()),
        ir.Store("acc", (), ir.const(0, kind)),
        *nest((r, k), (g.runs, g.length), (update,)),
        ir.Store("y", (at,), _result(g, b, n)),
    )
    params = (
        ir.Param("w", DType.I32, (g.blocks * g.block_words,), "const"),
        ir.Param("x", DType.I16, (g.x_span,), "in"),
        ir.Param("y", g.result, (g.y_span,), "inout"),
    )
    loops = nest((t, b, n, p), (g.turns, g.blocks, g.channels, g.pixels), body)
    return ir.Func(g.name, params, loops)


def _weight(g: Gemm16, b: ir.Expr, n: ir.Expr, r: ir.Expr, k: ir.Expr) -> ir.Expr:
    """The weight as i32: a byte or a half of its word, with its sign."""
    step = ir.add(_times(r, g.words), ir.Bin("/", k, ir.i32(2)))
    own = ir.Bin("/", n, ir.i32(2)) if g.narrow else n
    at = ir.add(ir.add(_times(b, g.block_words), _times(step, g.step_words)), own)
    shift = _times(ir.Bin("%", k, ir.i32(2)), 16)
    if g.narrow:
        shift = ir.add(shift, _times(ir.Bin("%", n, ir.i32(2)), 8))
    moved = ir.Bin(">>", ir.Load("w", (at,)), shift)
    top = 1 << (7 if g.narrow else 15)
    low = ir.Bin("^", ir.Bin("&", moved, ir.i32(2 * top - 1)), ir.i32(top))
    return ir.Bin("-", low, ir.i32(top))


def _result(g: Gemm16, b: ir.Expr, n: ir.Expr) -> ir.Expr:
    acc = ir.Load("acc", ())
    if g.scaling is None:
        return acc
    base = ir.add(_times(b, g.block_words), ir.i32(g.weights))
    first = ir.add(base, _times(n, g.scaling.words))
    q = [ir.Load("w", (ir.add(first, ir.i32(i)),)) for i in range(g.scaling.words)]
    return g.scaling.value(acc, q)


def _times(e: ir.Expr, n: int) -> ir.Expr:
    return ir.mul(e, ir.i32(n))


_Step = tuple[int, bool]  # bytes from x; whether a whole word is there


class _Writer:
    """The assembler of a `Gemm16`: r0 is w, r1 is x, the rest waits on the stack."""

    SLOTS = ("w_end", "x_end", "run_end", "turns_end", "y")

    def __init__(self, g: Gemm16) -> None:
        self.g = g
        count = g.channels * g.pixels
        step = 2 if g.long else 1
        self.sums = _SUMS[: step * count : step]  # [channel * pixels + pixel], the lower words
        self.tops = _SUMS[1 : step * count : step] if g.long else ()
        self.free = (*_SUMS[step * count :], *_FREE)

    def slot(self, name: str) -> str:
        return asm.at("sp", 4 * self.SLOTS.index(name))

    def lines(self) -> list[str]:
        g = self.g
        frame = 4 * len(self.SLOTS)
        out = [f"sub sp, #{frame}", f"str r2, {self.slot('y')}"]
        if g.blocks > 1:
            out += [*asm.add("r12", "r0", 4 * g.blocks * g.block_words, "r12")]
            out += [f"str r12, {self.slot('w_end')}"]
        if g.turns > 1:
            out += asm.add("r12", "r1", 2 * g.turns * g.x_turn, "r12")
            out += [f"str r12, {self.slot('turns_end')}", "4:"]
        out += ["3:"] if g.blocks > 1 else []
        out += [*self.products(), *self.finish()]
        if g.blocks > 1:
            out += [f"ldr r12, {self.slot('w_end')}", "cmp r0, r12", "bne 3b"]
        if g.turns > 1:
            out += self.next_turn()
        return [*out, f"add sp, #{frame}"]

    def next_turn(self) -> list[str]:
        """The first block again, for the next pixels."""
        g = self.g
        moved = g.blocks * g.channels * g.y_channel if g.blocks > 1 else 0
        out = [f"ldr lr, {self.slot('y')}"]
        out += asm.add("lr", "lr", g.result.size * (g.y_turn - moved), "r12")
        out += [f"str lr, {self.slot('y')}"]
        out += asm.add("r0", "r0", -4 * g.blocks * g.block_words, "r12")
        out += asm.add("r1", "r1", 2 * g.x_turn, "r12")
        return [*out, f"ldr r12, {self.slot('turns_end')}", "cmp r1, r12", "bne 4b"]

    def run_steps(self, words: range) -> list[_Step]:
        return [(4 * (k - words.start), 2 * k + 1 < self.g.length) for k in words]

    def products(self) -> list[str]:
        """The loops over runs and words; x is where it was afterwards, w behind what was read."""
        g = self.g
        zero = [f"mov {a}, #0" for a in (*self.sums, *self.tops)]
        if g.runs * g.words <= g.straight:
            one = self.run_steps(range(g.words))
            steps = [(r * 2 * g.run_stride + x, w) for r in range(g.runs) for x, w in one]
            return (zero if g.long else []) + self.straight(steps, 0, first=not g.long)
        if g.runs == 1:
            return zero + self.run(0)
        end = g.runs * 2 * g.run_stride
        out = [*zero, *asm.add("r12", "r1", end, "r12"), f"str r12, {self.slot('x_end')}", "2:"]
        out += self.run(2 * g.run_stride)
        out += [f"ldr r12, {self.slot('x_end')}", "cmp r1, r12", "bne 2b"]
        return out + asm.add("r1", "r1", -end, "r12")

    def run(self, next_x: int) -> list[str]:
        """One run; x ends `next_x` bytes further than it started."""
        g = self.g
        if g.words <= g.straight:
            return self.straight(self.run_steps(range(g.words)), next_x)
        pairs = g.length // 2
        unroll = _unroll(pairs, g.straight)
        whole = pairs // unroll * unroll
        out = [*asm.add("r12", "r1", 4 * whole, "r12"), f"str r12, {self.slot('run_end')}"]
        out += ["1:", *self.straight(self.run_steps(range(unroll)), 4 * unroll)]
        out += [f"ldr r12, {self.slot('run_end')}", "cmp r1, r12", "bne 1b"]
        return out + self.straight(self.run_steps(range(whole, g.words)), next_x - 4 * whole)

    def straight(self, steps: list[_Step], back: int, first: bool = False) -> list[str]:
        """`steps` written out; x ends `back` bytes from where it was."""
        g = self.g
        out: list[str] = []
        x, w = 0, 0  # how far the registers have moved
        size = 4 * g.step_words
        reach = 2 * (g.pixels - 1) * g.pixel_stride
        for i, (place, whole) in enumerate(steps):
            if place + reach - x > 4095:
                out += asm.add("r1", "r1", place - x, "r12")
                x = place
            if size * (i + 1) - w > 4095:
                out += asm.add("r0", "r0", size * i - w, "r12")
                w = size * i
            op = "ldr" if whole else "ldrsh"
            out += self.step(op, place - x, size * i - w, first and i == 0)
        out += asm.add("r0", "r0", size * len(steps) - w, "r12")
        return out + asm.add("r1", "r1", back - x, "r12")

    def step(self, op: str, x: int, w: int, first: bool) -> list[str]:
        """One word of each pixel times those of each channel; the `first` sets the sums."""
        g = self.g
        places = [asm.at("r1", x + 2 * p * g.pixel_stride) for p in range(g.pixels)]
        xs, rest = self.free[: g.pixels], self.free[g.pixels :]
        words = rest[1:] if g.narrow else rest  # `split` needs one to take bytes apart
        if not words:
            return self.step_by_pixels(op, places, w, first)
        out = [f"{op} {r}, {at}" for r, at in zip(xs, places, strict=True)]
        room = 2 * len(words) if g.narrow else len(words)
        for start in range(0, g.channels, room):
            loads, made = self.split(range(start, min(start + room, g.channels)), rest, w)
            out += loads
            for prepare, channel, r in made:
                out += [*prepare, *self.products_of(channel, 0, xs, r, first)]
        return out

    def step_by_pixels(self, op: str, places: list[str], w: int, first: bool) -> list[str]:
        """The same for up to two channels with two registers for pixels at a time."""
        xs = self.free[2:]
        out, made = self.split(range(self.g.channels), self.free[:2], w)
        for start in range(0, len(places), len(xs)):
            some = list(zip(xs, places[start:], strict=False))
            out += [f"{op} {r}, {at}" for r, at in some]
            if start == 0:
                out += [line for prepare, _, _ in made for line in prepare]
            for _, channel, r in made:
                out += self.products_of(channel, start, [x for x, _ in some], r, first)
        return out

    def split(
        self, channels: range, registers: Sequence[str], w: int
    ) -> tuple[list[str], list[tuple[list[str], int, str]]]:
        """Loads of weights, then for each channel what takes them apart, and where they are."""
        first = 4 * (channels.start // 2 if self.g.narrow else channels.start)
        if not self.g.narrow:
            own = list(zip(channels, registers, strict=False))
            loads = [f"ldr {r}, {asm.at('r0', w + first + 4 * i)}" for i, (_, r) in enumerate(own)]
            return loads, [([], channel, r) for channel, r in own]
        spare, *words = registers
        loads, made = [], []
        for i, (channel, r) in enumerate(zip(channels[::2], words, strict=False)):
            loads.append(f"ldr {r}, {asm.at('r0', w + first + 4 * i)}")
            made.append(([f"sxtb16 {spare}, {r}"], channel, spare))
            made.append(([f"sxtb16 {r}, {r}, ror #8"], channel + 1, r))
        return loads, made

    def products_of(
        self, channel: int, pixel: int, xs: Sequence[str], w: str, first: bool
    ) -> list[str]:
        """Words of pixels from `pixel` on times one of weights, to the sums of `channel`."""
        start = channel * self.g.pixels + pixel
        if self.tops:
            sums = zip(self.sums[start:], self.tops[start:], xs, strict=False)
            return [f"smlald {low}, {top}, {x}, {w}" for low, top, x in sums]
        if first:
            return [f"smuad {a}, {x}, {w}" for a, x in zip(self.sums[start:], xs, strict=False)]
        return [f"smlad {a}, {x}, {w}, {a}" for a, x in zip(self.sums[start:], xs, strict=False)]

    def finish(self) -> list[str]:
        """Sums to results, results to y; r0 and y move to the next block."""
        g = self.g
        out: list[str] = []
        if g.scaling is not None:
            for n in range(g.channels):
                own = self.sums[n * g.pixels : (n + 1) * g.pixels]
                out += g.scaling.lines(own, "r0", _FREE)
        spare, y = "r10", "lr"
        out.append(f"ldr {y}, {self.slot('y')}")
        op, size = ("strh" if g.scaling else "str"), g.result.size
        for n in range(g.channels):
            for p in range(g.pixels):
                at = size * (n * g.y_channel + p * g.y_pixel)
                i = n * g.pixels + p
                out += asm.store(op, self.sums[i], y, at, spare)
                if self.tops:
                    out += asm.store(op, self.tops[i], y, at + 4, spare)
        if g.blocks > 1:
            out += asm.add(y, y, size * g.channels * g.y_channel, spare)
            out.append(f"str {y}, {self.slot('y')}")
        return out


def _unroll(length: int, most: int) -> int:
    """Words per turn of the loop over `length`: few turns, and little left over."""
    return min(range(max(most // 2, 1), most + 1), key=lambda u: (length // u + length % u, u))
