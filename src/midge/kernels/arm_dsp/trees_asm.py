"""Decision trees that vote, as Thumb-2: most splits are a load, a comparison and a branch of two
bytes each.

Votes are bytes of r8..r12. A tree is a subroutine; where it ends, a block of its class adds a vote
and returns. Such blocks lie between trees, as a short branch reaches 2 kB; a conditional one
reaches 256 bytes only, so that it goes to the nearest branch to the same class where no block is
as near. Features that most splits ask for stay in registers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from midge.core.types import Array
from midge.graph.trees import EQUAL
from midge.kernels.arm_dsp.trees_branches import (
    BRANCHES,
    LOW,
    OPPOSITE,
    Branches,
    Item,
    comparison,
    encodable,
)

VOTERS = ("r8", "r9", "r10", "r11", "r12")
_WINDOW = 32  # elements that a load of two bytes reaches


@dataclass(frozen=True, slots=True)
class Votes:
    """Trees whose leaves vote. splits: (feature, then, other, mode) as of `tree_ensemble`; roots,
    splits or ~class.  vote: what a leaf adds to its class.  load: of a feature ("ldrb")."""

    thresholds: tuple[int, ...]
    splits: tuple[tuple[int, int, int, int], ...]
    roots: tuple[int, ...]
    classes: int
    features: int
    vote: int
    load: str
    size: int  # bytes of a feature
    signed: bool

    @property
    def voters(self) -> tuple[str, ...]:
        return VOTERS[: -(-self.classes // 4)]


@dataclass(slots=True)
class _Registers:
    """pinned: feature -> register."""

    pinned: Mapping[int, str]
    scratch: tuple[str, ...]


def assembler(v: Votes) -> tuple[str, ...]:
    """The lines of a kernel: features at r0, votes (bytes) to r1."""
    best: list[str] | None = None
    least = 0
    for scratch in (1, 2, 3):
        writer = _Writer(v, _registers(v, scratch))
        writer.write()
        size = writer.made.settle()
        if best is None or size < least:
            best, least = list(writer.lines()), size
    assert best is not None
    return tuple(best)


def _registers(v: Votes, scratch: int) -> _Registers:
    spare = not all(map(encodable, v.thresholds))
    free = [*LOW[: len(LOW) - scratch], *VOTERS[len(v.voters) : len(VOTERS) - spare]]
    counts = Counter(feature for feature, *_ in v.splits)
    hot = sorted(counts, key=lambda f: (-counts[f], f))[: len(free)]
    pinned = {f: r for f, r in zip(hot, free, strict=False) if counts[f] > 1}
    return _Registers(pinned, LOW[len(LOW) - scratch :])


@dataclass(slots=True)
class _Writer:
    v: Votes
    registers: _Registers
    made: Branches = field(default_factory=Branches)
    counts: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    # What is written, in order.

    def write(self) -> None:
        v = self.v
        self.counts = _sizes(v)
        self.code("push {r1}", 2)
        if v.features > _WINDOW:
            self.code(f"add.w r1, r0, #{_WINDOW * v.size}", 4)
        for feature, register in self.registers.pinned.items():
            self.load(register, feature)
        for voter in v.voters:
            self.code(f"mov.w {voter}, #0", 4)
        for number in range(len(v.roots)):
            self.made.items.append(Item("call", size=4, target=self.tree_label(number)))
        self.finish()
        for group in self.groups():
            half = (len(group) + 1) // 2
            for number in group[:half]:
                self.tree(number)
            self.leaves(group)
            for number in group[half:]:
                self.tree(number)

    def tree_label(self, number: int) -> int:
        return len(self.v.splits) + number

    def finish(self) -> None:
        """Store the votes, and leave."""
        left = self.v.classes
        self.code("pop {r1}", 2)
        for number, voter in enumerate(self.v.voters):
            at = 4 * number
            for op, size in (("str", 4), ("strh", 2), ("strb", 1)):
                while left >= size:
                    self.code(f"{op}.w {voter}, [r1, #{at}]", 4)
                    left, at = left - size, at + size
                    if size == 4 or left == 0:
                        break
                    self.code(f"lsr.w {voter}, {voter}, #{8 * size}", 4)
                if at == 4 * number + 4:
                    break
        self.made.items.append(Item("end", size=4))

    def groups(self) -> Iterator[list[int]]:
        """Trees that share blocks of leaves: as many as are near to what lies between them."""
        group: list[int] = []
        size = 0
        for number, root in enumerate(self.v.roots):
            own = 7 * int(self.counts[root]) if root >= 0 else 4
            if group and size + own > 2 * 1700:
                yield group
                group, size = [], 0
            group.append(number)
            size += own
        yield group

    def tree(self, number: int) -> None:
        self.node(self.v.roots[number], self.tree_label(number), ())

    def node(self, at: int, label: int, known: tuple[tuple[int, str], ...]) -> None:
        """The code from a split on. known: features and the registers that hold them, the one that
        was asked for last at the end."""
        if at < 0:
            self.made.items.append(Item("jump", target=at, label=label))
            return
        feature, then, other, mode = self.v.splits[at]
        register, known, place = self.asked(feature, known, label)
        cond = ("le" if self.v.signed else "ls") if not mode & EQUAL else "eq"
        # More samples go to the larger side, which comes first: a branch not taken costs least.
        if self.counts[then] > self.counts[other]:
            then, other, cond = other, then, OPPOSITE[cond]
        first = label if place else -1
        split = Item(
            "split", cond=cond, threshold=self.v.thresholds[at], register=register,
            target=then, label=first,
        )  # fmt: skip
        self.made.items.append(split)
        if then < 0 and other < 0:
            split.twin = len(self.made.items)
        self.node(other, other, known)
        if then >= 0:
            self.node(then, then, known)

    def asked(
        self, feature: int, known: tuple[tuple[int, str], ...], label: int
    ) -> tuple[str, tuple[tuple[int, str], ...], bool]:
        """The register that holds a feature, what is known then, and whether nothing was loaded."""
        if feature in self.registers.pinned:
            return self.registers.pinned[feature], known, True
        held = dict(known)
        others = tuple(k for k in known if k[0] != feature)
        if feature in held:
            return held[feature], (*others, (feature, held[feature])), True
        taken = [r for _, r in known]
        free = [r for r in self.registers.scratch if r not in taken]
        register = free[0] if free else known[0][1]
        kept = known if free else known[1:]
        self.load(register, feature, label)
        return register, (*kept, (feature, register)), False

    def load(self, register: str, feature: int, label: int = -1) -> None:
        offset, base = feature, "r0"
        if _WINDOW <= feature < 2 * _WINDOW:
            offset, base = feature - _WINDOW, "r1"
        near = feature < 2 * _WINDOW and register in LOW and self.v.load in ("ldrb", "ldrh")
        suffix = "" if near else ".w"
        text = f"{self.v.load}{suffix} {register}, [{base}, #{offset * self.v.size}]"
        self.code(text, 2 if near else 4, label)

    def leaves(self, group: Sequence[int]) -> None:
        """A block for each class that the trees of a group vote for."""
        for k in sorted(set().union(*(self.voted(self.v.roots[n]) for n in group))):
            voter, shift = self.v.voters[k // 4], 8 * (k % 4)
            self.made.blocks.setdefault(k, []).append(len(self.made.items))
            self.code(f"add.w {voter}, {voter}, #{self.v.vote << shift}", 4)
            self.code("bx lr", 2)

    def voted(self, at: int) -> set[int]:
        found: set[int] = set()
        waiting = [at]
        while waiting:
            at = waiting.pop()
            if at < 0:
                found.add(~at)
            else:
                waiting += self.v.splits[at][1:3]
        return found

    def code(self, text: str, size: int, label: int = -1) -> None:
        self.made.items.append(Item("code", text, size, label))

    # As text.

    def lines(self) -> Iterator[str]:
        goals = {item.goal for item in self.made.items if item.kind in BRANCHES}
        goals |= {self.made.places[i.target] for i in self.made.items if i.kind == "call"}
        numbers = {p: n for n, p in enumerate(sorted(goals), 1)}
        last = len(goals) + 1

        def label(goal: int, here: int) -> str:
            return f"{numbers[goal]}{'b' if goal <= here else 'f'}"

        for i, item in enumerate(self.made.items):
            if i in numbers:
                yield f"{numbers[i]}:"
            match item.kind:
                case "code":
                    yield item.text
                case "call":
                    yield f"bl {label(self.made.places[item.target], i)}"
                case "end":
                    yield f"b.w {last}f"
                case "jump":
                    yield f"b{'.w' if item.form == 'wide' else ''} {label(item.goal, i)}"
                case "split" if item.form == "zero":
                    op = "cbz" if item.cond in ("ls", "eq") else "cbnz"
                    yield f"{op} {item.register}, {label(item.goal, i)}"
                case _:
                    yield from comparison(item)[0]
                    wide = ".w" if item.form == "wide" else ""
                    yield f"b{item.cond}{wide} {label(item.goal, i)}"
        yield f"{last}:"


def _sizes(v: Votes) -> Array:
    """The splits of the subtree of each split; children come after their parents. Of ~class, at
    the end: none."""
    counts = np.array([1] * len(v.splits) + [0] * v.classes, np.int64)
    for i in reversed(range(len(v.splits))):
        _, then, other, _ = v.splits[i]
        counts[i] += counts[then] + counts[other]
    return counts
