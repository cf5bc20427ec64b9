"""The arena in several memories, constants copied to RAM, and models that share an arena."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge
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


def test_what_is_missing_is_said() -> None:
    with pytest.raises(PlanError, match="bytes are missing") as error:
        compiled(pools=(("dtcm", 100), ("sram", 200)))
    assert "sram" in str(error.value) or "dtcm" in str(error.value)


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
    from midge.toolchain import build_shared

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
