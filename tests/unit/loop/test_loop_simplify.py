"""Simplification: what it finds, and that nothing it does changes a result."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from midge.core.types import DType
from midge.loop import ir
from midge.loop.affine import Bounds, linear
from midge.loop.evaluate import EvaluationError, evaluate
from midge.loop.rewrite import loads, map_expr, names, stores, touched
from midge.loop.simplify import simplify, simplify_expr
from midge.loop.text import parse_func, print_expr
from midge.loop.unrolled import expand_unrolled
from midge.loop.verify import verify
from programs import PROGRAMS, conv, dot_instruction, memory_for, run
from strategies import conditions, index_exprs, nests, programs

EXTENTS = {"i": 4, "j": 3, "k": 7}
BOUNDS = Bounds().loop("i", 4).loop("j", 3).loop("k", 7)


def value_of(text: str) -> ir.Expr:
    """The expression of `text` over the loops of EXTENTS, simplified."""
    func = parse_func(
        f"func f(a: i32 in, b: i8 in, l: i64 in, z: f32 in, y: i32 out):\n  y = {text}"
    )
    [store] = stores(func.body)
    buffers = {p.name: p.dtype for p in func.params}
    bounds = Bounds(buffers=buffers).loop("i", 4).loop("j", 3).loop("k", 7).loop("u", 1)
    return simplify_expr(store.value, bounds)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("2 + 3 * 4", "14"),
        ("-7 / 2", "-3"),
        ("-7 % 2", "-1"),
        ("2147483647 + 1", "2147483647 + 1"),  # overflows: left for evaluate to refuse
        ("i + 0 + j * 1 - 0", "i + j"),
        ("(i + 1) * 2 - 2", "i * 2"),
        ("i - j - i", "j * -1"),
        ("3 - i", "3 - i"),
        ("u + i", "i"),
        ("(i * 4 + j) / 4", "i"),
        ("(i * 4 + j) % 4", "j"),
        ("(i * 4 + j + 4) / 4", "i + 1"),
        ("(i * 4 + k) / 4", "i + k / 4"),
        ("(i * 4 + k) % 4", "k % 4"),
        ("(i * 4 + j - 4) / 4", "(i * 4 + j - 4) / 4"),  # truncates differently below 0
        ("(i * 4 - 4) / 4", "i - 1"),
        ("k / 3 * 3 + k % 3", "k"),
        ("k / 3 * 6 + i + k % 3 * 2", "i + k * 2"),
        ("k % 6 / 2 * 2 + k % 2", "k % 6"),
        ("k % 6 % 3", "k % 3"),
        ("k / 2 / 3", "k / 6"),
        ("min(i, 3)", "i"),
        ("max(i, j + 4)", "j + 4"),
        ("min(i, j)", "min(i, j)"),
        ("select(i < 4, i, j)", "i"),
        ("select(i < 0, i, j)", "j"),
        ("select(i < 2, select(i < 3, 1, 2), 3)", "select(i < 2, 1, 3)"),
        ("select(i < 2 and true, 1, 3)", "select(i < 2, 1, 3)"),
        ("select(i < 2 or 0 <= i, 1, 3)", "1"),
        ("select(i < 2 or i < 3, 1, 3)", "select(i < 2 or i < 3, 1, 3)"),
        ("select(1 <= i + j and i + j - 1 < 0, 1, 3)", "3"),
        ("a + 0", "a"),
        ("a * 0", "0"),
        ("a + 2 - 5", "a - 3"),
        ("a + 2 - 2", "a"),
        ("a + 2147483647 + 1", "a + 2147483647 + 1"),
        ("a + -3", "a - 3"),
        ("min(i32(b), 127)", "i32(b)"),
        ("i32(l) * 1", "i32(l)"),
        ("i32(i64(b))", "i32(b)"),
        ("i32(i64(a) + 0:i64)", "a"),
        ("i32(i16(a))", "i32(i16(a))"),
        ("i32(7:i8)", "7"),
        ("i32(300:i16) + i32(2.9)", "302"),
        ("i32(z + 0.0)", "i32(z + 0.0)"),  # -0.0 + 0.0 is 0.0
        ("i32(z * 0.0)", "i32(z * 0.0)"),  # nan
        ("i32(z * 1.0)", "i32(z * 1.0)"),
        ("i32(0.1 + 0.2 + z)", "i32(0.3 + z)"),
        ("select(nan == nan, 1, 2)", "2"),
    ],
)
def test_expressions(before: str, after: str) -> None:
    assert print_expr(value_of(before)) == after


def test_minus_zero_stays() -> None:
    result = value_of("i32(-0.0 * 1.0)")
    assert isinstance(result, ir.Const)
    [product] = [value_of("select(z < 0.0, -0.0 * 1.0, 0.0)")]
    assert isinstance(product, ir.Select)
    assert isinstance(product.then, ir.Const)
    assert math.copysign(1, product.then.value) == -1


def points() -> list[dict[str, int]]:
    return [{"i": i, "j": j, "k": k} for i in range(4) for j in range(3) for k in range(7)]


def at(e: ir.Expr, point: dict[str, int]) -> int | None:
    """The value of `e`, or None where C does not define it."""

    def known(x: ir.Expr) -> ir.Expr:
        return ir.i32(point[x.name]) if isinstance(x, ir.Var) else x

    e = map_expr(e, known)
    out = np.zeros((), np.int32)
    func = ir.Func("f", (ir.Param("y", DType.I32, (), "out"),), (ir.Store("y", (), e),))
    try:
        evaluate(func, {"y": out})
    except EvaluationError:
        return None
    return int(out)


@given(index_exprs(("i", "j", "k")))
@settings(max_examples=150, deadline=None)
def test_an_index_keeps_its_value(e: ir.Expr) -> None:
    simple = simplify_expr(e, BOUNDS)
    low, high = BOUNDS.of(e)
    for point in points()[::5]:
        value = at(e, point)
        if value is not None:
            assert at(simple, point) == value
            assert low <= value <= high
    assert simplify_expr(simple, BOUNDS) == simple


@given(conditions(("i", "j", "k")), index_exprs(("i", "j", "k")), index_exprs(("i", "j", "k")))
@settings(max_examples=150, deadline=None)
def test_a_condition_keeps_its_value_and_what_it_implies_holds(
    cond: ir.Expr, e: ir.Expr, other: ir.Expr
) -> None:
    chosen = ir.Select(cond, e, other)
    simple = simplify_expr(chosen, BOUNDS)
    low, high = BOUNDS.assuming(cond).of(e)
    for point in points()[::7]:
        value = at(chosen, point)
        if value is None:
            continue
        assert at(simple, point) == value
        if at(ir.Select(cond, ir.i32(1), ir.i32(0)), point):
            assert low <= value <= high


@given(st.one_of(programs(), nests()))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_function_keeps_its_meaning(func: ir.Func) -> None:
    simple = simplify(func)
    verify(simple)
    memory = memory_for(func, seed=1)
    assert run(simple, memory) == run(func, memory)
    assert simplify(simple) == simple
    kept = simplify(func, keep_unit_loops=True)
    assert run(kept, memory) == run(func, memory)
    assert simplify(kept) == simple


def check(before: str, after: str) -> None:
    head = "func f(x: i8[8] in, y: i32[8] inout):\n"
    result = str(simplify(parse_func(head + before)))
    assert result == head + after


def test_a_loop_that_runs_once_dissolves() -> None:
    check(
        "  for i in 1:\n    for j in 8:\n      y[i + j] = i32(x[i * 3 + j])\n",
        "  for j in 8:\n    y[j] = i32(x[j])\n",
    )


def test_loops_that_do_nothing_vanish() -> None:
    check(
        "  y[0] = 1\n  for i in 0:\n    y[1] = 1\n  for i2 in 4:\n    alloc t: i32\n"
        "    for j in 3:\n      if 4 <= i2 + j - 1:\n        if i2 + j < 3:\n          t = 1\n",
        "  y[0] = 1\n",
    )


def test_conditions_merge_and_settle() -> None:
    check(
        "  for i in 8:\n    if i < 6:\n      if 0 <= i and (i < 7 and 2 <= i):\n"
        "        if y[0] < 5:\n          y[i] = select(1 <= i, 1, 2)\n",
        "  for i in 8:\n    if i < 6 and 2 <= i and y[0] < 5:\n      y[i] = 1\n",
    )


def test_a_condition_on_data_says_nothing_of_what_follows() -> None:
    text = "  if y[0] < 5:\n    y[0] = 9\n    if y[0] < 5:\n      y[1] = 1\n"
    check(text, text)


def test_unused_buffers_vanish() -> None:
    check("  alloc t: i32[4]\n  alloc s: i32\n  s = 2\n  y[0] = s\n",
          "  alloc s: i32\n  s = 2\n  y[0] = s\n")  # fmt: skip


def test_unrolled_loops_are_written_out_with_scalars() -> None:
    func = parse_func("""
func f(x: i8[8] in, y: i32[4] out):
  for i in 2:
    alloc acc: i32[2]
    for j in 2 unrolled:
      acc[j] = 0
    for k in 4:
      for j2 in 2 unrolled:
        alloc t: i32
        t = i32(x[i * 4 + k])
        acc[j2] = acc[j2] + t * j2
    for j3 in 2 unrolled:
      y[i * 2 + j3] = acc[j3]
""")
    assert (
        str(expand_unrolled(func))
        == """\
func f(x: i8[8] in, y: i32[4] out):
  for i in 2:
    alloc acc_0: i32
    alloc acc_1: i32
    acc_0 = 0
    acc_1 = 0
    for k in 4:
      alloc t_0: i32
      t_0 = i32(x[i * 4 + k])
      acc_0 = acc_0 + t_0 * 0
      alloc t_1: i32
      t_1 = i32(x[i * 4 + k])
      acc_1 = acc_1 + t_1
    y[i * 2] = acc_0
    y[i * 2 + 1] = acc_1
""".replace("acc_0 + t_0 * 0", "acc_0")
    )


def test_nested_unrolled_loops_get_names_of_their_own() -> None:
    func = parse_func("""
func f(y: i32[12] out):
  for i in 2 unrolled:
    for j in 2 unrolled:
      for k in 3:
        y[i * 6 + j * 3 + k] = k
""")
    expanded = expand_unrolled(func)
    verify(expanded)
    assert str(expanded).count("for ") == 4
    assert len(names(expanded)) == 6


def test_an_operand_of_an_instruction_stays_an_array_unless_it_is_a_scalar() -> None:
    func = parse_func("""
func f(x: i16[4] in, y: i32[2] out):
  alloc acc: i32[2]
  acc[0] = 0
  acc[1] = 0
  dot_i16_i16_2(x[0], x[2], acc[0])
  y[0] = acc[0]
  y[1] = acc[1]
""")
    instruction = dot_instruction(2)
    assert "alloc acc: i32[2]" in str(expand_unrolled(func))
    expanded = expand_unrolled(func, {instruction.name: instruction})
    assert "dot_i16_i16_2(x[0], x[2], acc_0)" in str(expanded)
    memory = memory_for(func, 0)
    table = {instruction.name: instruction}
    assert run(expanded, memory, table) == run(func, memory, table)


def test_it_is_fast_enough_for_whole_models() -> None:
    functions = [program() for program in PROGRAMS] * 4
    start = time.process_time()
    for func in functions:
        simplify(func)
    assert time.process_time() - start < 0.5


def test_collectors() -> None:
    func = conv()
    assert {x.buffer for x in loads(func.body)} == {"x", "w", "b", "acc"}
    assert [s.buffer for s in stores(func.body)] == ["acc", "acc", "y"]
    assert touched(func.body) == {"x", "w", "b", "acc", "y"}


def test_sums_compare_by_what_they_are() -> None:
    i, j = ir.Var("i"), ir.Var("j")
    assert linear(ir.add(i, j)) == linear(ir.add(j, i))
    assert linear(ir.sub(ir.mul(ir.add(i, ir.i32(1)), ir.i32(2)), i)) == linear(
        ir.add(i, ir.i32(2))
    )
    assert (linear(i) - linear(i)).expr() == ir.i32(0)
