"""The assembler of a `Plane` that reads its words from the rows of x where they lie.

Every tap of a band lies in a row that exists, so only the sides of the image are padded: what the
padding adds to a sum is a constant of the channel, a border, and a word never reaches beyond its
row. All outputs of a channel are written out: for narrow bands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from midge.kernels.arm import assembler as asm
from midge.kernels.arm_dsp.scaling import Line, Twice

if TYPE_CHECKING:
    from midge.kernels.arm_dsp.plane import Plane

_PAIRS = ("r4", "r5", "r6")  # (w0, w2) of each row of the window
_MIDDLES = ("r7", "r8")  # w1 of two rows each
_EVEN, _ODD = "r0", "r1"
_SUMS = ("r2", "r9", "r10", "r11", "r12", "lr")
_FREE = (*_SUMS, _EVEN, _ODD)


@dataclass(frozen=True, slots=True)
class Word:
    """Columns start..start + 3 of a row, and the outputs that need no others."""

    start: int
    outputs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sum:
    """Output (row, column) of a pass in `register`; `start`: a register with its first value."""

    row: int
    column: int
    register: str
    start: str


_Sums = dict[tuple[int, int], Sum]


def words_of(p: Plane) -> tuple[Word, ...]:
    """Words that hold the taps of every output of a row."""
    found: list[Word] = []
    for o in range(p.out_width):
        first, last = inside(p, o)
        if found and last <= found[-1].start + 3:
            found[-1] = Word(found[-1].start, (*found[-1].outputs, o))
        else:
            found.append(Word(min(first, p.width - 4), (o,)))
    return tuple(found)


def inside(p: Plane, output: int) -> tuple[int, int]:
    """The first and the last column of x that an output of a row reads."""
    first = output * p.strides[1] - p.left
    return max(first, 0), min(first + p.taps[1], p.width) - 1


class RowsWriter:
    """The assembler.

    r3 walks over y, r4 to r8 hold the weights; the frame holds the pointers to the rows (to their
    last words), what scales the sums and the borders of the channel.
    """

    def __init__(self, p: Plane) -> None:
        self.p = p
        self.words = words_of(p)
        self.last = self.words[-1].start
        scale = [f"scale{i}" for i in range(p.scaling.words)]
        borders = [f"border{o}" for o in p.borders]
        rows = [f"row{i}" for i in range(p.height)]
        self.constants = [*scale, *borders]
        self.slots = [*rows, *self.constants, "w", "w_end"]

    def slot(self, name: str) -> str:
        return asm.at("sp", 4 * self.slots.index(name))

    def lines(self) -> list[str]:
        p = self.p
        frame = 4 * len(self.slots)
        out = [f"sub sp, #{frame}", "mov r3, r2"]
        out += [*asm.add("r4", "r0", 4 * p.channels * p.words, "r4")]
        out += [f"str r4, {self.slot('w_end')}"]
        for first in range(0, p.height, 4):
            some = ("r4", "r5", "r6", "r7")[: p.height - first]
            out += [f"ldm r1!, {{{', '.join(some)}}}"]
            for i, r in enumerate(some, first):
                out += [*asm.add(r, r, self.last, "r2"), f"str {r}, {self.slot(f'row{i}')}"]
        out += ["9:", *self.load_constants()]
        for first, count in self.passes():
            for block in self.blocks(count):
                out += self.block(first, count, block)
        out += [*asm.add("r3", "r3", p.y_channel, "r1")]
        out += [f"ldr r0, {self.slot('w')}", f"ldr r1, {self.slot('w_end')}", "cmp r0, r1"]
        return [*out, "bne 9b", f"add sp, #{frame}"]

    def load_constants(self) -> list[str]:
        """Weights to registers, the other constants to the frame."""
        p = self.p
        weights = [*_PAIRS[: p.count], *_MIDDLES[: (p.count + 1) // 2]]
        others = ["r9", "r10", "r11", "r12", "lr"]
        some = others[: len(self.constants)]
        out = [f"ldm r0!, {{{', '.join((*weights, *some))}}}"]
        out += [f"str {r}, {self.slot(n)}" for r, n in zip(some, self.constants, strict=False)]
        for name in self.constants[len(some) :]:
            out += ["ldr r9, [r0], #4", f"str r9, {self.slot(name)}"]
        return [*out, f"str r0, {self.slot('w')}"]

    def passes(self) -> list[tuple[int, int]]:
        """Output rows that are computed together: first, count."""
        rows = self.p.out_height
        return [(r, min(2, rows - r)) for r in range(0, rows, 2)]

    def blocks(self, count: int) -> list[tuple[Word, ...]]:
        """Words whose sums fit the registers."""
        found: list[list[Word]] = []
        most = len(_SUMS) // count
        for word in self.words:
            have = sum(len(w.outputs) for w in found[-1]) if found else most
            if count == 1 and found and have + len(word.outputs) < most:
                found[-1].append(word)
                continue
            for first in range(0, len(word.outputs), most):
                found.append([Word(word.start, word.outputs[first : first + most])])
        return [tuple(words) for words in found]

    def block(self, first: int, count: int, words: tuple[Word, ...]) -> list[str]:
        """All outputs of `words` in `count` rows from `first`."""
        p = self.p
        outputs = [o for w in words for o in w.outputs]
        sums: _Sums = {}
        out = []
        for k, o in enumerate(outputs):
            registers = [_SUMS[k * count + u] for u in range(count)]
            border = o in p.borders
            if border:
                out.append(f"ldr {registers[-1]}, {self.slot(f'border{o}')}")
            for u, r in enumerate(registers):
                sums[u, o] = Sum(u, o, r, registers[-1] if border else "")
        out += self.window(first, count, words, sums)
        return out + self.finish(first, list(sums.values()))

    def window(self, first: int, count: int, words: tuple[Word, ...], sums: _Sums) -> list[str]:
        """The products of all rows."""
        rows = (count - 1) * self.p.strides[0] + self.p.taps[0]
        used = {s.register for s in sums.values()}
        spare = [r for r in _SUMS if r not in used]
        out: list[str] = []
        row = 0
        while row < rows:
            if len(words) > 1:
                out += self.several_words(first, row, words, spare, sums)
                row += 1
                continue
            lines, registers = self.word_of_rows(first, range(row, rows), words[0], spare, sums)
            out += lines
            for register in registers:
                out += self.word(row, words[0], register, sums)
                row += 1
        return out

    def word(self, row: int, word: Word, register: str, sums: _Sums) -> list[str]:
        """The products of a word in `register`."""
        out = [f"sxtb16 {_ODD}, {register}, ror #8", f"sxtb16 {_EVEN}, {register}"]
        return out + self.products(row, word, sums)

    def several_words(
        self, first: int, row: int, words: tuple[Word, ...], spare: list[str], sums: _Sums
    ) -> list[str]:
        """Words of a row, two at a time if there is a register for another one."""
        pointer, *more = spare
        place = first * self.p.strides[0] + row
        registers = (_EVEN, *more[:1])
        out = [f"ldr {pointer}, {self.slot(f'row{place}')}"]
        for i in range(0, len(words), len(registers)):
            some = list(zip(words[i : i + len(registers)], registers, strict=False))
            for w, r in some:
                out += self.load(r, pointer, w, place, first)
            if some[-1][0] is words[-1] and self.moves(place, words[-1], first):
                out.append(f"str {pointer}, {self.slot(f'row{place}')}")
            for w, r in some:
                out += self.word(row, w, r, sums)
        return out

    def word_of_rows(
        self, first: int, rows: range, word: Word, spare: list[str], sums: _Sums
    ) -> tuple[list[str], list[str]]:
        """Loads of the same word of the first of `rows`, as many as there are registers for, and
        these registers. A sum that starts with a row, or behind it, leaves its register to it."""
        p = self.p
        base = first * p.strides[0]
        targets: list[str] = []
        pointers: list[str] = []
        for row in rows[:4]:
            moves = self.moves(base + row, word, first)
            if not targets:
                targets, pointers = [_EVEN], [_ODD if moves else _EVEN]
                continue
            late = [s for s in sums.values() if s.row * p.strides[0] >= row and not s.start]
            free = [r for r in (*(s.register for s in late), *spare)
                    if r not in targets and r not in pointers]  # fmt: skip
            if len(free) < 1 + moves:
                break
            targets.append(free[0])
            pointers.append(free[1] if moves else free[0])
        own = [base + rows[0] + i for i in range(len(targets))]
        out = [f"ldr {q}, {self.slot(f'row{i}')}" for i, q in zip(own, pointers, strict=True)]
        for i, target, q in zip(own, targets, pointers, strict=True):
            out += self.load(target, q, word, i, first)
        for i, q in zip(own, pointers, strict=True):
            if self.moves(i, word, first):
                out.append(f"str {q}, {self.slot(f'row{i}')}")
        return out, targets

    def moves(self, row: int, word: Word, first: int) -> bool:
        """Whether this is the last use of the pointer to a row in this channel."""
        step, taps = self.p.strides[0], self.p.taps[0]
        later = any(
            u * step <= row < (u + n - 1) * step + taps for u, n in self.passes() if u > first
        )
        end = word.outputs[-1] == self.p.out_width - 1
        return end and not later

    def load(self, target: str, pointer: str, word: Word, row: int, first: int) -> list[str]:
        """A word by a pointer to the last one of its row."""
        if not self.moves(row, word, first):
            back = self.last - word.start
            return [f"ldr {target}, [{pointer}{f', #-{back}' if back else ''}]"]
        pitch = self.p.x_strides[2]
        if pitch < 256:
            return [f"ldr {target}, [{pointer}], #{pitch}"]
        return [f"ldr {target}, [{pointer}]", *asm.add(pointer, pointer, pitch, pointer)]

    def products(self, row: int, word: Word, sums: _Sums) -> list[str]:
        """What a word of input row `row` of the pass adds to its sums."""
        p = self.p
        out = []
        for s in sums.values():
            tap = row - s.row * p.strides[0]
            if s.column not in word.outputs or not 0 <= tap < p.taps[0]:
                continue
            add = s.register if tap else s.start
            for op, x, w in self.taps(tap, word, s.column):
                if add:
                    out.append(f"smla{op} {s.register}, {x}, {w}, {add}")
                else:
                    out.append(f"smu{'ad' if op == 'd' else 'l' + op} {s.register}, {x}, {w}")
                add = s.register
        return out

    def taps(self, tap: int, word: Word, output: int) -> list[tuple[str, str, str]]:
        """Products of row `tap` of the window as (smlaXX, operand, weights)."""
        p = self.p
        begin = output * p.strides[1] - p.left - word.start
        first, last = (c - word.start for c in inside(p, output))
        pair, middle = _PAIRS[tap], _MIDDLES[tap // 2]
        halves = {0: (pair, "b"), 1: (middle, "bt"[tap % 2]), 2: (pair, "t")}
        found: list[tuple[str, str, str]] = []
        left = [t for t in range(p.taps[1]) if first <= begin + t <= last]
        if begin in (0, 1) and {0, 2} <= set(left):
            found.append(("d", (_EVEN, _ODD)[begin], pair))
            left = [1]
        for t in left:
            at = begin + t
            weights, half = halves[t]
            found.append((f"{'bt'[at // 2]}{half}", (_EVEN, _ODD)[at % 2], weights))
        return found

    def finish(self, first: int, sums: list[Sum]) -> list[str]:
        """Sums to results."""
        p = self.p
        registers = [s.register for s in sums]
        constants = (_EVEN, _ODD)
        load = [f"ldr {r}, {self.slot(f'scale{i}')}" for i, r in enumerate(constants)]
        if isinstance(p.scaling, Line):
            out = [*load, *p.scaling.apply(registers, 0, constants)]
        else:
            assert isinstance(p.scaling, Twice)
            out = [*load, *p.scaling.start(registers, 0, constants)]
            out += [f"ldr {r}, {self.slot(f'scale{i + 2}')}" for i, r in enumerate(constants)]
            out += p.scaling.finish(registers, constants)
        for s in sums:
            pixel = (first + s.row) * p.out_width + s.column
            out += asm.store("strb", s.register, "r3", pixel * p.y_pixel, _EVEN)
        return out
