"""The text of loop functions: readable, exact, and with errors that say what was expected."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable

import pytest
from hypothesis import given, settings

from midge.core.errors import VerifyError
from midge.core.types import DType
from midge.loop import ir
from midge.loop.text import parse_func, print_expr
from programs import PROGRAMS, conv
from strategies import exprs, nests


def store(value: ir.Expr) -> ir.Func:
    """A function around an expression over i, j, x[_, _] and s."""
    params = (
        ir.Param("x", DType.I32, (2, 2), "in"),
        ir.Param("s", DType.I32, (), "in"),
        ir.Param("y", DType.I32, (1,), "out"),
    )
    body = ir.Loop("j", 2, (ir.Store("y", (ir.i32(0),), value),), "unrolled")
    return ir.Func("f", params, (ir.Loop("i", 3, (body,)),))


def reread(value: ir.Expr) -> ir.Expr:
    outer = parse_func(str(store(value))).body[0]
    assert isinstance(outer, ir.Loop)
    inner = outer.body[0]
    assert isinstance(inner, ir.Loop)
    stored = inner.body[0]
    assert isinstance(stored, ir.Store)
    return stored.value


@given(exprs())
@settings(max_examples=300, deadline=None)
def test_every_expression_reads_back(value: ir.Expr) -> None:
    again = reread(value)
    assert repr(again) == repr(value)  # tells 0.0 from -0.0, and True from 1
    assert print_expr(again) == print_expr(value)


@given(nests())
@settings(max_examples=60, deadline=None)
def test_every_function_reads_back(func: ir.Func) -> None:
    assert parse_func(str(func)) == func


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_shared_programs_read_back(program: Callable[[], ir.Func]) -> None:
    assert parse_func(str(program())) == program()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (ir.i32(-5), "-5"),
        (ir.const(5, DType.I8), "5:i8"),
        (ir.const(-(2**63), DType.I64), "-9223372036854775808:i64"),
        (ir.f32(0.10000000149011612), "0.1"),
        (ir.f32(1e10), "1e+10"),
        (ir.f32(-0.0), "-0.0"),
        (ir.f32(math.nan), "nan"),
        (ir.f32(-math.inf), "-inf"),
        (ir.const(0.5, DType.F16), "0.5:f16"),
        (ir.Const(True, DType.BOOL), "true"),
        (ir.Bin("-", ir.Var("i"), ir.Bin("-", ir.Var("j"), ir.i32(1))), "i - (j - 1)"),
        (ir.Bin("-", ir.Bin("-", ir.Var("i"), ir.Var("j")), ir.i32(1)), "i - j - 1"),
        (ir.Bin("*", ir.Bin("+", ir.Var("i"), ir.i32(1)), ir.i32(2)), "(i + 1) * 2"),
        (ir.Bin("-", ir.Var("i"), ir.i32(-1)), "i - -1"),
        (ir.Bin("&", ir.Bin("<<", ir.Var("i"), ir.i32(1)), ir.i32(7)), "i << 1 & 7"),
        (ir.Bin("min", ir.Var("i"), ir.Load("s", ())), "min(i, s)"),
        (
            ir.Bin("and", ir.in_range(ir.Var("i"), 3), ir.Bin("<", ir.Var("j"), ir.i32(2))),
            "0 <= i and i < 3 and j < 2",
        ),
        (
            ir.Select(
                ir.Bin("<", ir.Var("i"), ir.i32(1)), ir.i32(1), ir.Cast(DType.I32, ir.i32(2))
            ),
            "select(i < 1, 1, i32(2))",
        ),
    ],
)
def test_expressions_print_plainly(value: ir.Expr, text: str) -> None:
    assert print_expr(value) == text
    assert repr(reread(value)) == repr(value)


def test_a_function_prints_like_python() -> None:
    func = parse_func("""
func f(x: i8[4x3] in,   # a comment, and a parameter list over two lines
       acc: i32 inout):
  for i in 4 unrolled:
    if i < 3 and x[i, 0] == 1:
      alloc t: i16[3]

      dot(x[i, 0], t[0], acc)
  for j in 0:
    pass
""")
    assert (
        str(func)
        == """\
func f(x: i8[4x3] in, acc: i32 inout):
  for i in 4 unrolled:
    if i < 3 and x[i, 0] == 1:
      alloc t: i16[3]
      dot(x[i, 0], t[0], acc)
  for j in 0:
    pass
"""
    )


def test_scalars_and_loop_variables_are_told_apart() -> None:
    func = parse_func(
        "func f(y: i32 out):\n  for i in 2:\n    alloc t: i32\n    t = i\n    y = t\n"
    )
    loop = func.body[0]
    assert isinstance(loop, ir.Loop)
    assert loop.body[1:] == (ir.Store("t", (), ir.Var("i")), ir.Store("y", (), ir.Load("t", ())))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected func name(params):"),
        ("func f(x: i9[4] in):\n  pass", "line 1: expected a parameter `name: type[shape] mode`"),
        ("func f():", "line 1: expected an indented block (or `pass`) below"),
        ("func f():\n  alloc t i32", "line 2: expected alloc name: type[shape]"),
        ("func f():\n  for i in n:\n    pass", "line 2: expected for name in extent:"),
        ("func f():\n  pass\n  y = 1", "line 3: expected the end of the function"),
        ("func f():\n  y[0] 1", "line 2: expected '=', found '1'"),
        ("func f():\n  y[0] = 1 +", "line 2: expected an expression, found 'the end of the line'"),
        ("func f():\n  y[0] = (1", "line 2: expected ')'"),
        ("func f():\n  y[0] = $", "line 2: expected an expression, found '$'"),
        ("func f():\n  y[0] = 1 2", "line 2: expected the end of the line, found '2'"),
        ("func f():\n  y[0] = 1 < 2 < 3", "line 2: expected no second comparison (use `and`)"),
        ("func f():\n  y[0] = 1.5:i8", "line 2: expected a type that suits 1.5, found 'i8'"),
        ("func f():\n  y[0] = min(1)", "line 2: expected 2 arguments of min, found '1'"),
        ("func f():\n  y[0] = 1\n    y[1] = 2", "line 3: expected an indentation of 2 spaces"),
        ("func f():\n  3 = 1", "line 2: expected a statement, found '3'"),
    ],
)
def test_an_error_names_the_line_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(VerifyError) as caught:
        parse_func(text)
    assert str(caught.value).startswith(message)


def test_a_text_cut_anywhere_is_refused_cleanly() -> None:
    text = str(conv())
    for end in range(len(text) - 1):
        with contextlib.suppress(VerifyError):
            parse_func(text[:end])
