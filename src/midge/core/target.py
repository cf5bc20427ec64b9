"""What a target is: a CPU, its memories, and how tools are told about it. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class Memory:
    """`size` bytes at address `start`. cost: of an access, in units of the fastest memory's."""

    name: str
    kind: Literal["ram", "flash"]
    start: int
    size: int
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class Target:
    """A CPU with its memories.

    features: what the CPU has beyond its base instruction set ("dsp", "fpu", "mve", "div", ...);
    instruction families (`kernels/`) are switched on by them.
    toolchains: toolchain name -> the flags that select this CPU, the preferred toolchain first.
    emulator: "model" (Unicorn's CPU constant), "cycles" (name of a cycle model), both optional.
    qemu: "system" (arm, riscv32), "machine", "cpu", and the memory origins of that machine.
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

    def memory(self, kind: Literal["ram", "flash"]) -> Memory | None:
        """The first memory of a kind, or None on a host."""
        return next((m for m in self.memories if m.kind == kind), None)
