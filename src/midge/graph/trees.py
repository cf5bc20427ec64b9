"""Decision trees as the tables of the operator `tree_ensemble`, built by frontends.

A split sends a sample on to `then` if x[feature] <= threshold, else to `other`. Every other
comparison is brought to that form without changing what any sample does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from midge.core.damage import DamageError
from midge.core.types import Array, DType

EQUAL, MISSING = 1, 2
"""Bits of a split's mode: x == threshold instead of x <= threshold; NaN goes to `then`."""

Row = tuple[tuple[int, float], ...]  # targets and values


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a tree adds: (target, value)."""

    row: Row


@dataclass(frozen=True, slots=True)
class Split:
    """A decision; `then` and `other` say what comes next: numbers of the tree's nodes."""

    feature: int
    threshold: float
    then: int
    other: int
    mode: int = 0


@dataclass(frozen=True, slots=True)
class Tables:
    """The constants of a `tree_ensemble`, as the operator's file describes them."""

    thresholds: Array
    splits: Array
    roots: Array
    targets: Array
    values: Array
    depth: int


def floor_to(threshold: float, dtype: DType) -> float | bool:
    """The greatest value of `dtype` that is not above `threshold`: x <= threshold exactly if x <=
    that, for every x of `dtype`. True or False for integers that all, or none, are below."""
    if dtype is DType.F32:
        with np.errstate(over="ignore"):
            near = np.float32(threshold)
        lower = near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf))
        return float(lower)
    if threshold >= dtype.max:
        return True
    return False if threshold < dtype.min else math.floor(threshold)


def below(threshold: float, dtype: DType) -> float:
    """What makes x < threshold the same as x <= below(threshold)."""
    if dtype is not DType.F32:
        return math.ceil(threshold) - 1 if math.isfinite(threshold) else threshold
    floor = floor_to(threshold, dtype)
    if floor < threshold:
        return float(floor)
    return float(np.nextafter(np.float32(floor), np.float32(-np.inf)))


@dataclass(slots=True)
class Trees:
    """Collects trees. dtype: of the features."""

    dtype: DType
    thresholds: list[float] = field(default_factory=list)
    splits: list[list[int]] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)
    rows: dict[Row, int] = field(default_factory=dict)
    depth: int = 0

    def add(self, node: Callable[[int], Leaf | Split], root: int = 0) -> None:
        """The tree whose node number `i` is `node(i)`; a node that two splits lead to is written
        twice. DamageError if it is no tree: it must not lead back to itself."""
        top = [0]
        # number, where its place is noted, splits above it
        waiting: list[tuple[int, list[int], int, int]] = [(root, top, 0, 0)]
        limit = len(self.splits) + MOST_SPLITS
        while waiting:
            number, where, column, depth = waiting.pop()
            found = self._certain(node, number)
            if isinstance(found, Leaf):
                where[column] = ~self.rows.setdefault(found.row, len(self.rows))
                continue
            if len(self.splits) >= limit or depth >= MOST_DEPTH:
                raise DamageError("a tree without an end")
            where[column] = len(self.splits)
            self.depth = max(self.depth, depth + 1)
            split = [found.feature, 0, 0, found.mode]
            self.thresholds.append(float(self._threshold(found)))
            self.splits.append(split)
            waiting.append((found.other, split, 2, depth + 1))
            waiting.append((found.then, split, 1, depth + 1))
        self.roots.append(top[0])

    def _certain(self, node: Callable[[int], Leaf | Split], number: int) -> Leaf | Split:
        """The first node from `number` on at which not all samples go the same way."""
        for _ in range(MOST_DEPTH):
            found = node(number)
            if isinstance(found, Leaf) or (known := self._known(found)) is None:
                return found
            number = found.then if known else found.other
        raise DamageError("a tree without an end")

    def _threshold(self, s: Split) -> float | bool:
        return s.threshold if s.mode & EQUAL else floor_to(s.threshold, self.dtype)

    def _known(self, s: Split) -> bool | None:
        """Where a split sends every value of the features' type, if it sends all the same way."""
        if s.mode & EQUAL:
            stored = np.float32(s.threshold) if self.dtype is DType.F32 else round(s.threshold)
            whole = self.dtype is DType.F32 or self.dtype.min <= s.threshold <= self.dtype.max
            return None if float(stored) == s.threshold and whole else False
        floor = self._threshold(s)
        return floor if isinstance(floor, bool) else None

    def tables(self, dtype: DType, *, repeat: bool = False) -> Tables:
        """Values as `dtype`, of which they must be values. repeat: where leaves have fewer values
        than others, the last one stands again (for the greatest or least of them), not 0."""
        width = max((len(row) for row in self.rows), default=1) or 1
        rows = [_padded(row, width, repeat) for row in self.rows]
        targets = np.array([[t for t, _ in row] for row in rows], np.int32)
        values = np.array([[v for _, v in row] for row in rows], dtype.numpy)
        splits = self.splits or [[0, -1, -1, 0]]
        return Tables(
            np.array(self.thresholds or [0], self.dtype.numpy),
            np.array(splits, np.int32),
            np.array(self.roots, np.int32),
            targets,
            values,
            self.depth,
        )


MOST_SPLITS = 1 << 20
MOST_DEPTH = 4096


def _padded(row: Row, width: int, repeat: bool) -> Row:
    """A row of `width` entries; further ones change nothing."""
    further = row[-1] if repeat and row else (0, 0)
    return (*row, *(further for _ in range(width - len(row))))


def fixed_point(values: Sequence[float], most: int) -> tuple[Fraction, DType]:
    """How real `values`, of which at most `most` are added up, are stored as integers: value *
    factor, and the type that holds the sums.

    Where the values are fractions of a common denominator, that is the factor and nothing is
    rounded. Else it is the greatest power of two for which no sum overflows 63 bits: each value
    is then off by at most half of its inverse.
    """
    largest = max((abs(v) for v in values), default=0.0) or 1.0
    common = _denominator(values)
    if common is not None:
        for dtype in (DType.U8, DType.I32):
            low = 0 if dtype is DType.U8 else -dtype.max
            if min(values) * common * most >= low and largest * common * most <= dtype.max:
                return Fraction(common), dtype
    fraction, exponent = math.frexp(largest)
    bits = 62 - exponent - math.frexp(fraction * most)[1]
    return Fraction(2) ** min(bits, _MOST_BITS), DType.I64


# Beyond 2^-149 a binary32 number has no bits.
_MOST_BITS = 62 + 149
_MOST_DENOMINATOR = 1 << 24


def _denominator(values: Sequence[float]) -> int | None:
    """The least number of which all values are fractions up to the rounding of binary64."""
    common = 1
    for value in values:
        near = Fraction(value).limit_denominator(4096)
        if float(near) != value:
            return None
        common = math.lcm(common, near.denominator)
        if common > _MOST_DENOMINATOR:
            return None
    return common
