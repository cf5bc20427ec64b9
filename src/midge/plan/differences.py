"""Which differences of offsets are forbidden between buffers that are alive together.

Piece p of buffer a and piece q of buffer b, alive at one time, have a byte in common exactly when
-(q's end - p's offset) < offset of b - offset of a < p's end - q's offset. So all that planning
needs to know of two buffers is a union of open intervals, computed once.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import numpy as np
from numpy.typing import NDArray

from midge.plan.buffers import Buffer, Piece, disjoint

Ints = NDArray[np.int64]

# Pairs of runs that are looked at in one go.
PAIRS = 1 << 16


@dataclass(frozen=True, slots=True)
class Problem:
    """Buffers as arrays. Offsets are counted in units of `unit` bytes, the greatest common divisor
    of all alignments, sizes in bytes.

    sizes, steps: of each buffer, its bytes and the units that its offset is a multiple of.
    others[i], low[i], high[i]: buffer others[i][k] at offset o forbids buffer i the offsets
    o + low[i][k] < offset < o + high[i][k]. The intervals of one pair of buffers are disjoint.
    pieces[i]: of buffer i, disjoint.
    """

    unit: int
    sizes: Ints
    steps: Ints
    others: tuple[Ints, ...]
    low: tuple[Ints, ...]
    high: tuple[Ints, ...]
    pieces: tuple[tuple[Piece, ...], ...]

    def __len__(self) -> int:
        return len(self.sizes)

    def ceilings(self, limit: int) -> Ints:
        """The highest offset of each buffer with which it ends below `limit` bytes; may be < 0."""
        highest: Ints = (limit - self.sizes) // self.unit // self.steps * self.steps
        return highest

    def peak(self, offsets: Ints) -> int:
        """Bytes of the arena with these offsets."""
        return int((offsets * self.unit + self.sizes).max(initial=0))

    def valid(self, offsets: Ints) -> bool:
        """Whether these offsets are aligned and none forbids another."""
        if (offsets < 0).any() or (offsets % self.steps).any():
            return False
        for at, others, low, high in zip(offsets, self.others, self.low, self.high, strict=True):
            apart = at - offsets[others]
            if ((low < apart) & (apart < high)).any():
                return False
        return True


def problem(buffers: Sequence[Buffer]) -> Problem:
    """The arrays of `buffers`, in their order."""
    unit = gcd(*(b.align for b in buffers)) or 1
    pieces = tuple(disjoint(b.pieces) for b in buffers)
    found = [np.stack(_merged(*rows)) for rows in _intervals(pieces, unit)]
    first, second, low, high = _merged(*np.concatenate(found, axis=1))
    where = np.concatenate([second, first])  # from the side of either buffer
    others = np.concatenate([first, second])
    lows = np.concatenate([low, -high])
    highs = np.concatenate([high, -low])
    order = np.argsort(where, kind="stable")
    cuts = np.searchsorted(where[order], np.arange(len(buffers) + 1)).tolist()

    def split(values: Ints) -> tuple[Ints, ...]:
        """The part of each buffer: views of one array."""
        by_buffer = values[order]
        return tuple(by_buffer[a:b] for a, b in pairwise(cuts))

    return Problem(
        unit,
        np.array([b.size for b in buffers], np.int64),
        np.array([b.align // unit for b in buffers], np.int64),
        split(others),
        split(lows),
        split(highs),
        pieces,
    )


def _intervals(
    pieces: Sequence[Sequence[Piece]], unit: int
) -> Iterator[tuple[Ints, Ints, Ints, Ints]]:
    """(a, b, low, high) for every two runs of bytes of buffers a < b that are alive at one time, in
    parts that memory has room for."""
    rows = array("q")
    for pair in _meetings(pieces):
        rows.extend(pair)
        if len(rows) >= 6 * PAIRS:
            yield _forbidden(rows, unit)
            rows = array("q")
    yield _forbidden(rows, unit)


# Two buffers, each with the first of its bytes in a run and the end of that.
Meeting = tuple[int, int, int, int, int, int]


def _meetings(pieces: Sequence[Sequence[Piece]]) -> Iterator[Meeting]:
    """The runs that are alive together: of what is born, with all others that are alive then.

    Of neighbours that are alive at one time the intervals overlap: a run stands for its pieces. An
    image, whose rows die part by part, is one run most of the time, and thousands of pieces.
    """
    born: dict[int, dict[int, list[Piece]]] = {}  # time -> buffer -> pieces
    dead: list[tuple[int, int, Piece]] = []
    for owner, own in enumerate(pieces):
        for piece in own:
            born.setdefault(piece.start, {}).setdefault(owner, []).append(piece)
            dead.append((piece.stop, owner, piece))
    dead.sort(key=lambda d: d[0], reverse=True)
    alive: dict[int, _Runs] = {}
    for time in sorted(born):
        while dead and dead[-1][0] <= time:
            _, owner, piece = dead.pop()
            alive[owner].remove(piece.offset, piece.end)
            if not alive[owner].starts:
                del alive[owner]
        for owner, own in born[time].items():
            yield from _born(owner, own, alive)


def _born(owner: int, pieces: Sequence[Piece], alive: dict[int, _Runs]) -> Iterator[Meeting]:
    """Pieces of one buffer, which are alive from now on, with all others."""
    fresh = _Runs()
    for piece in pieces:
        fresh.add(piece.offset, piece.end)
    for start, end in fresh:
        for other, runs in alive.items():
            if other != owner:
                for low, high in runs:
                    yield owner, start, end, other, low, high
    mine = alive.setdefault(owner, _Runs())
    for start, end in fresh:
        mine.add(start, end)


class _Runs:
    """Bytes in runs that neither overlap nor touch."""

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.ends: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self.starts, self.ends, strict=True)

    def add(self, start: int, end: int) -> None:
        """Bytes of which none is there."""
        i = bisect_left(self.starts, start)
        j = i
        if i and self.ends[i - 1] == start:
            i, start = i - 1, self.starts[i - 1]
        if j < len(self.starts) and self.starts[j] == end:
            end, j = self.ends[j], j + 1
        self.starts[i:j], self.ends[i:j] = [start], [end]

    def remove(self, start: int, end: int) -> None:
        """Bytes that are all there."""
        i = bisect_right(self.starts, start) - 1
        edges = (self.starts[i], start), (end, self.ends[i])
        left = [(a, b) for a, b in edges if a < b]
        self.starts[i : i + 1] = [a for a, _ in left]
        self.ends[i : i + 1] = [b for _, b in left]


def _forbidden(rows: array[int], unit: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Of what meets: the differences of offsets that are forbidden."""
    table = np.frombuffer(rows, np.int64) if rows else np.zeros(0, np.int64)
    p, start, end, q, low, high = table.reshape(-1, 6).T
    swap = p > q
    a, b = np.where(swap, q, p), np.where(swap, p, q)
    first, first_end = np.where(swap, low, start), np.where(swap, high, end)
    second, second_end = np.where(swap, start, low), np.where(swap, end, high)
    # An open interval of bytes holds the same multiples of `unit` as this one of units.
    return a, b, (first - second_end) // unit, -((second - first_end) // unit)


def _merged(a: Ints, b: Ints, low: Ints, high: Ints) -> tuple[Ints, Ints, Ints, Ints]:
    """The union of the intervals of each pair. Intervals that only touch stay two: the point
    between them is allowed."""
    if not len(a):
        return a, b, low, high
    # Pairs are lifted apart, so that one key sorts them and one running maximum serves them all.
    lift = (a * (b.max() + 1) + b) * 2 * (np.maximum(np.abs(low), np.abs(high)).max() + 1)
    order = np.argsort(low + lift, kind="stable")
    a, b, low, high, lift = a[order], b[order], low[order], high[order], lift[order]
    reach = np.maximum.accumulate(high + lift) - lift
    opens = np.append(True, low[1:] >= reach[:-1])
    opens[1:] |= lift[1:] != lift[:-1]
    starts = np.flatnonzero(opens)
    lasts = np.append(starts[1:], len(a)) - 1
    return a[starts], b[starts], low[starts], reach[lasts]
