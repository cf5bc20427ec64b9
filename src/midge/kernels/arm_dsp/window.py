"""The micro-kernel of pooling: sums or maxima of pixels, four channels to a word.

A word of four int8 channels is added as it is: `sxtab16` adds two of them to a register of two
16-bit sums, which hold 256 elements. The greater of each of four is one `ssub8` and one `sel`.
Up to four words stay in registers: a channel of a pixel takes a cycle on a Cortex-M4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from midge.core.types import DType
from midge.kernels.arm import assembler as asm
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.lower import nest

MOST_TAPS = 256  # whose sum 16 bits hold
_WORDS = 4  # of a block of channels
_STRAIGHT = 48  # loads that are written out without a loop
_PER_TURN = 4  # pixels, in a loop over them
_FAR = 4095  # the greatest offset of a load


@dataclass(frozen=True, slots=True)
class Window:
    """y[p * channels + c] = sum or maximum over i < rows, j < columns of
    x[p * advance + i * pitch + j * step + c], for `pixels` windows of `channels` channels.

    pointers: x is an array of pointers to rows instead, of which element (i, first + p * advance +
    j * step + c) is read.  Sums are i32, of at most 256 elements; maxima i8.
    """

    kind: Literal["sum", "max"]
    rows: int
    columns: int
    pitch: int
    step: int
    channels: int
    pixels: int = 1
    advance: int = 0
    pointers: bool = False
    first: int = 0

    def __post_init__(self) -> None:
        assert self.channels >= 4, "less than a word"
        assert self.kind == "max" or self.rows * self.columns <= MOST_TAPS, "sums do not fit"

    @property
    def name(self) -> str:
        window = f"{self.rows}x{self.columns}p{self.pitch}s{self.step}"
        rows = f"_rows{self.first}" if self.pointers else ""
        return f"{self.kind}_{window}_c{self.channels}_n{self.pixels}a{self.advance}{rows}"

    @property
    def size(self) -> int:
        """Elements from the first to the last that is read, or that of each row."""
        taps = (self.columns - 1) * self.step
        taps += self.first if self.pointers else (self.rows - 1) * self.pitch
        return (self.pixels - 1) * self.advance + taps + self.channels

    def instruction(self) -> Instruction:
        return Instruction(
            self.name, meaning(self), asm=tuple(_Writer(self).lines()), needs=asm.NEEDS
        )


def meaning(w: Window) -> ir.Func:
    p, c, i, j = map(ir.Var, "pcij")
    terms = [(i, w.pitch), (j, w.step), (c, 1)][w.pointers :]
    terms = [(p, w.advance), *terms] if w.pixels > 1 else terms
    at = ir.total([ir.mul(e, ir.i32(n)) for e, n in terms])
    place = (i, ir.add(at, ir.i32(w.first))) if w.pointers else (at,)
    x: ir.Expr = ir.Cast(DType.I32, ir.Load("x", place))
    acc = ir.Load("acc", ())
    start, out, value = 0, DType.I32, ir.Bin("+", acc, x)
    if w.kind == "max":
        start, out, value = -128, DType.I8, ir.Bin("max", acc, x)
    pixel = ir.mul(p, ir.i32(w.channels)) if w.pixels > 1 else ir.i32(0)
    body: ir.Block = (
        ir.Alloc("acc", DType.I32, ()),
        ir.Store("acc", (), ir.i32(start)),
        *nest((i, j), (w.rows, w.columns), (ir.Store("acc", (), value),)),
        ir.Store("y", (ir.add(pixel, c),), ir.cast(out, acc, DType.I32)),
    )
    body = nest((c,), (w.channels,), body)
    params = (
        ir.Param(
            "x", DType.I8, (w.rows, w.size) if w.pointers else (w.size,), "in", int(w.pointers)
        ),
        ir.Param("y", out, (w.pixels * w.channels,), "out"),
    )
    return ir.Func(w.name, params, nest((p,), (w.pixels,), body) if w.pixels > 1 else body)


class _Writer:
    """The assembler of a `Window`: r0 is x, or where in its rows, r1 is y; both move on channel by
    channel."""

    _SUMS = tuple(f"r{i}" for i in range(2, 10))
    _LOADED, _AT, _END = ("r10", "r11"), "r12", "lr"
    _SLOTS = ("row", "channels", "pixel", "table")

    def __init__(self, w: Window) -> None:
        self.w = w
        self.size = 4 if w.kind == "sum" else 1  # bytes of an element of y

    def slot(self, name: str) -> str:
        return asm.at("sp", 4 * self._SLOTS.index(name))

    def lines(self) -> list[str]:
        w = self.w
        frame = 16 if w.pointers else 12
        out = [f"sub sp, #{frame}"]
        if w.pointers:
            out += [f"str r0, {self.slot('table')}", *asm.constant("r0", w.first)]
        if w.pixels > 1:
            out += [*asm.constant("r2", w.pixels), f"str r2, {self.slot('pixel')}", "3:"]
        out += self.pixel()
        if w.pixels > 1:
            out += asm.add("r0", "r0", w.advance - w.channels, "r12")
            out += [f"ldr r2, {self.slot('pixel')}", "subs r2, #1", f"str r2, {self.slot('pixel')}"]
            out += ["bne 3b"]
        return [*out, f"add sp, #{frame}"]

    def pixel(self) -> list[str]:
        """All channels of a window; r0 and r1 end behind the last of them."""
        block = 4 * _WORDS
        turns, rest = divmod(self.w.channels, block)
        out: list[str] = []
        if turns > 1:
            out += [*asm.add("r2", "r0", block * turns, "r3"), f"str r2, {self.slot('channels')}"]
            out += ["2:"]
        if turns:
            out += [*self.block(range(0, block, 4)), *self.moved(block)]
        if turns > 1:
            out += [f"ldr r2, {self.slot('channels')}", "cmp r0, r2", "bne 2b"]
        if rest >= 4:
            # The last word may hold channels of the one before it once more.
            words = dict.fromkeys([*range(0, rest - 3, 4), rest - 4])
            out += [*self.block(tuple(words)), *self.moved(rest)]
        elif rest:
            out += [*self.moved(rest - 4), *self.block((0,)), *self.moved(4)]
        return out

    def moved(self, channels: int) -> list[str]:
        return [
            *asm.add("r0", "r0", channels, "r2"), *asm.add("r1", "r1", channels * self.size, "r2")
        ]  # fmt: skip

    def block(self, words: Sequence[int]) -> list[str]:
        """The window of the words at channels `words` behind r0."""
        w = self.w
        if w.pointers:
            return [*self.taps_of_rows(words), *self.stored(words)]
        far = (w.rows - 1) * w.pitch + (w.columns - 1) * w.step + words[-1]
        if w.rows * w.columns * len(words) <= _STRAIGHT and far <= _FAR:
            places = [i * w.pitch + j * w.step for i in range(w.rows) for j in range(w.columns)]
            taps = [line for at in places for line in self.tap("r0", at, words)]
        elif w.rows == 1 or w.pitch == w.columns * w.step:
            taps = [f"mov {self._AT}, r0", *self.run(w.rows * w.columns, words)]
        else:
            row = self.slot("row")
            taps = [f"mov {self._AT}, r0", *asm.constant("lr", w.rows), f"str lr, {row}", "4:"]
            taps += self.run(w.columns, words)
            taps += asm.add(self._AT, self._AT, w.pitch - w.columns * w.step, "lr")
            taps += [f"ldr lr, {row}", "subs lr, #1", f"str lr, {row}", "bne 4b"]
        return [*self.started(words), *taps, *self.stored(words)]

    def taps_of_rows(self, words: Sequence[int]) -> list[str]:
        """The window where rows lie anywhere."""
        w = self.w
        out: list[str] = []
        far = (w.columns - 1) * w.step + words[-1]
        straight = w.columns * len(words) <= _STRAIGHT // w.rows and far <= _FAR
        for i in range(w.rows):
            out += [f"ldr {self._END}, {self.slot('table')}"]
            out += [f"ldr {self._AT}, {asm.at(self._END, 4 * i)}", f"add {self._AT}, r0"]
            out += self.started(words, self._AT) if i == 0 else []
            if straight:
                places = [j * w.step for j in range(w.columns)]
                out += [line for at in places for line in self.tap(self._AT, at, words)]
            else:
                out += self.run(w.columns, words)
        return out

    def run(self, count: int, words: Sequence[int]) -> list[str]:
        """`count` pixels from the moving address on, which ends behind them."""
        step = self.w.step
        per_turn = _PER_TURN if (_PER_TURN - 1) * step + words[-1] <= _FAR else 1
        turns, left = divmod(count, per_turn)
        out: list[str] = []
        for pixels, repeat in ((per_turn, turns), (left, 1)):
            if not repeat:
                continue
            if repeat > 1:
                out += [*asm.add(self._END, self._AT, repeat * pixels * step, self._END), "1:"]
            for i in range(pixels):
                out += self.tap(self._AT, i * step, words)
            out += asm.add(self._AT, self._AT, pixels * step, self._LOADED[0])
            if repeat > 1:
                out += [f"cmp {self._AT}, {self._END}", "bne 1b"]
        return out

    def started(self, words: Sequence[int], base: str = "r0") -> list[str]:
        if self.w.kind == "sum":
            return [f"mov {r}, #0" for r in self._SUMS[: 2 * len(words)]]
        return [f"ldr {r}, {asm.at(base, at)}" for r, at in zip(self._SUMS, words, strict=False)]

    def tap(self, base: str, at: int, words: Sequence[int]) -> list[str]:
        """One pixel's words, loaded in pairs: the second load of a pair takes one cycle."""
        out: list[str] = []
        for first in range(0, len(words), 2):
            some = list(enumerate(words))[first : first + 2]
            pairs = list(zip(some, self._LOADED, strict=False))
            out += [f"ldr {r}, {asm.at(base, at + word)}" for (_, word), r in pairs]
            for (n, _), r in pairs:
                out += self.taken(n, r)
        return out

    def taken(self, n: int, loaded: str) -> list[str]:
        """The register `loaded` into word `n`."""
        if self.w.kind == "sum":
            even, odd = self._SUMS[2 * n : 2 * n + 2]
            return [
                f"sxtab16 {even}, {even}, {loaded}", f"sxtab16 {odd}, {odd}, {loaded}, ror #8"
            ]  # fmt: skip
        best, scratch = self._SUMS[n], self._SUMS[-1]
        return [f"ssub8 {scratch}, {best}, {loaded}", f"sel {best}, {best}, {loaded}"]

    def stored(self, words: Sequence[int]) -> list[str]:
        if self.w.kind == "max":
            return [
                f"str {r}, {asm.at('r1', at)}" for r, at in zip(self._SUMS, words, strict=False)
            ]
        out: list[str] = []
        for n, word in enumerate(words):
            even, odd = self._SUMS[2 * n : 2 * n + 2]
            out += [f"sxth r10, {even}", f"sxth r11, {odd}", f"asr r12, {even}, #16"]
            out += [f"asr lr, {odd}, #16"]
            for i, r in enumerate(("r10", "r11", "r12", "lr")):
                out.append(f"str {r}, {asm.at('r1', 4 * (word + i))}")
        return out
