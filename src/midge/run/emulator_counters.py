"""Exact counts of an emulated run: C counters per basic block become instructions and cycles.

An instruction in an IT block whose condition is false counts: it takes its cycle.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midge.core.errors import RunError
from midge.run.cycles import CycleModel
from midge.run.profile import BlockRun
from midge.toolchain import build_library

Counts = NDArray[np.uint32]
Slots = NDArray[np.int64]
Costs = NDArray[np.int64]


class _Counters(ctypes.Structure):
    """The twin of `midge_counters` in hook.c, which says what the fields mean."""

    _fields_ = (
        ("base", ctypes.c_uint64),
        ("slots", ctypes.c_uint64),
        ("budget", ctypes.c_uint64),
        ("next", ctypes.c_uint64),
        ("slot", ctypes.c_uint64),
        ("caller", ctypes.c_uint64),
        ("conflicts", ctypes.c_uint64),
        ("count", ctypes.c_void_p),
        ("taken", ctypes.c_void_p),
        ("size", ctypes.c_void_p),
        ("lowest", ctypes.c_uint64),
        ("sp", ctypes.c_int),
        ("read", ctypes.c_void_p),
        ("stop", ctypes.c_void_p),
        ("unaligned", ctypes.c_uint64),
        ("width", ctypes.c_uint64),
    )


@dataclass(frozen=True, slots=True)
class Part:
    """What ran in a part of a run: how often the blocks in some slots did, and how often they ended
    in a jump. Large models have thousands of calls, each of which runs few blocks."""

    slots: Slots
    count: Counts
    taken: Counts


@dataclass(frozen=True, slots=True)
class Cost:
    """What a part of a run took; cycles is None without a model."""

    instructions: int
    cycles: int | None


class BlockCounters:
    """Counts blocks of one Unicorn engine between the addresses `start` and `stop`."""

    def __init__(self, engine: Any, start: int, stop: int, *, sp: int, aligned: bool) -> None:
        """sp: the stack pointer's number.

        aligned: also stop at the first access that is not aligned to its size.
        """
        from unicorn import UC_HOOK_BLOCK, UC_HOOK_MEM_READ, UC_HOOK_MEM_WRITE
        from unicorn.unicorn_py3.unicorn import uclib

        self.start, self.slots = start, (stop - start + 1) // 2
        self._count = np.zeros(self.slots, np.uint32)
        self._taken = np.zeros(self.slots, np.uint32)
        self._counted = self._count.copy()  # in parts that have ended
        self._jumped = self._taken.copy()
        self.size = np.zeros(self.slots, np.uint32)
        self._state = _Counters(
            base=start,
            slots=self.slots,
            count=self._count.ctypes.data,
            taken=self._taken.ctypes.data,
            size=self.size.ctypes.data,
            sp=sp,
            read=ctypes.cast(uclib.uc_reg_read, ctypes.c_void_p).value,
            stop=ctypes.cast(uclib.uc_emu_stop, ctypes.c_void_p).value,
        )
        self._library = _hook_library()
        self._engine = engine
        self._hook(UC_HOOK_BLOCK, self._library.midge_on_block, (start, stop - 1))
        self._access_hook: ctypes.c_size_t | None = None
        if aligned:
            access = UC_HOOK_MEM_READ | UC_HOOK_MEM_WRITE
            self._access_hook = self._hook(access, self._library.midge_on_access, (1, 0))

    def _hook(self, kind: int, function: Any, addresses: tuple[int, int]) -> ctypes.c_size_t:
        """Unicorn's Python layer only takes Python callbacks: call its C interface.

        addresses: the first and the last that it is called for; (1, 0) is all.
        """
        from unicorn.unicorn_py3.unicorn import uclib

        add = uclib["uc_hook_add"]  # by index: a function object of its own, with own types
        add.restype = ctypes.c_int
        handle = ctypes.c_size_t()
        status = add(
            ctypes.c_void_p(self._engine._uch.value),
            ctypes.byref(handle),
            ctypes.c_int(kind),
            ctypes.cast(function, ctypes.c_void_p),
            ctypes.byref(self._state),
            ctypes.c_uint64(addresses[0]),
            ctypes.c_uint64(addresses[1]),
        )
        assert status == 0, f"uc_hook_add: error {status}"
        return handle

    def allow_unaligned(self) -> bool:
        """Stop watching accesses, which makes them ten times slower; whether it did so at all."""
        from unicorn.unicorn_py3.unicorn import uclib

        if self._access_hook is None:
            return False
        status = uclib["uc_hook_del"](self._engine._uch, self._access_hook)
        assert status == 0, f"uc_hook_del: error {status}"
        self._access_hook = None
        return True

    def reset(self, budget: int) -> None:
        """Begin a run of at most `budget` blocks."""
        for counts in (self._count, self._taken, self._counted, self._jumped):
            counts.fill(0)
        self._state.slot = self._state.caller = self.slots
        self._state.budget = budget
        self._state.unaligned = 0
        self._state.lowest = 1 << 32

    @property
    def stopped(self) -> str:
        """Why the run was stopped before its end, or ""."""
        if self._state.unaligned:
            width, address = int(self._state.width), int(self._state.unaligned)
            return f"unaligned access of {width} bytes at {address:#x}, which this core refuses"
        return "" if self._state.budget else "still running when its budget of blocks was spent"

    @property
    def lowest_stack(self) -> int:
        """The least stack pointer that was seen: a frame counts even where it is not written."""
        return int(self._state.lowest)

    @property
    def caller(self) -> int | None:
        """Address of the block before the one that runs."""
        slot = int(self._state.caller)
        return None if slot == self.slots else self.start + 2 * slot

    def part_before_block(self) -> Part:
        """What ran since the last part, without the block that has just begun."""
        count = self._count.copy()
        count[int(self._state.slot)] -= 1
        return self._part(count, self._taken.copy())

    def part_at_end(self) -> Part:
        """What ran since the last part until the end: the last block left the code, which is a
        jump."""
        taken = self._taken.copy()
        if self._state.slot < self.slots:
            taken[int(self._state.slot)] += 1
        return self._part(self._count.copy(), taken)

    def _part(self, count: Counts, taken: Counts) -> Part:
        """From the counters where it ends."""
        own = np.flatnonzero((count != self._counted) | (taken != self._jumped))
        part = Part(own, count[own] - self._counted[own], taken[own] - self._jumped[own])
        self._counted, self._jumped = count, taken
        return part

    def check(self, where: str) -> None:
        """RunError when the counts of the run cannot be trusted."""
        if self._state.conflicts:
            raise RunError(
                "the emulator cut the same code into blocks in two ways: no exact counts",
                where=where,
                hint="is the code changing itself?",
            )


class CostTable:
    """What each block of an image costs; a block is looked at when it has run once."""

    def __init__(
        self,
        counters: BlockCounters,
        read: Callable[[int, int], bytes],
        sizes: Callable[[bytes], Iterator[int]],
        model: CycleModel | None,
    ) -> None:
        """read(address, size) gives code, sizes(code) the bytes of each of its instructions."""
        self._counters, self._read, self._sizes, self._model = counters, read, sizes, model
        self._known = np.zeros(counters.slots, bool)
        self._instructions: Costs = np.zeros(counters.slots, np.int64)
        self._cycles: Costs = np.zeros(counters.slots, np.int64)
        self._taken: Costs = np.zeros(counters.slots, np.int64)

    def costs(self, parts: Sequence[Part]) -> list[Cost]:
        """What each part of a run took."""
        return [self._cost(part) for part in parts]

    def _cost(self, part: Part) -> Cost:
        own = part.slots
        self._know(own[~self._known[own]])
        count, taken = part.count.astype(np.int64), part.taken.astype(np.int64)
        instructions = int(count @ self._instructions[own])
        if self._model is None:
            return Cost(instructions, None)
        return Cost(instructions, int(count @ self._cycles[own] + taken @ self._taken[own]))

    def blocks(self, part: Part) -> tuple[BlockRun, ...]:
        """The blocks of a part, by address."""
        counts = zip(part.slots.tolist(), part.count.tolist(), part.taken.tolist(), strict=True)
        left = {slot: [count, taken] for slot, count, taken in counts}
        self._know(part.slots)
        found = []
        for slot in sorted(left):
            following = self._following(slot)
            count, taken = left[slot]
            if following and count:
                # Its runs are runs of what it is the start of.
                others = left[following[-1]]
                taken = min(others[1], count)
                others[1] -= taken
                for other in following:
                    left[other][0] -= count
            if count:
                code = b"".join(map(self._code, (slot, *following)))
                found.append(BlockRun(self._address(slot), code, count, taken))
        return tuple(found)

    def _address(self, slot: int) -> int:
        return self._counters.start + 2 * slot

    def _code(self, slot: int) -> bytes:
        return self._read(self._address(slot), int(self._counters.size[slot]))

    def _following(self, slot: int) -> list[int]:
        """The blocks that always run behind this one: a translator ends a block also where a page
        of memory ends, which no core takes note of."""
        found: list[int] = []
        while self._model is not None and self._taken[slot] == 0:
            slot += int(self._counters.size[slot]) // 2
            if slot >= self._counters.slots or not self._counters.size[slot]:
                break
            self._know([slot])
            found.append(slot)
        return found

    def _know(self, slots: Iterable[int]) -> None:
        for slot in slots:
            if not self._known[slot]:
                self._learn(int(slot))

    def _learn(self, slot: int) -> None:
        address, code = self._address(slot), self._code(slot)
        self._instructions[slot] = sum(1 for _ in self._sizes(code))
        self._known[slot] = True
        if self._model is None:
            return
        cost = self._model.block(code, address)
        assert cost.instructions == self._instructions[slot], (
            f"the cycle model reads {cost.instructions} instructions at {address:#x}, "
            f"not {self._instructions[slot]}"
        )
        self._cycles[slot], self._taken[slot] = cost.cycles, cost.taken
        following = self._following(slot)
        if following:
            others = b"".join(map(self._code, following))
            whole, rest = (self._model.block(c, address) for c in (code + others, others))
            self._cycles[slot] = whole.cycles - rest.cycles
            self._taken[following[-1]] = whole.taken


@cache
def _hook_library() -> ctypes.CDLL:
    """hook.c, built for this machine once and kept in the cache."""
    source = Path(__file__).with_name("hook.c").read_text()
    # It calls nothing; without libraries even zig's first build of it takes no time.
    path = build_library("midge_hook", {"hook.c": source}, ("hook.c",), flags=("-nostdlib",))
    return ctypes.CDLL(str(path))


def joined(parts: Sequence[Part]) -> Part:
    """Parts of one run together."""
    if not parts:
        none = np.zeros(0, np.uint32)
        return Part(np.zeros(0, np.int64), none, none)
    slots, where = np.unique(np.concatenate([p.slots for p in parts]), return_inverse=True)
    counts = []
    for own in ([p.count for p in parts], [p.taken for p in parts]):
        total = np.zeros(len(slots), np.uint32)
        np.add.at(total, where, np.concatenate(own))
        counts.append(total)
    return Part(slots, *counts)
