"""Cortex-M3 and Cortex-M4: three stages, in order, one instruction at a time.

Sources: Cortex-M4 TRM (Arm 100166 / DDI 0439), table 3-1 "Processor instruction set summary",
section "Load/store timings", table 7-1 "FPU instruction set"; Cortex-M3 TRM (DDI 0337), table 3-1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from midge.run.cycles.model import MODELS, BlockCost, CycleModel, Settings
from midge.run.cycles.thumb import Instruction, Kind, decode

_START = Instruction("", Kind.SYSTEM, 4)
_DATA_PROCESSING = frozenset(
    (Kind.ALU, Kind.MULTIPLY, Kind.LONG_MULTIPLY, Kind.DIVIDE, Kind.SYSTEM, Kind.UNKNOWN)
)
_FP_RESULTS = frozenset((Kind.FP_ARITHMETIC, Kind.FP_MAC, Kind.FP_DIVIDE))
_M3_MULTIPLIES = {
    **dict.fromkeys(("mla", "mls"), 2),
    # 3 to 5 and 4 to 7 by operand size; a requantisation multiplies full 32-bit operands.
    **dict.fromkeys(("smull", "umull"), 5),
    **dict.fromkeys(("smlal", "umlal"), 7),
}


@dataclass(slots=True)
class ThreeStage:
    """Cycles of a Cortex-M3 or M4.

    multiplies: mnemonics that take more than one cycle. base_update_pipelines: a load that also
    updates its base can follow a load at once (M4), or not (M3).
    """

    refill: int
    divide: int
    flash_wait_states: int
    multiplies: dict[str, int]
    base_update_pipelines: bool
    unknown: set[str] = field(default_factory=set)

    def block(self, code: bytes, address: int) -> BlockCost:
        """The cost of the Thumb instructions in `code`; `address` does not matter to this CPU."""
        previous, count, cycles, taken = _START, 0, 0, 0
        for instruction in decode(code):
            if instruction.kind is Kind.UNKNOWN:
                self.unknown.add(instruction.name)
            count += 1
            cycles += self._cycles(instruction, previous) + _stall(instruction, previous)
            taken = self._redirect(instruction)
            previous = instruction
        return BlockCost(count, cycles, taken)

    def _cycles(self, instruction: Instruction, previous: Instruction) -> int:
        match instruction.kind:
            case Kind.LOAD:
                literal = self.flash_wait_states if instruction.base == "pc" else 0
                return self._load(instruction, previous) + literal
            case Kind.STORE:
                return store_cycles(instruction, previous)
            case Kind.MULTIPLE | Kind.DUAL:
                return 1 + instruction.words
            case Kind.DIVIDE:
                return self.divide
            case Kind.MULTIPLY | Kind.LONG_MULTIPLY:
                return self.multiplies.get(instruction.name, 1)
            case Kind.TABLE_BRANCH | Kind.EXCLUSIVE:
                return 2
            case Kind.IT:
                # Folded into the instruction before it when that is a 16-bit one.
                return 0 if previous.size == 2 else 1
            case Kind.FP_MAC | Kind.FP_DIVIDE | Kind.FP_MOVE:
                return fp_cycles(instruction)
            case _:
                return 1

    def _load(self, instruction: Instruction, previous: Instruction) -> int:
        if instruction.double:
            return 3
        if previous.kind is not Kind.LOAD or instruction.writes_pc:
            return 2
        if previous.double or previous.loaded & instruction.address:
            return 2
        return 1 if self.base_update_pipelines or not instruction.writeback else 2

    def _redirect(self, instruction: Instruction) -> int:
        branches = instruction.kind in (Kind.BRANCH, Kind.TABLE_BRANCH)
        if not branches and not instruction.writes_pc:
            return 0
        return self.refill + self.flash_wait_states


def store_cycles(instruction: Instruction, previous: Instruction) -> int:
    """A store's data phase overlaps the next instruction; a register offset costs one more,
    unless the store pipelines behind a load.
    """
    if instruction.double:
        return 3
    pipelines = previous.kind is Kind.LOAD and not previous.loaded & instruction.address
    return 2 if instruction.index and not pipelines else 1


def fp_cycles(instruction: Instruction) -> int:
    """Table 7-1 of the Cortex-M4 TRM, loads and stores apart."""
    match instruction.kind:
        case Kind.FP_MAC:
            return 3
        case Kind.FP_DIVIDE:
            return 14
        case _:
            moves_core = instruction.name == "vmov" and instruction.uses_core_register
            return 2 if moves_core else 1


def fp_stall(instruction: Instruction, previous: Instruction) -> int:
    """One cycle when an arithmetic result is used at once, but not as the addend of a
    multiply-accumulate, which reads it a cycle later (GCC's cortex-m4-fpu.md).
    """
    if previous.kind not in _FP_RESULTS:
        return 0
    return int(any(not instruction.adds(name) for name in previous.writes & instruction.reads))


def _stall(instruction: Instruction, previous: Instruction) -> int:
    # There is no forwarding path from the ALU to the address generator.
    late_address = previous.kind in _DATA_PROCESSING and previous.writes & instruction.address
    return 1 if late_address else fp_stall(instruction, previous)


def _cortex_m3(settings: Settings) -> CycleModel:
    return _build(settings, _M3_MULTIPLIES, base_update_pipelines=False)


def _cortex_m4(settings: Settings) -> CycleModel:
    return _build(settings, {}, base_update_pipelines=True)


def _build(
    settings: Settings, multiplies: dict[str, int], *, base_update_pipelines: bool
) -> ThreeStage:
    return ThreeStage(
        settings.refill_or(2),
        settings.divide_or(6),
        settings.flash_wait_states,
        multiplies,
        base_update_pipelines,
    )


MODELS.add("cortex-m3", _cortex_m3)
MODELS.add("cortex-m4", _cortex_m4)
