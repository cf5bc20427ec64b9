"""Which candidate is taken, what is measured and what is remembered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from midge.core.errors import ToolchainError
from midge.core.target import Target
from midge.core.types import DType
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.program import Kernel
from midge.target import load_target
from midge.toolchain import TOOLCHAINS, Found, build
from midge.tune import measure as measuring
from midge.tune import rank as ranking
from midge.tune import trials
from midge.tune.measure import Outcome, measure
from midge.tune.rank import UnfitKernels, prove, rank
from midge.tune.trials import Cost, Match, Trial, Unfit


def kernel(add: int, elements: int = 8) -> Trial:
    """y[i] = x[i] + add, with `elements` bytes of constants."""
    i = ir.Var("i")
    value = ir.Bin("+", ir.Load("x", (i,)), ir.i32(add))
    body = (ir.Loop("i", 8, (ir.Store("y", (i,), value),)),)
    params = (
        ir.Param("x", DType.I32, (8,), "in"),
        ir.Param("w", DType.I8, (elements,), "const"),
        ir.Param("y", DType.I32, (8,), "out"),
    )
    func = ir.Func("k", params, body)
    return Trial(Kernel(func, func), {"w": np.zeros(elements, np.int8)}, ("x", "w", "y"))


def match(*trials: Trial) -> Match:
    return Match(trials, trials[0])


@pytest.fixture
def costs(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> list[int]:
    """Costs by the constant that a kernel adds: (cycles, code); returns what was measured."""
    monkeypatch.setenv("MIDGE_CACHE_DIR", str(tmp_path))
    table = {1: (100, 400), 2: (105, 100), 3: (139, 50), 4: (300, 10), 5: (100, 300)}
    measured: list[int] = []

    def fake(
        matches: Sequence[Match], target: Target, optimize: str, on: str
    ) -> list[list[Outcome]]:
        return [[cost(t) for t in m.trials] for m in matches]

    def cost(t: Trial) -> Outcome:
        loop = t.kernel.func.body[0]
        assert isinstance(loop, ir.Loop)
        store = loop.body[0]
        assert isinstance(store, ir.Store)
        assert isinstance(store.value, ir.Bin)
        assert isinstance(store.value.rhs, ir.Const)
        number = int(store.value.rhs.value)
        measured.append(number)
        if number == WRONG:
            return Unfit("differs")
        cycles, code = table[number]
        return Cost(cycles, {"kernel": code})

    monkeypatch.setattr(ranking, "measure", fake)
    return measured


CHOICE = match(*(kernel(n) for n in (4, 3, 2, 1, 5)))
WRONG = 9


@pytest.mark.parametrize(("goal", "best"), [("speed", 5), ("balanced", 2), ("size", 3)])
def test_each_goal_takes_its_own(costs: list[int], goal: str, best: int) -> None:
    (pick,) = rank([CHOICE], load_target("cortex-m4"), goal).picks
    assert [4, 3, 2, 1, 5][pick] == best


def test_a_single_candidate_is_not_measured(costs: list[int]) -> None:
    ranked = rank([match(kernel(1)), match(kernel(2))], load_target("cortex-m4"), "speed")
    assert ranked.picks == (0, 0)
    assert costs == []


def test_costs_are_remembered_by_content(costs: list[int]) -> None:
    target = load_target("cortex-m4")
    first = rank([CHOICE, CHOICE], target, "speed")
    assert sorted(costs) == [1, 2, 3, 4, 5], "equal kernels are measured once"
    assert rank([CHOICE, CHOICE], target, "speed") == first
    assert len(costs) == 5
    rank([CHOICE], load_target("cortex-m7"), "speed")
    assert len(costs) == 10, "another CPU costs something else"


@pytest.mark.parametrize(
    ("target", "same"),
    [("cortex-m4", True), ("cortex-m3", True), ("cortex-m0plus", False), ("rv32imac", False)],
)
def test_where_a_core_branches_by_data_a_cost_is_of_the_constants(target: str, same: bool) -> None:
    one = kernel(1)
    other = replace(one, consts={"w": np.ones(8, np.int8)})
    machine = trials.machine_of(load_target(target), "speed")
    assert (trials.key_of(one, machine) == trials.key_of(other, machine)) == same


def test_a_broken_memory_is_measured_again(costs: list[int], tmp_path: object) -> None:
    from pathlib import Path

    target = load_target("cortex-m4")
    rank([CHOICE], target, "speed")
    files = list(Path(str(tmp_path)).rglob("trials/*/*"))
    assert len(files) == 5
    for file, text in zip(files, ("", "{", "[]", '{"cycles": "x"}', "null"), strict=True):
        file.write_text(text)
    rank([CHOICE], target, "speed")
    assert len(costs) == 10


def test_flash_limits_what_is_taken(costs: list[int]) -> None:
    target = load_target("cortex-m4")
    sizes = {4: 18, 3: 58, 2: 108, 1: 408, 5: 308}
    for flash, best in ((1000, 5), (307, 2), (100, 3), (20, 4), (1, 4)):
        (pick,) = rank([CHOICE], target, "speed", flash).picks
        number = [4, 3, 2, 1, 5][pick]
        assert number == best, f"{sizes[number]} bytes of {flash}"


@pytest.mark.parametrize(
    ("of", "calls", "best"),
    [("rows", (1, 12), 4), ("rows", (12, 1), 3), ("", (1, 12), 3), ("rows", (1, 3), 3)],
)
def test_calls_of_an_operation_may_take_their_cycles_together(
    costs: list[int], of: str, calls: tuple[int, int], best: int
) -> None:
    """A kernel of three times the cycles that is called once among many."""
    other = match(kernel(2, 16), kernel(1, 16))
    matches = [replace(m, calls=n, of=of) for m, n in zip((CHOICE, other), calls, strict=True)]
    first, second = rank(matches, load_target("cortex-m4"), "size").picks
    assert ([4, 3, 2, 1, 5][first], second) == (best, 0)


def test_what_another_brings_anyway_is_free(costs: list[int]) -> None:
    """The smallest alone is 3; one that is there takes nothing more."""
    picks = rank([CHOICE, match(kernel(2))], load_target("cortex-m4"), "size", every=True).picks
    assert ([4, 3, 2, 1, 5][picks[0]], picks[1]) == (2, 0)


def test_what_cannot_be_taken_is_said_and_not_remembered(costs: list[int]) -> None:
    target, trials = load_target("cortex-m4"), match(kernel(1), kernel(WRONG), kernel(2))
    for _ in range(2):
        with pytest.raises(UnfitKernels) as error:
            rank([CHOICE, trials], target, "speed")
        assert error.value.found == ((1, 1, "differs"),)
    assert costs.count(WRONG) == 2


def test_a_proof_is_of_the_constants_too(costs: list[int]) -> None:
    target = load_target("cortex-m4")
    first, second = kernel(1), kernel(2)
    other = replace(second, consts={"w": np.ones(8, np.int8)})
    for trial, times in ((second, 1), (second, 1), (other, 2), (other, 2)):
        prove([Match((trial,), first)], target, "speed")
        assert costs.count(2) == times
    prove([Match((first,), first)], target, "speed")
    assert costs.count(1) == 0, "plain loops need no proof"
    with pytest.raises(UnfitKernels):
        prove([Match((kernel(WRONG),), first)], target, "speed")


@pytest.mark.parametrize("what", ["header", "flags", "version", "linked", "how"])
def test_costs_are_of_one_compiler_with_its_flags_and_one_runtime(
    costs: list[int], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    target = load_target("cortex-m4")
    rank([CHOICE], target, "speed")
    if what == "header":
        texts = ("/* another */", *trials.headers()[1:])
        monkeypatch.setattr(trials, "headers", lambda: texts)
    elif what == "flags":
        flags = {"zig": (*target.toolchains["zig"], "-fno-inline")}
        target = replace(target, toolchains=flags)
    elif what == "how":  # it is measured
        monkeypatch.setattr(trials, "digest_of", lambda *packages: "other sources")
    elif what == "version":
        found = Found(Path("zig"), "9.9.9")
        monkeypatch.setattr(type(TOOLCHAINS["zig"]), "find", lambda self: found)
    else:
        monkeypatch.setattr(build, "_bare_files", lambda: {"memory.c": "int other;"})
    rank([CHOICE], target, "speed")
    assert len(costs) == 10


# Measuring for real.

M3 = "cortex-m3"


def altered(trial: Trial, body: ir.Block) -> Trial:
    func = replace(trial.kernel.func, body=body)
    return replace(trial, kernel=Kernel(func, func))


def store(index: ir.Expr, add: int = 1) -> ir.Store:
    return ir.Store("y", (index,), ir.Bin("+", ir.Load("x", (ir.Var("i"),)), ir.i32(add)))


def test_measuring_for_real() -> None:
    plain = kernel(1)
    twice = altered(plain, (ir.Loop("j", 2, plain.kernel.func.body),))
    ((short, long),) = measure([Match((plain, twice), plain)], load_target(M3), "size")
    assert isinstance(short, Cost)
    assert isinstance(long, Cost)
    assert 0 < short.cycles < long.cycles
    assert all(c.code["kernel"] > 0 for c in (short, long))


def straight(times: int) -> Trial:
    """The same, written out `times` times: code that is cut wherever a page of memory ends."""
    moves = ((f"ldr r2, [r0, #{o}]", "add r2, #1", f"str r2, [r1, #{o}]") for o in range(0, 32, 4))
    lines = [line for move in moves for line in move] * times
    trial = broken(f"straight{times}", "nop")
    ((name, instruction),) = trial.kernel.instructions.items()
    made = replace(instruction, asm=tuple(lines), note=name)
    return replace(trial, kernel=replace(trial.kernel, instructions={name: made}))


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m33", "rv32imac"])
def test_a_cost_does_not_depend_on_what_else_is_measured(target: str) -> None:
    """Neither on its place in memory, nor on the inputs of others, nor on who calls it."""
    plain = kernel(1)
    trials = tuple(map(straight, range(20, 30))) if target != "rv32imac" else ()
    trials += tuple(altered(kernel(1, n), kernel(1).kernel.func.body) for n in (8, 9, 300))
    m = load_target(target)
    (together,) = measure([Match(trials, plain)], m, "speed")
    alone = [measure([Match((t,), plain)], m, "speed")[0][0] for t in trials]
    wide = kernel(1)
    other = Match((wide,), wide)
    (_, after) = measure([other, Match(trials, plain)], m, "speed")
    assert together == alone == after
    assert all(isinstance(c, Cost) for c in together)


WRONG_BODIES = {
    "another value": (ir.Loop("i", 8, (store(ir.Var("i"), 2),)),),
    "the last element is missing": (ir.Loop("i", 7, (store(ir.Var("i")),)),),
    "one element is written elsewhere": (
        ir.Loop("i", 8, (store(ir.Bin("min", ir.Var("i"), ir.i32(6))),)),
    ),
}


@pytest.mark.parametrize("wrong", WRONG_BODIES)
def test_what_computes_something_else_is_unfit(wrong: str) -> None:
    plain = kernel(1)
    trials = (plain, altered(plain, WRONG_BODIES[wrong]), plain)
    ((first, second, third),) = measure([Match(trials, plain)], load_target(M3), "size")
    assert isinstance(second, Unfit)
    assert "differs from its plain loops" in second.reason
    assert isinstance(first, Cost)
    assert isinstance(third, Cost)


def broken(name: str, line: str) -> Trial:
    """A kernel that calls an instruction of this assembler."""
    x, y = kernel(1).kernel.func.params[0], kernel(1).kernel.func.params[2]
    meaning = ir.Func(name, (x, y), kernel(1).kernel.func.body)
    asm = Instruction(name, meaning, asm=(line,), needs="1", note=line)
    zero = (ir.i32(0),)
    call = (ir.Instr(name, (("x", zero), ("y", zero))),)
    func = replace(kernel(1).kernel.func, body=call)
    return replace(kernel(1), kernel=Kernel(func, func, (), {name: asm}))


@pytest.mark.parametrize("line", ["no_such_mnemonic r0", "udf #0", "1: b 1b", "str r0, [r0, r0]"])
def test_what_does_not_build_or_run_is_unfit_and_nothing_else(line: str) -> None:
    plain = kernel(1)
    bad = broken("broken", line)
    found = measure([Match((bad, plain), plain), Match((plain,), plain)], load_target(M3), "size")
    ((first, second), (third,)) = found
    assert isinstance(first, Unfit)
    assert isinstance(second, Cost)
    assert isinstance(third, Cost)


def test_plain_loops_that_do_not_build_are_an_error() -> None:
    bad = broken("broken", "no_such_mnemonic r0")
    with pytest.raises(ToolchainError):
        measure([Match((kernel(1),), bad)], load_target(M3), "size")


def test_floats_may_be_added_up_in_another_order_and_no_more() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal(64).astype(np.float32)
    assert not measuring._difference(a, a * np.float32(1 + 2**-20))
    assert measuring._difference(a, np.where(np.arange(64) == 3, a + np.float32(0.01), a))
    odd = np.array([np.nan, np.inf, -np.inf, 0.0], np.float32)
    assert not measuring._difference(odd, odd)
    for i, other in ((0, 1.0), (1, -np.inf), (2, 0.0), (3, np.nan)):
        changed = odd.copy()
        changed[i] = other
        assert measuring._difference(odd, changed)


def test_instructions_of_one_name_are_one() -> None:
    one, other = broken("same", "nop"), broken("same", "nop; nop")
    with pytest.raises(AssertionError, match="two instructions are called same"):
        measure([Match((one, other), kernel(1))], load_target(M3), "size")
