"""The micro-kernel that writes padding."""

from __future__ import annotations

from dataclasses import dataclass

from midge.core.types import DType
from midge.kernels.arm import assembler as asm
from midge.loop import ir
from midge.loop.instruction import Instruction

_STRAIGHT = 8  # words that are written out
_PER_TURN = 4


@dataclass(frozen=True, slots=True)
class Fill:
    """y[i] = value for `count` elements of i16."""

    count: int
    value: int

    @property
    def name(self) -> str:
        return f"fill_{self.count}_{self.value}".replace("-", "m")

    def instruction(self) -> Instruction:
        return Instruction(
            self.name, meaning(self), asm=tuple(lines(self)), needs=asm.NEEDS, note=repr(self)
        )


def meaning(f: Fill) -> ir.Func:
    store = ir.Store("y", (ir.Var("i"),), ir.const(f.value, DType.I16))
    y = ir.Param("y", DType.I16, (f.count,), "out")
    return ir.Func(f.name, (y,), (ir.Loop("i", f.count, (store,)),))


def lines(f: Fill) -> list[str]:
    """r0 is y; it needs no alignment beyond its elements' own."""
    words, rest = divmod(f.count, 2)
    turns, left = divmod(words, _PER_TURN) if words > _STRAIGHT else (0, words)
    out = asm.constant("r1", (f.value & 0xFFFF) * 0x10001)
    if turns:
        out += asm.add("r2", "r0", 4 * _PER_TURN * turns, "r2")
        out += ["1:", *(f"str r1, {asm.at('r0', 4 * i)}" for i in range(_PER_TURN))]
        out += [f"add r0, #{4 * _PER_TURN}", "cmp r0, r2", "bne 1b"]
    out += [f"str r1, {asm.at('r0', 4 * i)}" for i in range(left)]
    return out + [f"strh r1, {asm.at('r0', 4 * left)}"] * rest
