"""Bytes of flash that kernels and their constants take, equal ones once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from midge.tune.trials import KERNEL, Cost, Trial

_Part = tuple[str, str]  # what it is; which one
Moves = tuple[tuple[int, int], ...]  # (choice, another trial of it)
Allowed = Callable[[Sequence[int], Moves], bool]  # of picks


@dataclass(frozen=True, slots=True)
class Flash:
    """Of picks, one trial of each choice. calls: of each choice in an inference; costs: of every
    trial; keys: of equal kernels equal."""

    choices: Sequence[Sequence[Trial]]
    calls: Sequence[int]
    costs: Sequence[Sequence[Cost]]
    keys: Sequence[Sequence[str]]
    _parts: dict[tuple[int, int], dict[_Part, int]] = field(default_factory=dict)
    _digests: dict[int, str] = field(default_factory=dict)

    def size(self, picks: Sequence[int]) -> int:
        """Bytes."""
        found: dict[_Part, int] = {}
        for op, i in enumerate(picks):
            found |= self.of(op, i)
        return sum(found.values())

    def code(self, picks: Sequence[int]) -> int:
        """Bytes of kernels."""
        found: dict[_Part, int] = {}
        for op, i in enumerate(picks):
            found |= self._code(op, i)
        return sum(found.values())

    def within(self, picks: Sequence[int], limit: int) -> list[int]:
        """Picks that need at most `limit` bytes, as few cycles more as it takes one step after the
        other; the smallest that are found so if not even they do."""
        own = _Taken(self, list(picks))
        while self.size(own.picks) > limit:
            rated = []
            for moves in own.moves():
                saved = own.saved(moves)
                if saved > 0:
                    rated.append((own.slower(moves) / saved, moves))
            if not rated:
                break
            own.take(min(rated)[1])
        return own.picks

    def smallest(self, picks: Sequence[int], allowed: Allowed) -> list[int]:
        """The fewest bytes that are found by changing one choice after the other, and what shares a
        part at once, as far as it is allowed."""
        own = _Taken(self, list(picks))
        better = True
        while better:
            better = False
            for which in (own.alone, own.together):
                for group in which():
                    able = [m for m in group if allowed(own.picks, m)]
                    rated = [(own.saved(m), -own.slower(m), m) for m in able]
                    saved, _, moves = max(rated, default=(0, 0, ()))
                    if saved > 0:
                        own.take(moves)
                        better = True
        return own.picks

    def of(self, op: int, i: int) -> Mapping[_Part, int]:
        """What a trial brings, and its bytes."""
        if (op, i) not in self._parts:
            found = self._code(op, i)
            for array in self.choices[op][i].consts.values():
                if id(array) not in self._digests:
                    digest = hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
                    self._digests[id(array)] = f"{array.dtype} {digest}"
                found["constant", self._digests[id(array)]] = array.nbytes
            self._parts[op, i] = found
        return self._parts[op, i]

    def _code(self, op: int, i: int) -> dict[_Part, int]:
        code = self.costs[op][i].code
        found = {("code", name): size for name, size in code.items() if name != KERNEL}
        found["kernel", self.keys[op][i]] = code.get(KERNEL, 0)
        return found

    def without(self, op: int, part: _Part) -> int | None:
        """The fastest trial that does not bring `part`."""
        found = [i for i in range(len(self.choices[op])) if part not in self.of(op, i)]
        return min(
            found, key=lambda i: (self.costs[op][i].cycles, self._alone(op, i)), default=None
        )

    def _alone(self, op: int, i: int) -> int:
        return sum(self.of(op, i).values())


@dataclass(slots=True)
class _Taken:
    """Picks, and how often each part is used."""

    flash: Flash
    picks: list[int]
    used: Counter[_Part] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        for op, i in enumerate(self.picks):
            self.used.update(self.flash.of(op, i).keys())

    def moves(self) -> Iterator[Moves]:
        """Every change of one choice, and of all that share a part, which goes with the last."""
        for which in (self.alone, self.together):
            for group in which():
                yield from group

    def alone(self) -> Iterator[list[Moves]]:
        """For each choice, another trial."""
        for op, own in enumerate(self.flash.choices):
            yield [((op, i),) for i in range(len(own)) if i != self.picks[op]]

    def together(self) -> Iterator[list[Moves]]:
        """For each part that several share, trials that do without."""
        for part in [p for p, count in self.used.items() if count > 1]:
            users = [op for op, pick in enumerate(self.picks) if part in self.flash.of(op, pick)]
            without = ((op, self.flash.without(op, part)) for op in users)
            moves = tuple((op, i) for op, i in without if i is not None)
            yield [moves] if len(moves) == len(users) else []

    def saved(self, moves: Moves) -> int:
        """Bytes."""
        left: Counter[_Part] = Counter()
        sizes: dict[_Part, int] = {}
        for op, i in moves:
            for sign, own in ((-1, self.flash.of(op, self.picks[op])), (1, self.flash.of(op, i))):
                sizes |= own
                for part in own:
                    left[part] += sign
        before = sum(size for part, size in sizes.items() if self.used[part])
        return before - sum(s for part, s in sizes.items() if self.used[part] + left[part])

    def slower(self, moves: Moves) -> int:
        """Cycles of an inference."""
        calls, costs = self.flash.calls, self.flash.costs
        more = ((op, costs[op][i].cycles - costs[op][self.picks[op]].cycles) for op, i in moves)
        return sum(calls[op] * cycles for op, cycles in more)

    def take(self, moves: Moves) -> None:
        for op, i in moves:
            self.used.subtract(self.flash.of(op, self.picks[op]).keys())
            self.used.update(self.flash.of(op, i).keys())
            self.picks[op] = i


def size_of(trial: Trial, cost: Cost) -> int:
    """Bytes of flash of a trial alone."""
    return trial.constants + sum(cost.code.values())
