"""The micro-kernel that takes tiles of inputs into Winograd's form; see `winograd`.

Each word of the result is of two input channels: [words, 16, tiles], so that tiles are read one
after the other and the positions of one are stored close together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from midge.core.types import DType
from midge.kernels.arm import assembler as asm
from midge.kernels.arm_dsp import halves
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.lower import nest


@dataclass(frozen=True, slots=True)
class Position:
    """Of a tile in Winograd's form; sign: what its weights are multiplied by."""

    row: int
    column: int
    sign: int = 1


# In the order that leaves `winograd_sums` least to add, found by trying all.
POSITIONS = tuple(
    Position(*p)
    for p in (
        (1, 1), (1, 2), (2, 1), (2, 2), (0, 2), (0, 1), (0, 0), (1, 0),
        (2, 0), (3, 0), (3, 1), (3, 2), (3, 3), (1, 3, -1), (2, 3), (0, 3),
    )
)  # fmt: skip
_NUMBER = {(p.row, p.column): n for n, p in enumerate(POSITIONS)}
# B': row i is d[first] + or - d[second].
_INPUT = ((0, 2, "-"), (1, 2, "+"), (2, 1, "-"), (1, 3, "-"))
_REGISTERS = (*(f"r{i}" for i in range(2, 13)), "lr")
_MOST_OFFSET = 4095


@dataclass(frozen=True, slots=True)
class Tiles:
    """v[s, p, t] = channels 2 s and 2 s + 1 of B' d B at position p, in a word; d is the tile of x
    with its left edge at column 2 t.

    x is i16 [4, 2 * tiles + 2, depth], in the range of int8; depth is even.
    """

    tiles: int
    depth: int

    @property
    def words(self) -> int:
        return self.depth // 2

    @property
    def row(self) -> int:
        """Elements of a row of x."""
        return (2 * self.tiles + 2) * self.depth

    @property
    def v_span(self) -> int:
        return self.words * len(POSITIONS) * self.tiles

    @property
    def name(self) -> str:
        return f"winograd_tiles_{self.tiles}x{self.depth}"

    def instruction(self) -> Instruction:
        lines = tuple(_Writer(self).lines())
        return Instruction(self.name, meaning(self), asm=lines, needs=asm.NEEDS, note=repr(self))


def meaning(p: Tiles) -> ir.Func:
    s, t = ir.Var("s"), ir.Var("t")

    def d(row: int, column: int, half: int) -> ir.Expr:
        place = ir.i32(row * p.row + column * p.depth + half)
        at = ir.total([_times(t, 2 * p.depth), _times(s, 2), place])
        return ir.Cast(DType.I32, ir.Load("x", (at,)))

    def along(row: int, j: int, half: int) -> ir.Expr:
        first, second, sign = _INPUT[j]
        return ir.Bin(_op(sign), d(row, first, half), d(row, second, half))

    def v(i: int, j: int, half: int) -> ir.Expr:
        first, second, sign = _INPUT[i]
        return ir.Bin(_op(sign), along(first, j, half), along(second, j, half))

    stores = []
    for number, position in enumerate(POSITIONS):
        i, j = position.row, position.column
        at = ir.total([_times(s, len(POSITIONS) * p.tiles), t, ir.i32(number * p.tiles)])
        stores.append(ir.Store("v", (at,), halves.word(v(i, j, 0), v(i, j, 1))))
    params = (
        ir.Param("x", DType.I16, (4 * p.row,), "in"),
        ir.Param("v", DType.I32, (p.v_span,), "out"),
    )
    return ir.Func(p.name, params, nest((s, t), (p.words, p.tiles), tuple(stores)))


def _op(sign: str) -> ir.BinOp:
    return "+" if sign == "+" else "-"


def _times(e: ir.Expr, n: int) -> ir.Expr:
    return ir.mul(e, ir.i32(n))


class _Writer:
    """The assembler of a `Tiles`: r0 is x, r1 is v, all others hold columns of a word of channels.

    Columns go through B' once for the two tiles that share them: of the last three, four
    registers each.
    """

    def __init__(self, p: Tiles) -> None:
        self.p = p
        self.free = list(_REGISTERS)
        self.out: list[str] = []
        self.moved = 0  # bytes from where x stands at the start of a word

    def lines(self) -> list[str]:
        p = self.p
        step = 4 * len(POSITIONS) * p.tiles
        self.out = [*asm.add("r12", "r1", p.words * step, "r12"), "push {r12}", "1:"]
        columns = {0: self.column(0), 1: self.column(1)}
        for t in range(p.tiles):
            self.tile(t, columns)
        assert len(self.free) == 4, "registers are lost"
        self.move(4)
        self.out += [*asm.add("r1", "r1", step, "r12"), "ldr r12, [sp]", "cmp r1, r12", "bne 1b"]
        return [*self.out, "add sp, #4"]

    def tile(self, t: int, columns: dict[int, list[str]]) -> None:
        """V of tile t; of `columns` the left two are there, afterwards those of the next tile."""
        first, second = columns.pop(2 * t), columns[2 * t + 1]

        def middle(i: int, third: str) -> None:
            a, b = first[i], second[i]
            self.put(f"ssub16 {a}, {a}, {third}", a, (i, 0), t)
            self.put(f"sadd16 {a}, {b}, {third}", a, (i, 1), t)
            self.put(f"ssub16 {a}, {third}, {b}", a, (i, 2), t)
            self.free.append(a)

        def last(i: int, fourth: str) -> None:
            b = second[i]
            self.put(f"ssub16 {b}, {b}, {fourth}", b, (i, 3), t)
            self.free.append(b)

        columns[2 * t + 2] = self.column(2 * t + 2, middle)
        del columns[2 * t + 1]
        columns[2 * t + 3] = self.column(2 * t + 3, last)

    def column(self, c: int, use: Callable[[int, str], None] | None = None) -> list[str]:
        """B' times column c; each element is used as soon as it is there, which frees registers."""
        p = self.p
        e = [self.free.pop(0) for _ in range(4)]
        for row, r in enumerate(e):
            self.out.append(f"ldr {r}, {self.at(2 * (row * p.row + c * p.depth))}")
        self.out += [f"ssub16 {e[0]}, {e[0]}, {e[2]}", f"ssub16 {e[3]}, {e[1]}, {e[3]}"]
        if use is not None:
            use(0, e[0])
        total = self.free.pop(0)
        self.out += [f"sadd16 {total}, {e[1]}, {e[2]}", f"ssub16 {e[2]}, {e[2]}, {e[1]}"]
        self.free.append(e[1])
        result = [e[0], total, e[2], e[3]]
        if use is not None:
            for i in (1, 2, 3):
                use(i, result[i])
        return result

    def put(self, line: str, register: str, position: tuple[int, int], t: int) -> None:
        place = asm.at("r1", 4 * (_NUMBER[position] * self.p.tiles + t))
        self.out += [line, f"str {register}, {place}"]

    def at(self, offset: int) -> str:
        """Element of x `offset` bytes from the start of the word's channels."""
        if not 0 <= offset - self.moved <= _MOST_OFFSET:
            self.move(offset)
        return asm.at("r0", offset - self.moved)

    def move(self, offset: int) -> None:
        while offset != self.moved:
            step = max(-_MOST_OFFSET, min(_MOST_OFFSET, offset - self.moved))
            self.out += asm.add("r0", "r0", step, "")
            self.moved += step
