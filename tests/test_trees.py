"""Decision trees: exact thresholds, exact sums, and every way to compute them against the other."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forests import forest
from midge import driver
from midge.core.types import Array, DType
from midge.graph.ir import OPS, Graph
from midge.graph.trees import EQUAL, MISSING, Leaf, Split, Trees, below, fixed_point, floor_to
from midge.kernels.arm_dsp.trees_asm import Votes, assembler
from midge.loop.evaluate import evaluate
from midge.loop.text import parse_func
from midge.lower.candidates import Option, Request, options
from midge.lower.fuse import fuse
from midge.lower.space import Goal
from midge.target import load_target

driver.load_operators()

_F32 = st.floats(width=32, allow_nan=False)
_F64 = st.floats(allow_nan=False)


# Thresholds.


@given(_F32, _F64)
@settings(max_examples=400, deadline=None)
def test_a_floored_threshold_decides_as_binary64_does(x: float, t: float) -> None:
    floor = floor_to(t, DType.F32)
    assert isinstance(floor, float)
    assert float(np.float32(floor)) == floor
    assert (x <= floor) == (x <= t)


@given(_F64, st.integers(-3, 3))
@settings(max_examples=400, deadline=None)
def test_next_to_a_threshold_it_decides_too(t: float, steps: int) -> None:
    """Features that are the neighbours of the threshold in binary32."""
    with np.errstate(over="ignore"):
        x = np.float32(t)
    for _ in range(abs(steps)):
        x = np.nextafter(x, np.float32(math.copysign(math.inf, steps)))
    assert (float(x) <= float(floor_to(t, DType.F32))) == (float(x) <= t)
    if math.isfinite(t):
        assert (float(x) <= below(t, DType.F32)) == (float(x) < t)


@given(st.sampled_from((DType.I8, DType.U8, DType.I16)), st.floats(-70000, 70000), st.integers())
@settings(max_examples=400, deadline=None)
def test_integers_decide_as_real_numbers_do(dtype: DType, t: float, x: int) -> None:
    x = x % (dtype.max - dtype.min + 1) + dtype.min
    for threshold, want in ((t, x <= t), (below(t, dtype), x < t)):
        floor = floor_to(threshold, dtype)
        assert (floor if isinstance(floor, bool) else x <= floor) == want


def test_splits_that_send_all_integers_one_way_are_left_out() -> None:
    nodes = [Split(0, 300.0, 1, 2), Split(1, -0.5, 3, 4), Leaf(((0, 1),)), Leaf(((1, 1),)),
             Split(1, 7.5, 2, 3)]  # fmt: skip
    trees = Trees(DType.U8)
    trees.add(lambda i: nodes[i])
    made = trees.tables(DType.U8)
    assert made.thresholds.tolist() == [7]
    assert made.splits.tolist() == [[1, -1, -2, 0]]


def test_a_circle_is_no_tree() -> None:
    for circle in ([Split(0, 1.0, 0, 0)], [Split(0, 300.0, 1, 1), Split(0, 300.0, 0, 0)]):
        with pytest.raises(ValueError, match="without an end"):
            Trees(DType.U8).add(lambda i, nodes=circle: nodes[i])  # type: ignore[misc]


# Sums.


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), min_size=1), st.integers(1, 60))
@settings(max_examples=200, deadline=None)
def test_fractions_with_a_common_denominator_are_stored_exactly(
    parts: list[tuple[int, int]], most: int
) -> None:
    values = [a / b for a, b in parts]
    factor, dtype = fixed_point(values, most)
    if dtype is DType.I64:
        return
    assert all((Fraction(a, b) * factor).denominator == 1 for a, b in parts)
    assert max(Fraction(a, b) for a, b in parts) * factor * most <= dtype.max


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(1, 500))
@settings(max_examples=200, deadline=None)
def test_other_sums_fit_63_bits(values: list[float], most: int) -> None:
    factor, dtype = fixed_point(values, most)
    if dtype is not DType.I64:
        return  # nothing is rounded
    total = sum(abs(Fraction(v)) * factor + 1 for v in values) / len(values) * most
    assert total <= (max(abs(Fraction(v)) for v in values) * factor + 1) * most <= dtype.max


# Ways to compute them.


def ways(graph: Graph, target: str = "cortex-m4") -> list[Option]:
    (group,) = fuse(graph)
    request = Request(graph, group, load_target(target), {}, name="trees")
    return list(islice(options(request, Goal()), 8))


def samples(graph: Graph, count: int) -> list[Array]:
    t = graph.types["x"]
    rng = np.random.default_rng(1)
    if not t.dtype.is_float:
        low = max(t.dtype.min, -8)
        return [rng.integers(low, 9, t.shape).astype(t.dtype.numpy) for _ in range(count)]
    rows = [(rng.integers(-14, 15, t.shape) / 2).astype(np.float32) for _ in range(count)]
    for row in rows[1::2]:
        row[rng.random(t.shape) < 0.3] = np.nan
    return rows


def check(graph: Graph) -> set[str]:
    """All ways give what the reference gives; their names."""
    (node,) = graph.nodes
    names = set()
    for option in ways(graph):
        names.add(option.candidate.name)
        meanings = {n: i.meaning for n, i in option.kernel.instructions.items()}
        for x in samples(graph, 6):
            known = {**graph.consts, **option.consts, "x": x}
            inputs = [known[n] for n in node.inputs]
            (want,) = OPS["tree_ensemble"].reference(inputs, node.attrs)
            memory = {}
            for p, value in zip(option.kernel.func.params, option.args, strict=True):
                array = known.get(value, np.zeros(p.shape, p.dtype.numpy))
                memory[p.name] = array.reshape(p.shape).copy()
            evaluate(option.kernel.func, memory, meanings)
            np.testing.assert_array_equal(memory["y"].reshape(want.shape), want)
    return names


MODES = (0, EQUAL, MISSING, EQUAL | MISSING)


@pytest.mark.parametrize("values", [DType.U8, DType.I32, DType.I64, DType.F32])
@pytest.mark.parametrize("wide", [1, 3])
def test_conditions_and_tables_are_the_operator(values: DType, wide: int) -> None:
    graph = forest(DType.F32, values, seed=3, modes=MODES, wide=wide)
    assert check(graph) == {"branches", "tables", "loops"}


@pytest.mark.parametrize("dtype", [DType.U8, DType.I8, DType.I16, DType.I32])
def test_so_they_are_on_integers(dtype: DType) -> None:
    first = "branches" if dtype is DType.I32 else "votes"
    assert check(forest(dtype, DType.U8, seed=4)) == {first, "tables", "loops"}


def test_one_output_takes_the_value_itself() -> None:
    graph = forest(DType.I16, DType.I32, seed=5, classes=1, trees=1)
    leaves = len(graph.consts["values"])
    values = np.array([[-7], [300]], np.int32)[:leaves]
    assert "branches" in check(replace(graph, consts={**graph.consts, "values": values}))


def test_a_forest_of_leaves() -> None:
    assert "branches" in check(forest(DType.F32, DType.U8, seed=0, depth=0))
    assert "branches" in check(forest(DType.U8, DType.U8, seed=0, depth=0))


def test_votes_need_thumb_2() -> None:
    names = {o.candidate.name for o in ways(forest(DType.U8, DType.U8, seed=4), "cortex-m0plus")}
    assert names == {"branches", "tables", "loops"}


# The assembler.


def test_an_else_reads_back() -> None:
    text = """func f(x: i32[2] in, y: i32[1] out):
  if x[0] <= 3:
    y[0] = 1
  else:
    if x[1] < 0:
      y[0] = 2
    else:
      y[0] = 3
"""
    func = parse_func(text)
    assert str(func) == text
    for x, want in (([3, 0], 1), ([4, -1], 2), ([4, 0], 3)):
        y = np.zeros(1, np.int32)
        evaluate(func, {"x": np.array(x, np.int32), "y": y})
        assert y[0] == want


def test_the_assembler_of_a_small_tree() -> None:
    splits = ((0, 1, 2, 0), (1, -1, -2, 0), (0, -1, -3, 0))
    lines = assembler(Votes((5, 0, 9), splits, (0,), 3, 2, 1, "ldrb", 1, False))
    text = "\n".join(lines)
    assert text.count("cmp") + text.count("cbz") + text.count("cbnz") == 3
    assert text.count("bl ") == 1
    assert text.count("bx lr") == 3  # one end for each class
    assert text.count("[r0, #0]") == 1  # the feature of two splits is loaded once
