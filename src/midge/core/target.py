"""What a target is: a CPU, its memories, and how tools are told about it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from midge.core.errors import TargetError

EVERY_STEP = 1 << 16


@dataclass(frozen=True, slots=True)
class Memory:
    """`size` bytes at address `start`. cost: of an access, in units of the fastest memory's.
    typical: as chips with this CPU often have it, and not a board's own."""

    name: str
    kind: Literal["ram", "flash"]
    start: int
    size: int
    cost: float = 1.0
    typical: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A CPU with its memories.

    features: what the CPU has beyond its base instruction set ("dsp", "fpu", "mve", "div", ...);
    instruction families (`kernels/`) are switched on by them.
    toolchains: toolchain name -> the flags that select this CPU, the preferred toolchain first.
    emulator: "model" (Unicorn's CPU constant), "cycles" (name of a cycle model), both optional.
    qemu: "system" (arm, riscv32), "machine", "cpu", and the memory origins of that machine.
    reserved: registers that no kernel may write.
    straight: steps of a loop that a micro-kernel may write out. Few by default: code of 2 to 4 KB
    waits for flash all the time where an instruction cache of 1 KB is before it.
    """

    name: str
    description: str
    arch: Literal["arm", "riscv", "host"]
    cpu: str
    features: frozenset[str] = frozenset()
    memories: tuple[Memory, ...] = ()
    toolchains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    emulator: Mapping[str, str] = field(default_factory=dict)
    qemu: Mapping[str, str | int] = field(default_factory=dict)
    reserved: tuple[str, ...] = ()
    straight: int = 8

    def reserving(self, registers: tuple[str, ...]) -> Target:
        """The target whose compilers and kernels leave `registers` alone. TargetError for such as
        its compilers cannot keep."""
        if not registers:
            return self
        wrong = [r for r in registers if self.arch != "arm" or r != "r9"]
        if wrong:
            raise TargetError(
                f"{wrong[0]} cannot be reserved",
                where=f"target {self.name}",
                hint="compilers keep r9 on Arm, and no other register",
            )
        return replace(self, reserved=registers)

    def unrolling(self, unroll: bool) -> Target:
        """The target if its code runs from memory without wait states, or if it may not."""
        return replace(self, straight=EVERY_STEP) if unroll else self

    def memory(self, kind: Literal["ram", "flash"]) -> Memory | None:
        """The largest memory of a kind, the first of equal ones: an arena, and an image, lie in one
        piece. None on a host."""
        return max((m for m in self.memories if m.kind == kind), key=lambda m: m.size, default=None)

    def limit(self, kind: Literal["ram", "flash"]) -> int | None:
        """Bytes that a board has of a kind in one piece; None where there is no board."""
        own = self.memory(kind)
        return None if own is None or own.typical else own.size
