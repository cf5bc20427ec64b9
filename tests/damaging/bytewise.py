"""Damage that knows nothing of what it damages: bits, blocks, ends."""

from __future__ import annotations

import random
from collections.abc import Callable

Damage = Callable[[random.Random, bytes, bytes], bytes]


def _bits(rng: random.Random, data: bytes, other: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        bit = rng.randrange(8 * len(data))
        broken[bit // 8] ^= 1 << (bit % 8)
    return bytes(broken)


def _words(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """A word of four bytes becomes one that is an edge of something."""
    at = rng.randrange(max(1, len(data) // 4)) * 4
    word = rng.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 0x7FC00000, 0x7F800000, 0xFF))
    return data[:at] + word.to_bytes(4, "little") + data[at + 4 :]


def _cut(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))]


def _inserted(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(rng.choice((1, 2, 4, 64))) + data[at:]


def _removed(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, stop = _block(rng, data)
    return data[:start] + data[stop:]


def _twice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, stop = _block(rng, data)
    return data[:stop] + data[start:]


def _zeroed(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, stop = _block(rng, data)
    return data[:start] + bytes(stop - start) + data[stop:]


def _moved(rng: random.Random, data: bytes, other: bytes) -> bytes:
    start, stop = _block(rng, data)
    at = rng.randrange(len(data) - (stop - start) + 1)
    rest = data[:start] + data[stop:]
    return rest[:at] + data[start:stop] + rest[at:]


def _spliced(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def _block(rng: random.Random, data: bytes) -> tuple[int, int]:
    start = rng.randrange(len(data))
    return start, min(len(data), start + rng.choice((1, 4, 16, 64, 256)))


# Of a file and, for splicing, another of its format.
BYTEWISE: dict[str, Damage] = {
    "bits": _bits, "words": _words, "cut": _cut, "inserted": _inserted, "removed": _removed,
    "twice": _twice, "zeroed": _zeroed, "moved": _moved, "spliced": _spliced,
}  # fmt: skip
