"""Buffers to plan, and what a plan must be: an independent checker, the optimum by brute force,
packings whose optimum is known, and MiniMalloc's file format."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from itertools import count, pairwise
from random import Random

from hypothesis import strategies as st

from midge.plan.offsets import Buffer, Piece, Plan

Rect = tuple[int, int, int, int]

pieces = st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)).map(
    lambda v: Piece(v[0], v[1], v[2], v[2] + v[3])
)
solids = st.tuples(st.integers(0, 6), st.integers(0, 4), st.integers(1, 4)).map(
    lambda v: (Piece(0, v[0], v[1], v[1] + v[2]),)
)


def buffers(most: int, aligns: Sequence[int] = (1, 2, 4)) -> st.SearchStrategy[list[Buffer]]:
    """A few small buffers: half of them solid, the rest with up to three pieces."""
    rigid = st.lists(pieces, max_size=3).map(tuple)
    one = st.tuples(st.one_of(solids, rigid), st.sampled_from(aligns))
    return st.lists(one, max_size=most).map(
        lambda given: [Buffer(f"b{i}", parts, align) for i, (parts, align) in enumerate(given)]
    )


def alive(buffer: Buffer) -> set[tuple[int, int]]:
    """(byte of the buffer, time) for all that is alive."""
    return {
        (byte, time)
        for p in buffer.pieces
        for byte in range(p.offset, p.offset + p.size)
        for time in range(p.start, p.stop)
    }


def overlaps(given: Sequence[Buffer], offsets: Mapping[str, int]) -> bool:
    """Whether two buffers have a byte in common at some time: byte by byte, time by time."""
    taken: set[tuple[int, int]] = set()
    for b in given:
        cells = {(offsets[b.name] + byte, time) for byte, time in alive(b)}
        if cells & taken:
            return True
        taken |= cells
    return False


def live(given: Sequence[Buffer]) -> dict[int, int]:
    """Bytes alive at each time."""
    found: dict[int, int] = {}
    for b in given:
        for _, time in alive(b):
            found[time] = found.get(time, 0) + 1
    return found


def check(given: Sequence[Buffer], result: Plan) -> None:
    """Every rule that a plan keeps."""
    assert result.offsets.keys() == {b.name for b in given}
    for b in given:
        assert result.offsets[b.name] >= 0
        assert result.offsets[b.name] % b.align == 0
    assert not overlaps(given, result.offsets)
    ends = [result.offsets[b.name] + b.size for b in given]
    assert result.peak == max(ends, default=0)
    bytes_at = live(given)
    assert result.peak >= result.lower_bound >= max(bytes_at.values(), default=0)
    if bytes_at:
        most = max(bytes_at.values())
        assert result.busiest == min(t for t, n in bytes_at.items() if n == most)
    assert result.proven == (result.peak == result.lower_bound)


def optimum(given: Sequence[Buffer]) -> int:
    """The least peak, by trying all offsets. A cell, byte and time, is a bit of an int."""
    width = 1 << 8  # more bytes than any plan here needs
    masks = [sum(1 << (time * width + byte) for byte, time in alive(b)) for b in given]
    order = sorted(range(len(given)), key=lambda i: -masks[i].bit_count())

    def fits(left: Sequence[int], taken: int, peak: int) -> bool:
        if not left:
            return True
        b, mask = given[left[0]], masks[left[0]]
        for offset in range(0, peak - b.size + 1, b.align):
            if not taken & (mask << offset) and fits(left[1:], taken | mask << offset, peak):
                return True
        return False

    least = max([0, *live(given).values(), *(b.size for b in given)])
    return next(peak for peak in count(least) if fits(order, 0, peak))


def cut(rng: Random, capacity: int, times: int, parts: int) -> list[Rect]:
    """A rectangle of `capacity` by `times` cut into (low, high, start, stop): the least capacity
    for these parts is known, and no byte is free at any time."""
    rects = [(0, capacity, 0, times)]
    while len(rects) < parts:
        areas = [(high - low) * (stop - start) for low, high, start, stop in rects]
        low, high, start, stop = rects.pop(rng.choices(range(len(rects)), areas)[0])
        if high - low > 1 and (stop - start < 2 or rng.random() < 0.5):
            at = rng.randint(low + 1, high - 1)
            rects += [(low, at, start, stop), (at, high, start, stop)]
        elif stop - start > 1:
            at = rng.randint(start + 1, stop - 1)
            rects += [(low, high, start, at), (low, high, at, stop)]
        else:
            rects.append((low, high, start, stop))
    rng.shuffle(rects)
    return rects


def to_csv(rects: Sequence[Rect]) -> str:
    """As MiniMalloc (Moffitt, ASPLOS 2023) reads it; `upper` is the first time of death."""
    lines = [
        f"b{i},{start},{stop},{high - low}" for i, (low, high, start, stop) in enumerate(rects)
    ]
    return "\n".join(["id,lower,upper,size", *lines]) + "\n"


def from_csv(text: str, unit: int = 1) -> list[Buffer]:
    """Columns id, lower, upper, size; gaps, if there: "lower-upper lower-upper", times between at
    which the buffer is dead. unit: bytes of one of `size`, and the alignment."""
    found = []
    for row in csv.DictReader(io.StringIO(text)):
        gaps = [g.split("-") for g in (row.get("gaps") or "").split()]
        edges = [int(row["lower"]), *(int(t) for gap in gaps for t in gap), int(row["upper"])]
        size = unit * int(row["size"])
        spans = list(pairwise(edges))[::2]
        found.append(Buffer(row["id"], tuple(Piece(0, size, *span) for span in spans), unit))
    return found


def cascade(height: int, layers: int, row: int, rng: Random) -> list[Buffer]:
    """3 x 3 convolutions run row by row: the whole input at once, rows of the others for as long
    as it is needed, and scratch memory of each call."""
    made = [0] * layers
    births: dict[tuple[int, int], int] = {}
    deaths: dict[tuple[int, int], int] = {}
    time = 0
    while made[-1] < height:
        layer = layers - 1
        while layer and made[layer - 1] < min(height, made[layer] + 2):
            layer -= 1
        for above in range(max(0, made[layer] - 1), min(height, made[layer] + 2)):
            deaths[layer - 1, above] = time + 1
        births[layer, made[layer]] = time
        deaths.setdefault((layer, made[layer]), time + 1)
        made[layer] += 1
        time += 1
    tensors = [Buffer.solid(f"s{t}", 4 * rng.randrange(1, 40), t, t + 1) for t in range(time)]
    rows = (Piece(row * i, row, 0, deaths[-1, i]) for i in range(height))
    tensors.append(Buffer("input", tuple(rows)))
    tensors += [
        Buffer.solid(f"t{layer}.{i}", row, birth, deaths[layer, i])
        for (layer, i), birth in births.items()
    ]
    return tensors
