"""Branches of Thumb-2 code: which form each takes, and by which of several ways it goes.

A branch to a class ends at one of its blocks, or at a jump to one of these that is nearer.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count

import numpy as np

from midge.core.types import Array

LOW = ("r2", "r3", "r4", "r5", "r6", "r7")
SPARE = "r12"  # for thresholds that a comparison does not take as they are
_REACH = range(-252, 255)  # of a conditional branch of two bytes, from its place on
_FAR_REACH = range(-2044, 2047)  # of an unconditional one
_ZERO_REACH = range(4, 131)  # of a branch on zero
_TURNING_ROUNDS, _FREE_ROUNDS = 8, 12
"""After the first, no jump leads to another class any more; after the others, branches only grow
and keep their goals, so that an end is certain."""
_OF_ZERO = ("ls", "hi", "eq", "ne")
BRANCHES = ("split", "jump")  # kinds of items
OPPOSITE = {"ls": "hi", "hi": "ls", "le": "gt", "gt": "le", "eq": "ne", "ne": "eq"}


@dataclass(slots=True)
class Item:
    """Something with an address. kind: "code" (with `text`), "split" (a comparison of `register`
    and a branch on `cond`) or "jump". label: others branch here.  target: of a branch, a label or
    ~class.  twin: the position of the jump that follows, if both lead to leaves."""

    kind: str
    text: str = ""
    size: int = 0
    label: int = -1
    target: int = 0
    cond: str = ""
    threshold: int = 0
    register: str = ""
    form: str = ""  # "narrow", "wide" or "zero"
    goal: int = -1  # the position of the item that is branched to
    twin: int = -1


@dataclass(slots=True)
class Branches:
    """items: in order.  blocks: class -> the positions of its blocks.  places: label -> position,
    once it is settled."""

    items: list[Item] = field(default_factory=list)
    blocks: dict[int, list[int]] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)

    def settle(self) -> int:
        """Choose the forms and goals of all branches; the size in bytes."""
        self.places = {item.label: i for i, item in enumerate(self.items) if item.label >= 0}
        for item in self.items:
            item.size = item.size or size_of(item, item.form)
        for turn in count():
            start = self.addresses()
            exits = self.exits(start)
            changed = False
            for i, item in enumerate(self.items):
                if item.kind in BRANCHES:
                    changed |= self.choose(i, start, exits, turn)
            if not changed:
                break
        assert all(map(self.arrives, self.items)), "every branch leads to where it shall"
        return int(self.addresses()[-1])

    def arrives(self, item: Item) -> bool:
        """Whether a branch leads to its target."""
        if item.kind not in BRANCHES:
            return True
        goal = self.items[item.goal]
        if item.target >= 0:
            return self.places[item.target] == item.goal
        if goal.kind == "jump":
            return item.kind == "split" and goal.target == item.target
        return item.goal in self.blocks[~item.target]

    def addresses(self) -> Array:
        sizes = [item.size for item in self.items]
        return np.concatenate([[0], np.cumsum(sizes)])

    def exits(self, start: Array) -> dict[int, list[tuple[int, int]]]:
        """Class -> (address, position) of what leads there."""
        found: dict[int, list[tuple[int, int]]] = {}
        for i, item in enumerate(self.items):
            if item.kind == "jump":
                found.setdefault(~item.target, []).append((int(start[i]), i))
        return found

    def choose(
        self, i: int, start: Array, exits: Mapping[int, list[tuple[int, int]]], turn: int
    ) -> bool:
        """Form and goal of one branch; whether anything is different now."""
        item, free = self.items[i], turn < _FREE_ROUNDS
        before = (item.form, item.goal, item.target)
        if turn < _TURNING_ROUNDS and item.twin >= 0:
            jump = self.items[item.twin]
            straight = self.best(i, item.target, start, exits, free=True)
            turned = self.best(i, jump.target, start, exits, free=True)
            if turned[0] < straight[0]:
                item.target, jump.target = jump.target, item.target
                item.cond = OPPOSITE[item.cond]
        _, item.form, item.goal = self.best(i, item.target, start, exits, free)
        item.size = size_of(item, item.form)
        return before != (item.form, item.goal, item.target)

    def best(
        self,
        i: int,
        target: int,
        start: Array,
        exits: Mapping[int, list[tuple[int, int]]],
        free: bool,
    ) -> tuple[int, str, int]:
        """(bytes, form, goal) of the branch of item `i` to `target`."""
        item = self.items[i]
        if target >= 0:
            goals = [self.places[target]]
        else:
            goals = [self.nearest_block(~target, int(start[i]), start)]
            if item.kind == "split":
                goals += self.near(exits.get(~target, []), i, start)
        found = []
        for goal in goals if free or item.goal < 0 else [item.goal]:
            for form in self.forms(item, int(start[goal] - start[i]), free):
                found.append((size_of(item, form), form, goal))
        return min(found, key=lambda f: (f[0], goals.index(f[2]) if f[2] in goals else 0))

    def forms(self, item: Item, distance: int, free: bool) -> Iterator[str]:
        """The forms with which a branch reaches over `distance`, from its item's address."""
        worse = {"zero": 0, "narrow": 1, "wide": 2}
        least = 0 if free else worse.get(item.form, 0)
        zero = item.threshold == 0 and item.cond in _OF_ZERO  # a jump has no condition
        if least == 0 and zero and item.register in LOW and distance in _ZERO_REACH:
            yield "zero"
        compare = _compare_size(item) if item.kind == "split" else 0
        reach = _REACH if item.kind == "split" else _FAR_REACH
        if least <= 1 and distance - compare in reach:
            yield "narrow"
        yield "wide"

    def nearest_block(self, k: int, here: int, start: Array) -> int:
        return min(self.blocks[k], key=lambda p: abs(int(start[p]) - here))

    def near(self, known: list[tuple[int, int]], i: int, start: Array) -> list[int]:
        """The nearest jumps before and after an item."""
        at = bisect_left(known, (int(start[i]), i))
        return [p for _, p in known[max(at - 1, 0) : at + 2]]


def comparison(item: Item) -> tuple[list[str], int]:
    """The lines that compare, and their bytes."""
    return _comparison(item.threshold, item.register)


@lru_cache(1 << 10)
def _comparison(t: int, register: str) -> tuple[list[str], int]:
    if encodable(t):
        return [f"cmp {register}, #{t}"], 2 if register in LOW and 0 <= t < 256 else 4
    lines = [f"movw {SPARE}, #{t & 0xFFFF}", *([f"sxth.w {SPARE}, {SPARE}"] if t < 0 else [])]
    return [*lines, f"cmp {register}, {SPARE}"], 4 * len(lines) + 2


def _compare_size(item: Item) -> int:
    return comparison(item)[1]


def size_of(item: Item, form: str) -> int:
    branch = 4 if form == "wide" else 2
    if item.kind == "jump" or form == "zero":
        return branch
    return branch + _compare_size(item)


def encodable(threshold: int) -> bool:
    """Whether a comparison takes the threshold as it is: a byte, in one of the places that Thumb-2
    has for one (Arm Architecture Reference Manual, Armv7-M, A5.3.2), or the negative of one."""
    value = abs(threshold)
    low = value & -value
    return (value // max(low, 1)).bit_length() <= 8
