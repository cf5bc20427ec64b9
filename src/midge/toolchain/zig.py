"""Zig's clang from the ziglang wheel: every target with nothing but pip. TOOLCHAIN.md, section 1.

Its CPU names carry no FPU, MVE or (M33) DSP: a target's flags add those features by name.
"""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

from midge.toolchain.base import TOOLCHAINS, Arch, Found, Job
from midge.toolchain.command import BARE_COMPILE, c_flags, check, run, undefined
from midge.toolchain.gnu import shared_flags
from midge.toolchain.zig_cache import begin_anew, zig_folder

# Zig alone adds -ffreestanding (a memcpy of 4 bytes becomes a call) and keeps frame pointers.
_PLAIN = ("-fhosted", "-fomit-frame-pointer", "-fno-sanitize=undefined")
# The script names the entry; lld's default pages of 64 KiB would pad every file with zeros.
_LINK = ("-Wl,--gc-sections", "-Wl,-z,max-page-size=4", "-Wl,-z,norelro")


@dataclass(frozen=True, slots=True)
class Zig:
    """`zig cc`, run without the Python wrapper around it."""

    name: str = "zig"
    install: str = "pip install ziglang"
    archs: frozenset[Arch] = frozenset({"arm", "riscv", "host"})

    def keeping(self, flags: tuple[str, ...], register: str) -> tuple[str, ...]:
        """As a feature of the CPU: zig ignores -ffixed-r9."""
        cpu = "-mcpu="
        return tuple(f"{f}+reserve_{register}" if f.startswith(cpu) else f for f in flags)

    def find(self) -> Found | None:
        return _find()

    def compile(self, found: Found, job: Job) -> None:
        # -g1, because zig strips the symbols of optimised images without debug information.
        flags = [*c_flags(job), *_PLAIN, *(() if job.optimize == "debug" else ("-g1",))]
        if not job.link:
            object_ = [*flags, *BARE_COMPILE, "-c", *job.sources, "-o", job.output]
            check(self.name, self.cc(found, job.folder, object_))
            return
        if job.script is not None:
            self.link(found, job, [*flags, *BARE_COMPILE, *job.sources])
            return
        # Without a CPU zig compiles for the very machine it runs on, contracting floats.
        shared = [*flags, *shared_flags(job), "-mcpu=baseline"]
        check(self.name, self.cc(found, job.folder, shared))

    def link(self, found: Found, job: Job, arguments: list[str]) -> None:
        """Link an image, with compiler-rt only when needed: its first use takes 5 to 14 s."""
        arguments = [*arguments, *_LINK, "-T", str(job.script), "-o", job.output]
        result = self.cc(found, job.folder, [*arguments, "-nostdlib"])
        missing = undefined(result)
        # What compiler-rt has, and Midge's own memcpy has not, is named "__" and more.
        if missing and all(name.startswith("__") for name in missing):
            result = self.cc(found, job.folder, arguments)
        check(self.name, result)

    def cc(
        self, found: Found, folder: Path, arguments: list[str]
    ) -> subprocess.CompletedProcess[str]:
        """Run `zig cc` in `folder`. What zig builds for itself is kept in Midge's cache, objects
        are not: Midge keeps finished images."""
        result = self._run(found, folder, arguments)
        if _is_no_fault_of_the_code(result) and begin_anew():
            result = self._run(found, folder, arguments)
        return result

    def _run(
        self, found: Found, folder: Path, arguments: list[str]
    ) -> subprocess.CompletedProcess[str]:
        with zig_folder() as own:
            caches = {
                "ZIG_GLOBAL_CACHE_DIR": str(own),
                "ZIG_LOCAL_CACHE_DIR": str(folder / "zig-cache"),
            }
            return run(self.name, [found.path, "cc", *arguments], folder, caches)


def _is_no_fault_of_the_code(result: subprocess.CompletedProcess[str]) -> bool:
    """Whether zig failed, and neither a file of C nor a missing function is why."""
    in_c = re.search(r"\.[chS]:\d+:\d+: (fatal )?error:", result.stderr)
    return result.returncode != 0 and in_c is None and not undefined(result)


@cache
def _find() -> Found | None:
    # The module is not imported: on some platforms importing it starts the compiler.
    spec = util.find_spec("ziglang")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    path = folder / ("zig.exe" if sys.platform == "win32" else "zig")
    return Found(path, f"zig {metadata.version('ziglang')}") if path.is_file() else None


TOOLCHAINS.add("zig", Zig())
