"""Which bytes of the arena hold something after which call, for a checked run."""

from __future__ import annotations

from bisect import bisect_right

from midge.codegen.arrange import layout_of
from midge.core.package import Place
from midge.loop.program import Program
from midge.plan.arena import Arena, scratch_name
from midge.plan.buffers import Piece


def places_of(program: Program, arena: Arena) -> tuple[Place, ...]:
    """Every piece of every buffer of `arena`, in the time of the package's calls. Rows that the
    caller hands over count as written in the calls before and after that."""
    finder = _Finder(program, arena)
    return tuple(
        finder.place(buffer.name, piece)
        for buffer in arena.buffers
        for piece in buffer.pieces
        if piece.size and piece.start < piece.stop
    )


class _Finder:
    """Between the arena's calls, of which some are rows of the input, and the package's."""

    def __init__(self, program: Program, arena: Arena) -> None:
        layout = layout_of(program)
        self.arena, self.stages, self.first = arena, layout.stages, len(program.arriving)
        self.inputs = {v for v in layout.inputs if v not in program.arriving}
        self.kernels = [a for a, c in enumerate(arena.calls) if c.stage >= self.first]
        self.scratch = {
            scratch_name(name, band)
            for name, bands in arena.scratch.items()
            for band in range(len(bands))
        }

    def place(self, name: str, piece: Piece) -> Place:
        steps, end = self.arena.steps, len(self.arena.calls) * self.arena.steps
        at = self.arena.plan.offsets[name] + piece.offset
        start, stop = piece.start // steps, (piece.stop - 1) // steps
        last = len(self.kernels) if piece.stop >= end else self.call(stop)
        writes = self.writes(name, start, stop)
        if piece.start == 0 and name in self.inputs:
            writes = (-1, *writes)
        return Place(name.partition("@")[0], at, piece.size, writes, last)

    def call(self, at: int) -> int:
        """The package's call that is at `at` or the one before it; -1: before the first."""
        return bisect_right(self.kernels, at) - 1

    def writes(self, name: str, at: int, last: int) -> tuple[int, ...]:
        """The package's calls that write what is born in the arena's call `at`, up to `last`."""
        call, own = self.arena.calls[at], self.call(at)
        stage = self.stages[call.stage]
        if call.stage < self.first:
            return own, own + 1
        if name in self.scratch:
            return (own,)
        stages = [i for i, s in enumerate(self.stages) if s.writes == stage.writes]
        if len(stages) > 1:
            some = range(at, last + 1)
            return tuple(self.call(a) for a in some if self.arena.calls[a].stage in stages)
        if not stage.accumulates:
            return (own,)
        calls = (a for a, c in enumerate(self.arena.calls) if c.stage == call.stage)
        return tuple(self.call(a) for a in calls)
