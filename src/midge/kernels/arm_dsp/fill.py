"""The micro-kernel that writes padding."""

from __future__ import annotations

from dataclasses import dataclass

from midge.core.types import DType
from midge.kernels.arm import assembler as asm
from midge.loop import ir
from midge.loop.instruction import Instruction

_STRAIGHT = 8  # words that are written out
_PER_TURN = 4
_FAR = 4095  # the greatest offset of a store


@dataclass(frozen=True, slots=True)
class Fill:
    """y[t * stride + i] = value for `count` elements of i16 at each of `times` places."""

    count: int
    value: int
    times: int = 1
    stride: int = 0

    @property
    def name(self) -> str:
        times = f"_{self.times}x{self.stride}" if self.times > 1 else ""
        return f"fill_{self.count}_{self.value}{times}".replace("-", "m")

    @property
    def span(self) -> int:
        """Elements from the first to the last that is written."""
        return (self.times - 1) * self.stride + self.count

    def instruction(self) -> Instruction:
        return Instruction(
            self.name, meaning(self), asm=tuple(lines(self)), needs=asm.NEEDS, note=repr(self)
        )


def meaning(f: Fill) -> ir.Func:
    t, i = ir.Var("t"), ir.Var("i")
    at = i if f.times == 1 else ir.add(ir.mul(t, ir.i32(f.stride)), i)
    body: ir.Block = (ir.Loop("i", f.count, (ir.Store("y", (at,), ir.const(f.value, DType.I16)),)),)
    if f.times > 1:
        body = (ir.Loop("t", f.times, body),)
    y = ir.Param("y", DType.I16, (f.span,), "out" if f.times == 1 else "inout")
    return ir.Func(f.name, (y,), body)


def lines(f: Fill) -> list[str]:
    """r0 is y; it needs no alignment beyond its elements' own."""
    if f.times == 1:
        return [*asm.constant("r1", (f.value & 0xFFFF) * 0x10001), *_place(f.count, 0)[0]]
    out = asm.constant("r1", (f.value & 0xFFFF) * 0x10001)
    step = 2 * f.stride
    if f.count <= 2 * _STRAIGHT and f.times * f.count <= 4 * _STRAIGHT:
        at = 0
        for t in range(f.times):
            if t * step - at + 2 * f.count > _FAR:
                out += asm.add("r0", "r0", t * step - at, "r3")
                at = t * step
            out += _place(f.count, t * step - at)[0]
        return out
    place, moved = _place(f.count, 0)
    out += [*asm.constant("r12", f.times), "2:", *place]
    out += asm.add("r0", "r0", step - moved, "r3")
    return [*out, "subs r12, #1", "bne 2b"]


def _place(count: int, at: int) -> tuple[list[str], int]:
    """`count` elements `at` bytes behind r0, and how far r0 moves for that."""
    words, rest = divmod(count, 2)
    turns, left = divmod(words, _PER_TURN) if words > _STRAIGHT else (0, words)
    out: list[str] = []
    if turns:
        assert at == 0, "a loop starts where r0 stands"
        out += asm.add("r2", "r0", 4 * _PER_TURN * turns, "r2")
        out += ["1:", *(f"str r1, {asm.at('r0', 4 * i)}" for i in range(_PER_TURN))]
        out += [f"add r0, #{4 * _PER_TURN}", "cmp r0, r2", "bne 1b"]
    out += [f"str r1, {asm.at('r0', at + 4 * i)}" for i in range(left)]
    out += [f"strh r1, {asm.at('r0', at + 4 * left)}"] * rest
    return out, 4 * _PER_TURN * turns
