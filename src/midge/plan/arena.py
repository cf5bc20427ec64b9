"""One arena for all tensors of a model: rows of streams, bands that lie anywhere, scratch memory.

Time counts calls, in steps: within a call that reads and writes in a known order, columns of the
input die before columns of the output are born, so that the output may lie over its dying input at
the exact safe distance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from midge.plan.buffers import Buffer, Piece, Plan, disjoint
from midge.plan.rows import Call, Life, Span, Stage, lives

Planner = Callable[[Sequence[Buffer]], Plan]


_MOST_PIECES = 1 << 15  # of a block of rows


@dataclass(frozen=True, slots=True)
class Stream:
    """A tensor of `height` rows of `row` bytes. pixel: bytes of a column of a row.

    bands: rows that lie in one piece, each band anywhere; () if the whole tensor is one piece.
    plane: where the rows of a band lie channel by channel, bytes from channel to channel.
    channel: bytes of a row of one channel then.
    """

    name: str
    height: int
    row: int
    pixel: int
    align: int = 4
    bands: tuple[Span, ...] = ()
    plane: int = 0
    channel: int = 0

    @property
    def blocks(self) -> tuple[Span, ...]:
        """The rows of each piece."""
        return self.bands or ((0, self.height),)

    def size(self, block: Span) -> int:
        """Bytes of a block."""
        count = block[1] - block[0]
        if not self.plane:
            return count * self.row
        return (self.row // self.channel - 1) * self.plane + count * self.channel

    @property
    def step(self) -> int:
        """Bytes from row to row of a block."""
        return self.channel if self.plane else self.row


@dataclass(frozen=True, slots=True)
class Work:
    """What a call needs beside its rows. inplace: streams over whose rows it may write, byte for
    byte.  scratch: memory of its own, name -> bytes.  order: (columns of dying rows of `over` that
    are no more read, columns of the output that are written) after each part of the call; columns
    of the whole tensor, row after row, if the call makes all of it."""

    inplace: tuple[str, ...] = ()
    scratch: Mapping[str, int] = field(default_factory=dict)
    order: tuple[tuple[int, int], ...] = ()
    over: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is to be placed. works: for each band of each stage."""

    stages: tuple[Stage, ...]
    works: tuple[tuple[Work, ...], ...]
    streams: Mapping[str, Stream]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Arena:
    """calls: in the order of execution.  rows: the offset of every row of every stream.  scratch:
    the offset of scratch memory for every band of its stage.  buffers, plan: what was placed.
    live: bytes alive in each call.  steps: units of time of a call."""

    calls: tuple[Call, ...]
    rows: Mapping[str, tuple[int, ...]]
    scratch: Mapping[str, tuple[int, ...]]
    buffers: tuple[Buffer, ...]
    plan: Plan
    live: tuple[int, ...]
    lives: Mapping[str, tuple[Life, ...]]
    steps: int

    @property
    def size(self) -> int:
        return self.plan.peak

    def offset(self, name: str) -> int:
        """Where a stream that lies in one piece, or scratch memory of one call, starts."""
        return self.scratch[name][0] if name in self.scratch else self.rows[name][0]


@dataclass(slots=True)
class _Blocks:
    """Pieces of blocks, and which blocks share a place."""

    layout: Layout
    calls: tuple[Call, ...]
    found: Mapping[str, tuple[Life, ...]]
    steps: int
    owner: dict[str, str] = field(default_factory=dict)

    def buffers(self) -> list[Buffer]:
        self.share()
        pieces: dict[str, list[Piece]] = {}
        aligns: dict[str, int] = {}
        for stream in self.layout.streams.values():
            for number, block in enumerate(stream.blocks):
                own = self.base(_name(stream, number))
                pieces.setdefault(own, []).extend(self.block(stream, block))
                aligns[own] = max(aligns.get(own, 1), stream.align)
        for at, call in enumerate(self.calls):
            for name, size in self.work(call).scratch.items():
                own = scratch_name(name, call.band)
                start, stop = at * self.steps, (at + 1) * self.steps
                pieces.setdefault(own, []).append(Piece(0, size, start, stop))
                aligns[own] = 4
        return [
            Buffer(n, tuple(p for p in own if p.size), max(aligns[n], 1))
            for n, own in pieces.items()
        ]

    def work(self, call: Call) -> Work:
        return self.layout.works[call.stage][call.band]

    def block(self, stream: Stream, block: Span) -> Iterator[Piece]:
        """Rows of a block, or all of it where rows lie between each other or are very many."""
        lives = self.found[stream.name]
        if stream.plane or block[1] - block[0] > _MOST_PIECES:
            births = min(self.birth(lives[r]) for r in range(*block))
            if stream.plane:
                # Each part writes some columns of every channel: the first one all over the block.
                parts = self.parts(lives[block[0]].birth, stream, block[0], written=True)
                births = parts[0][1] if parts else births
            stop = max(self.death(lives[r]) for r in range(*block))
            yield Piece(0, stream.size(block), births, stop)
            return
        for row in range(*block):
            yield from self.row(stream, row, (row - block[0]) * stream.row)

    def row(self, stream: Stream, row: int, offset: int) -> Iterator[Piece]:
        """A row in parts that are born and die at different steps."""
        life = self.found[stream.name][row]
        columns = stream.row // stream.pixel
        births = self.parts(life.birth, stream, row, written=True)
        deaths = self.parts(life.death, stream, row, written=False)
        cuts = sorted({0, columns, *(c for c, _ in births), *(c for c, _ in deaths)})
        for start, stop in pairwise(cuts):
            born = next((t for c, t in births if start < c), self.birth(life))
            dead = next((t for c, t in deaths if start < c), self.death(life))
            if born < dead:
                at, size = offset + start * stream.pixel, (stop - start) * stream.pixel
                yield Piece(at, size, born, dead)

    def parts(self, at: int, stream: Stream, row: int, written: bool) -> list[tuple[int, int]]:
        """(columns of the row, the step from which all below are written, or no more read) in the
        call `at`, where that call has a known order."""
        if not 0 <= at < len(self.calls):
            return []
        work = self.work(self.calls[at])
        stage = self.layout.stages[self.calls[at].stage]
        ours = stage.writes == stream.name if written else work.over == stream.name
        if not work.order or not ours:
            return []
        columns = stream.row // stream.pixel
        span = stage.bands[self.calls[at].band]
        first = row * columns if span[1] - span[0] > 1 or len(stage.bands) == 1 else 0
        found, before = [], 0
        for part, pair in enumerate(work.order):
            column = min(max(pair[written] - first, 0), columns)
            if column > before:
                found.append((column, at * self.steps + 2 * part + 1))
                before = column
        return found

    def birth(self, life: Life) -> int:
        return max(life.birth, 0) * self.steps

    def death(self, life: Life) -> int:
        """Rows of an input that nobody reads are still written by the caller, at the start."""
        return max(min(life.death + 1, len(self.calls)) * self.steps, 1)

    def share(self) -> None:
        """Outputs that are written over an input that dies in the same call, byte for byte."""
        for at, call in enumerate(self.calls):
            stage = self.layout.stages[call.stage]
            y = self.layout.streams[stage.writes]
            target = _block_of(y, stage.bands[call.band])
            for name in self.work(call).inplace:
                x = self.layout.streams[name]
                source = _block_of(x, stage.bands[call.band])
                if target is None or source is None or name == stage.writes:
                    continue
                a, b = x.blocks[source], y.blocks[target]
                dies = all(self.found[name][r].death == at for r in range(*a))
                born = all(self.found[y.name][r].birth == at for r in range(*b))
                same = x.size(a) == y.size(b) and x.plane == y.plane
                if dies and born and same and a == b:
                    self.owner[_name(y, target)] = _name(x, source)
                    break

    def base(self, name: str) -> str:
        while name in self.owner:
            name = self.owner[name]
        return name


def _block_of(stream: Stream, span: Span) -> int | None:
    """The block that is just those rows."""
    return next((i for i, block in enumerate(stream.blocks) if block == span), None)


def scratch_name(name: str, band: int) -> str:
    """The buffer of scratch memory in one call: each may lie elsewhere."""
    return f"{name}@{band}"


def _name(stream: Stream, block: int) -> str:
    return f"{stream.name}#{block}" if stream.bands else stream.name


def prepare(layout: Layout, calls: Sequence[Call]) -> _Blocks:
    """The rows' lives under an order of calls."""
    heights = {name: s.height for name, s in layout.streams.items()}
    found = lives(layout.stages, calls, heights, frozenset(layout.outputs))
    longest = max((len(w.order) for own in layout.works for w in own), default=0)
    return _Blocks(layout, tuple(calls), found, 2 * longest + 2)


def place(layout: Layout, calls: Sequence[Call], planner: Planner) -> Arena:
    """All of `layout` in one arena, for this order of calls."""
    blocks = prepare(layout, calls)
    buffers = blocks.buffers()
    result: Plan = planner(buffers)
    rows: dict[str, tuple[int, ...]] = {}
    for name, stream in layout.streams.items():
        offsets: list[int] = []
        for number, block in enumerate(stream.blocks):
            start = result.offsets[blocks.base(_name(stream, number))]
            offsets += [start + i * stream.step for i in range(block[1] - block[0])]
        rows[name] = tuple(offsets)
    scratch = {
        name: tuple(
            result.offsets[scratch_name(name, band)] if name in work.scratch else 0
            for band, work in enumerate(own)
        )
        for own in layout.works
        for name in dict.fromkeys(n for w in own for n in w.scratch)
    }
    live = busiest_of_calls(buffers, len(calls), blocks.steps)
    return Arena(
        tuple(calls), rows, scratch, tuple(buffers), result, live, blocks.found, blocks.steps
    )


def busiest_of_calls(buffers: Sequence[Buffer], calls: int, steps: int) -> tuple[int, ...]:
    """The most bytes alive at any step of each call."""
    end = calls * steps
    changes = np.zeros(end + 1, np.int64)
    for buffer in buffers:
        for p in disjoint(buffer.pieces):
            changes[p.start] += p.size
            changes[min(p.stop, end)] -= p.size
    alive = np.cumsum(changes[:end]).reshape(calls, steps)
    return tuple(alive.max(axis=1, initial=0).tolist())
