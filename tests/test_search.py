"""Compiling with the search: right, repeatable, and no slower than without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import midge
from conftest import unsearched
from midge import driver
from midge.core.errors import KernelWarning, UsageError
from midge.core.options import GOALS, CompileOptions
from midge.core.types import DType
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.text import parse_graph
from midge.loop import ir
from midge.lower.candidates import FAMILIES, TEMPLATES, Candidate, Family, Request, Template
from midge.lower.space import Goal, Point
from midge.run import RUNNERS
from midge.target import load_target
from midge.toolchain import TOOLCHAINS

pytestmark = pytest.mark.slow

DIGITS = Path(__file__).parents[1] / "examples" / "digits" / "digits_int8.tflite"


@pytest.mark.parametrize("goal", GOALS)
def test_searched_packages_are_right_and_repeatable(goal: str) -> None:
    target = load_target("cortex-m4")
    first = driver.compile_file(DIGITS, target, unsearched(optimize=goal))
    found = driver.compile_file(DIGITS, target, CompileOptions(optimize=goal))
    again = driver.compile_file(DIGITS, target, CompileOptions(optimize=goal))
    assert found.package.files == again.package.files
    given = random_inputs(found.model, 1, 3)[0]
    runs = []
    for package in (first.package, found.package):
        session = RUNNERS["emulator"].load(package, toolchain=None, optimize=None)
        runs.append(session.run(given))
        session.close()
    for name, value in runs[0].outputs.items():
        np.testing.assert_array_equal(runs[1].outputs[name], value)
    if goal == "speed":
        cycles = [run.cycles or 0 for run in runs]
        assert 0 < cycles[1] <= cycles[0]


@pytest.mark.parametrize("outputs", ["j", "r, j", "c"])
def test_what_reads_constants_only_is_measured(outputs: str) -> None:
    """A constant that is copied into a concatenation, and an output that depends on no input."""
    driver.load_operators()
    text = f"""graph g(x: i32[1x8]):
  const k: i32[1x16] = [-4, 4, 1, 2, 3, 4, 5, 6, 0, 1, 2, 3, 0, -1, -2, -3]
  r: i32[1x8] = abs(x) @ "1" "A"
  c: i32[1x16] = abs(k) @ "2" "B"
  j: i32[1x32] = concat(k, r, r, axis=1) @ "3" "C"
  return {outputs}
"""
    given = np.arange(-4, 4, dtype=np.int32)[None]
    graph = parse_graph(text)
    package = midge.compile(graph, "cortex-m0plus", search=True)
    found = midge.run(package, given).outputs
    for name, want in evaluate(graph, {"x": given}).items():
        assert found[name].tolist() == want.tolist()


def test_without_an_emulator_the_first_is_taken() -> None:
    target = load_target("cortex-m55")
    searched = driver.compile_file(DIGITS, target, CompileOptions())
    assert (
        searched.package.files
        == driver.compile_file(DIGITS, target, CompileOptions(search=False)).package.files
    )
    assert searched.package.metadata["options"]["search"] is False


def test_an_unknown_goal_is_refused() -> None:
    with pytest.raises(UsageError, match="speed, balanced, size"):
        CompileOptions(optimize="fast")


class Wrong(Template):
    """Convolutions whose results have one bit wrong."""

    name = "made_up.wrong"
    ops = ("conv2d",)

    def __init__(self, request: Request) -> None:
        super().__init__(self.name, {})
        self.request = request

    @classmethod
    def of(cls, request: Request) -> Wrong:
        return cls(request)

    def usual(self, goal: Goal) -> Iterator[Point]:
        yield self.point()

    def build(self, point: Point) -> Candidate:
        built = self.request.plain
        (store,) = (
            s for s in statements(built.func.body) if isinstance(s, ir.Store) and s.buffer == "y"
        )
        more = ir.Cast(DType.I8, ir.Bin("^", ir.cast(DType.I32, store.value, DType.I8), ir.i32(1)))
        body = replaced(built.func.body, store, ir.Store("y", store.index, more))
        return Candidate("wrong", replace(built.func, body=body), built.args)


def statements(block: ir.Block) -> Iterator[ir.Stmt]:
    for s in block:
        yield s
        if isinstance(s, ir.Loop):
            yield from statements(s.body)


def replaced(block: ir.Block, old: ir.Stmt, new: ir.Stmt) -> ir.Block:
    return tuple(
        new if s is old else replace(s, body=replaced(s.body, old, new))
        if isinstance(s, ir.Loop) else s
        for s in block
    )  # fmt: skip


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m55"])
@pytest.mark.parametrize("search", [False, True])
def test_a_rule_that_computes_something_else_is_not_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, search: bool, target: str
) -> None:
    driver.load_operators()
    monkeypatch.setenv("MIDGE_CACHE_DIR", str(tmp_path))
    monkeypatch.setitem(FAMILIES._items, "made_up", Family(frozenset(), 0))
    monkeypatch.setitem(TEMPLATES._items, Wrong.name, Wrong)
    options = CompileOptions(search=search, bands=False)
    with pytest.warns(KernelWarning, match=r"wrong for conv2d_\d is not taken: differs from its"):
        made = driver.compile_file(DIGITS, load_target(target), options)
    given = random_inputs(made.model, 1, 3)[0]
    session = RUNNERS["host"].load(made.package)
    want = evaluate(made.model, given)
    for mine, theirs in zip(made.package_outputs, made.model.outputs, strict=True):
        np.testing.assert_array_equal(session.run(given).outputs[mine], want[theirs])
    session.close()


def test_without_a_compiler_it_is_said_that_nothing_was_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for toolchain in TOOLCHAINS:
        monkeypatch.setattr(type(TOOLCHAINS[toolchain]), "find", lambda self: None)
    with pytest.warns(KernelWarning, match="not compared with their plain loops: not found"):
        made = driver.compile_file(DIGITS, load_target("cortex-m4"), CompileOptions(search=False))
    assert made.package.metadata["options"]["prove"] is False
