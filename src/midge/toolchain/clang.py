"""The system's clang: shared libraries by itself; bare-metal objects, linked by zig or lld."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from midge.core.errors import ToolchainError
from midge.toolchain.base import TOOLCHAINS, Arch, Found, Job
from midge.toolchain.command import BARE_COMPILE, c_flags, check, on_path, run
from midge.toolchain.gnu import shared_flags
from midge.toolchain.zig import Zig


@dataclass(frozen=True, slots=True)
class Clang:
    """clang rarely comes with a linker and a runtime library for Arm or RISC-V; zig has both."""

    name: str = "clang"
    install: str = "apt install clang"
    archs: frozenset[Arch] = frozenset({"arm", "riscv", "host"})

    def keeping(self, flags: tuple[str, ...], register: str) -> tuple[str, ...]:
        return (*flags, f"-ffixed-{register}")

    def find(self) -> Found | None:
        return on_path(self.name)

    def compile(self, found: Found, job: Job) -> None:
        if job.link and job.script is None:
            check(self.name, run(self.name, [found.path, *shared_flags(job)], job.folder))
            return
        flags = [*c_flags(job), *BARE_COMPILE, "-fomit-frame-pointer", "-c"]
        objects = []
        for source in job.sources:
            objects.append(f"{Path(source).stem}.o")
            if source != objects[-1]:
                command = [str(found.path), *flags, source, "-o", objects[-1]]
                check(self.name, run(self.name, command, job.folder))
        if job.link:
            self._link(job, objects)

    def _link(self, job: Job, objects: list[str]) -> None:
        zig = Zig()
        found = zig.find()
        if found is not None and job.link_flags:
            # -g1 again: without it the symbols are dropped at the link.
            zig.link(found, replace(job, flags=()), [*job.link_flags, "-O3", "-g1", *objects])
            return
        lld = shutil.which("ld.lld")
        if lld is None:
            raise ToolchainError(
                "there is no linker for bare-metal images", where=self.name, hint=zig.install
            )
        command = [lld, "--gc-sections", "-T", str(job.script), *objects, "-o", job.output]
        check("ld.lld", run("ld.lld", command, job.folder))


TOOLCHAINS.add("clang", Clang())
