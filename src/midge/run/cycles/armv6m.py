"""Cortex-M0+ (two stages) and Cortex-M0 (three): the smallest CPUs, with no pipelined loads.

Sources: Cortex-M0+ TRM (DDI 0484) table 3-1 and Cortex-M0 TRM (DDI 0432) table 3-1. The
single-cycle multiplier is assumed; with the small one, MULS takes 32 cycles.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from midge.run.cycles.model import MODELS, BlockCost, CycleModel, Settings
from midge.run.cycles.thumb import Instruction, Kind, decode

_SLOW = frozenset(("mrs", "msr", "dmb", "dsb", "isb"))


@dataclass(slots=True)
class Armv6M:
    """Cycles of a Cortex-M0 or M0+: refill is what a taken branch adds (M0+ 1, M0 2)."""

    refill: int
    flash_wait_states: int
    unknown: set[str] = field(default_factory=set)

    def block(self, code: bytes, address: int) -> BlockCost:
        """The cost of the Thumb instructions in `code`; `address` does not matter to this CPU."""
        count, cycles, taken = 0, 0, 0
        for instruction in decode(code):
            if instruction.kind is Kind.UNKNOWN:
                self.unknown.add(instruction.name)
            count += 1
            cycles += self._cycles(instruction)
            taken = self._redirect(instruction)
        return BlockCost(count, cycles, taken)

    def _cycles(self, instruction: Instruction) -> int:
        match instruction.kind:
            case Kind.LOAD | Kind.STORE:
                return 2 + (self.flash_wait_states if instruction.base == "pc" else 0)
            case Kind.MULTIPLE:
                return 1 + instruction.words
            case _:
                return 2 + self.refill if instruction.name in _SLOW else 1

    def _redirect(self, instruction: Instruction) -> int:
        if instruction.kind is not Kind.BRANCH and not instruction.writes_pc:
            return 0
        # BL is a 32-bit instruction, POP must first load the address: one cycle more.
        late = 1 if instruction.name in ("bl", "pop") else 0
        return self.refill + late + self.flash_wait_states


def _cortex_m0plus(settings: Settings) -> CycleModel:
    return Armv6M(settings.refill_or(1), settings.flash_wait_states)


def _cortex_m0(settings: Settings) -> CycleModel:
    return Armv6M(settings.refill_or(2), settings.flash_wait_states)


MODELS.add("cortex-m0plus", _cortex_m0plus)
MODELS.add("cortex-m0", _cortex_m0)
