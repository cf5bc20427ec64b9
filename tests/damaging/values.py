"""What may stand where something else stood: edges of numbers, other lists, other data."""

from __future__ import annotations

import random
import struct
from typing import Any

_INTS = (0, -1, 1, 2, 3, 127, 128, 255, 65536, 2**28, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
_FLOATS = (0.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e-45, 1e-30, 3e38, -0.0, 1e9)


def integer(rng: random.Random, old: int, low: int = -(2**63), high: int = 2**63 - 1) -> int:
    """An integer other than `old` between `low` and `high`."""
    near = (old + 1, old - 1, 2 * old, -old, old + 7, old * 1000)
    possible = [v for v in (*_INTS, *near, *near) if low <= v <= high and v != old]
    return rng.choice(possible)


def real(rng: random.Random, old: float) -> float:
    """A float, perhaps none that is a number."""
    return rng.choice((*_FLOATS, -old, old * 1000, old / 1000))


def listed(rng: random.Random, old: list[Any]) -> list[Any]:
    """The elements of a list: one removed, repeated, all removed, exchanged, many of them."""
    way = rng.randrange(6)
    at = rng.randrange(len(old)) if old else 0
    if way == 0 or not old:
        return old[:at] + old[at + 1 :] if old else [0]
    if way == 1:
        return [*old[: at + 1], *old[at:]]
    if way == 2:
        return []
    if way == 3:
        return old[::-1]
    if way == 4:
        return old * rng.choice((2, 9))
    other = rng.randrange(len(old))
    swapped = list(old)
    swapped[at], swapped[other] = swapped[other], swapped[at]
    return swapped


def content(rng: random.Random, old: bytes) -> bytes:
    """Data of a tensor: of another length, or with words that are edges."""
    way = rng.randrange(6)
    if way == 0:
        return old[: rng.randrange(len(old) + 1)]
    if way == 1:
        return old + bytes(rng.choice((1, 4, 100)))
    if way == 2:
        return b""
    size = rng.choice((4, 8) if len(old) % 8 == 0 else (4,))
    count = max(1, len(old) // size)
    at = rng.randrange(count) * size
    if way == 3:
        word = struct.pack("<f", rng.choice((float("nan"), float("inf"), 3e38, 1e-45)))
    else:
        low = -(2 ** (8 * size - 1))
        word = integer(rng, 5, low, -low - 1).to_bytes(size, "little", signed=True)
    return old[:at] + word[:size] + old[at + len(word[:size]) :]
