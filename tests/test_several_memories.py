"""The arena in several memories, constants copied to RAM, and models that share an arena."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge
from c_program import STRICT, call, command, compile_objects, write
from conftest import DIGITS
from midge import driver
from midge.core.errors import PlanError, UsageError
from midge.core.options import CompileOptions
from midge.core.types import Array
from midge.data import random_inputs
from midge.driver import Compiled
from midge.graph.evaluate import evaluate
from midge.run import RUNNERS
from midge.target import load_target
from midge.toolchain import build_shared

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

TWO = (("dtcm", 600), ("sram", 8192))


def compiled(**options: Any) -> Compiled:
    made = CompileOptions(search=False, prove=False, **options)
    return driver.compile_file(DIGITS, load_target("cortex-m4"), made)


def given(made: Compiled, seed: int) -> dict[str, Array]:
    (inputs,) = random_inputs(made.graph, 1, seed)
    return inputs


def check(made: Compiled, on: str) -> None:
    session = RUNNERS[on].load(made.package)
    for seed in range(2):
        inputs = given(made, seed)
        want = evaluate(made.graph, inputs)
        got = session.run(inputs).outputs
        for name, mine in zip(made.graph.outputs, made.package_outputs, strict=True):
            np.testing.assert_array_equal(got[mine], want[name])
    session.close()


@pytest.mark.parametrize("hot", [False, True], ids=["", "hot"])
@pytest.mark.parametrize("bands", [False, True], ids=["whole", "bands"])
@pytest.mark.parametrize("on", ["host", "emulator"])
def test_two_memories_give_the_same_bytes(on: str, bands: bool, hot: bool) -> None:
    check(compiled(bands=bands, pools=TWO, hot_weights=hot), on)


def test_both_memories_are_used_and_no_more_than_there_is() -> None:
    made = compiled(pools=TWO, hot_weights=True)
    sizes = made.package.metadata["arena"]["pools"]
    assert list(sizes) == ["dtcm", "sram"]
    assert 0 < sizes["dtcm"] <= 600
    assert 0 < sizes["sram"] <= 8192
    plain = compiled(pools=TWO).package.metadata["arena"]["pools"]
    assert plain["dtcm"] <= sizes["dtcm"]


def test_rows_that_arrive_lie_in_two_memories() -> None:
    check(compiled(stream_input=True, pools=TWO), "emulator")


@pytest.mark.parametrize("options", [{}, {"hot_weights": True}, {"static_arena": True}], ids=str)
def test_the_example_of_the_readme_runs(options: dict[str, Any], tmp_path: Path) -> None:
    """Zeros as input, and the outputs as bytes."""
    pools = () if "static_arena" in options else TWO
    made = compiled(pools=pools, **options)
    package, (output,) = made.package, made.package_outputs
    folder = write(package, tmp_path)
    (code,) = re.findall(r"```c\n(.*?)```", package.files["README.md"], re.DOTALL)
    head, _, body = code.partition("\n\n")
    size, lines = package.inputs[0].type.elements, body.strip().splitlines()
    (folder / "main.c").write_text(
        f"#include <stdio.h>\n{head}\nstatic const int8_t my_input[{size}];\nint main(void)\n{{\n"
        + "\n".join(lines)
        + f"\nreturn fwrite(scores, 1, {package.outputs[0].type.elements}, stdout) == 0;\n}}\n"
    )
    objects = [p.name for p in compile_objects(package, folder, "gcc")]
    call([*command("gcc"), "-I.", "main.c", *objects, "-o", "main"], folder)
    printed = np.frombuffer(call([str(folder / "main")], folder), np.int8)
    zeros = {n: np.zeros(made.graph.types[n].shape, np.int8) for n in made.graph.inputs}
    want = RUNNERS["host"].load(package).run(zeros).outputs[output]
    np.testing.assert_array_equal(printed, want.reshape(-1))


def test_tensors_of_a_missing_memory_are_nowhere() -> None:
    made = compiled(pools=TWO)
    find = functions(made)
    context, first, second = (ctypes.create_string_buffer(n) for n in (256, 700, 8192))
    find("init")(context, aligned(first), 600)
    places = [find("input"), find("output")]
    for place in places:
        place.restype = ctypes.c_void_p
    assert any(place(context) is None for place in places)
    find("use_sram")(context, aligned(second), 8000)
    assert all(place(context) is not None for place in places)


def aligned(buffer: Any) -> ctypes.c_void_p:
    at = ctypes.addressof(buffer)
    return ctypes.c_void_p(at + -at % 16)


def test_what_is_missing_is_said() -> None:
    with pytest.raises(PlanError, match="bytes are missing") as error:
        compiled(pools=(("dtcm", 100), ("sram", 200)))
    assert "sram" in str(error.value) or "dtcm" in str(error.value)


Call = Callable[..., int]


def functions(made: Compiled) -> Callable[[str], Call]:
    """The C functions of a package, by the end of their names, for this machine."""
    library = ctypes.CDLL(str(build_shared(made.package)))

    def find(name: str) -> Call:
        found: Call = getattr(library, f"{made.package.name}_{name}")
        return found

    return find


@pytest.mark.parametrize("rows", [False, True], ids=["whole", "rows"])
@pytest.mark.parametrize("pools", [TWO, (("a", 1), ("b", 8192))], ids=["two", "second only"])
def test_memories_lie_anywhere(pools: Any, rows: bool) -> None:
    """Each with guards around it; nothing is written before all are there."""
    made = compiled(pools=pools, stream_input=rows, hot_weights=not rows)
    call = functions(made)
    sizes = list(made.package.metadata["arena"]["pools"].items())
    memories = [np.full(size + 512, 0xA5, np.uint8) for _, size in sizes]
    starts = [(m.ctypes.data + 255) // 64 * 64 for m in memories]
    context = (ctypes.c_uint64 * 64)()
    at = ctypes.byref(context)
    pointer, length = ctypes.c_void_p, ctypes.c_size_t
    inputs = given(made, 1)
    data = next(iter(inputs.values())).tobytes()
    for _ in range(2):
        assert call("init")(at, pointer(starts[0]), length(sizes[0][1])) == 0
        run = call("feed_rows") if rows else call("run")
        assert run(at, *((data, length(1)) if rows else ())) != 0
        for (name, size), start in list(zip(sizes, starts, strict=True))[1:]:
            assert call(f"use_{name}")(at, pointer(start), length(size)) == 0
        if not rows:
            where = call("input")
            where.restype = ctypes.c_void_p  # type: ignore[attr-defined]
            ctypes.memmove(where(at), data, len(data))
        assert run(at, *((data, length(8)) if rows else ())) == 0
    where = call("output")
    where.restype = ctypes.c_void_p  # type: ignore[attr-defined]
    (want,) = evaluate(made.graph, inputs).values()
    assert ctypes.string_at(where(at), want.nbytes) == want.tobytes()
    for memory, start, (_, size) in zip(memories, starts, sizes, strict=True):
        first = start - memory.ctypes.data
        assert (memory[:first] == 0xA5).all()
        assert (memory[first + size :] == 0xA5).all()


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("rows", [False, True], ids=["whole", "rows"])
def test_any_names_and_sizes_compile_without_warnings(
    compiler: str, rows: bool, tmp_path: Path
) -> None:
    pools = (("a", 1), ("linux", 500), ("next", 8192), ("arena_size", 64))
    made = compiled(pools=pools, stream_input=rows)
    assert list(made.package.metadata["arena"]["pools"])[:3] == ["a", "linux", "next"]
    compile_objects(made.package, write(made.package, tmp_path), compiler, *STRICT, "-Wtype-limits")


@pytest.mark.parametrize("name", ["input", "output", "int", "restrict"])
def test_names_that_c_has_are_refused(name: str) -> None:
    for pools in ({"a": 600, name: 1 << 16}, {name: 1 << 16}):
        with pytest.raises(UsageError, match=f"{name} is a .* in C|{name} is a word of C") as error:
            midge.compile(DIGITS, search=False, pools=pools)
        assert error.value.where == "--pool"


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"hot_weights": True}, "--hot-weights"),
        ({"pools": (("a", 100), ("a", 200))}, "--pool"),
        ({"pools": (("A b", 100),)}, "--pool"),
        ({"pools": (("arena", 100),)}, "--pool"),
        ({"pools": TWO, "check_memory": True}, "--pool"),
    ],
    ids=["no pool", "twice", "name", "arena", "checked"],
)
def test_what_does_not_go_together(options: dict[str, Any], where: str) -> None:
    with pytest.raises(UsageError) as error:
        CompileOptions(**options)
    assert error.value.where == where


def test_models_take_turns_in_one_arena(tmp_path: Path) -> None:
    """What a run leaves in the arena is nobody's: another model may run there."""
    names = ("first", "second")
    packages = [midge.compile(DIGITS, name=name, search=False) for name in names]
    libraries = [ctypes.CDLL(str(build_shared(p))) for p in packages]
    size = max(p.arena_size for p in packages)
    memory = (ctypes.c_uint8 * (size + 16))()
    start = (ctypes.addressof(memory) + 15) // 16 * 16
    contexts = [(ctypes.c_uint64 * 64)() for _ in names]
    for name, library, context in zip(names, libraries, contexts, strict=True):
        init = getattr(library, f"{name}_init")
        init.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        assert init(ctypes.addressof(context), start, size) == 0
    graph = driver.load(DIGITS)
    for seed in range(4):
        which = seed % 2
        (inputs,) = random_inputs(graph, 1, seed)
        package = packages[which]
        data = inputs[graph.inputs[0]].tobytes()
        ctypes.memmove(start + package.inputs[0].offset, data, len(data))
        run = getattr(libraries[which], f"{names[which]}_run")
        run.argtypes = (ctypes.c_void_p,)
        assert run(ctypes.addressof(contexts[which])) == 0
        output = package.outputs[0]
        got = ctypes.string_at(start + output.offset, output.type.size)
        want = evaluate(graph, inputs)[graph.outputs[0]]
        assert got == want.tobytes()
