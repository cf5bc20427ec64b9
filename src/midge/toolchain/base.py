"""What a toolchain is: a compiler that may be on this machine. One file each beside this one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from midge.core.registry import Registry

Arch = Literal["arm", "riscv", "host"]


@dataclass(frozen=True, slots=True)
class Found:
    """A compiler on this machine: its executable, and its version as it states it."""

    path: Path
    version: str


@dataclass(frozen=True, slots=True)
class Job:
    """One compilation and link, inside `folder`; every path is relative to it.

    sources: C files, and objects that are linked as they are.  output: the file to make.
    script: linker script of a bare-metal image, or None for a shared library of this machine.
    link: false for an object of a bare-metal image, from one source.
    flags: what selects the CPU, from the target, then what the caller adds.
    link_flags: the CPU flags of zig, when it links for another compiler.
    optimize: "speed", "size", "balanced" or "debug".
    strict: warnings are errors.
    """

    folder: Path
    sources: tuple[str, ...]
    output: str
    optimize: str
    script: str | None = None
    flags: tuple[str, ...] = ()
    link_flags: tuple[str, ...] = ()
    defines: tuple[str, ...] = ()
    includes: tuple[str, ...] = ()
    strict: bool = False
    link: bool = True


class Toolchain(Protocol):
    """A compiler.

    archs: what it can build for.  install: how a user gets it, for hints.
    """

    @property
    def name(self) -> str: ...

    @property
    def archs(self) -> frozenset[Arch]: ...

    @property
    def install(self) -> str: ...

    def keeping(self, flags: tuple[str, ...], register: str) -> tuple[str, ...]:
        """The flags of a CPU so that nothing writes `register`."""
        ...

    def find(self) -> Found | None:
        """The compiler, or None when it is not on this machine."""
        ...

    def compile(self, found: Found, job: Job) -> None:
        """Make `job.output`; ToolchainError with the compiler's first errors when it refuses."""
        ...


TOOLCHAINS: Registry[Toolchain] = Registry("toolchain")
