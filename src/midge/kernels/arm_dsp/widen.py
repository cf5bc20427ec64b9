"""The micro-kernel that widens int8 activations to int16 for the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, DType
from midge.kernels.arm import assembler as asm
from midge.loop import ir
from midge.loop.instruction import Instruction


@dataclass(frozen=True, slots=True)
class Widen:
    """y[i] = x[i] for `count` elements, i8 to i16.

    paired: within each four, elements 1 and 2 change places (0 2 1 3), which is how `sxtb16` leaves
    them; a rest of less than four keeps its order.
    straight: words of a turn of the loop, at most 8.
    """

    count: int
    paired: bool
    straight: int = 4

    @property
    def name(self) -> str:
        return f"widen_{self.count}{'p' if self.paired else ''}_u{self.straight}"

    def instruction(self) -> Instruction:
        return Instruction(
            self.name, meaning(self), asm=tuple(lines(self)), needs=asm.NEEDS, note=repr(self)
        )


def order(count: int, paired: bool) -> Array:
    """Where each element of the result comes from."""
    result = np.arange(count)
    if paired:
        whole = count // 4 * 4
        result[:whole] = result[:whole].reshape(-1, 4)[:, [0, 2, 1, 3]].reshape(-1)
    return result


def meaning(w: Widen) -> ir.Func:
    body: list[ir.Stmt] = []
    words, rest = divmod(w.count, 4)
    if words:
        i, h, k = ir.Var("i"), ir.Var("h"), ir.Var("k")
        step = (1, 2) if w.paired else (2, 1)
        source = _sum(i, 4, h, step[0], k, step[1])
        copy = _copy(source, _sum(i, 4, h, 2, k, 1))
        inner = ir.Loop("h", 2, (ir.Loop("k", 2, (copy,)),))
        body.append(ir.Loop("i", words, (inner,)))
    if rest:
        at = ir.add(ir.Var("j"), ir.i32(4 * words))
        body.append(ir.Loop("j", rest, (_copy(at, at),)))
    params = (
        ir.Param("x", DType.I8, (w.count,), "in"),
        ir.Param("y", DType.I16, (w.count,), "out"),
    )
    return ir.Func(w.name, params, tuple(body))


def _copy(source: ir.Expr, target: ir.Expr) -> ir.Store:
    return ir.Store("y", (target,), ir.Cast(DType.I16, ir.Load("x", (source,))))


def _sum(a: ir.Expr, p: int, b: ir.Expr, q: int, c: ir.Expr, r: int) -> ir.Expr:
    return ir.total([ir.mul(e, ir.i32(n)) for e, n in ((a, p), (b, q), (c, r))])


def lines(w: Widen) -> list[str]:
    """r0 is x, r1 is y; both need no alignment beyond the elements' own."""
    words, rest = divmod(w.count, 4)
    turns, left = divmod(words, w.straight)
    out: list[str] = []
    if turns > 1:
        out += [*asm.add("r12", "r0", 4 * w.straight * turns, "r12"), "1:"]
    if turns:
        out += [*_words(w.straight, w.paired), f"add r0, #{4 * w.straight}"]
    if turns > 1:
        out += ["cmp r0, r12", "bne 1b"]
    if left:
        out += [*_words(left, w.paired), *([f"add r0, #{4 * left}"] if rest else [])]
    for i in range(rest):
        out += [f"ldrsb r2, {asm.at('r0', i)}", f"strh r2, {asm.at('r1', 2 * i)}"]
    return out


def _words(count: int, paired: bool) -> list[str]:
    """`count` words of x, at most eight, to y; y moves on, x does not."""
    loaded = [f"r{i}" for i in range(4, 4 + count)]
    out = [f"ldr {r}, {asm.at('r0', 4 * i)}" for i, r in enumerate(loaded)]
    for r in loaded:
        out += [f"sxtb16 r2, {r}", f"sxtb16 r3, {r}, ror #8"]
        pair = ("r2", "r3")
        if not paired:
            out += [f"pkhbt {r}, r2, r3, lsl #16", "pkhtb r3, r3, r2, asr #16"]
            pair = (r, "r3")
        out += [f"str {pair[0]}, [r1], #4", f"str {pair[1]}, [r1], #4"]
    return out
