"""Output rows in strips of columns, so that little of the input has to be widened at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from midge.kernels.arm.geometry import Layer

Blocks = tuple[tuple[int, int], ...]  # pixels of a block, number of such blocks


def blocks_of(count: int, most: int = 4) -> Blocks:
    """`count` pixels in blocks of `most` as far as possible. One of one, which costs half as much
    again per product, only behind many of four."""
    whole, rest = divmod(count, most)
    if rest == 0:
        return ((most, whole),)
    if whole == 0:
        return ((rest, 1),)
    if most == 4 and count % 3 == 0 and whole < 3:
        return ((3, count // 3),)
    if most == 4 and rest == 1 and whole < 8:
        return tuple((s, n) for s, n in ((4, whole - 1), (3, 1), (2, 1)) if n)
    return ((most, whole), (rest, 1))


def twos_of(count: int) -> Blocks:
    """`count` pixels in blocks of two, and one of three if they are odd."""
    if count == 1:
        return ((1, 1),)
    odd = count % 2
    return tuple((size, n) for size, n in ((2, count // 2 - odd), (3, odd)) if n)


@dataclass(frozen=True, slots=True)
class Strip:
    """`number` strips from output pixel `start` on, all made alike: `blocks` of pixels, which read
    `columns` columns; the first `lead` of them are left of the image, the next `inside` in it."""

    start: int
    number: int
    blocks: Blocks
    columns: int
    lead: int
    inside: int

    @property
    def pixels(self) -> int:
        return sum(size * number for size, number in self.blocks)

    @property
    def right(self) -> int:
        """Columns right of the image."""
        return self.columns - self.lead - self.inside


def columns_of(layer: Layer, pixels: int) -> int:
    """Columns under the windows of neighbouring outputs."""
    return (pixels - 1) * layer.strides[1] + layer.taps[1]


def strips(layer: Layer, blocks: Blocks, most: int | None) -> tuple[Strip, ...]:
    """An output row of `blocks`, in strips that read at most `most` columns, or one block; None:
    the row in one piece. Strips are of about one size."""
    sizes = [size for size, number in blocks for _ in range(number)]
    per = len(sizes)
    if most is not None:
        reach = (most - layer.taps[1]) // layer.strides[1] + 1
        count = -(-len(sizes) // max(reach // max(sizes), 1))
        per = -(-len(sizes) // count)
    made: list[Strip] = []
    start = 0
    for first in range(0, len(sizes), per):
        made.append(_strip(layer, start, sizes[first : first + per]))
        start += made[-1].pixels
    found = []
    for _, same in groupby(made, lambda s: replace(s, start=0)):
        first_one, *others = same
        found.append(replace(first_one, number=1 + len(others)))
    return tuple(found)


def _strip(layer: Layer, start: int, sizes: Sequence[int]) -> Strip:
    columns = columns_of(layer, sum(sizes))
    first = start * layer.strides[1] - layer.left
    lead = min(max(-first, 0), columns)
    inside = max(min(first + columns, layer.width) - max(first, 0), 0)
    runs = tuple((size, len(list(same))) for size, same in groupby(sizes))
    return Strip(start, 1, runs, columns, lead, inside)


def order(layer: Layer, found: Sequence[Strip], out_width: int) -> tuple[tuple[int, int], ...]:
    """`Candidate.order` of one output row made in these strips."""
    ends = [s.start + (i + 1) * s.pixels for s in found for i in range(s.number)]
    pairs = []
    for end in ends:
        read = max(min(end * layer.strides[1] - layer.left, layer.width), 0)
        pairs.append((layer.width if end == out_width else read, end))
    return tuple(pairs)
