"""Sizes as people write them: one reading for options, Python, targets and the environment."""

from __future__ import annotations

import re

SIZES = "e.g. 65536, 64K, 64KB, 4.5K or 1MiB"

_SIZE = re.compile(r"([0-9]+)(?:\.([0-9]+))?\s*(?:([KMG])(?:I?B)?|B)?")
_UNITS: dict[str | None, int] = {None: 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_MOST_DIGITS = 18  # more are more than any memory has bytes
_MOST_PLACES = 30  # a GB has no smaller part than 2^-30


def size_in(text: str) -> int:
    """Bytes of "96K", "64KB", "1MiB", "4.5K" or "65536"; K is 1024, as data sheets count memories.
    ValueError, with what is wrong, for what is no size or no whole number of bytes."""
    found = _SIZE.fullmatch(text.strip().upper())
    whole = found[1].lstrip("0") if found is not None else ""
    if found is None or len(whole) > _MOST_DIGITS:
        raise ValueError("is not a size")
    part, unit = (found[2] or "").rstrip("0"), _UNITS[found[3]]
    if len(part) > _MOST_PLACES or (int(f"0{whole}{part}") * unit) % 10 ** len(part):
        raise ValueError("is no whole number of bytes")
    size: int = int(f"0{whole}{part}") * unit // 10 ** len(part)
    return size
