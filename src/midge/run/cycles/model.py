"""What a cycle model is: the cost of one straight run of instructions, the same for every CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from midge.core.errors import UsageError
from midge.core.registry import Registry


@dataclass(frozen=True, slots=True)
class BlockCost:
    """What a block costs each time it runs.

    cycles: when control falls through its end. taken: cycles to add when its last instruction
    redirects control instead. instructions: exact.
    """

    instructions: int
    cycles: int
    taken: int


@dataclass(frozen=True, slots=True)
class Settings:
    """What a chip or a user may change in a model; None means the CPU's usual value.

    refill: cycles to refill the pipeline after a taken branch (P in Arm's tables, 1 to 3).
    divide: cycles of SDIV and UDIV, which depend on the operands on silicon.
    flash_wait_states: cycles that a branch target, and a literal, waits for the flash.
    """

    refill: int | None = None
    divide: int | None = None
    flash_wait_states: int = 0

    def __post_init__(self) -> None:
        for name in ("refill", "divide", "flash_wait_states"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise UsageError(f"{name} is {value}, not zero or more", where="cycle model")

    def refill_or(self, usual: int) -> int:
        return usual if self.refill is None else self.refill

    def divide_or(self, usual: int) -> int:
        return usual if self.divide is None else self.divide


class CycleModel(Protocol):
    """Cycles of a CPU's machine code, estimated from a table. Never measured.

    unknown: mnemonics met that the model has no entry for; each was counted as one cycle.
    """

    @property
    def unknown(self) -> set[str]: ...

    def block(self, code: bytes, address: int) -> BlockCost:
        """The cost of the instructions in `code`, which start at `address`."""
        ...


MODELS: Registry[Callable[[Settings], CycleModel]] = Registry("cycle model")
