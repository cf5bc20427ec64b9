"""Which differences of offsets are forbidden between buffers that are alive together.

Piece p of buffer a and piece q of buffer b, alive at one time, have a byte in common exactly when
-(q's end - p's offset) < offset of b - offset of a < p's end - q's offset. So all that planning
needs to know of two buffers is a union of open intervals, computed once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd

import numpy as np
from numpy.typing import NDArray

from midge.plan.buffers import Buffer, Piece, disjoint

Ints = NDArray[np.int64]

# Pairs of pieces that are looked at in one go.
PAIRS = 1 << 20


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
    """(a, b, low, high) for every two pieces of buffers a < b that are alive at one time, in parts
    that memory has room for."""
    rows = sorted((p.start, p.stop, p.offset, p.end, i) for i, ps in enumerate(pieces) for p in ps)
    start, stop, offset, end, owner = np.array(rows, np.int64).reshape(-1, 5).T
    # Sorted by birth, a piece meets of those after it the ones that are born before it dies.
    after = np.arange(len(rows)) + 1
    count = np.searchsorted(start, stop, side="left") - after
    part = np.cumsum(count) // PAIRS
    for k in range(int(part.max(initial=0)) + 1):
        these = np.flatnonzero(part == k)
        many = count[these]
        p = np.repeat(these, many)
        q = np.arange(len(p)) - np.repeat(np.cumsum(many) - many, many) + p + 1
        apart = owner[p] != owner[q]
        p, q = p[apart], q[apart]
        swap = owner[p] > owner[q]
        p, q = np.where(swap, q, p), np.where(swap, p, q)
        # An open interval of bytes holds the same multiples of `unit` as this one of units.
        low = (offset[p] - end[q]) // unit
        high = -((offset[q] - end[p]) // unit)
        yield owner[p], owner[q], low, high


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
