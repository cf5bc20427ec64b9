"""Cortex-M33: in order, one instruction a cycle; a result may come later than its instruction.

Arm publishes no cycle table. Measured on an RP2350 by github.com/jnk0le/random ("pipeline cycle
test", cortex_m33.md), which the numbers below follow. Not measured there, taken from the Cortex-M4:
division, VDIV, VSQRT, and the latency of the other FPU instructions.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from midge.run.cycles.armv7m import fp_cycles
from midge.run.cycles.model import MODELS, BlockCost, CycleModel, Settings
from midge.run.cycles.thumb import Instruction, Kind, decode

_START = Instruction("", Kind.SYSTEM, 4)
_FP = frozenset((Kind.FP_ARITHMETIC, Kind.FP_MAC, Kind.FP_DIVIDE, Kind.FP_MOVE))
_FMA_LATENCY = 3


@dataclass(slots=True)
class CortexM33:
    """Cycles of a Cortex-M33."""

    refill: int
    divide: int
    flash_wait_states: int
    unknown: set[str] = field(default_factory=set)

    def block(self, code: bytes, address: int) -> BlockCost:
        """The cost of the Thumb instructions in `code`; `address` does not matter to this CPU."""
        previous, count, cycles, taken, fpu_free = _START, 0, 0, 0, 0
        ready: dict[str, tuple[int, Instruction]] = {}
        for instruction in decode(code):
            if instruction.kind is Kind.UNKNOWN:
                self.unknown.add(instruction.name)
            count += 1
            needed = [_needed_at(instruction, name, ready) for name in instruction.reads]
            start = max(cycles, *needed, fpu_free if instruction.kind in _FP else 0, 0)
            if instruction.kind is Kind.FP_MAC:
                fpu_free = start + _FMA_LATENCY
            ready.update(dict.fromkeys(instruction.writes, (start, instruction)))
            paired = _pairs(previous, instruction)
            cycles = start + (0 if paired else self._occupies(instruction))
            taken = self._redirect(instruction, previous, paired=paired)
            previous = instruction
        return BlockCost(count, cycles, taken)

    def _occupies(self, instruction: Instruction) -> int:
        match instruction.kind:
            case Kind.LOAD | Kind.STORE:
                literal = self.flash_wait_states if instruction.base == "pc" else 0
                return (2 if instruction.double else 1) + literal
            case Kind.DUAL | Kind.MULTIPLE:
                return instruction.words
            case Kind.EXCLUSIVE | Kind.TABLE_BRANCH:
                return 2
            case Kind.DIVIDE:
                return self.divide
            case Kind.FP_DIVIDE | Kind.FP_MOVE:
                return fp_cycles(instruction)
            case _:
                return 1

    def _redirect(self, instruction: Instruction, previous: Instruction, *, paired: bool) -> int:
        branches = instruction.kind in (Kind.BRANCH, Kind.TABLE_BRANCH)
        if not branches and not instruction.writes_pc:
            return 0
        # A paired branch waits for flags that its partner sets.
        waits = 1 if paired and "cpsr" in previous.writes else 0
        return self.refill + waits + self.flash_wait_states


def _pairs(older: Instruction, younger: Instruction) -> bool:
    """Two 16-bit instructions share a cycle when the second is a branch or IT."""
    both_narrow = older.size == younger.size == 2
    return both_narrow and younger.kind in (Kind.BRANCH, Kind.IT) and older.kind is not Kind.BRANCH


def _needed_at(consumer: Instruction, name: str, ready: dict[str, tuple[int, Instruction]]) -> int:
    if name not in ready:
        return 0
    start, producer = ready[name]
    return start + _latency(producer, consumer, name)


def _latency(producer: Instruction, consumer: Instruction, name: str) -> int:
    """Cycles from the start of `producer` to that of a `consumer` of its register `name`."""
    if name not in producer.loaded or name == "cpsr":
        return 1
    if producer.kind is Kind.FP_MAC:
        return _FMA_LATENCY
    stored = consumer.stores and name not in consumer.address
    if stored or consumer.adds(name):
        return 1
    late = producer.kind in (Kind.LOAD, Kind.FP_ARITHMETIC, Kind.MULTIPLY, Kind.LONG_MULTIPLY)
    return 2 if late or producer.shifted or "xta" in producer.name else 1


def _cortex_m33(settings: Settings) -> CycleModel:
    return CortexM33(settings.refill_or(1), settings.divide_or(6), settings.flash_wait_states)


MODELS.add("cortex-m33", _cortex_m33)
