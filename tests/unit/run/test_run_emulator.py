"""The emulator: right results, exact counts, and faults that say where."""

from __future__ import annotations

import gc
import random
import shutil
import weakref
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from conftest import NO_SEARCH
from graphs import GraphMaker
from midge import driver
from midge.core.errors import RunError, TargetError, UsageError
from midge.core.package import Package
from midge.core.types import DType, TensorType
from midge.graph.ir import Graph, Node
from midge.run import RUNNERS
from midge.run.emulator import EmulatorRunner, EmulatorSession, by_operator
from midge.run.emulator_counters import Part
from midge.target import TARGETS, load_target
from midge.toolchain import TOOLCHAINS, build_image
from tiny_package import (
    OPERATORS,
    expected,
    some_input,
    tiny_package,
    with_operators,
)

EMULATED = [name for name in TARGETS if TARGETS[name].emulator]
PAIRS = [(target, name) for target in EMULATED for name in TARGETS[target].toolchains]
KNOWN_STACK = """#include "tiny.h"
midge_status tiny_init(tiny_context *ctx, void *arena, size_t size)
{
    (void)ctx; (void)arena; (void)size;
    return MIDGE_OK;
}
__attribute__((naked)) midge_status tiny_run(tiny_context *ctx)
{
    __asm__("push {r4, r5, lr}\\n sub sp, #100\\n movs r0, #7\\n str r0, [sp]\\n"
            "add sp, #100\\n movs r0, #0\\n pop {r4, r5, pc}");
}
"""
STRAIGHT = """uint32_t q = 1U;
    for (volatile int k = 0; k < 5; k++) {{
        __asm__ volatile(".rept {count}\\n add %0, %0, %0\\n .endr" : "+{register}"(q));
    }}"""


def load(
    package: Package, toolchain: str | None = None, optimize: str = "speed"
) -> EmulatorSession:
    if toolchain is not None and TOOLCHAINS[toolchain].find() is None:
        pytest.skip(f"{toolchain} is not on this machine")
    return EmulatorRunner().load(package, toolchain=toolchain, optimize=optimize)


def trace(session: EmulatorSession) -> list[tuple[int, int]]:
    """Address and size of each instruction of a run, as Unicorn calls Python for it."""
    from unicorn import UC_HOOK_CODE

    seen: list[tuple[int, int]] = []

    def note(_engine: Any, address: int, size: int, _data: Any) -> None:
        seen.append((address, size))

    start, stop = session._image.code
    session._machine.engine.hook_add(UC_HOOK_CODE, note, begin=start, end=stop - 1)
    session.run({"x": some_input()})
    return seen


def test_the_emulated_targets() -> None:
    assert set(EMULATED) == set(TARGETS) - {"host", "cortex-m55"}


@pytest.mark.parametrize(("target", "toolchain"), PAIRS)
def test_computes_what_numpy_does(target: str, toolchain: str) -> None:
    session = load(tiny_package(target), toolchain)
    for seed in range(3):
        x = some_input(seed)
        run = session.run({"x": x}, layers=True)
        np.testing.assert_array_equal(run.outputs["y"], expected(x)["y"])
        assert list(run.layers) == ["middle", "scaled", "y"]
        for name, value in expected(x).items():
            np.testing.assert_array_equal(run.layers[name], value)


@pytest.mark.parametrize("target", EMULATED)
def test_operators_add_up_and_repeat(target: str) -> None:
    session = load(tiny_package(target))
    first, again = (session.run({"x": some_input()}) for _ in range(2))
    assert [operator.name for operator in first.operators] == ["scale_0", "scale_1", "dot_0"]
    assert first.instructions == sum(o.instructions or 0 for o in first.operators)
    assert all((o.instructions or 0) > 48 for o in first.operators)
    assert first.operators == again.operators
    assert (first.cycles, first.stack) == (again.cycles, again.stack)
    if "cycles" in TARGETS[target].emulator:
        assert first.cycles == sum(o.cycles or 0 for o in first.operators)
        assert first.cycles > first.instructions / 2
    else:
        assert first.cycles is None


# Without IT blocks, whose skipped instructions Unicorn's own hook leaves out: zig here makes none.
@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("optimize", ["speed", "size"])
def test_instructions_are_exact(target: str, optimize: str) -> None:
    # A Cortex-M0+ cannot branch over more than 2 KiB.
    count = 90 if target == "cortex-m0plus" else 3000
    register = "r" if target == "rv32imac" else "l"
    package = tiny_package(target, before=STRAIGHT.format(count=count, register=register))
    run = load(package, "zig", optimize).run({"x": some_input()})
    assert run.instructions == len(trace(load(package, "zig", optimize)))
    assert run.instructions > 5 * count


@pytest.mark.parametrize("target", EMULATED)
def test_operators_are_cut_at_the_first_instruction_of_a_kernel(target: str) -> None:
    session = load(tiny_package(target), "zig")
    steps = [address for address, _ in trace(session)]
    symbols = session._image.symbols
    entries = {symbols["tiny_scale"].address, symbols["tiny_dot"].address}
    run = symbols["tiny_run"]
    inside = range(run.address, run.address + run.size)
    cuts = [i for i in range(1, len(steps)) if steps[i] in entries and steps[i - 1] in inside]
    assert len(cuts) == 3
    expected_counts = [cuts[1], cuts[2] - cuts[1], len(steps) - cuts[2]]
    operators = session.run({"x": some_input()}).operators
    assert [operator.instructions for operator in operators] == expected_counts


def test_a_loop_back_to_a_kernels_first_instruction_is_no_call() -> None:
    spin = """__attribute__((naked, noinline)) static void tiny_spin(int32_t times) {
        __asm__("subs r0, #1\\n bne tiny_spin\\n bx lr"); }"""
    package = tiny_package("cortex-m4", prelude=spin, after="tiny_spin(50);")
    package = with_operators(package, (*OPERATORS, replace(OPERATORS[2], kernel="tiny_spin")))
    run = load(package, "zig").run({"x": some_input()})
    assert len(run.operators) == 4
    assert 101 <= (run.operators[3].instructions or 0) < 120


@pytest.mark.parametrize("target", EMULATED)
def test_taken_branches_are_exact(target: str) -> None:
    session = load(tiny_package(target), "zig")
    steps = trace(session)
    pairs = pairwise(steps)
    jumps = sum(address + size != then for (address, size), (then, _) in pairs)
    leaving = 1  # the run's own return
    parts = session._infer({"x": some_input()}, layers=False)
    assert sum(int(part.taken.sum()) for part in parts) == jumps + leaving


def test_blocks_that_changed_are_an_error() -> None:
    session = load(tiny_package("cortex-m4"))
    session._counters._state.conflicts = 1
    with pytest.raises(RunError, match="no exact counts"):
        session.run({"x": some_input()})


def test_a_skipped_instruction_counts() -> None:
    block = '__asm__ volatile("cmp %0, %0\\n it ne\\n movne %0, #0" : "+r"(q));'
    plain = load(tiny_package("cortex-m4", before="volatile uint32_t v = 1U; uint32_t q = v;"))
    skips = load(
        tiny_package("cortex-m4", before="volatile uint32_t v = 1U; uint32_t q = v;" + block)
    )
    runs = [session.run({"x": some_input()}) for session in (plain, skips)]
    assert (runs[1].instructions or 0) - (runs[0].instructions or 0) == 3


@pytest.mark.parametrize("target", ["cortex-m4", "rv32imac"])
@pytest.mark.parametrize("index", ["0", "sizeof(frame) - 1U"])
def test_a_frame_counts_whole(target: str, index: str) -> None:
    """512 bytes more of a frame are 512 bytes more of stack, wherever the frame is written."""
    use = f"""volatile uint8_t frame[SIZE]; frame[{index}] = 1U;
    __asm__ volatile("" : : "r"(frame) : "memory");"""
    small, large = (
        load(tiny_package(target, before=use.replace("SIZE", size))).run({"x": some_input()}).stack
        for size in ("64", "576")
    )
    assert small is not None
    assert large is not None
    assert large - small == 512
    assert 64 < small < 160


def test_stack_of_a_known_function() -> None:
    """Three registers and a frame of 100 bytes."""
    package = with_operators(tiny_package("cortex-m4"), ())
    package = replace(package, files={**package.files, "tiny.c": KNOWN_STACK})
    run = load(package).run({"x": some_input()})
    assert run.stack == 112
    assert run.instructions == 7


FAULTS = {
    "null": ("(void)*(volatile int *)8;", "invalid read of 4 bytes at 0x8: there is no memory"),
    "wild": ("*(volatile int *)0x60000000 = 1;", "invalid write of 4 bytes at 0x60000000"),
    "flash": (
        "*(volatile int8_t *)(uintptr_t)&tiny_weights[3] = 1;",
        "invalid write of 1 bytes at 0x[0-9a-f]+: flash cannot be written",
    ),
    "far": ("*(volatile uint8_t *)(arena + 9000) = 1U;", "behind the arena"),
    "data": ("((void (*)(void))((uintptr_t)arena | 1U))();", "invalid instruction fetch"),
    "undefined": ('__asm__ volatile("udf #1");', "invalid instruction de01"),
    "breakpoint": ('__asm__ volatile("bkpt #1");', "exception 7 of the core"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_says_what_and_where(fault: str) -> None:
    statement, message = FAULTS[fault]
    session = load(tiny_package("cortex-m4", before=statement))
    with pytest.raises(RunError, match=message) as caught:
        session.run({"x": some_input()})
    assert "tiny_run+0x" in caught.value.what
    assert caught.value.where == "tiny on cortex-m4"


def test_faults_on_riscv() -> None:
    for statement, message in (
        (FAULTS["null"][0], FAULTS["null"][1]),
        ('__asm__ volatile(".word 0xffffffff");', "exception 2 of the core"),
    ):
        session = load(tiny_package("rv32imac", before=statement))
        with pytest.raises(RunError, match=message) as caught:
            session.run({"x": some_input()})
        assert "in tiny_run+0x" in caught.value.what


def test_endless_recursion_fills_the_stack() -> None:
    endless = """int deeper(volatile int *p);
    int deeper(volatile int *p) { volatile int a[20]; a[0] = *p; a[1] = deeper(a); return a[1]; }"""
    session = load(
        tiny_package("cortex-m4", prelude=endless, before="volatile int q = 1; (void)deeper(&q);")
    )
    with pytest.raises(RunError, match=r"the stack is full after 65536 bytes.*deeper\+0x"):
        session.run({"x": some_input()})


def test_an_endless_loop_ends() -> None:
    package = tiny_package("cortex-m4", before="for (volatile int i = 0;;) { i++; }")
    session = EmulatorSession(package, build_image(package), budget=1000)
    with pytest.raises(RunError, match=r"still running.* in tiny_run"):
        session.run({"x": some_input()})


@pytest.mark.parametrize("target", ["cortex-m0plus", "rv32imac"])
def test_cores_that_need_alignment_get_it(target: str) -> None:
    use = "volatile uint32_t *p = (volatile uint32_t *)(void *)(arena + 49); *p = *p + 1U;"
    session = load(tiny_package(target, before=use))
    with pytest.raises(RunError, match=r"unaligned access of 4 bytes at .* in tiny_run"):
        session.run({"x": some_input()})
    load(tiny_package("cortex-m4", before=use)).run({"x": some_input()})


@pytest.mark.parametrize(
    ("offset", "message"), [("-1", "1 bytes before its start"), ("83", "up to 4 bytes after")]
)
def test_writing_around_the_arena_is_found(offset: str, message: str) -> None:
    session = load(tiny_package("cortex-m4", before=f"arena[{offset}] = 1U;"))
    with pytest.raises(RunError, match=message):
        session.run({"x": some_input()})


def test_a_failed_run_and_init_are_errors() -> None:
    session = load(tiny_package("cortex-m4", before="if (arena != NULL) { return MIDGE_ERR_ARG; }"))
    with pytest.raises(RunError, match="tiny_run returned status 1"):
        session.run({"x": some_input()})
    with pytest.raises(RunError, match="tiny_init returned status 2"):
        load(replace(tiny_package("cortex-m4"), arena_size=79))


def test_a_kernel_called_too_often_is_an_error() -> None:
    extra = "tiny_dot((int32_t *)(void *)(arena + 52), (const int8_t *)arena);"
    session = load(tiny_package("cortex-m4", after=extra))
    with pytest.raises(RunError, match="4 kernels were called, not 3"):
        session.run({"x": some_input()})


def test_kernels_in_another_order_are_an_error() -> None:
    package = with_operators(tiny_package("cortex-m4"), OPERATORS[::-1])
    with pytest.raises(RunError, match="dot_0 ran tiny_scale"):
        load(package).run({"x": some_input()})


def test_a_kernel_that_is_not_in_the_image_is_named() -> None:
    package = tiny_package("cortex-m4", prelude="#define tiny_dot tiny_other")
    with pytest.raises(RunError, match=r"2 kernels.*not 3; not in the image: tiny_dot"):
        load(package).run({"x": some_input()})


def test_state_carries_over() -> None:
    after = "*(int32_t *)(void *)(arena + 48) += (int32_t)ctx->runs * 1000000;"
    session = load(tiny_package("cortex-m4", after=after))
    plain = int(expected(some_input())["y"][0])
    seen = [int(session.run({"x": some_input()}).outputs["y"][0]) for _ in range(3)]
    assert seen == [plain, plain + 1_000_000, plain + 2_000_000]


def test_a_target_without_an_emulator() -> None:
    with pytest.raises(TargetError, match="no model of this CPU"):
        load(tiny_package("cortex-m55"))


def test_an_unknown_cpu_model() -> None:
    target = replace(TARGETS["cortex-m4"], emulator={"model": "UC_CPU_ARM_CORTEX_M99"})
    with pytest.raises(RunError, match="Unicorn has no CPU UC_CPU_ARM_CORTEX_M99"):
        load(tiny_package(target))


def test_wrong_inputs_and_a_closed_session() -> None:
    session = load(tiny_package("cortex-m4"))
    with pytest.raises(UsageError, match="is not given"):
        session.run({})
    assert session.sizes is not None
    session.close()
    with pytest.raises(RunError, match="closed"):
        session.run({"x": some_input()})


def test_a_closed_session_gives_its_memory_back() -> None:
    """At once: engines and their hooks know each other, and each holds much of both."""
    session = load(tiny_package("cortex-m4"))
    engine = session._machine.engine
    assert engine._Uc__finalizer.alive
    session.close()
    session.close()
    assert not engine._Uc__finalizer.alive
    for use in (EmulatorSession.reset, lambda s: s.push(some_input())):
        with pytest.raises(RunError, match="closed"):
            use(session)


def test_a_session_that_nobody_has_is_gone() -> None:
    """With the image in it, though the engine's hooks know each other."""
    session = load(tiny_package("cortex-m4"))
    session.run({"x": some_input()})
    known = [weakref.ref(part) for part in (session._machine, session._trace)]
    session.close()
    gc.disable()
    try:
        del session
        assert [part() for part in known] == [None, None]
    finally:
        gc.enable()


def test_of_a_call_only_the_blocks_that_ran_are_kept() -> None:
    session = load(tiny_package("cortex-m4"))
    parts = session._infer({"x": some_input()}, layers=False)
    assert len(parts) == 3
    for part in parts:
        assert part.slots.shape == part.count.shape == part.taken.shape
        assert (part.count > 0).all()
        assert len(part.slots) < session._counters.slots / 4


def test_parts_together() -> None:
    def part(*counts: tuple[int, int, int]) -> Part:
        slots, count, taken = np.array(counts, np.int64).reshape(-1, 3).T
        return Part(slots, count.astype(np.uint32), taken.astype(np.uint32))

    found = by_operator([part((3, 5, 1), (9, 1, 0)), part((4, 2, 2)), part((3, 2, 1))], [0, 2, 0])
    assert [list(zip(p.slots, p.count, p.taken, strict=True)) for p in found] == [
        [(3, 7, 2), (9, 1, 0)], [], [(4, 2, 2)],
    ]  # fmt: skip


def test_it_is_available() -> None:
    assert RUNNERS["emulator"].available() is None


@pytest.mark.skipif(shutil.which("arm-none-eabi-gcc") is None, reason="needs arm-none-eabi-gcc")
def test_gcc_keeps_a_kernel_whose_result_nothing_depends_on() -> None:
    """The place of the least of one element is 0, whatever the sums before it are."""
    m = GraphMaker(random.Random(0), quantised=True)
    x = m.input((1, 1, 1, 3))
    total = m.node("add", [x, x])
    m.types["place"] = TensorType((1, 1, 1, 3), DType.I32)
    m.types["real"] = TensorType((1, 1, 1, 3), DType.F32)
    m.nodes.append(Node("arg_min", (total,), ("place",), {"axis": 2, "dtype": "i32"}))
    m.nodes.append(Node("dequantize", (x,), ("real",), {}))
    graph = Graph("g", (x,), ("place", "real"), m.types, m.consts, ()).with_nodes(m.nodes)
    package = driver.compile_graph(graph, load_target("cortex-m4"), NO_SEARCH).package
    assert len(package.operators) == 3
    gnu = RUNNERS["emulator"].load(package, toolchain="arm-none-eabi-gcc", optimize="speed")
    assert gnu.run({x: np.zeros((1, 1, 1, 3), np.int8)}).outputs["place"].tolist() == [
        [[[0, 0, 0]]]
    ]
