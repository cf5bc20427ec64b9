"""Forbidden differences of offsets against bytes that are counted one by one."""

from __future__ import annotations

import random

import pytest

from midge.plan.buffers import Buffer, Piece, disjoint
from midge.plan.differences import _meetings, problem


def some(rng: random.Random) -> list[Buffer]:
    def piece() -> Piece:
        start = rng.randrange(12)
        return Piece(4 * rng.randrange(8), 4 * rng.randrange(6), start, start + rng.randrange(6))

    count = rng.randrange(2, 7)
    return [
        Buffer(f"b{i}", tuple(piece() for _ in range(rng.randrange(1, 7)))) for i in range(count)
    ]


def collide(a: Buffer, b: Buffer, apart: int) -> bool:
    """Whether a byte of `a`, with `b` so far below it, is one of `b` while both are alive."""
    return any(
        p.offset + apart < q.end and q.offset < p.end + apart and p.start < q.stop
        and q.start < p.stop and p.size and q.size and p.start < p.stop and q.start < q.stop
        for p in a.pieces
        for q in b.pieces
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_what_is_forbidden_is_what_collides(seed: int) -> None:
    buffers = some(random.Random(seed))
    found = problem(buffers)
    for i, a in enumerate(buffers):
        for j, b in enumerate(buffers):
            if i == j:
                continue
            own = found.others[i] == j
            spans = list(zip(found.low[i][own].tolist(), found.high[i][own].tolist(), strict=True))
            for apart in range(-60, 60, 4):
                inside = sum(low < apart // found.unit < high for low, high in spans)
                assert inside == collide(a, b, apart), (a, b, apart)


def test_an_image_of_many_rows_is_looked_at_as_one_run() -> None:
    """Its rows die part by part, while thousands of other pieces come and go."""
    count = 2000
    image = Buffer("x", tuple(Piece(4 * i, 4, 0, i + 1) for i in range(count)))
    rows = [Buffer(f"r{i}", (Piece(0, 4, i, i + 3),)) for i in range(count)]
    pieces = [disjoint(b.pieces) for b in (image, *rows)]
    assert sum(map(len, pieces)) == 2 * count
    assert sum(1 for _ in _meetings(pieces)) < 5 * count
