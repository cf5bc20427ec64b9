"""The micro-kernel that copies int16 activations."""

from __future__ import annotations

from dataclasses import dataclass

from midge.core.types import DType
from midge.kernels.arm import assembler as asm
from midge.loop import ir
from midge.loop.instruction import Instruction

_PER_TURN = 8  # words


@dataclass(frozen=True, slots=True)
class Copy16:
    """y[i] = x[i] for `count` elements of i16."""

    count: int

    @property
    def name(self) -> str:
        return f"copy16_{self.count}"

    def instruction(self) -> Instruction:
        return Instruction(self.name, meaning(self), asm=tuple(lines(self)), needs=asm.NEEDS)


def meaning(c: Copy16) -> ir.Func:
    i = ir.Var("i")
    copy = ir.Store("y", (i,), ir.Load("x", (i,)))
    params = (
        ir.Param("x", DType.I16, (c.count,), "in"),
        ir.Param("y", DType.I16, (c.count,), "out"),
    )
    return ir.Func(c.name, params, (ir.Loop("i", c.count, (copy,)),))


def lines(c: Copy16) -> list[str]:
    """r0 is x, r1 is y; both need no alignment beyond the elements' own."""
    words, rest = divmod(c.count, 2)
    turns, left = divmod(words, _PER_TURN)
    out: list[str] = []
    if turns > 1:
        out += [*asm.add("r12", "r0", 4 * _PER_TURN * turns, "r12"), "1:"]
    if turns:
        out += [*_words(_PER_TURN), f"add r0, #{4 * _PER_TURN}", f"add r1, #{4 * _PER_TURN}"]
    if turns > 1:
        out += ["cmp r0, r12", "bne 1b"]
    out += _words(left)
    if rest:
        out += [f"ldrh r2, {asm.at('r0', 4 * left)}", f"strh r2, {asm.at('r1', 4 * left)}"]
    return out


def _words(count: int) -> list[str]:
    loaded = [f"r{i}" for i in range(2, 2 + count)]
    out = [f"ldr {r}, {asm.at('r0', 4 * i)}" for i, r in enumerate(loaded)]
    return out + [f"str {r}, {asm.at('r1', 4 * i)}" for i, r in enumerate(loaded)]
