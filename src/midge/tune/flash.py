"""Bytes of flash that kernels and their constants take, equal ones once."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from midge.tune.trials import KERNEL, Cost, Trial

_Part = tuple[str, str]  # what it is; which one
_Moves = tuple[tuple[int, int], ...]  # (choice, another trial of it)


@dataclass(frozen=True, slots=True)
class Flash:
    """Of picks, one trial of each choice. costs: of every trial; keys: of equal kernels equal."""

    choices: Sequence[Sequence[Trial]]
    costs: Sequence[Sequence[Cost]]
    keys: Sequence[Sequence[str]]
    _parts: dict[tuple[int, int], dict[_Part, int]] = field(default_factory=dict)
    _digests: dict[int, str] = field(default_factory=dict)

    def excess(self, picks: Sequence[int], limit: int) -> int:
        """Bytes by which they exceed `limit`."""
        trials = ((self.choices[op][i], self.costs[op][i]) for op, i in enumerate(picks))
        if sum(size_of(trial, cost) for trial, cost in trials) <= limit:
            return 0  # even if nothing is equal: contents are not looked at
        return max(0, self.size(picks) - limit)

    def size(self, picks: Sequence[int]) -> int:
        """Bytes."""
        found: dict[_Part, int] = {}
        for op, i in enumerate(picks):
            found |= self._of(op, i)
        return sum(found.values())

    def within(self, picks: Sequence[int], limit: int) -> list[int]:
        """Picks that need at most `limit` bytes, as few cycles more as it takes one step after the
        other; the smallest that are found so if not even they do."""
        own = list(picks)
        while self.excess(own, limit):
            used = Counter(part for op, i in enumerate(own) for part in self._of(op, i))
            rated = []
            for moves in self._moves(own, used):
                saved = self._saved(own, used, moves)
                if saved > 0:
                    rated.append((self._slower(own, moves) / saved, moves))
            if not rated:
                break
            for op, i in min(rated)[1]:
                own[op] = i
        return own

    def _of(self, op: int, i: int) -> Mapping[_Part, int]:
        """What a trial brings, and its bytes."""
        if (op, i) not in self._parts:
            trial, code = self.choices[op][i], self.costs[op][i].code
            found = {("code", name): size for name, size in code.items() if name != KERNEL}
            found["kernel", self.keys[op][i]] = code.get(KERNEL, 0)
            for array in trial.consts.values():
                if id(array) not in self._digests:
                    digest = hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()
                    self._digests[id(array)] = f"{array.dtype} {digest}"
                found["constant", self._digests[id(array)]] = array.nbytes
            self._parts[op, i] = found
        return self._parts[op, i]

    def _moves(self, picks: Sequence[int], used: Mapping[_Part, int]) -> Iterator[_Moves]:
        """Another trial of one choice; of all that share a part, which goes with the last."""
        for op, pick in enumerate(picks):
            yield from (((op, i),) for i in range(len(self.choices[op])) if i != pick)
        for part, count in used.items():
            if count > 1:
                users = [op for op, pick in enumerate(picks) if part in self._of(op, pick)]
                moves = [self._without(op, part) for op in users]
                if None not in moves:
                    yield tuple(
                        (op, i) for op, i in zip(users, moves, strict=True) if i is not None
                    )

    def _without(self, op: int, part: _Part) -> int | None:
        """The fastest trial that does not bring `part`."""
        able = [i for i in range(len(self.choices[op])) if part not in self._of(op, i)]
        return min(able, key=partial(self._worth, op), default=None)

    def _worth(self, op: int, i: int) -> tuple[int, int]:
        return self.costs[op][i].cycles, sum(self._of(op, i).values())

    def _saved(self, picks: Sequence[int], used: Mapping[_Part, int], moves: _Moves) -> int:
        """Bytes."""
        left: Counter[_Part] = Counter()
        sizes: dict[_Part, int] = {}
        for op, i in moves:
            for sign, own in ((-1, self._of(op, picks[op])), (1, self._of(op, i))):
                sizes |= own
                for part in own:
                    left[part] += sign
        before = sum(size for part, size in sizes.items() if used.get(part, 0))
        return before - sum(s for part, s in sizes.items() if used.get(part, 0) + left[part])

    def _slower(self, picks: Sequence[int], moves: _Moves) -> int:
        """Cycles of a call."""
        return sum(self.costs[op][i].cycles - self.costs[op][picks[op]].cycles for op, i in moves)


def size_of(trial: Trial, cost: Cost) -> int:
    """Bytes of flash of a trial alone."""
    return trial.constants + sum(cost.code.values())
