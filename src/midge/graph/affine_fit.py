"""Integers for which a staircase of small integers is one multiplication, addition and shift.

The framework computes a sum of two int8 tensors by three fixed-point multiplications with six
roundings. As a function of its operands that is a staircase with few steps: with the right integers
y = clamp((a * A + b * B + C) >> s) has the same steps. They are looked for around the real
ratios and checked on every operand there is, so that a fit is exact or is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, DType

MOST_SHIFT = 30
_RADIUS = {1: 64, 2: 12}  # by operands: how far from the real ratio a factor is looked for
_TIGHTEST = 100  # points of each kind that decide while searching
_TRIES = 40
_FREE = -(1 << 40)  # where a point does not bind


@dataclass(frozen=True, slots=True)
class Fit:
    """y = clamp((u + (nudge if u < 0 else 0) + offset) >> shift), u = sum of factor * x + centre.

    No sum on the way leaves 32 bits. Without nudge centre is 0.
    """

    factors: tuple[int, ...]
    offset: int
    shift: int
    nudge: int = 0
    centre: int = 0


@dataclass(frozen=True, slots=True)
class Line:
    """y ~ sum of slope * x + centre + zero, in real numbers; the framework's rounding changes its
    direction where y = zero."""

    slopes: tuple[float, ...]
    centre: float
    zero: int

    def at(self, x: Array) -> Array:
        """y - zero."""
        result: Array = np.asarray(self.slopes) @ x + self.centre
        return result


@dataclass(frozen=True, slots=True)
class Staircase:
    """What to fit: y [points], limited to low..high, at operands x [operands, points]; i64."""

    x: Array
    y: Array
    low: int
    high: int

    def fit(
        self, line: Line, *, may_nudge: bool = True, most_shift: int = MOST_SHIFT
    ) -> Fit | None:
        """Integers near `line` that give every y, if possible without a nudge."""
        for nudged in (False, True)[: 1 + may_nudge]:
            shift = min(self.largest_shift(line, nudged), most_shift)
            found = self._search(line, shift, nudged) if shift >= 0 else None
            if found is not None and self._fits_32_bits(found):
                return found
        return None

    def _search(self, line: Line, shift: int, nudged: bool) -> Fit | None:
        """Few points decide between the candidates: the tightest, and then also those on which a
        chosen candidate fails."""
        factors = _around(line.slopes, shift)
        centre = round(line.centre * (1 << shift))
        points = self._tightest(line)
        for _ in range(_TRIES):
            few = Staircase(self.x[:, points], self.y[points], self.low, self.high)
            slack = _slack(few._edges(factors, shift, centre).max(-1), nudged)
            best = int(np.argmax(slack))
            if slack[best] < 0:
                return None
            edges = self._edges(factors[best : best + 1], shift, centre)[:, 0]
            if _slack(edges.max(-1), nudged) >= 0:
                return _made(factors[best], edges.max(-1), shift, nudged, centre)
            points = np.union1d(points, edges.argmax(-1))
        return None

    def _edges(self, factors: Array, shift: int, centre: int) -> Array:
        """[4, candidates, points]: the least offset and minus the greatest one where u >= 0, then
        the same where u < 0 (there with the nudge), for each of `factors` [candidates, operands].
        """
        u = factors @ self.x + centre
        least = np.where(self.y > self.low, (self.y << shift) - u, _FREE)
        most = np.where(self.y < self.high, u + 1 - ((self.y + 1) << shift), _FREE)
        below = u < 0
        return np.stack([
            np.where(below, _FREE, least),
            np.where(below, _FREE, most),
            np.where(below, least, _FREE),
            np.where(below, most, _FREE),
        ])  # fmt: skip

    def _tightest(self, line: Line) -> Array:
        """The points nearest to either edge of their step, of either sign."""
        u = line.at(self.x)
        lower = np.where(self.y > self.low, u - self.y, np.inf)
        upper = np.where(self.y < self.high, self.y + 1 - u, np.inf)
        count = min(_TIGHTEST, u.size)
        chosen = [
            np.argpartition(np.where(side, gap, np.inf), count - 1)[:count]
            for gap in (lower, upper)
            for side in (u < 0, u >= 0)
        ]
        points: Array = np.unique(np.concatenate(chosen))
        return points

    def largest_shift(self, line: Line, nudged: bool) -> int:
        """The most fractional bits that 32 bits leave; negative if there are none."""
        offset = abs(line.centre) + abs(line.zero) if nudged else abs(line.centre + line.zero)
        bound = float(np.abs(line.slopes) @ np.abs(self.x).max(1)) + offset + 1
        return math.floor(math.log2(DType.I32.max / bound))

    def _fits_32_bits(self, fit: Fit) -> bool:
        largest = np.abs(self.x).max(1)
        products = sum(abs(f) * int(n) for f, n in zip(fit.factors, largest, strict=True))
        rest = abs(fit.offset) + abs(fit.nudge) + abs(fit.centre)
        return products + rest <= DType.I32.max


def fit_all(stairs: Sequence[Staircase], lines: Sequence[Line]) -> list[Fit]:
    """A fit for each, all of one form and one shift; none if there is not one for each."""
    if len(stairs) == 1:
        found = stairs[0].fit(lines[0])
        return [] if found is None else [found]
    shift = min(s.largest_shift(line, nudged=False) for s, line in zip(stairs, lines, strict=True))
    fits = []
    for s, line in zip(stairs, lines, strict=True):
        found = s.fit(line, may_nudge=False, most_shift=shift)
        if found is None:
            return []
        fits.append(found)
    return fits


def _around(slopes: Sequence[float], shift: int) -> Array:
    """[candidates, operands]: the factors nearest to `slopes`, and all around them."""
    radius = _RADIUS[len(slopes)]
    steps = np.arange(-radius, radius + 1)
    grid = np.meshgrid(*([steps] * len(slopes)), indexing="ij")
    middle = [round(s * (1 << shift)) for s in slopes]
    return np.stack([m + g.ravel() for m, g in zip(middle, grid, strict=True)], 1)


def _slack(edges: Array, nudged: bool) -> Array:
    """How many offsets there are, less one; negative if there are none. edges: [4, ...]."""
    least, most, least_below, most_below = edges
    if nudged:
        result: Array = -np.maximum(least + most, least_below + most_below)
    else:
        result = -np.maximum(most, most_below) - np.maximum(least, least_below)
    return result


def _made(factors: Array, edges: Array, shift: int, nudged: bool, centre: int) -> Fit:
    least, most, least_below, most_below = (int(e) for e in edges)
    integers = tuple(map(int, factors))
    if nudged:
        offset = _roundest(least, -most)
        nudge = _roundest(least_below - offset, -most_below - offset)
        return Fit(integers, offset, shift, nudge, centre)
    offset = _roundest(max(least, least_below) + centre, -max(most, most_below) + centre)
    return Fit(integers, offset, shift)


def _roundest(least: int, most: int) -> int:
    """The number of least..most with the most zero bits at its end, of those with 8 bits or more
    before these zeros (or 0): many of them C compilers spell in one instruction."""
    if least <= 0 <= most:
        return 0
    if most < 0:
        return -_roundest(-most, -least)
    for bits in range(max(least.bit_length() - 8, 0), -1, -1):
        number = -(-least >> bits) << bits
        if number <= most:
            return number
    raise AssertionError(f"{least}..{most} is empty")
