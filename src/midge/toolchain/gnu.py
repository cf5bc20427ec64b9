"""GCC in its native and cross forms, and what their command lines have in common."""

from __future__ import annotations

from dataclasses import dataclass

from midge.toolchain.base import Arch, Found, Job
from midge.toolchain.command import BARE_COMPILE, c_flags, check, on_path, run


@dataclass(frozen=True, slots=True)
class NativeCompiler:
    """gcc or clang for this machine: shared libraries only."""

    name: str
    install: str
    archs: frozenset[Arch] = frozenset({"host"})

    def keeping(self, flags: tuple[str, ...], register: str) -> tuple[str, ...]:
        return (*flags, f"-ffixed-{register}")

    def find(self) -> Found | None:
        return on_path(self.name)

    def compile(self, found: Found, job: Job) -> None:
        check(self.name, run(self.name, [found.path, *shared_flags(job)], job.folder))


@dataclass(frozen=True, slots=True)
class GnuCross:
    """A bare-metal gcc. Needs no C library: headers and memcpy are Midge's own."""

    name: str
    install: str
    archs: frozenset[Arch]

    def keeping(self, flags: tuple[str, ...], register: str) -> tuple[str, ...]:
        return (*flags, f"-ffixed-{register}")

    def find(self) -> Found | None:
        return on_path(self.name)

    def compile(self, found: Found, job: Job) -> None:
        # -ffreestanding finds stdint.h without a C library, -fbuiltin keeps memcpy inline.
        # An M-profile core has a fused multiply-add for floats: let it be used, as clang does.
        flags = [*c_flags(job), *BARE_COMPILE, "-ffreestanding", "-fbuiltin"]
        flags += ["-ffp-contract=fast", "-nostdlib"]
        if job.link:
            flags += ["-T", str(job.script), "-Wl,--gc-sections", *job.sources, "-lgcc"]
        else:
            flags += ["-c", *job.sources]
        command = [str(found.path), *flags, "-o", job.output]
        check(self.name, run(self.name, command, job.folder))


def shared_flags(job: Job) -> list[str]:
    """A shared library of this machine; no contraction, so that floats round everywhere alike."""
    flags = [*c_flags(job), "-shared", "-fPIC", "-ffp-contract=off"]
    return [*flags, *job.sources, "-lm", "-o", job.output]
