"""Packages in projects of C++: their C compiles as C++, and CMake builds it without a C project."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import midge
from c_program import call, command, decoded, encoded, program
from conftest import DIGITS
from midge import driver
from midge.core.package import Package
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from small_models import MODELS, graph
from stream_nets import Net, chain

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

CXX = ("-x", "c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-Wcast-align", "-I.")
KINDS = {
    "int8": {}, "int16": {}, "float": {}, "ports": {},
    "digits": {}, "rows": {"stream_input": True}, "static": {"static_arena": True},
    "pools": {"pools": {"a": 2048, "b": 65536}, "hot_weights": True},
    "frames": {"stream_time": 0}, "whole": {"bands": False},
}  # fmt: skip


def package_of(kind: str) -> Package:
    if kind in MODELS:
        source = graph(MODELS[kind](), "net")
    elif kind == "frames":
        source = chain(Net(True, 3))
    else:
        source = driver.load(DIGITS, "net")
    settings: dict[str, object] = {"search": False, "prove": False, **KINDS[kind]}
    return midge.compile(source, "cortex-m4", **settings)


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_sources_compile_as_cxx(kind: str, compiler: str, tmp_path: Path) -> None:
    package = package_of(kind)
    folder = package.save(tmp_path / "out")
    for source in package.sources:
        call([*command(compiler, cxx=True), *CXX, "-c", source, "-o", "x.o"], folder)


@pytest.mark.parametrize("compiler", ["gcc-m4", "zig-m4", "gcc-m0plus"])
def test_so_do_kernels_with_assembler(compiler: str, tmp_path: Path) -> None:
    package = package_of("digits")
    assert "__asm__" in package.files["net.c"]
    folder = package.save(tmp_path / "out")
    for source in package.sources:
        call([*command(compiler, cxx=True), *CXX, "-c", source, "-o", "x.o"], folder)


@pytest.mark.parametrize("half", ["all", "weights", "model"])
def test_what_is_compiled_as_cxx_links_with_c_and_computes_the_same(
    half: str, tmp_path: Path
) -> None:
    source = graph(MODELS["int8"](), "net")
    package = package_of("int8")
    folder = package.save(tmp_path / "out")
    body = (
        "    static _Alignas(NET_ARENA_ALIGN) uint8_t arena[NET_ARENA_SIZE];\n    net_context c;\n"
        "    if (net_init(&c, arena, sizeof arena) != MIDGE_OK) { return 1; }\n"
        "    net_feed(&c);\n    if (net_run(&c) != MIDGE_OK) { return 2; }\n    net_show(&c);\n"
    )
    (folder / "main.c").write_text(program([package], body))
    for path in ("main.c", *package.sources):
        mine = path != "main.c" and half in ("all", "weights" if "weights" in path else "model")
        words = [*command("gcc", cxx=mine), *(CXX if mine else ("-I.",))]
        call([*words, "-c", path, "-o", f"{Path(path).stem}.o"], folder)
    objects = [f"{Path(p).stem}.o" for p in ("main.c", *package.sources)]
    call([*command("gcc"), *objects, "-o", "main"], folder)
    (values,) = random_inputs(source, 1, 3)
    have, _ = decoded(package, call([str(folder / "main")], folder, encoded(package, values)))
    want = evaluate(source, values)
    for mine_, theirs in zip(package.outputs, source.outputs, strict=True):
        assert (have[mine_.name] == want[theirs]).all()


# CMake.

MAIN = """\
#include "net.h"
alignas(NET_ARENA_ALIGN) static uint8_t arena[NET_ARENA_SIZE];
int main()
{
    net_context model;
    return (net_init(&model, arena, sizeof arena) != MIDGE_OK) || (net_run(&model) != MIDGE_OK);
}
"""
PROJECT = """\
cmake_minimum_required(VERSION 3.13)
project(app CXX)
add_subdirectory(net)
add_executable(app main.cpp)
target_link_libraries(app PRIVATE net)
"""


def built(folder: Path, *words: str) -> str:
    """Configure and build; the command that compiled net.c."""
    if shutil.which("cmake") is None or shutil.which("c++") is None:
        pytest.skip("cmake or a C++ compiler is not on this machine")
    shutil.rmtree(folder / "build", ignore_errors=True)
    call(["cmake", "-S", ".", "-B", "build", *words], folder)
    said = call(["cmake", "--build", "build", "--verbose"], folder).decode()
    (line,) = (x for x in said.splitlines() if re.search(r" -c \S*/net\.c\b", x))
    return line


def test_a_project_of_cxx_alone(tmp_path: Path) -> None:
    package_of("int8").save(tmp_path / "net")
    (tmp_path / "main.cpp").write_text(MAIN)
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    assert " -O3 " in built(tmp_path), "no build type: optimised for the goal"
    call([str(tmp_path / "build" / "app")], tmp_path)
    assert " -O" not in built(tmp_path, "-DCMAKE_BUILD_TYPE=Debug")
    assert " -O3 " not in built(tmp_path, "-DCMAKE_C_FLAGS=-O1")


@pytest.mark.parametrize(("goal", "flag"), [("speed", "-O3 -DNDEBUG"), ("size", "-Os -DNDEBUG")])
def test_a_package_alone_has_a_build_type(goal: str, flag: str, tmp_path: Path) -> None:
    source = graph(MODELS["int8"](), "net")
    package = midge.compile(source, "host", optimize=goal, search=False, prove=False)
    folder = package.save(tmp_path / "net")
    assert f" {flag} " in built(folder)
    assert " -O" not in built(folder, "-DCMAKE_BUILD_TYPE=Debug")


# The package's own arena.

OWNERS = """\
    static _Alignas(NET_ARENA_ALIGN) uint8_t arena[NET_ARENA_SIZE];
    net_context one;
    net_context two;
"""


def test_the_own_arena_is_one_instances_at_a_time(tmp_path: Path) -> None:
    package = package_of("static")
    folder = package.save(tmp_path / "out")
    checks = [
        ("net_init(&one, NULL, 0U)", "MIDGE_OK"),
        ("net_init(&one, NULL, 0U)", "MIDGE_OK"),
        ("net_init(&two, NULL, 0U)", "MIDGE_ERR_BUSY"),
        ("net_init(&two, arena, sizeof arena)", "MIDGE_OK"),
        ("net_run(&one)", "MIDGE_OK"),
        ("net_run(&two)", "MIDGE_OK"),
        ("net_release(&two)", "MIDGE_OK"),
        ("net_run(&two)", "MIDGE_ERR_ARG"),
        ("net_init(&two, NULL, 0U)", "MIDGE_ERR_BUSY"),
        ("net_release(&one)", "MIDGE_OK"),
        ("net_run(&one)", "MIDGE_ERR_ARG"),
        ("net_init(&two, NULL, 0U)", "MIDGE_OK"),
        ("net_init(&one, NULL, 0U)", "MIDGE_ERR_BUSY"),
        ("net_init(&two, arena, 1U)", "MIDGE_ERR_SPACE"),
        ("net_init(&one, NULL, 0U)", "MIDGE_ERR_BUSY"),
        ("net_init(&two, arena, sizeof arena)", "MIDGE_OK"),
        ("net_init(&one, NULL, 0U)", "MIDGE_OK"),
        ("net_release(NULL)", "MIDGE_ERR_ARG"),
    ]
    body = OWNERS + "".join(
        f"    if ({text} != {status}) {{ return {i + 1}; }}\n"
        for i, (text, status) in enumerate(checks)
    )
    text = program([package], body).replace("static void", "void")
    (folder / "main.c").write_text(text)
    call([*command("gcc"), "-g", "-I.", "main.c", *package.sources, "-o", "main"], folder)
    call([str(folder / "main")], folder)


def test_only_packages_with_an_arena_of_their_own_release_it() -> None:
    assert "net_release" not in package_of("int8").files["net.h"]
    assert "net_release" in package_of("static").files["net.h"]
