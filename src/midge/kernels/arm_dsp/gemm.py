"""The micro-kernel of convolutions and fully connected layers: blocks of channels x pixels.

It multiplies int8 weights with activations widened to int16, two products per `smlad`. Weights of
two channels share a halfword, 256 * upper + lower: as it is it gives H = 256 * U + L, after
`sxtb16` the sum L alone, so that one `sxtb16` serves both channels and U = (H - L) / 256 is exact
(all sums are modulo 2^32). 16 multiply-accumulates take 14 instructions on a Cortex-M4: 16 cycles
in a block of 2 channels x 4 pixels, 15 in one of 4 x 2, whose words are loaded together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from midge.core.sums import magnitudes
from midge.core.types import Array, DType
from midge.kernels.arm import assembler as asm
from midge.kernels.arm_dsp import halves
from midge.kernels.arm_dsp.scaling import Scaling
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.lower import nest

_ACCUMULATORS = tuple(f"r{i}" for i in range(2, 10))
_FREE = ("r10", "r11", "r12", "lr")
_MOST_STRAIGHT = 32  # steps that are written out without a loop
_FAR = 4095 // 2  # elements that the offset of a load reaches


@dataclass(frozen=True, slots=True)
class Gemm:
    """Sums of x[p * pixel_stride + r * run_stride + 2 k + h] * w[c, r, k, h] over r, k and h < 2

    for `blocks` blocks of `pairs` pairs of channels, one after the other, and `pixels` pixels.
    single: single channels instead of pairs, with weights of their own (a last odd channel).

    x is i16: `runs` runs of `length` words (two elements each). Strides count elements of x and y.
    scaling: y is i8, scaled by what stands behind the weights of each block; None: y is i32, the
    sums.  turns: all this for so many places, `x_turn` and `y_turn` elements apart.
    straight: steps written out at most.  apart: the weights of a block's pairs stand one behind the
    other, each with what scales its sums, as those of blocks of one pair do.
    """

    pairs: int
    pixels: int
    pixel_stride: int
    runs: int
    run_stride: int
    length: int
    blocks: int
    y_pixel: int
    y_channel: int
    scaling: Scaling | None
    single: bool = False
    straight: int = _MOST_STRAIGHT
    turns: int = 1
    x_turn: int = 0
    y_turn: int = 0
    apart: bool = False

    def __post_init__(self) -> None:
        assert 2 * self.pairs * self.pixels <= len(_ACCUMULATORS), "accumulators do not fit"
        assert not self.apart or 4 * self.w_pair * (self.pairs - 1) <= 4095, (
            "pairs are too far apart"
        )

    @property
    def channels(self) -> int:
        """Of one block."""
        return self.pairs * self.width

    @property
    def width(self) -> int:
        """Channels that share a word of weights."""
        return 1 if self.single else 2

    @property
    def steps(self) -> int:
        return self.runs * self.length

    @property
    def x_span(self) -> int:
        last = (self.pixels - 1) * self.pixel_stride + (self.runs - 1) * self.run_stride
        return (self.turns - 1) * self.x_turn + last + 2 * self.length

    @property
    def w_step(self) -> int:
        """Words of weights from step to step."""
        return 1 if self.apart else self.pairs

    @property
    def w_pair(self) -> int:
        """Words from a pair to the next one of its block."""
        return self.block_words // self.pairs if self.apart else 1

    @property
    def block_words(self) -> int:
        """Words of weights and constants of a block."""
        scaling = self.scaling.words if self.scaling is not None else 0
        return self.steps * self.pairs + self.channels * scaling

    @property
    def y_span(self) -> int:
        channels = self.blocks * self.channels
        first = (self.turns - 1) * self.y_turn
        return first + (self.pixels - 1) * self.y_pixel + (channels - 1) * self.y_channel + 1

    @property
    def name(self) -> str:
        block = f"{self.channels}{'of1' if self.single else ''}x{self.pixels}"
        return asm.name_of(f"gemm_{block}", self)

    def instruction(self) -> Instruction:
        return Instruction(
            self.name,
            meaning(self),
            asm=tuple(_Writer(self).lines()),
            needs=asm.NEEDS,
            note=repr(self),
        )


def pack_single(w: Array) -> Array:
    """Weights [1, steps, 2] (i8) of a single channel: i16 [steps * 2]."""
    return w.astype(np.int16).reshape(-1)


def pack(w: Array, pairs: int) -> Array:
    """Weights [channels, steps, 2] (i8) as the micro-kernel reads them: i16 [blocks * steps *
    pairs * 2], each the two channels of a pair. channels is a multiple of 2 * pairs."""
    channels, steps, _ = w.shape
    blocks = w.astype(np.int16).reshape(channels // (2 * pairs), pairs, 2, steps, 2)
    packed = blocks[:, :, 1] * 256 + blocks[:, :, 0]  # [blocks, pairs, steps, 2]
    return np.ascontiguousarray(packed.transpose(0, 2, 1, 3)).reshape(-1)


def stream(w: Array, constants: Array | None, blocks: int) -> Array:
    """What `Gemm` reads, i32: the words of packed weights of each block, then what scales its sums
    (i32 [channels, words])."""
    words = np.ascontiguousarray(w).view(np.int32).reshape(blocks, -1)
    if constants is not None:
        words = np.concatenate([words, constants.reshape(blocks, -1)], axis=1)
    return np.ascontiguousarray(words).reshape(-1)


def most_pixels(stride: int) -> int:
    """Pixels of a block that one register reaches, `stride` elements apart."""
    return next(n for n in (4, 3, 2, 1) if (n - 1) * stride <= _FAR)


def packable(w: Array, exact_shift: bool) -> bool:
    """Whether weights [channels, ...] (i8) can share halfwords, and their sums (of int8 values)
    can be told apart; exact_shift: 256 times the upper sum is all that is needed of it."""
    sums = 128 * magnitudes(w, tuple(range(1, w.ndim)))
    return bool((w > -128).all() and (exact_shift or sums.max(initial=0) < 1 << 23))


def lower_weight(w: ir.Expr) -> ir.Expr:
    """The first channel's weight of a halfword (i32)."""
    low = ir.Bin("&", ir.Bin("+", w, ir.i32(128)), ir.i32(255))
    return ir.Bin("-", low, ir.i32(128))


def upper_weight(w: ir.Expr) -> ir.Expr:
    return ir.Bin(">>", ir.Bin("-", w, lower_weight(w)), ir.i32(8))


def params(g: Gemm) -> tuple[ir.Param, ...]:
    kind = DType.I32 if g.scaling is None else DType.I8
    return (
        ir.Param("w", DType.I32, (g.blocks * g.block_words,), "const"),
        ir.Param("x", DType.I16, (g.x_span,), "in"),
        ir.Param("y", kind, (g.y_span,), "inout"),
    )


def meaning(g: Gemm) -> ir.Func:
    """`g` as loops. y is "inout" because elements between those that are written stay."""
    t, b, n, p = (ir.Var(v) for v in "tbnp")
    body: list[ir.Stmt] = []
    weights = (_as_it_is,) if g.single else (lower_weight, upper_weight)
    for which, weight in enumerate(weights):
        acc = f"acc{which}"
        body += [
            ir.Alloc(acc, DType.I32, ()),
            ir.Store(acc, (), ir.i32(0)),
            *_sum(g, acc, weight, which),
        ]
    for which in range(g.width):
        own = ir.add(_times(n, g.width), ir.i32(which))
        channel = ir.add(_times(b, g.channels), own)
        pixel = ir.add(_times(t, g.y_turn), _times(p, g.y_pixel))
        at = ir.add(pixel, _times(channel, g.y_channel))
        scaled = ir.i32(which) if g.apart else own
        body.append(ir.Store("y", (at,), _result(g, ir.Load(f"acc{which}", ()), scaled)))
    loops = nest((t, b, n, p), (g.turns, g.blocks, g.pairs, g.pixels), tuple(body))
    return ir.Func(g.name, params(g), loops)


def _as_it_is(w: ir.Expr) -> ir.Expr:
    return w


def _sum(g: Gemm, acc: str, weight: Callable[[ir.Expr], ir.Expr], which: int) -> ir.Block:
    t, b, n, p = (ir.Var(v) for v in "tbnp")
    r, k, h = (ir.Var(f"{v}{which}") for v in "rkh")
    place = ir.add(_times(t, g.x_turn), _times(p, g.pixel_stride))
    at = ir.add(place, ir.add(_times(r, g.run_stride), ir.add(_times(k, 2), h)))
    x = ir.Cast(DType.I32, ir.Load("x", (at,)))
    step = ir.add(_times(r, g.length), k)
    place = ir.total([_times(b, g.block_words), _times(step, g.w_step), _times(n, g.w_pair)])
    word = ir.Load("w", (place,))
    half = ir.Select(ir.Bin("==", h, ir.i32(0)), halves.low(word), halves.high(word))
    update = ir.Bin("+", ir.Load(acc, ()), ir.Bin("*", x, weight(half)))
    return nest((r, k, h), (g.runs, g.length, 2), (ir.Store(acc, (), update),))


def _result(g: Gemm, acc: ir.Expr, channel: ir.Expr) -> ir.Expr:
    if g.scaling is None:
        return acc
    base = ir.add(_times(ir.Var("b"), g.block_words), ir.i32(g.steps * g.w_step))
    if g.apart:
        base = ir.add(base, _times(ir.Var("n"), g.w_pair))
    first = ir.add(base, _times(channel, g.scaling.words))
    q = [ir.Load("w", (ir.add(first, ir.i32(i)),)) for i in range(g.scaling.words)]
    return g.scaling.value(acc, q)


def _times(e: ir.Expr, n: int) -> ir.Expr:
    return ir.mul(e, ir.i32(n))


class _Writer:
    """The assembler of a `Gemm`: r0 is w, r1 is x, the rest waits on the stack."""

    def __init__(self, g: Gemm) -> None:
        self.g = g
        count = g.pairs * g.pixels
        self.lower = _ACCUMULATORS[:count]  # [pair * pixels + pixel]
        self.upper = () if g.single else _ACCUMULATORS[count : 2 * count]
        self.free = (*_ACCUMULATORS[count + len(self.upper) :], *_FREE)

    SLOTS = ("w_end", "x_end", "run_end", "turns_end", "y")

    def slot(self, name: str) -> str:
        return asm.at("sp", 4 * self.SLOTS.index(name))

    def lines(self) -> list[str]:
        g = self.g
        frame = 4 * len(self.SLOTS)
        size = 4 * g.blocks * g.block_words
        out = [f"sub sp, #{frame}", f"str r2, {self.slot('y')}"]
        if g.blocks > 1:
            out += [*asm.add("r12", "r0", size, "r12"), f"str r12, {self.slot('w_end')}"]
        if g.turns > 1:
            out += asm.add("r12", "r1", 2 * g.turns * g.x_turn, "r12")
            out += [f"str r12, {self.slot('turns_end')}", "4:"]
        out += ["3:"] if g.blocks > 1 else []
        out += [*self.sums(), *self.finish()]
        if g.blocks > 1:
            out += [f"ldr r12, {self.slot('w_end')}", "cmp r0, r12", "bne 3b"]
        if g.turns > 1:
            out += self.next_turn(size)
        return [*out, f"add sp, #{frame}"]

    def next_turn(self, size: int) -> list[str]:
        """The first block again, for the next pixels; size: bytes of all blocks."""
        g = self.g
        bytes_ = 1 if g.scaling else 4
        moved = g.blocks * g.channels * g.y_channel if g.blocks > 1 else 0
        out = [f"ldr lr, {self.slot('y')}"]
        out += asm.add("lr", "lr", bytes_ * (g.y_turn - moved), "r12")
        out.append(f"str lr, {self.slot('y')}")
        out += [*asm.add("r0", "r0", -size, "r12"), *asm.add("r1", "r1", 2 * g.x_turn, "r12")]
        return [*out, f"ldr r12, {self.slot('turns_end')}", "cmp r1, r12", "bne 4b"]

    def sums(self) -> list[str]:
        """The loops over runs and steps; x is where it was afterwards, w behind what was read."""
        g = self.g
        if g.steps <= g.straight:
            places = [
                (r * 2 * g.run_stride + 4 * k) for r in range(g.runs) for k in range(g.length)
            ]
            return self.straight(places, back=0, first=True)
        out = [f"mov {a}, #0" for a in (*self.lower, *self.upper)]
        if g.runs > 1:
            end = g.runs * 2 * g.run_stride
            out += [*asm.add("r12", "r1", end, "r12"), f"str r12, {self.slot('x_end')}", "2:"]
        out += self.run(next_x=2 * g.run_stride if g.runs > 1 else 0)
        if g.runs > 1:
            out += [f"ldr r12, {self.slot('x_end')}", "cmp r1, r12", "bne 2b"]
            out += asm.add("r1", "r1", -end, "r12")
        return out

    def run(self, next_x: int) -> list[str]:
        """One run; x ends `next_x` bytes further than it started."""
        g = self.g
        if g.length <= g.straight:
            return self.straight([4 * k for k in range(g.length)], back=next_x)
        unroll = _unroll(g.length, g.straight)
        whole = g.length // unroll
        out = [*asm.add("r12", "r1", 4 * unroll * whole, "r12"), f"str r12, {self.slot('run_end')}"]
        out += ["1:", *self.straight([4 * k for k in range(unroll)], back=4 * unroll)]
        out += [f"ldr r12, {self.slot('run_end')}", "cmp r1, r12", "bne 1b"]
        rest = [4 * k for k in range(g.length - unroll * whole)]
        return out + self.straight(rest, back=next_x - 4 * unroll * whole)

    def straight(self, places: list[int], back: int, first: bool = False) -> list[str]:
        """Steps at `places` (bytes of x) written out; x ends `back` bytes from where it was."""
        g = self.g
        out: list[str] = []
        x, w = 0, 0  # how far the registers have moved
        reach = 2 * (g.pixels - 1) * g.pixel_stride
        for i, place in enumerate(places):
            if place + reach - x > 4095:
                out += asm.add("r1", "r1", place - x, "r12")
                x = place
            if 4 * (g.w_step * i + g.w_pair * (g.pairs - 1)) - w > 4095:
                out += asm.add("r0", "r0", 4 * g.w_step * i - w, "r12")
                w = 4 * g.w_step * i
            out += self.step(place - x, 4 * g.w_step * i - w, first and i == 0)
        out += asm.add("r0", "r0", 4 * g.w_step * len(places) - w, "r12")
        return out + asm.add("r1", "r1", back - x, "r12")

    def step(self, x: int, w: int, first: bool) -> list[str]:
        """One word of each pixel times one of each pair; the `first` sets the sums."""
        g = self.g
        offsets = [x + 2 * p * g.pixel_stride for p in range(g.pixels)]
        xs, ws = self.free[: g.pixels], self.free[g.pixels :]
        if not ws:
            return self.step_by_halves(offsets, w, first)
        out = [f"ldr {r}, {asm.at('r1', o)}" for r, o in zip(xs, offsets, strict=True)]
        for start in range(0, g.pairs, len(ws)):
            some = list(zip(range(start, g.pairs), ws, strict=False))
            out += [f"ldr {r}, {asm.at('r0', w + 4 * n * g.w_pair)}" for n, r in some]
            for n, r in some:
                span = slice(n * g.pixels, (n + 1) * g.pixels)
                out += [_mac(a, b, r, first) for a, b in zip(self.upper[span], xs, strict=False)]
                out += [] if g.single else [f"sxtb16 {r}, {r}"]
                out += [_mac(a, b, r, first) for a, b in zip(self.lower[span], xs, strict=True)]
        return out

    def step_by_halves(self, offsets: list[int], w: int, first: bool) -> list[str]:
        """The same for one pair with two registers for pixels at a time."""
        xa, xb, low, both = self.free
        out = [f"ldr {both}, {asm.at('r0', w)}"]
        for p in range(0, self.g.pixels, 2):
            xs = (xa, xb)[: self.g.pixels - p]
            out += [f"ldr {r}, {asm.at('r1', o)}" for r, o in zip(xs, offsets[p:], strict=False)]
            if p == 0:
                out.append(f"sxtb16 {low}, {both}")
            for r, (i, j) in zip(
                xs, zip(self.upper[p:], self.lower[p:], strict=True), strict=False
            ):
                out += [_mac(i, r, both, first), _mac(j, r, low, first)]
        return out

    def finish(self) -> list[str]:
        """Sums to results, results to y; r0 and y move to the next block."""
        g = self.g
        offset, multiplier, _, y = _FREE
        out: list[str] = []
        for n in range(g.pairs):
            span = slice(n * g.pixels, (n + 1) * g.pixels)
            lower, upper = self.lower[span], self.upper[span]
            out += asm.add("r0", "r0", 4 * g.steps, offset) if g.apart and n else []
            out += [f"sub {b}, {b}, {a}" for a, b in zip(lower, upper, strict=False)]
            if g.scaling is None:
                out += [f"asr {b}, {b}, #8" for b in upper]
                continue
            for registers, times in ((lower, 0), (upper, 8)):
                if registers:
                    out += g.scaling.lines(registers, times, "r0", (offset, multiplier))
        out.append(f"ldr {y}, {self.slot('y')}")
        op, size = ("strb", 1) if g.scaling else ("str", 4)
        for n in range(g.pairs):
            for which, registers in enumerate((self.lower, self.upper)[: g.width]):
                for p in range(g.pixels):
                    at = size * ((g.width * n + which) * g.y_channel + p * g.y_pixel)
                    out += asm.store(op, registers[n * g.pixels + p], y, at, offset)
        if g.blocks > 1:
            out += asm.add(y, y, size * g.channels * g.y_channel, offset)
            out.append(f"str {y}, {self.slot('y')}")
        return out


def _mac(acc: str, x: str, w: str, first: bool) -> str:
    return f"smuad {acc}, {x}, {w}" if first else f"smlad {acc}, {x}, {w}, {acc}"


def _unroll(length: int, most: int) -> int:
    """Steps per turn of the loop over `length`: few turns, and little left over."""
    return min(range(max(most // 2, 1), most + 1), key=lambda u: (length // u + length % u, u))
