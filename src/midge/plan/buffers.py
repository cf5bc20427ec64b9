"""What is planned, and what comes out: pieces of buffers with lifetimes, offsets in one arena."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Piece:
    """Bytes offset <= byte < offset + size of a buffer, alive at times start <= time < stop."""

    offset: int
    size: int
    start: int
    stop: int

    def __post_init__(self) -> None:
        assert self.offset >= 0, f"{self} starts before its buffer"
        assert self.size >= 0, f"{self} has a negative size"
        assert self.start <= self.stop, f"{self} dies before it is born"

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Buffer:
    """Moves as a whole; its pieces may be alive at different times, bytes between them are free.

    Its offset in the arena is a multiple of `align` bytes.
    """

    name: str
    pieces: tuple[Piece, ...]
    align: int = 4

    def __post_init__(self) -> None:
        assert self.align > 0, f"{self.name}: alignment {self.align}"

    @staticmethod
    def solid(name: str, size: int, start: int, stop: int, align: int = 4) -> Buffer:
        """One whose bytes are all alive at times start <= time < stop."""
        return Buffer(name, (Piece(0, size, start, stop),), align)

    @property
    def size(self) -> int:
        """Bytes from its offset to the end of its last piece."""
        return max((p.end for p in self.pieces), default=0)


@dataclass(frozen=True, slots=True)
class Plan:
    """offsets by name; peak: bytes of the arena; lower_bound: no plan is smaller, proven;
    busiest: the first time at which the most bytes are alive; proven: no plan is smaller than
    this one.  pools: (name, first address, bytes used) of each memory, if there are several."""

    offsets: Mapping[str, int]
    peak: int
    lower_bound: int
    busiest: int
    proven: bool
    pools: tuple[tuple[str, int, int], ...] = ()


def live_bytes(buffers: Iterable[Buffer], time: int) -> int:
    """Bytes alive at `time`; where pieces of one buffer overlap they count once."""
    return sum(p.size for b in buffers for p in disjoint(b.pieces) if p.start <= time < p.stop)


def busiest_time(buffers: Sequence[Buffer]) -> tuple[int, int]:
    """The most bytes alive at one time, and the first such time; (0, 0) when nothing is alive."""
    changes: dict[int, int] = {}
    for b in buffers:
        for p in disjoint(b.pieces):
            changes[p.start] = changes.get(p.start, 0) + p.size
            changes[p.stop] = changes.get(p.stop, 0) - p.size
    best, at, live = 0, 0, 0
    for time in sorted(changes):
        live += changes[time]
        if live > best:
            best, at = live, time
    return best, at


def disjoint(pieces: Sequence[Piece]) -> tuple[Piece, ...]:
    """The same bytes at the same times, in few pieces that have none in common and are not empty.

    Sorted by offset, then by time.
    """
    alive = sorted((p for p in pieces if p.size and p.start < p.stop), key=_place)
    if any(b.offset < a.end for a, b in pairwise(alive)):
        alive = [p for low, high, at in _strips(alive) for p in _alone(low, high, at)]
    joined: list[Piece] = []
    ends: dict[tuple[int, int, int], int] = {}  # where and when a piece ends -> its place in joined
    for p in alive:
        before = ends.pop((p.offset, p.start, p.stop), None)
        if before is None:
            before = len(joined)
            joined.append(p)
        else:
            q = joined[before]
            joined[before] = Piece(q.offset, q.size + p.size, q.start, q.stop)
        ends[p.end, p.start, p.stop] = before
    return tuple(joined)


def _place(piece: Piece) -> tuple[int, int]:
    return piece.offset, piece.start


def _strips(pieces: Sequence[Piece]) -> Iterator[tuple[int, int, list[Piece]]]:
    """(low, high, the pieces that cover it) between every two edges; pieces are sorted."""
    edges = sorted({e for p in pieces for e in (p.offset, p.end)})
    waiting = deque(pieces)
    covering: list[Piece] = []
    for low, high in pairwise(edges):
        covering = [p for p in covering if p.end > low]
        while waiting and waiting[0].offset == low:
            covering.append(waiting.popleft())
        yield low, high, covering


def _alone(low: int, high: int, pieces: Sequence[Piece]) -> list[Piece]:
    spans = _union((p.start, p.stop) for p in pieces)
    return [Piece(low, high - low, start, stop) for start, stop in spans]


def _union(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Half-open spans of times that cover the same times, sorted and apart."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], stop))
        else:
            merged.append((start, stop))
    return merged
