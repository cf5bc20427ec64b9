"""The assembler of `plane`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from midge.kernels.arm import assembler as asm
from midge.kernels.arm_dsp.scaling import Line, Twice

if TYPE_CHECKING:
    from midge.kernels.arm_dsp.plane import Plane

_PAIRS = ("r4", "r5", "r6")  # (w0, w2) of three chunks
_MIDDLES = ("r7", "r8")  # w1 of two chunks each


class PlaneWriter:
    """The assembler of a `Plane`.

    r3 walks over y, r11 over the padded plane, r9 and r10 hold what scales the sums, r4 to r8 the
    weights; r0, r1, r2, r12 and lr are free. What moves once per channel waits on the stack.
    """

    SLOTS = ("rows_end", "columns_end", "w", "x", "plane", "y", "w_end", "moved")

    def __init__(self, p: Plane) -> None:
        self.p = p
        self.resident = p.resident

    def slot(self, name: str) -> str:
        return asm.at("sp", 4 * self.SLOTS.index(name))

    def lines(self) -> list[str]:
        p = self.p
        frame = 4 * len(self.SLOTS)
        out = [f"sub sp, #{frame}"]
        out += [f"str r{i}, {self.slot(n)}" for i, n in enumerate(("w", "x", "plane", "y"))]
        out += [
            *asm.add("r4", "r0", 4 * p.channels * p.words, "r4"),
            f"str r4, {self.slot('w_end')}",
        ]
        if p.pointers:
            out += ["movs r4, #0", f"str r4, {self.slot('moved')}"]
        looped = p.out_height // 2 * 2 if p.twinned else p.out_height
        out += [*asm.add("r4", "r2", looped * p.strides[0] * p.pitch, "r4")]
        out += [f"str r4, {self.slot('rows_end')}", *self.blank(), "9:"]
        out += [*self.copy(), *self.constants(), f"ldr r11, {self.slot('plane')}", "3:"]
        out += self.rows(2 if p.twinned else 1)
        out += [f"ldr r0, {self.slot('rows_end')}", "cmp r11, r0", "bne 3b"]
        if looped < p.out_height:
            out += [*self.constants(), *self.rows(1)]
        return [*out, *self.next_channel(), f"add sp, #{frame}"]

    def blank(self) -> list[str]:
        """Padding all over the plane; copies leave the margins as they are."""
        byte = self.p.pad & 0xFF
        out = asm.constant("r4", byte * 0x01010101)
        out += ["mov r5, r2", *asm.add("r6", "r2", self.p.scratch, "r6")]
        return [*out, "1:", "str r4, [r5], #4", "cmp r5, r6", "bne 1b"]

    def copy(self) -> list[str]:
        """The channel's plane between the margins."""
        p = self.p
        rows, columns = p.inside
        if rows <= 0 or columns <= 0:
            return []
        if p.pointers == "rows":
            return self.copy_rows(rows, columns)
        if p.pointers == "columns":
            return self.copy_columns(rows, columns)
        out = [f"ldr r0, {self.slot('x')}", f"ldr r1, {self.slot('plane')}"]
        out += asm.add("r1", "r1", p.top * p.pitch + p.left, "r2")
        together = p.x_strides[1] == 1
        pieces = _pieces(columns) if together else [(i, 1) for i in range(columns)]
        per_turn = max(2 * p.straight // len(pieces), 1)
        reach = min(per_turn, rows) * max(p.pitch, p.x_strides[0])
        far = reach + columns * p.x_strides[1] < 4096
        most = per_turn if far else 1
        turns = rows // most
        if turns > 1:
            out += [*asm.add("r12", "r1", turns * most * p.pitch, "r12"), "1:"]
        if columns * p.x_strides[1] < 4096:
            for i in range(most if turns else 0):
                out += self.row_copy(pieces, "r0", i * p.x_strides[0], i * p.pitch)
            moved = 0
        else:
            for i, (place, size) in enumerate(pieces):
                out += [f"{_LOAD[size]} r4, [r0]", f"{_STORE[size]} r4, {asm.at('r1', place)}"]
                if i + 1 < len(pieces):
                    out += asm.add("r0", "r0", size * p.x_strides[1], "r2")
            moved = pieces[-1][0] * p.x_strides[1]
        left = rows - turns * most
        if turns > 1 or (turns and left):
            out += asm.add("r0", "r0", most * p.x_strides[0] - moved, "r2")
            out += asm.add("r1", "r1", most * p.pitch, "r2")
        if turns > 1:
            out += ["cmp r1, r12", "bne 1b"]
        for r in range(left):
            out += self.row_copy(pieces, "r0", r * p.x_strides[0], r * p.pitch)
        return out

    def row_copy(self, pieces: list[tuple[int, int]], base: str, x: int, to: int) -> list[str]:
        """Pieces of the row at base + x, several at a time."""
        out: list[str] = []
        step = self.p.x_strides[1]
        for start in range(0, len(pieces), len(_FREE)):
            some = list(zip(_FREE, pieces[start : start + len(_FREE)], strict=False))
            out += [f"{_LOAD[n]} {r}, {asm.at(base, x + at * step)}" for r, (at, n) in some]
            out += [f"{_STORE[n]} {r}, {asm.at('r1', to + at)}" for r, (at, n) in some]
        return out

    def copy_rows(self, rows: int, columns: int) -> list[str]:
        """From an array of pointers to rows."""
        p = self.p
        together = p.x_strides[1] == 1
        pieces = _pieces(columns) if together else [(i, 1) for i in range(columns)]
        turn = rows * len(pieces) > 4 * p.straight
        out = [f"ldr r0, {self.slot('x')}", f"ldr r1, {self.slot('plane')}"]
        out += [f"ldr r12, {self.slot('moved')}"]
        out += asm.add("r1", "r1", p.top * p.pitch + p.left, "r2")
        if turn:
            out += [*asm.add("lr", "r0", 4 * rows, "lr"), "1:"]
        for i in range(1 if turn else rows):
            out.append("ldr r2, [r0], #4" if turn else f"ldr r2, {asm.at('r0', 4 * i)}")
            out += ["add r2, r12", *self.row_copy(pieces, "r2", 0, i * p.pitch)]
        if turn:
            out += [*asm.add("r1", "r1", p.pitch, "r2"), "cmp r0, lr", "bne 1b"]
        return out

    def copy_columns(self, rows: int, columns: int) -> list[str]:
        """From an array of pointers to columns."""
        p = self.p
        assert rows == 1, "columns of one pixel"
        out = [f"ldr r0, {self.slot('x')}", f"ldr r1, {self.slot('plane')}"]
        out += [f"ldr r12, {self.slot('moved')}"]
        for start in range(0, columns, len(_FREE)):
            some = _FREE[: columns - start]
            out += [f"ldm r0!, {{{', '.join(some)}}}"]
            out += [f"ldrb {r}, [{r}, r12]" for r in some]
            places = enumerate(some, p.top * p.pitch + p.left + start)
            out += [f"strb {r}, {asm.at('r1', at)}" for at, r in places]
        return out

    def constants(self) -> list[str]:
        """Weights and scaling of the channel to registers, as far as there are enough."""
        p = self.p
        out = [f"ldr r0, {self.slot('w')}"]
        if self.resident:
            middles = (p.count + 1) // 2
            registers = (*_PAIRS[: p.count], *_MIDDLES[:middles], "r9", "r10")
            return [*out, f"ldm r0, {{{', '.join(registers)}}}"]
        at = 4 * p.weights
        return [*out, f"ldr r9, {asm.at('r0', at)}", f"ldr r10, {asm.at('r0', at + 4)}"]

    def rows(self, count: int) -> list[str]:
        """One output row, or two; r11 and r3 end at the next row of the plane and of y."""
        p = self.p
        unit = 2 if p.strides[1] == 1 else 1
        block = self.outputs if count == 1 else self.twin_outputs
        per_turn = max(min(8, p.straight), unit)
        turns = p.out_width // per_turn if p.out_width > p.straight else 0
        out: list[str] = []
        done = turns * per_turn
        moved = done * p.strides[1]
        if turns:
            out += [*asm.add("r0", "r11", moved, "r0"), f"str r0, {self.slot('columns_end')}", "2:"]
            for first in range(0, per_turn, unit):
                out += block(first, unit)
            out += asm.add("r11", "r11", per_turn * p.strides[1], "r0")
            out += asm.add("r3", "r3", per_turn * p.y_pixel, "r0")
            out += [f"ldr r0, {self.slot('columns_end')}", "cmp r11, r0", "bne 2b"]
        left = p.out_width - done
        for first in range(0, left, unit):
            out += block(first, min(unit, left - first))
        out += asm.add("r11", "r11", count * p.strides[0] * p.pitch - moved, "r0")
        return out + asm.add("r3", "r3", (count * p.out_width - done) * p.y_pixel, "r0")

    def twin_outputs(self, first: int, count: int) -> list[str]:
        """One or two outputs of a row and those below them; r9, r10 and lr are free here."""
        p = self.p
        upper, lower = ("r0", "r1")[:count], ("r2", "r12")[:count]
        words, odd = ("r9", "lr"), "r10"
        out: list[str] = []
        height = p.taps[0] + 1
        for r in range(height):
            word = words[r % 2]
            if r % 2 == 0:
                ahead = zip(words, range(r, height), strict=False)
                out += [f"ldr {w}, {asm.at('r11', first + i * p.pitch)}" for w, i in ahead]
            out += [f"sxtb16 {odd}, {word}, ror #8", f"sxtb16 {word}, {word}"]
            if r < p.taps[0]:
                out += self.taps(r, word, odd, upper)
            if r > 0:
                out += self.taps(r - 1, word, odd, lower)
        out += self.twin_scale((*upper, *lower))
        for down, sums in enumerate((upper, lower)):
            for i, result in enumerate(sums):
                at = (first + i + down * p.out_width) * p.y_pixel
                out += asm.store("strb", result, "r3", at, "r9")
        return out

    def twin_scale(self, sums: tuple[str, ...]) -> list[str]:
        scaling, at = self.p.scaling, 4 * self.p.weights

        def load(which: int) -> list[str]:
            return [
                f"ldr r10, {asm.at('r9', at + 8 * which)}",
                f"ldr lr, {asm.at('r9', at + 8 * which + 4)}",
            ]

        out = [f"ldr r9, {self.slot('w')}", *load(0)]
        if isinstance(scaling, Line):
            return [*out, *scaling.apply(sums, 0, ("r10", "lr"))]
        assert isinstance(scaling, Twice)
        out += scaling.start(sums, 0, ("r10", "lr"))
        return [*out, *load(1), *scaling.finish(sums, ("r10", "lr"))]

    def outputs(self, first: int, count: int) -> list[str]:
        """One output, or two of the same words, `first` pixels from r3."""
        p = self.p
        sums = ("r0", "r1")[:count]
        column = first * p.strides[1]
        out = [] if self.resident else [f"ldr r8, {self.slot('w')}"]
        places = [k * p.pitch + 3 * j + column for k in range(p.taps[0]) for j in range(p.chunks)]
        words = ("r2", "r12")
        for i in range(len(places)):
            word = words[i % 2]
            if i % 2 == 0:
                ahead = zip(words, places[i : i + 2], strict=False)
                out += [f"ldr {r}, {asm.at('r11', at)}" for r, at in ahead]
            out += self.chunk(i, word, sums)
        out += self.scale(sums)
        for i, r in enumerate(sums):
            out += asm.store("strb", r, "r3", (first + i) * p.y_pixel, "r2")
        return out

    def scale(self, sums: tuple[str, ...]) -> list[str]:
        scaling = self.p.scaling
        if isinstance(scaling, Line):
            return scaling.apply(sums, 0, ("r9", "r10"))
        assert isinstance(scaling, Twice)
        at = 4 * self.p.weights + 8
        return [
            *scaling.start(sums, 0, ("r9", "r10")),
            f"ldr r2, {self.slot('w')}",
            f"ldr r12, {asm.at('r2', at)}",
            f"ldr lr, {asm.at('r2', at + 4)}",
            *scaling.finish(sums, ("r12", "lr")),
        ]

    def chunk(self, i: int, word: str, sums: tuple[str, ...]) -> list[str]:
        """Three taps of one word: (w0, w2) times the even columns, w1 times the odd one; the next
        output has it the other way round."""
        p = self.p
        out: list[str] = []
        out += [f"sxtb16 lr, {word}, ror #8", f"sxtb16 {word}, {word}"]
        if self.resident:
            return out + self.taps(i, word, "lr", sums)
        out.append(f"ldr r4, {asm.at('r8', 4 * i)}")
        if i % 2 == 0:
            out.append(f"ldr r5, {asm.at('r8', 4 * (p.count + i // 2))}")
        return out + self.taps(i, word, "lr", sums)

    def taps(self, i: int, even: str, odd: str, sums: tuple[str, ...]) -> list[str]:
        """The products of chunk `i` with the even and the odd columns of a word."""
        pair, middle = (_PAIRS[i], _MIDDLES[i // 2]) if self.resident else ("r4", "r5")
        half = "t" if i % 2 else "b"
        out: list[str] = []
        for acc, (two, one, which) in zip(sums, ((even, odd, "b"), (odd, even, "t")), strict=False):
            first = f"smuad {acc}, {two}, {pair}"
            out.append(first if i == 0 else f"smlad {acc}, {two}, {pair}, {acc}")
            out.append(f"smla{which}{half} {acc}, {one}, {middle}, {acc}")
        return out

    def next_channel(self) -> list[str]:
        p = self.p
        out = []
        x = "moved" if p.pointers else "x"
        for name, step in ((x, p.x_strides[2]), ("y", p.y_channel), ("w", 4 * p.words)):
            register = "r3" if name == "y" else "r0"
            out += [f"ldr {register}, {self.slot(name)}", *asm.add(register, register, step, "r1")]
            out.append(f"str {register}, {self.slot(name)}")
        return [*out, f"ldr r1, {self.slot('w_end')}", "cmp r0, r1", "bne 9b"]


_FREE = ("r4", "r5", "r6", "r7", "r8", "r9", "r10")  # while a plane is copied
_LOAD = {4: "ldr", 2: "ldrh", 1: "ldrb"}
_STORE = {4: "str", 2: "strh", 1: "strb"}


def _pieces(columns: int) -> list[tuple[int, int]]:
    """A row of bytes as (place, size): words, then what is left."""
    out, at = [], 0
    for size in (4, 2, 1):
        while columns - at >= size:
            out.append((at, size))
            at += size
    return out
