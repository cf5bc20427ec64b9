"""The micro-kernel of fully connected layers: eight rows of weights for each activation.

Weights are read once, so what counts is to read them a word at a time: as in `gemm`, two rows share
a halfword. The activations stay int8 and are widened in registers, four at a time, for all rows of
the block: no scratch memory. 32 multiply-accumulates take 39 cycles on a Cortex-M4.
"""

from __future__ import annotations

from dataclasses import dataclass

from midge.core.types import DType
from midge.kernels.arm import assembler as asm
from midge.kernels.arm_dsp.gemm import lower_weight, upper_weight
from midge.kernels.arm_dsp.scaling import Scaling
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.lower import nest

_SUMS = tuple(f"r{i}" for i in range(2, 10))
_X, _EVEN, _WEIGHTS = "r10", "r11", ("r12", "lr")


@dataclass(frozen=True, slots=True)
class MatVec:
    """y[r] = scaled sum over k < depth of x[k] * w[r, k], for `blocks` blocks of 2 * pairs rows.

    single: blocks of one row with weights of their own (a last odd row).  straight: words of x
    that are written out without a loop.
    """

    pairs: int
    depth: int
    blocks: int
    scaling: Scaling
    single: bool = False
    straight: int = 4

    def __post_init__(self) -> None:
        assert 1 <= self.pairs <= (1 if self.single else 4), "sums do not fit"

    @property
    def rows(self) -> int:
        """Of one block."""
        return 1 if self.single else 2 * self.pairs

    @property
    def steps(self) -> int:
        """Words of weights per pair of rows."""
        return (self.depth + 1) // 2

    @property
    def name(self) -> str:
        return asm.name_of(f"matvec_{self.rows}x{self.depth}", self)

    def instruction(self) -> Instruction:
        return Instruction(
            self.name,
            meaning(self),
            asm=tuple(_Writer(self).lines()),
            needs=asm.NEEDS,
            note=repr(self),
        )


def meaning(m: MatVec) -> ir.Func:
    """`m` as loops: w is in the order of `gemm.pack` over the elements as `widen` crosses them."""
    b, n = ir.Var("b"), ir.Var("n")
    row = ir.add(_times(b, m.rows), _times(n, 1 if m.single else 2))
    weights = (lambda w: w,) if m.single else (lower_weight, upper_weight)
    body: list[ir.Stmt] = []
    whole = m.depth // 4
    for which, weight in enumerate(weights):
        acc = f"acc{which}"
        q, k, h, j = (ir.Var(f"{v}{which}") for v in "qkhj")

        def product(x: ir.Expr, element: ir.Expr, acc: str = acc, weight=weight) -> ir.Stmt:  # type: ignore[no-untyped-def]
            step = ir.Bin("/", element, ir.i32(2))
            half = ir.Bin("%", element, ir.i32(2))
            word = ir.add(_times(ir.add(_times(b, m.steps), step), m.pairs), n)
            w = ir.Cast(DType.I32, ir.Load("w", (ir.add(_times(word, 2), half),)))
            value = ir.Bin("*", ir.Cast(DType.I32, ir.Load("x", (x,))), weight(w))
            return ir.Store(acc, (), ir.Bin("+", ir.Load(acc, ()), value))

        crossed = ir.total([_times(q, 4), _times(k, 2), h])
        there = ir.total([_times(q, 4), _times(h, 2), k])
        rest = ir.add(j, ir.i32(4 * whole))
        body += [ir.Alloc(acc, DType.I32, ()), ir.Store(acc, (), ir.i32(0))]
        if whole:
            body += nest((q, k, h), (whole, 2, 2), (product(there, crossed),))
        if m.depth % 4:
            body += nest((j,), (m.depth % 4,), (product(rest, rest),))
    for which in range(len(weights)):
        at = ir.add(row, ir.i32(which))
        first = _times(at, m.scaling.words)
        constants = [ir.Load("q", (ir.add(first, ir.i32(i)),)) for i in range(m.scaling.words)]
        value = m.scaling.value(ir.Load(f"acc{which}", ()), constants)
        body.append(ir.Store("y", (at,), value))
    total = m.blocks * m.rows
    params = (
        ir.Param("w", DType.I16, (2 * m.blocks * m.steps * m.pairs,), "const"),
        ir.Param("x", DType.I8, (m.depth,), "in"),
        ir.Param("q", DType.I32, (m.scaling.words * total,), "const"),
        ir.Param("y", DType.I8, (total,), "out"),
    )
    return ir.Func(m.name, params, nest((b, n), (m.blocks, m.pairs), tuple(body)))


def _times(e: ir.Expr, n: int) -> ir.Expr:
    return ir.mul(e, ir.i32(n))


class _Writer:
    """The assembler of a `MatVec`: r0 is w, r1 is x, q and y wait on the stack."""

    SLOTS = ("w_end", "x_end", "q", "y")

    def __init__(self, m: MatVec) -> None:
        self.m = m
        self.lower = _SUMS[: m.pairs]
        self.upper = () if m.single else _SUMS[m.pairs : 2 * m.pairs]

    def slot(self, name: str) -> str:
        return asm.at("sp", 4 * self.SLOTS.index(name))

    def lines(self) -> list[str]:
        m = self.m
        out = ["push {r2, r3}", "sub sp, #8"]
        out += [*asm.add("r12", "r0", 4 * m.blocks * m.steps * m.pairs, "r12")]
        out += [f"str r12, {self.slot('w_end')}", "3:"]
        out += [f"mov {r}, #0" for r in (*self.lower, *self.upper)]
        out += [*self.sums(), *self.finish()]
        if m.blocks > 1:
            out += [f"ldr r12, {self.slot('w_end')}", "cmp r0, r12", "bne 3b"]
        return [*out, "add sp, #16"]

    def sums(self) -> list[str]:
        """All of x; r0 ends behind the block's weights, r1 where it was."""
        m = self.m
        words, rest = divmod(m.depth, 4)
        turns, left = divmod(words, m.straight)
        out: list[str] = []
        moved = 0
        if turns > 1:
            moved = 4 * m.straight * turns
            out += [*asm.add("r12", "r1", moved, "r12"), f"str r12, {self.slot('x_end')}", "1:"]
            out += self.words(m.straight)
            out += [f"ldr r12, {self.slot('x_end')}", "cmp r1, r12", "bne 1b"]
            out += self.words(left)
        else:
            out += self.words(words)
        out += self.rest(rest)
        return out + asm.add("r1", "r1", -4 * words, "r12")

    def words(self, count: int) -> list[str]:
        """`count` words of x; r0 and r1 move on."""
        out: list[str] = []
        for i in range(count):
            out.append(f"ldr {_X}, {asm.at('r1', 4 * i)}")
            at = 8 * self.m.pairs * i
            out += self.step(_EVEN, at, f"sxtb16 {_EVEN}, {_X}")
            out.append(f"sxtb16 {_X}, {_X}, ror #8")
            out += self.step(_X, at + 4 * self.m.pairs, "")
        out += asm.add("r0", "r0", 8 * self.m.pairs * count, "r12")
        return out + asm.add("r1", "r1", 4 * count, "r12")

    def step(self, x: str, at: int, prepare: str) -> list[str]:
        """Two elements of x, in `x` once `prepare` has run, times a word of each pair."""
        out: list[str] = []
        for start in range(0, self.m.pairs, 2):
            some = list(zip(range(start, self.m.pairs), _WEIGHTS, strict=False))
            out += [f"ldr {r}, {asm.at('r0', at + 4 * n)}" for n, r in some]
            out += [prepare] if prepare and start == 0 else []
            for n, r in some:
                if self.upper:
                    out += [f"smlad {self.upper[n]}, {x}, {r}, {self.upper[n]}", f"sxtb16 {r}, {r}"]
                out.append(f"smlad {self.lower[n]}, {x}, {r}, {self.lower[n]}")
        return out

    def rest(self, count: int) -> list[str]:
        """Up to three elements; the weight beside a last odd one is zero."""
        out: list[str] = []
        for i in range(0, count, 2):
            out.append(f"ldrsb {_X}, {asm.at('r1', i)}")
            if i + 1 < count:
                out.append(f"ldrsb {_EVEN}, {asm.at('r1', i + 1)}")
                out.append(f"pkhbt {_X}, {_X}, {_EVEN}, lsl #16")
            out += self.step(_X, 2 * self.m.pairs * i, "")
        steps = (count + 1) // 2
        return out + asm.add("r0", "r0", 4 * self.m.pairs * steps, "r12")

    def finish(self) -> list[str]:
        """Sums to results, results to y."""
        q, first, second, y = "r10", "r11", "r12", "lr"
        out = [f"ldr {q}, {self.slot('q')}", f"ldr {y}, {self.slot('y')}"]
        for n in range(self.m.pairs):
            lower, upper = self.lower[n], self.upper[n] if self.upper else ""
            out += [f"sub {upper}, {upper}, {lower}"] if upper else []
            out += self.m.scaling.lines((lower,), 0, q, (first, second))
            if upper:
                out += self.m.scaling.lines((upper,), 8, q, (first, second))
            for i, r in enumerate((lower, upper)[: 2 if upper else 1]):
                out.append(f"strb {r}, {asm.at(y, 2 * n + i)}")
        if self.m.blocks > 1:
            out += [f"add {y}, #{self.m.rows}", f"str {q}, {self.slot('q')}"]
            out.append(f"str {y}, {self.slot('y')}")
        return out
