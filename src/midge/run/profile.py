"""Where an operator spends its cycles: the code that it ran, instruction by instruction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

from midge.core.runner import Run
from midge.run.cycles import CycleModel
from midge.run.machine_code import Instruction, Isa, disassemble
from midge.toolchain import Image


@dataclass(frozen=True, slots=True)
class BlockRun:
    """Code that ran `count` times from its first instruction to its last, and from there went on
    elsewhere than behind itself `taken` times. Blocks of one run may overlap."""

    address: int
    code: bytes
    count: int
    taken: int


@dataclass(frozen=True, slots=True)
class Line:
    """An instruction, and what it cost an operator.

    count: times run; taken: times it redirected control.  cycles: of one run, None without a cycle
    model; jump: what comes on top each time it redirects.  Both depend on what runs before it: they
    are those of the block that ran most often.  spent: cycles of all runs together, or their number
    without a model.
    """

    instruction: Instruction
    count: int
    taken: int
    cycles: int | None
    jump: int
    spent: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring instructions that ran equally often.  place: "function+0x12"."""

    place: str
    lines: tuple[Line, ...]

    @property
    def count(self) -> int:
        return self.lines[0].count

    @property
    def spent(self) -> int:
        """Cycles, or instructions without a cycle model."""
        return sum(line.spent for line in self.lines)


@dataclass(frozen=True, slots=True)
class Profile:
    """One inference.  blocks: what each operator of the package ran, in their order."""

    run: Run
    blocks: tuple[tuple[BlockRun, ...], ...]
    image: Image
    isa: Isa
    model: CycleModel | None

    def stretches(self, operator: int) -> tuple[Stretch, ...]:
        """All the code that an operator ran, what it spent most in first; together they spent
        exactly what `run` says of it."""
        lines: dict[int, Line] = {}
        for block in self.blocks[operator]:
            for line in self._lines(block):
                at = line.instruction.address
                lines[at] = _both(lines[at], line) if at in lines else line
        found = self._cut([lines[at] for at in sorted(lines)])
        return tuple(sorted(found, key=lambda s: (-s.spent, s.lines[0].instruction.address)))

    def spent_in(self, operator: int, addresses: range) -> int:
        """What an operator spent in the blocks that begin there: cycles, or instructions without a
        cycle model."""
        blocks = (b for b in self.blocks[operator] if b.address in addresses)
        return sum(line.spent for block in blocks for line in self._lines(block))

    def _lines(self, block: BlockRun) -> Iterator[Line]:
        """The instructions of one block."""
        parts = list(disassemble(block.code, block.address, self.isa))
        cycles, jump = self._costs(block, parts)
        for part, cost in zip(parts, cycles, strict=True):
            taken, extra = (block.taken, jump) if part is parts[-1] else (0, 0)
            spent = block.count if cost is None else block.count * cost + taken * extra
            yield Line(part, block.count, taken, cost, extra, spent)

    def _costs(self, block: BlockRun, parts: list[Instruction]) -> tuple[Sequence[int | None], int]:
        """Cycles of each instruction, which are what it adds to those before it, and of a jump."""
        if self.model is None:
            return [None] * len(parts), 0
        stops = accumulate(part.size for part in parts)
        costs = [self.model.block(block.code[:stop], block.address) for stop in stops]
        totals = (0, *(cost.cycles for cost in costs))
        return [after - before for before, after in pairwise(totals)], costs[-1].taken

    def _cut(self, lines: list[Line]) -> Iterator[Stretch]:
        """`lines`, by address, in stretches: a loop ends where its branch goes back."""
        start = 0
        places = [self.image.function_at(line.instruction.address) for line in lines]
        for i in range(1, len(lines) + 1):
            if (
                i < len(lines)
                and _goes_on(lines[i - 1], lines[i])
                and _same(*places[i - 1 : i + 1])
            ):
                continue
            place = places[start] or f"{lines[start].instruction.address:#x}"
            yield Stretch(place, tuple(lines[start:i]))
            start = i


def _both(a: Line, b: Line) -> Line:
    """One instruction as two overlapping blocks ran it."""
    usual = a if a.count >= b.count else b
    return replace(
        usual,
        count=a.count + b.count,
        taken=a.taken + b.taken,
        jump=max(a.jump, b.jump),
        spent=a.spent + b.spent,
    )


def _goes_on(line: Line, following: Line) -> bool:
    adjacent = line.instruction.address + line.instruction.size == following.instruction.address
    return adjacent and line.count == following.count and not line.taken


def _same(place: str, other: str) -> bool:
    return place.partition("+")[0] == other.partition("+")[0]
