"""Every target builds, with every compiler that is here; what fails says why."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import pytest

from midge.core.errors import TargetError, ToolchainError, UsageError
from midge.target import TARGETS, load_target
from midge.toolchain import (
    HOST_TOOLCHAINS,
    TOOLCHAINS,
    build,
    build_image,
    build_library,
    build_shared,
)
from midge.toolchain.base import Job
from midge.toolchain.zig import Zig
from tiny_package import LENGTH, tiny_package

pytestmark = pytest.mark.slow

BARE = [name for name in TARGETS if TARGETS[name].arch != "host"]
PAIRS = [(target, name) for target in BARE for name in TARGETS[target].toolchains]
BARE_SOURCES = Path(__file__).parents[3] / "src/midge/toolchain/bare"


def need(toolchain: str) -> str:
    if TOOLCHAINS[toolchain].find() is None:
        pytest.skip(f"{toolchain} is not on this machine")
    return toolchain


@pytest.mark.parametrize(("target", "toolchain"), PAIRS)
def test_builds_without_warnings(target: str, toolchain: str) -> None:
    image = build_image(tiny_package(target), toolchain=need(toolchain), warnings_as_errors=True)
    start, stop = image.code
    run = image.symbols["tiny_run"]
    assert run.kind == "func"
    assert start <= run.address < run.address + run.size <= stop
    assert image.function_at(run.address + 2) == "tiny_run+0x2"
    assert image.function_at(stop + 64) == ""
    assert image.sizes.flash == image.sizes.code + image.sizes.weights
    assert image.sizes.weights == LENGTH
    assert 60 < image.sizes.code < 2000
    assert image.sizes.ram == 0
    assert image.toolchain == toolchain
    assert image.version


@pytest.mark.parametrize("optimize", ["speed", "size", "balanced", "debug"])
def test_every_optimisation_keeps_the_symbols(optimize: str) -> None:
    image = build_image(tiny_package("cortex-m4"), toolchain="zig", optimize=optimize)
    assert {"tiny_init", "tiny_run", "tiny_scale", "tiny_dot"} <= set(image.symbols)


def test_data_and_bss_are_static_ram() -> None:
    data = "static volatile int32_t counter = 3; static volatile int32_t zeros[4];"
    package = tiny_package("cortex-m4", prelude=data, before="zeros[1] = counter; counter = 4;")
    image = build_image(package, toolchain="zig")
    assert image.sizes.ram == 20
    (section,) = [s for s in image.sections if s.name == ".data"]
    assert section.data == bytes([3, 0, 0, 0])


def test_the_same_build_is_not_made_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_image(tiny_package("cortex-m4"), toolchain="zig", defines=["ONCE"])

    def never(*_: object) -> None:
        raise AssertionError("compiled again")

    monkeypatch.setattr(Zig, "compile", never)
    second = build_image(tiny_package("cortex-m4"), toolchain="zig", defines=["ONCE"])
    assert second == first
    with pytest.raises(AssertionError, match="compiled again"):
        build_image(tiny_package("cortex-m4"), toolchain="zig", defines=["TWICE"])


def test_a_work_folder_keeps_everything(tmp_path: Path) -> None:
    image = build_image(tiny_package("cortex-m4"), toolchain="zig", work_dir=tmp_path)
    assert image.path == tmp_path / "tiny.elf"
    assert (tmp_path / "tiny.c").is_file()
    assert (tmp_path / "image.ld").is_file()


def test_extra_sources_and_a_linker_script_of_ones_own() -> None:
    script = """ENTRY(tiny_run) EXTERN(tiny_run extra)
    SECTIONS { .text 0x1000 : { *(.text* .rodata*) } /DISCARD/ : { *(.ARM.exidx*) } }"""
    extra = "int extra(void); int extra(void) { return EXTRA; }"
    package = tiny_package("cortex-m4")
    image = build_image(
        package, toolchain="zig", sources={"x.c": extra}, script=script, defines=["EXTRA=7"]
    )
    assert image.code[0] == 0x1000
    assert "extra" in image.symbols


@pytest.mark.parametrize("toolchain", ["zig", "arm-none-eabi-gcc", "clang"])
def test_a_compile_error_says_where_and_what(toolchain: str) -> None:
    package = tiny_package("cortex-m4", before="int x = nonsense;")
    with pytest.raises(ToolchainError) as caught:
        build_image(package, toolchain=need(toolchain))
    assert caught.value.where == f"{toolchain} tiny.c"
    assert "nonsense" in caught.value.what
    assert "tiny.c:" in caught.value.what
    assert caught.value.hint


@pytest.mark.parametrize("toolchain", ["zig", "arm-none-eabi-gcc", "clang"])
def test_a_maths_function_is_named(toolchain: str) -> None:
    use = "volatile float f = 1.0F; f = tanhf(f);"
    package = tiny_package("cortex-m4", prelude="#include <math.h>", before=use)
    with pytest.raises(ToolchainError, match="tanhf is in the C maths library"):
        build_image(package, toolchain=need(toolchain))


@pytest.mark.parametrize("toolchain", ["zig", "arm-none-eabi-gcc"])
def test_another_missing_function_is_named(toolchain: str) -> None:
    declare = "void elsewhere(void);"
    package = tiny_package("cortex-m3", prelude=declare, before="elsewhere();")
    with pytest.raises(ToolchainError, match="elsewhere"):
        build_image(package, toolchain=need(toolchain))


@pytest.mark.parametrize("toolchain", ["zig", "arm-none-eabi-gcc", "clang"])
def test_what_the_fpu_can_do_needs_no_library(toolchain: str) -> None:
    use = "volatile float f = 2.0F; f = sqrtf(f) + fabsf(f);"
    package = tiny_package("cortex-m4", prelude="#include <math.h>", before=use)
    build_image(package, toolchain=need(toolchain), warnings_as_errors=True)


@pytest.mark.parametrize(
    ("target", "toolchain"), [("cortex-m3", "arm-none-eabi-gcc"), ("cortex-m3", "zig")]
)
def test_the_compilers_own_library_is_linked_when_needed(target: str, toolchain: str) -> None:
    use = "volatile int64_t n = 1000000007; n = n / (n % 11);"
    image = build_image(tiny_package(target, before=use), toolchain=need(toolchain))
    assert "__aeabi_ldivmod" in image.symbols


def test_warnings_can_be_errors() -> None:
    package = tiny_package("cortex-m4", before="int8_t narrow = (int32_t)ctx->runs; (void)narrow;")
    build_image(package, toolchain="zig")
    with pytest.raises(ToolchainError, match=r"narrow|precision|conversion"):
        build_image(package, toolchain="zig", warnings_as_errors=True)


def test_a_target_without_memories_has_no_images() -> None:
    with pytest.raises(TargetError, match="flash and a RAM"):
        build_image(tiny_package("host"), toolchain="gcc")


def test_an_unknown_toolchain_is_told_from_one_that_does_not_fit() -> None:
    with pytest.raises(UsageError, match=r"unknown toolchain.*\n.*did you mean"):
        build_image(tiny_package("cortex-m4"), toolchain="zug")
    with pytest.raises(ToolchainError, match="has no flags for riscv64-unknown-elf-gcc"):
        build_image(tiny_package("cortex-m4"), toolchain="riscv64-unknown-elf-gcc")


def test_an_unknown_optimisation() -> None:
    with pytest.raises(UsageError, match="balanced"):
        build_image(tiny_package("cortex-m4"), optimize="fastest")


def test_no_compiler_says_how_to_get_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(Zig, "find", lambda _: None)
    with pytest.raises(ToolchainError, match="not found: gcc, clang, zig") as caught:
        build_shared(tiny_package())
    assert "apt install gcc" in caught.value.hint
    assert "pip install ziglang" in caught.value.hint
    with pytest.raises(ToolchainError, match="not found: arm-none-eabi-gcc"):
        build_image(tiny_package("cortex-m4"), toolchain="arm-none-eabi-gcc")


def test_the_host_target_states_the_hosts_order() -> None:
    assert tuple(load_target("host").toolchains) == HOST_TOOLCHAINS


@pytest.mark.parametrize("toolchain", HOST_TOOLCHAINS)
def test_shared_libraries(toolchain: str) -> None:
    path = build_shared(tiny_package(), toolchain=need(toolchain), warnings_as_errors=True)
    assert ctypes.CDLL(str(path)).tiny_init(ctypes.create_string_buffer(64), None, 3) == 2


@pytest.mark.parametrize(
    ("package", "asked", "built"),
    [
        ("speed", None, "balanced"),
        ("size", None, "size"),
        ("debug", None, "debug"),
        ("size", "speed", "speed"),
    ],
)
def test_this_machine_gets_minus_o3_on_request_only(
    package: str, asked: str | None, built: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[Job] = []
    monkeypatch.setattr(build, "_build", lambda selected, job, *rest: jobs.append(job))
    build_shared(replace(tiny_package(), optimize=package), optimize=asked)
    assert [job.optimize for job in jobs] == [built]


@pytest.mark.parametrize("toolchain", HOST_TOOLCHAINS)
def test_memory_functions_of_bare_images(toolchain: str) -> None:
    files = {name: (BARE_SOURCES / name).read_text() for name in ("memory.c", "string.h")}
    names = [f"{name}=bare_{name}" for name in ("memcpy", "memmove", "memset")]
    library = ctypes.CDLL(
        str(build_library("bare", files, ["memory.c"], toolchain=need(toolchain), defines=names))
    )
    memory = bytes(range(1, 49))
    for to in range(0, 24):
        for source in range(0, 24):
            for size in (0, 1, 4, 7, 16, 21):
                buffer = ctypes.create_string_buffer(memory, len(memory))
                here = ctypes.addressof(buffer)
                library.bare_memmove(
                    ctypes.c_void_p(here + to), ctypes.c_void_p(here + source), size
                )
                expected = bytearray(memory)
                expected[to : to + size] = memory[source : source + size]
                assert buffer.raw == expected
    for to, size in ((0, 16), (1, 9), (4, 7), (3, 0)):
        buffer = ctypes.create_string_buffer(memory, len(memory))
        library.bare_memset(ctypes.c_void_p(ctypes.addressof(buffer) + to), 0x1F3, size)
        assert buffer.raw == memory[:to] + b"\xf3" * size + memory[to + size :]
