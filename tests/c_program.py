"""Compiling generated packages the way a user would: compilers by command line, and a C program
around a package that takes its inputs from standard input and writes its outputs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from midge.core.cache import cache_dir
from midge.core.package import Package
from midge.core.types import Array
from midge.toolchain import TOOLCHAINS

# What the issue promises, word for word.
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
_CORTEX_M4 = ("-mcpu=cortex-m4", "-mthumb", "-ffreestanding")
_ZIG_M4 = ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m4", "-fhosted")
# Kernels of the cortex-m4 are plain C there.
_M0 = ("-DMIDGE_ANY_CPU",)
_ZIG_M0 = ("-target", "thumb-freestanding-eabi", "-mcpu=cortex_m0plus", "-fhosted", *_M0)

# name -> (program, flags); "zig" stands for the clang of the ziglang wheel.
COMPILERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "gcc": ("gcc", ()),
    "clang": ("clang", ()),
    "zig": ("zig", ("-fno-sanitize=undefined",)),
    "zig-m4": ("zig", _ZIG_M4),
    "gcc-m4": ("arm-none-eabi-gcc", _CORTEX_M4),
    "zig-m0plus": ("zig", _ZIG_M0),
    "gcc-m0plus": ("arm-none-eabi-gcc", ("-mcpu=cortex-m0plus", "-mthumb", "-ffreestanding", *_M0)),
}


def command(compiler: str, *, cxx: bool = False) -> list[str]:
    """The start of a command line; skips the test where the compiler is not there."""
    program, flags = COMPILERS[compiler]
    if program == "zig":
        found = TOOLCHAINS["zig"].find()
        assert found is not None, "ziglang is a dependency"
        return [str(found.path), "c++" if cxx else "cc", *flags]
    path = shutil.which(
        program.replace("gcc", "g++").replace("clang", "clang++") if cxx else program
    )
    if path is None:
        pytest.skip(f"{program} is not on this machine")
    return [path, *flags]


def environment() -> dict[str, str]:
    """Zig keeps what it builds for itself in the cache of the tests."""
    zig = ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")
    return {**os.environ, **dict.fromkeys(zig, str(cache_dir() / "zig"))}


def call(words: Sequence[str], folder: Path, data: bytes = b"") -> bytes:
    """Run a program in `folder`; its output. What it complained about is the failure's text."""
    done = subprocess.run(
        words, cwd=folder, input=data, capture_output=True, env=environment(), timeout=300
    )
    if done.returncode:
        pytest.fail(
            f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr.decode()[:3000]}"
        )
    return done.stdout


def write(package: Package, folder: Path) -> Path:
    """The package's files in `folder`, the flat way."""
    return package.save(folder)


def compile_objects(package: Package, folder: Path, compiler: str, *flags: str) -> list[Path]:
    """Objects of a saved package's sources."""
    objects = []
    for source in package.sources:
        target = folder / f"{Path(source).stem}.o"
        call([*command(compiler), *flags, "-I.", "-c", source, "-o", target.name], folder)
        objects.append(target)
    return objects


def undefined_symbols(path: Path) -> set[str]:
    """Names an object needs from elsewhere."""
    return {name for name, defined in _symbols(path) if not defined}


def global_symbols(path: Path) -> set[str]:
    """Names an object defines for others."""
    return {name for name, defined in _symbols(path) if defined}


def _symbols(path: Path) -> list[tuple[str, bool]]:
    from elftools.elf.elffile import ELFFile

    with path.open("rb") as file:
        table = ELFFile(file).get_section_by_name(".symtab")
        return [
            (s.name, s["st_shndx"] != "SHN_UNDEF")
            for s in table.iter_symbols()
            if s.name and s["st_info"]["bind"] != "STB_LOCAL"
        ]


def function(package: Package) -> str:
    """C: `<name>_feed` reads the inputs of one inference, `<name>_show` writes its outputs."""
    name = package.name

    def ports(base: str, count: int) -> list[str]:
        return [f"{name}_{base}"] if count == 1 else [f"{name}_{base}_{i}" for i in range(count)]

    feeds = "".join(
        f"    if (fread({p}(c), 1U, {p.upper()}_SIZE, stdin) != {p.upper()}_SIZE) {{ exit(9); }}\n"
        for p in ports("input", len(package.inputs))
    )
    shows = "".join(
        f"    (void)fwrite({p}(c), 1U, {p.upper()}_SIZE, stdout);\n"
        for p in ports("output", len(package.outputs))
    )
    return (
        f"static void {name}_feed({name}_context *c)\n{{\n{feeds}}}\n"
        f"static void {name}_show({name}_context *c)\n{{\n{shows}}}\n"
    )


def program(packages: Sequence[Package], body: str) -> str:
    """A C program over `packages`; `body` is what its main does."""
    includes = "".join(f'#include "{p.name}.h"\n' for p in packages)
    functions = "".join(map(function, packages))
    head = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"
    return f"{head}{includes}{functions}int main(void)\n{{\n{body}    return 0;\n}}\n"


def encoded(package: Package, values: Mapping[str, Array]) -> bytes:
    """The inputs of one inference as the program reads them."""
    return b"".join(np.ascontiguousarray(values[t.name]).tobytes() for t in package.inputs)


def decoded(package: Package, data: bytes) -> tuple[dict[str, Array], bytes]:
    """The outputs of one inference as the program wrote them, and what follows."""
    found: dict[str, Array] = {}
    for t in package.outputs:
        head, data = data[: t.type.size], data[t.type.size :]
        found[t.name] = np.frombuffer(head, t.type.dtype.numpy).reshape(t.type.shape)
    return found, data
