"""Generated C does not compile where it cannot run."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from c_program import STRICT, command, environment
from conftest import NO_SEARCH
from midge import driver
from midge.core.package import Package
from midge.target import TARGETS, load_target
from small_models import MODELS, graph

pytestmark = pytest.mark.slow

INT_16 = ("-U__INT_MAX__", "-D__INT_MAX__=32767")


@cache
def package(kind: str, target: str = "cortex-m4", narrow: bool = False) -> Package:
    chosen = load_target(target)
    if narrow:
        chosen = replace(chosen, features=chosen.features | {"int-16-bit"})
    return driver.compile_graph(graph(MODELS[kind](), "net"), chosen, NO_SEARCH).package


def said(made: Package, folder: Path, compiler: str, *flags: str) -> list[str]:
    """The errors of a compiler about the package's sources; none if it takes them."""
    made.save(folder)
    words = [*command(compiler), "-std=c11", *flags, "-c", "net.c", "-o", "net.o"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environment())
    errors = [line for line in done.stderr.splitlines() if "error" in line]
    assert bool(errors) == bool(done.returncode), done.stderr
    return errors


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (INT_16, "int has 16 bits"),
        (("-U__CHAR_BIT__", "-D__CHAR_BIT__=16"), "bytes of 8 bits"),
        (("-U__BYTE_ORDER__", "-D__BYTE_ORDER__=__ORDER_BIG_ENDIAN__"), "a little-endian CPU"),
        (("-U__BYTE_ORDER__", "-D__LITTLE_ENDIAN__=0"), "a little-endian CPU"),
        (("-U__BYTE_ORDER__", "-D__ARMEB__"), "a little-endian CPU"),
    ],
)
@pytest.mark.parametrize("kind", ["ports", "float"])
def test_what_no_package_runs_on(
    kind: str, flags: Sequence[str], says: str, tmp_path: Path
) -> None:
    errors = said(package(kind, "cortex-m0plus"), tmp_path, "gcc", "-w", *flags)
    assert any(says in line for line in errors), errors


def test_a_compiler_for_big_endian_is_refused(tmp_path: Path) -> None:
    errors = said(package("ports"), tmp_path, "gcc-m4", "-mbig-endian")
    assert any("a little-endian CPU" in line for line in errors), errors


def test_a_target_may_say_that_its_int_has_16_bits(tmp_path: Path) -> None:
    made = package("ports", "cortex-m0plus", narrow=True)
    assert said(made, tmp_path, "gcc", "-w", *INT_16) == []
    assert said(made, tmp_path, "gcc", *STRICT) == []


@pytest.mark.parametrize(
    ("kind", "compiler"),
    [("int8", "zig-m0plus"), *((k, "gcc-m0plus") for k in ("int8", "int16", "float"))],
)
def test_kernels_of_another_cpu_are_refused(kind: str, compiler: str, tmp_path: Path) -> None:
    errors = said(package(kind), tmp_path, compiler, "-UMIDGE_ANY_CPU")
    assert any("kernels for cortex-m4, compiled for another CPU" in e for e in errors), errors
    assert said(package(kind), tmp_path, compiler, "-DMIDGE_ANY_CPU", *STRICT) == []
    assert said(package(kind, "cortex-m0plus"), tmp_path, compiler, *STRICT) == []


def test_kernels_of_arm_are_refused_on_risc_v(tmp_path: Path) -> None:
    flags = TARGETS["rv32imac"].toolchains["zig"]
    errors = said(package("int8"), tmp_path, "zig", *flags)
    assert any("kernels for cortex-m4, compiled for another CPU" in e for e in errors), errors
    assert said(package("int8", "rv32imac"), tmp_path, "zig", *flags, *STRICT) == []


@pytest.mark.parametrize("compiler", ["zig-m4", "gcc-m4"])
def test_without_the_flags_of_the_fpu_the_cpu_is_the_same(compiler: str, tmp_path: Path) -> None:
    assert "__ARM_FP" in package("float").files["net.c"]
    assert said(package("float"), tmp_path, compiler, "-UMIDGE_ANY_CPU", *STRICT) == []


def test_r9_is_not_used_where_it_holds_the_address_of_data(tmp_path: Path) -> None:
    assert "\\n" in package("int8").files["net.c"]
    errors = said(package("int8"), tmp_path, "zig-m4", "-frwpi")
    assert any("kernels use r9" in line for line in errors), errors
    assert said(package("ports"), tmp_path, "zig-m4", "-frwpi") == []
    assert "RWPI" not in package("ports").files["net.c"]


@pytest.mark.parametrize("target", [n for n in TARGETS if TARGETS[n].arch != "host"])
@pytest.mark.parametrize("kind", ["int8", "float"])
def test_no_target_is_refused_by_its_own_packages(kind: str, target: str, tmp_path: Path) -> None:
    for name, flags in TARGETS[target].toolchains.items():
        compiler = {"zig": "zig", "arm-none-eabi-gcc": "gcc-m4"}.get(name)
        if compiler is not None:
            extra = [f for f in flags if f != "-mthumb"]
            assert said(package(kind, target), tmp_path, compiler, *extra, *STRICT) == []
