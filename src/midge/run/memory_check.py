"""A run in which nobody reads what is dead or writes what is not theirs.

After every call the bytes that hold nothing are filled with poison, other bytes each time: code
that reads them, because a plan lets go of a row too early, computes something else. What a call
has changed is compared with what it may write.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from midge.core.errors import RunError
from midge.core.package import Package, Place

Bytes = NDArray[np.uint8]


class MemoryCheck:
    """Watches the arena of one session; `error` is the first violation of a run."""

    def __init__(
        self,
        package: Package,
        read: Callable[[], bytes],
        write: Callable[[bytes], None],
    ) -> None:
        """read, write: the whole arena."""
        assert package.places, f"{package.name} does not say what lies where"
        self._package, self._read, self._write = package, read, write
        calls = len(package.all_calls)
        # By call from -1 on: the places that are born, that die, and that are written.
        self._born: list[list[Place]] = [[] for _ in range(calls + 1)]
        self._dead: list[list[Place]] = [[] for _ in range(calls + 2)]
        self._written: list[list[Place]] = [[] for _ in range(calls + 1)]
        for place in package.places:
            birth = min(place.writes)
            if birth < place.last:
                self._born[birth + 1].append(place)
                self._dead[place.last + 1].append(place)
            for call in place.writes:
                if call < calls:
                    self._written[call + 1].append(place)
        self.begin()

    def begin(self) -> None:
        """Before the first call of a run."""
        self.error: RunError | None = None
        self._alive = np.zeros(self._package.arena_size, np.int32)
        self._known: Bytes = np.zeros(0, np.uint8)
        self._done = -2

    def after(self, call: int) -> None:
        """After call `call` of the package's, the next one that has not been seen; -1: before the
        first one, with the inputs in place."""
        if self.error is not None:
            return
        assert call == self._done + 1, f"call {call} after call {self._done}"
        now = np.frombuffer(self._read(), np.uint8).copy()
        wrong = self._wrong(call, now)
        if wrong.size:
            self.error = self._complain(call, int(wrong[0]), wrong.size)
            return
        self._done = call
        self._move(call)
        self._poison(now)

    def _wrong(self, call: int, now: Bytes) -> NDArray[np.int64]:
        """Bytes that `call` has changed and may not write; the caller may write all of them."""
        if call < 0:
            return np.zeros(0, np.int64)
        own = np.zeros(now.size, bool)
        for place in self._written[call + 1]:
            own[place.offset : place.offset + place.size] = True
        return np.flatnonzero((now != self._known) & ~own)

    def _move(self, call: int) -> None:
        """Count for every byte the places that hold something in it after `call`."""
        for places, change in ((self._dead[call + 1], -1), (self._born[call + 1], 1)):
            for place in places:
                self._alive[place.offset : place.offset + place.size] += change

    def _poison(self, now: Bytes) -> None:
        dead = self._alive == 0
        pattern = np.arange(now.size, dtype=np.uint32) * np.uint32(167)
        pattern += np.uint32(0xA5 + 89 * (self._done + 2))
        now[dead] = (pattern ^ (pattern >> np.uint32(8))).astype(np.uint8)[dead]
        self._known = now
        self._write(now.tobytes())

    def _complain(self, call: int, offset: int, count: int) -> RunError:
        made = self._package.all_calls[call]
        operator = self._package.operators[made.operator].name
        place = self._owner(call, offset)
        what = f"call {call}, of {operator} ({made.kernel}), wrote byte {offset} of the arena"
        return RunError(
            f"{what}, which is {place}; {count} bytes that are not its own are changed",
            where=self._package.name,
            hint="this is a bug in Midge: please report the model",
        )

    def _owner(self, call: int, offset: int) -> str:
        """What was alive at `offset`, or next to it, during a call."""
        near = [p for p in self._package.places if min(p.writes) <= call <= p.last]
        if not near:
            return "nobody's"
        place = min(near, key=lambda p: max(p.offset - offset, offset - p.offset - p.size + 1, 0))
        if offset < place.offset:
            return f"{place.offset - offset} bytes before {place.name}"
        if offset >= place.offset + place.size:
            return f"{offset - place.offset - place.size + 1} bytes after the end of {place.name}"
        return f"at byte {offset - place.offset} of {place.name}"
