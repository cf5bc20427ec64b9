"""The generated C as its users see it: every compiler, warnings as errors, sanitizers, C++."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from c_program import (
    COMPILERS,
    STRICT,
    call,
    command,
    compile_objects,
    decoded,
    encoded,
    global_symbols,
    program,
    undefined_symbols,
)
from conftest import DIGITS, Golden, unsearched
from midge import driver
from midge.core.package import Package
from midge.core.types import Array
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.runtime import header
from midge.target import load_target
from midge.verify import difference
from small_models import MODELS, graph

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

NAMES = ["digits", *MODELS]
INTEGER = ["digits", "int8", "int16", "ports"]
SANITIZE = ("-g", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
RUNTIME = sorted(p.name for p in (Path(driver.__file__).parent / "runtime" / "include").glob("*.h"))


def model(kind: str, name: str = "") -> Graph:
    if kind == "digits":
        return driver.load(DIGITS, name or "digits")
    return graph(MODELS[kind](), name or f"net_{kind}")


def compiled(kind: str, name: str = "", *, static_arena: bool = False) -> tuple[Graph, Package]:
    source = model(kind, name)
    target = load_target("cortex-m4")
    made = driver.compile_graph(
        source,
        target,
        unsearched(static_arena=static_arena),
        model_hash="test",
    )
    return source, made.package


def same(
    source: Graph, values: Mapping[str, Array], package: Package, have: Mapping[str, Array]
) -> None:
    """The outputs of the C are those of the reference."""
    want = evaluate(source, values)
    for mine, theirs in zip(package.outputs, source.outputs, strict=True):
        top = float(max(np.abs(want[theirs].astype(np.float64)).max(), 1e-6))
        found = difference(theirs, want[theirs], have[mine.name], top)
        assert found.ok, found


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("kind", NAMES)
def test_compiles_without_a_warning(kind: str, compiler: str, tmp_path: Path) -> None:
    _, package = compiled(kind)
    folder = package.save(tmp_path / "out")
    compile_objects(package, folder, compiler, *STRICT, "-O2")


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
def test_the_static_arena_compiles_without_a_warning(compiler: str, tmp_path: Path) -> None:
    _, package = compiled("int8", static_arena=True)
    compile_objects(package, package.save(tmp_path / "out"), compiler, *STRICT)


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("kind", ["digits", "float"])
def test_headers_compile_as_cxx(kind: str, compiler: str, tmp_path: Path) -> None:
    _, package = compiled(kind)
    folder = package.save(tmp_path / "out")
    for name in RUNTIME:
        (folder / name).write_text(header(name))
    for path in sorted(folder.glob("*.h")):
        (folder / "use.cpp").write_text(f'#include "{path.name}"\n' * 2)
        # The runtime's functions are C: only what a user includes is free of C casts.
        mine = path.name in (f"{package.name}.h", "midge_status.h")
        flags = ["-std=c++17", *STRICT[1:], *(["-Wold-style-cast"] if mine else [])]
        call([*command(compiler, cxx=True), *flags, "-c", "use.cpp", "-o", "use.o"], folder)


@pytest.mark.parametrize("kind", NAMES)
def test_runs_clean_under_sanitizers(kind: str, tmp_path: Path) -> None:
    source, package = compiled(kind)
    folder = package.save(tmp_path / "out")
    name, upper = package.name, package.name.upper()
    body = (
        f"    {name}_context c;\n    void *const arena = malloc({upper}_ARENA_SIZE);\n"
        f"    if ({name}_init(&c, arena, {upper}_ARENA_SIZE) != MIDGE_OK) {{ return 8; }}\n"
        "    for (int i = 0; i < 4; ++i) {\n"
        f"        {name}_feed(&c);\n        if ({name}_run(&c) != MIDGE_OK) {{ return 7; }}\n"
        f"        {name}_show(&c);\n    }}\n    free(arena);\n"
    )
    (folder / "main.c").write_text(program([package], body))
    words = [*command("gcc"), *STRICT, *SANITIZE, "-I.", "main.c", *package.sources, "-o", "main"]
    call(words, folder)
    sets = random_inputs(source, 4, 7)
    data = call([str(folder / "main")], folder, b"".join(encoded(package, s) for s in sets))
    for values in sets:
        have, data = decoded(package, data)
        same(source, values, package, have)
    assert data == b""


def test_sanitizers_would_notice(tmp_path: Path) -> None:
    """The set-up above fails when a kernel leaves the arena."""
    _, package = compiled("ports")
    folder = package.save(tmp_path / "out")
    name, upper = package.name, package.name.upper()
    body = (
        f"    {name}_context c;\n    void *const arena = malloc({upper}_ARENA_SIZE - 8U);\n"
        f"    (void){name}_init(&c, arena, {upper}_ARENA_SIZE);\n    (void){name}_run(&c);\n"
    )
    (folder / "main.c").write_text(program([package], body).replace("static void", "void"))
    words = [*command("gcc"), *SANITIZE, "-I.", "main.c", *package.sources, "-o", "main"]
    call(words, folder)
    done = subprocess.run([folder / "main"], capture_output=True, text=True)
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr


def test_two_models_and_two_instances_do_not_disturb_each_other(tmp_path: Path) -> None:
    first, alpha = compiled("int8", "alpha")
    second, beta = compiled("ports", "beta")
    folder = alpha.save(tmp_path / "out")
    for name, text in beta.files.items():
        if name.endswith((".c", ".h")):
            (folder / name).write_text(text)
    body = """    enum { ALPHA_ROOM = (ALPHA_ARENA_SIZE + 15U) / 16U * 16U };
    static _Alignas(ALPHA_ARENA_ALIGN) uint8_t arenas[2][ALPHA_ROOM];
    static _Alignas(BETA_ARENA_ALIGN) uint8_t other[BETA_ARENA_SIZE];
    alpha_context one;
    alpha_context two;
    beta_context three;
    if (alpha_init(&one, arenas[0], sizeof arenas[0]) != MIDGE_OK) { return 1; }
    if (alpha_init(&two, arenas[1], sizeof arenas[1]) != MIDGE_OK) { return 2; }
    if (beta_init(&three, other, sizeof other) != MIDGE_OK) { return 3; }
    for (int i = 0; i < 2; ++i) {
        alpha_feed(&one);
        beta_feed(&three);
        alpha_feed(&two);
        if (alpha_run(&two) != MIDGE_OK) { return 4; }
        if (beta_run(&three) != MIDGE_OK) { return 5; }
        if (alpha_run(&one) != MIDGE_OK) { return 6; }
        alpha_show(&one);
        alpha_show(&two);
        beta_show(&three);
    }
"""
    (folder / "main.c").write_text(program([alpha, beta], body))
    sources = [*alpha.sources, *beta.sources]
    call([*command("gcc"), *STRICT, *SANITIZE, "-I.", "main.c", *sources, "-o", "main"], folder)
    a, b = random_inputs(first, 4, 1), random_inputs(second, 4, 2)
    sets = [a[0], b[2], a[1], a[2], b[3], a[3]]
    owners = [alpha, beta, alpha] * 2
    given = b"".join(encoded(p, s) for p, s in zip(owners, sets, strict=True))
    data = call([str(folder / "main")], folder, given)
    for one, two, three in ((a[0], a[1], b[2]), (a[2], a[3], b[3])):
        for source, package, values in (
            (first, alpha, one),
            (first, alpha, two),
            (second, beta, three),
        ):
            have, data = decoded(package, data)
            same(source, values, package, have)


@pytest.mark.parametrize("kind", ["int8", "float"])
def test_every_global_symbol_carries_the_name(kind: str, tmp_path: Path) -> None:
    _, package = compiled(kind, "alpha")
    for path in compile_objects(package, package.save(tmp_path / "out"), "zig-m4", "-O2"):
        assert global_symbols(path), path.name
        assert all(s.startswith("alpha_") for s in global_symbols(path))


@pytest.mark.parametrize("static_arena", [False, True])
def test_what_init_and_run_refuse(static_arena: bool, tmp_path: Path) -> None:
    _, package = compiled("int8", "net", static_arena=static_arena)
    folder = package.save(tmp_path / "out")
    null = "MIDGE_OK" if static_arena else "MIDGE_ERR_ARG"
    checks = [
        ("net_run(&zeroed)", "MIDGE_ERR_ARG"),
        ("net_run(NULL)", "MIDGE_ERR_ARG"),
        ("net_init(&c, NULL, 0U)", null),
        ("net_init(NULL, arena, sizeof arena)", "MIDGE_ERR_ARG"),
        ("net_init(&c, arena + 1, sizeof arena - 1U)", "MIDGE_ERR_ARG"),
        ("net_init(&c, arena, NET_ARENA_SIZE - 1U)", "MIDGE_ERR_SPACE"),
        ("net_init(&c, arena, 0U)", "MIDGE_ERR_SPACE"),
        ("net_init(&c, arena, NET_ARENA_SIZE)", "MIDGE_OK"),
        ("net_run(&c)", "MIDGE_OK"),
    ]
    body = (
        "    static _Alignas(NET_ARENA_ALIGN) uint8_t arena[NET_ARENA_SIZE + 4U];\n"
        "    net_context c;\n    static net_context zeroed;\n"
    )
    for i, (text, status) in enumerate(checks):
        body += f"    if ({text} != {status}) {{ return {i + 1}; }}\n"
    text = program([package], body).replace("static void", "void")
    (folder / "main.c").write_text(text)
    words = [*command("gcc"), *SANITIZE, "-I.", "main.c", *package.sources, "-o", "main"]
    call(words, folder)
    call([str(folder / "main")], folder)


def test_a_static_arena_runs(tmp_path: Path) -> None:
    source, package = compiled("int8", "net", static_arena=True)
    folder = package.save(tmp_path / "out")
    body = (
        "    net_context c;\n    if (net_init(&c, NULL, 0U) != MIDGE_OK) { return 1; }\n"
        "    net_feed(&c);\n    if (net_run(&c) != MIDGE_OK) { return 2; }\n    net_show(&c);\n"
    )
    (folder / "main.c").write_text(program([package], body))
    call([*command("gcc"), *STRICT, "-I.", "main.c", *package.sources, "-o", "main"], folder)
    (values,) = random_inputs(source, 1, 3)
    have, _ = decoded(package, call([str(folder / "main")], folder, encoded(package, values)))
    same(source, values, package, have)


MEMORY = re.compile(r"mem(cpy|set|move)|__aeabi_mem(cpy|set|clr|move)[48]?")
# Multiplications and shifts of 64 bits, divisions of 32: the M0+ has none of these in hardware.
M0_HELPERS = re.compile(r"__aeabi_(lmul|llsl|llsr|lasr|u?idiv(mod)?)|__gnu_thumb1_case_\w+")


@pytest.mark.parametrize("compiler", ["zig-m4", "gcc-m4", "zig-m0plus", "gcc-m0plus"])
@pytest.mark.parametrize("kind", INTEGER)
def test_integer_models_need_only_memcpy_and_memset(
    kind: str, compiler: str, tmp_path: Path
) -> None:
    _, package = compiled(kind)
    folder = package.save(tmp_path / "out")
    for optimize in ("-Os", "-O3"):
        # The tables of exception handling name a function of the C++ runtime.
        objects = compile_objects(package, folder, compiler, optimize, "-fno-unwind-tables")
        given = set().union(*map(global_symbols, objects))
        for name in set().union(*map(undefined_symbols, objects)) - given:
            helper = compiler.endswith("m0plus") and M0_HELPERS.fullmatch(name)
            assert MEMORY.fullmatch(name) or helper, f"{optimize}: {name}"


def test_the_makefile_builds_the_library(tmp_path: Path) -> None:
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("make or cc is not on this machine")
    _, package = compiled("digits")
    folder = package.save(tmp_path / "out")
    call(["make", f"CFLAGS=-O1 {' '.join(STRICT)}"], folder)
    assert (folder / "libdigits.a").stat().st_size > 1000
    call(["make", "clean"], folder)
    assert sorted(p.name for p in folder.iterdir()) == sorted(package.files)


def test_cmake_builds_an_application(tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("cc") is None:
        pytest.skip("cmake or cc is not on this machine")
    _, package = compiled("digits")
    package.save(tmp_path / "digits")
    (tmp_path / "main.c").write_text(
        '#include "digits.h"\nint main(void) { return digits_run(0) == 0; }\n'
    )
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(app C)\nadd_subdirectory(digits)\n"
        "add_executable(app main.c)\ntarget_link_libraries(app PRIVATE digits)\n"
    )
    call(["cmake", "-S", ".", "-B", "build"], tmp_path)
    call(["cmake", "--build", "build"], tmp_path)
    call([str(tmp_path / "build" / "app")], tmp_path)


@pytest.mark.parametrize("static_arena", [False, True])
@pytest.mark.parametrize("kind", NAMES)
def test_the_example_of_the_readme_compiles(kind: str, static_arena: bool, tmp_path: Path) -> None:
    _, package = compiled(kind, static_arena=static_arena)
    folder = package.save(tmp_path / "out")
    (code,) = re.findall(r"```c\n(.*?)```", package.files["README.md"], re.DOTALL)
    lines = code.splitlines()
    top = max(i for i, line in enumerate(lines) if line.startswith("#include")) + 1
    pointer = f"const {package.inputs[0].type.dtype.c_name} *my_input"
    (folder / "example.c").write_text(
        "\n".join(lines[:top]) + f"\nvoid example({pointer});\nvoid example({pointer})\n{{\n"
        + "\n".join(lines[top:]) + "\n(void)scores;\n}\n"
    )  # fmt: skip
    call([*command("gcc"), *STRICT, "-I.", "-c", "example.c", "-o", "example.o"], folder)


@pytest.mark.parametrize("kind", NAMES)
def test_lines_fit_an_editor(kind: str) -> None:
    _, package = compiled(kind)
    for name, text in package.files.items():
        if name.endswith((".c", ".h")):
            code = re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)
            long = [line for line in code.splitlines() if len(line) > 110]
            assert not long, f"{name}: {long[0]}"


@pytest.mark.parametrize("kind", ["ports", "int16"])
def test_the_text_of_the_c(kind: str, golden: Golden) -> None:
    _, package = compiled(kind)
    files = (f"{package.name}.h", f"{package.name}.c")
    text = "\n".join(package.files[name] for name in files)
    golden(re.sub(r"0x[0-9a-f]{16}U", "0x<build>U", text))


def test_the_text_of_the_readme(golden: Golden) -> None:
    _, package = compiled("int8")
    golden(package.files["README.md"])


def test_weights_are_the_constants_of_the_model() -> None:
    source, package = compiled("digits")
    assert package.weights_size == sum(
        int(n) * {"int8_t": 1, "int16_t": 2, "int32_t": 4}[t]
        for t, n in re.findall(r"const (\w+) \w+\[(\d+)\] = ", package.files["digits_weights.c"])
    )
    assert np.prod(source.types[source.inputs[0]].shape) == package.inputs[0].type.elements
