"""Cortex-M7: two instructions a cycle, in order, with results forwarded between stages.

Arm publishes no table. This is a small scoreboard with the rules that matter to a kernel's inner
loop, from two sets of measurements on STM32H7: github.com/jnk0le/random ("pipeline cycle test") and
quinapalus.com/cm7cycles.html. Left out: cache misses, bank conflicts, mispredicted branches, the
early and late ALU, alignment of 16-bit instructions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from midge.run.cycles.model import MODELS, BlockCost, CycleModel, Settings
from midge.run.cycles.thumb import Instruction, Kind, decode

_MULTIPLIES = frozenset((Kind.MULTIPLY, Kind.LONG_MULTIPLY))
_FP = frozenset((Kind.FP_ARITHMETIC, Kind.FP_MAC, Kind.FP_DIVIDE, Kind.FP_MOVE))
_MEMORY = frozenset((Kind.LOAD, Kind.STORE))
# Units of which there is one: two instructions that need it never pair.
_ALONE = frozenset(
    (Kind.DIVIDE, Kind.DUAL, Kind.MULTIPLE, Kind.EXCLUSIVE, Kind.TABLE_BRANCH, Kind.SYSTEM)
)
_EXTENDS = ("sxt", "uxt", "pkh", "bf", "sbfx", "ubfx", "rev", "rbit", "clz", "sel", "ssat", "usat")
_PARALLEL = ("sadd", "uadd", "ssub", "usub", "qadd", "qsub", "shadd", "uhadd", "usad", "sasx")


@dataclass(slots=True)
class DualIssue:
    """Cycles of a Cortex-M7. refill: what a predicted taken branch adds on average."""

    refill: int
    divide: int
    flash_wait_states: int
    unknown: set[str] = field(default_factory=set)

    def block(self, code: bytes, address: int) -> BlockCost:
        """The cost of the Thumb instructions in `code`; `address` does not matter to this CPU."""
        board = _Scoreboard()
        count, taken = 0, 0
        for instruction in decode(code):
            if instruction.kind is Kind.UNKNOWN:
                self.unknown.add(instruction.name)
            count += 1
            board.issue(instruction, self._occupies(instruction))
            redirects = instruction.kind in (Kind.BRANCH, Kind.TABLE_BRANCH)
            taken = self.refill if redirects or instruction.writes_pc else 0
        return BlockCost(count, board.cycles, taken + self.flash_wait_states * bool(taken))

    def _occupies(self, instruction: Instruction) -> int:
        """Cycles for which nothing else issues, the first one included."""
        match instruction.kind:
            case Kind.MULTIPLE | Kind.DUAL:
                return (instruction.words + 1) // 2
            case Kind.DIVIDE:
                return self.divide
            case Kind.FP_DIVIDE:
                return 16 if instruction.name == "vdiv" else 14
            case Kind.TABLE_BRANCH | Kind.EXCLUSIVE:
                return 2
            case Kind.LOAD if instruction.base == "pc":
                return 1 + self.flash_wait_states
            case _:
                return 1


class _Scoreboard:
    """When each register is ready, and what has issued in the current cycle."""

    def __init__(self) -> None:
        self._cycle = -1
        self._free = 0
        self._older: Instruction | None = None
        self._ready: dict[str, tuple[int, Instruction]] = {}

    @property
    def cycles(self) -> int:
        return self._free

    def issue(self, instruction: Instruction, occupies: int) -> None:
        needed = [self._needed_at(instruction, name) for name in instruction.reads]
        earliest = max(needed, default=0)
        older = self._older
        if older is not None and earliest <= self._cycle and _pair(older, instruction):
            self._older = None
        else:
            self._cycle = max(self._free, earliest)
            self._older = None if instruction.kind in _ALONE or occupies > 1 else instruction
        self._free = max(self._free, self._cycle + occupies)
        for name in instruction.writes:
            self._ready[name] = (self._cycle, instruction)

    def _needed_at(self, consumer: Instruction, name: str) -> int:
        if name not in self._ready or consumer.kind is Kind.BRANCH:
            return 0  # a branch is predicted: it waits for nothing
        issued, producer = self._ready[name]
        if consumer.stores and name not in consumer.address and producer.kind not in _FP:
            return issued
        return issued + _latency(producer, consumer, name)


def _latency(producer: Instruction, consumer: Instruction, name: str) -> int:
    """Cycles from the issue of `producer` to that of a `consumer` of its result."""
    if name not in producer.loaded or name == "cpsr":
        return 1
    match producer.kind:
        case Kind.FP_MAC:
            return 3 if consumer.adds(name) else 5
        case Kind.FP_ARITHMETIC | Kind.FP_MOVE:
            return 1 if consumer.kind is Kind.STORE else 3
        case Kind.MULTIPLY | Kind.LONG_MULTIPLY:
            return 1 if consumer.adds(name) else 2
        case Kind.LOAD if producer.name == "vldr":
            return 3 if consumer.adds(name) else 2
        case Kind.LOAD:
            early = name in consumer.address or consumer.shifted or _is_factor(consumer, name)
            return 1 + early + (producer.name != "ldr")
        case _:
            return 2 if _extends(producer) and name in consumer.address else 1


def _is_factor(consumer: Instruction, name: str) -> bool:
    return consumer.kind in _MULTIPLIES and not consumer.adds(name)


def _pair(older: Instruction, younger: Instruction) -> bool:
    """Whether `younger` may issue in the same cycle, its operands being ready."""
    if younger.kind in _ALONE or younger.double or older.double:
        return False
    if (older.writes & younger.writes) - {"cpsr"}:
        return False
    kinds = {older.kind, younger.kind}
    if older.kind is Kind.BRANCH or kinds <= _MULTIPLIES:
        return False
    if kinds <= _FP or (kinds & _MULTIPLIES and Kind.STORE in kinds):
        return False
    if Kind.FP_MAC in kinds and any(i.name in ("vldr", "vstr") for i in (older, younger)):
        return False
    if kinds == {Kind.STORE} or (_extends(older) and _extends(younger)):
        return False
    return not (kinds <= _MEMORY and older.writeback and older.base in younger.address)


def _extends(instruction: Instruction) -> bool:
    """It needs the one shifter or the one SIMD unit."""
    return instruction.kind is Kind.ALU and (
        instruction.shifted or instruction.name.startswith(_EXTENDS + _PARALLEL)
    )


def _cortex_m7(settings: Settings) -> CycleModel:
    return DualIssue(settings.refill_or(1), settings.divide_or(6), settings.flash_wait_states)


MODELS.add("cortex-m7", _cortex_m7)
