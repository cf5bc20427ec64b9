"""The rules of the loop IR, each with a function that breaks it."""

from __future__ import annotations

import pytest

from midge.core.errors import VerifyError
from midge.core.types import DType
from midge.loop import ir
from midge.loop.text import parse_func
from midge.loop.verify import verify
from programs import dot_instruction


def function(body: str) -> ir.Func:
    lines = "\n".join(f"  {line}" for line in body.strip("\n").split("\n"))
    return parse_func(
        "func f(x: i8[4x3] in, w: i16[4] const, y: i32[4] out, z: f32[2] inout, h: f16[2] in):\n"
        + lines
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("for x in 2:\n  pass", "f: for x in 2:: the name 'x' is used twice"),
        ("for i in 2:\n  pass\nfor i in 2:\n  pass", "the name 'i' is used twice"),
        ("alloc t: i32\nfor t in 2:\n  pass", "the name 't' is used twice"),
        ("for min in 2:\n  pass", "'min' cannot be a name"),
        ("y[i] = 0", "the variable 'i' is not bound by a loop"),
        ("y[0] = q[0]", "unknown 'q'"),
        ("q[0] = 0", "unknown 'q'"),
        ("y[0] = t\nalloc t: i32", "the variable 't' is not bound"),
        ("for i in 2:\n  alloc t: i32\n  t = 0\ny[0] = t", "t is used where it is not alive"),
        ("y[0, 0] = 0", "y has 1 dimensions, not 2"),
        ("y[0] = i32(x[0])", "x has 2 dimensions, not 1"),
        ("x[0, 0] = 0:i8", "x is written, but its mode is 'in'"),
        ("w[0] = 0:i16", "w is written, but its mode is 'const'"),
        ("y[0] = 0.0", "the value stored to y is f32, expected i32"),
        ("y[0] = i32(x[0, 0] + x[0, 1])", "'+' is not defined on i8 in x[0, 0] + x[0, 1]"),
        ("y[0] = i32(x[0, 0]) + 1:i64", "'+' has operands of types i32 and i64"),
        ("z[0] = z[0] % z[1]", "'%' is not defined on f32"),
        ("z[0] = z[0] + f32(h[0]) * h[1]", "'*' has operands of types f32 and f16"),
        ("y[0] = select(1, 2, 3)", "the condition of select is i32, expected bool"),
        ("y[0] = select(true, 2, 3.0)", "select has values of types i32 and f32"),
        ("y[0] = i32(true and 1 < 2 and 3)", "'and' has operands of types bool and i32"),
        ("y[0] = high_mul(1)", "high_mul takes (i32, i32), not (i32)"),
        ("y[0] = nothing(1)", "unknown intrinsic 'nothing'"),
        ("if 1:\n  y[0] = 0", "the condition is i32, expected bool"),
        ("y[z[0]] = 0", "index 0 of y is f32, expected i32"),
        ("y[4] = 0", "index 0 of y reaches 4, outside 0..3"),
        ("for i in 5:\n  y[i] = 0", "index 0 of y reaches 4, outside 0..3"),
        ("for i in 4:\n  y[i - 1] = 0", "index 0 of y reaches -1, outside 0..3"),
        ("for i in 6:\n  if i < 5:\n    y[i] = 0", "index 0 of y reaches 4, outside 0..3"),
        ("for i in 6:\n  if i * 2 != 6:\n    y[i] = 0", "index 0 of y reaches 4"),
        (
            "for i in 5:\n  y[0] = select(1 <= i and i < 5, y[i], 0)",
            "index 0 of y reaches 4, outside 0..3",
        ),
        ("for i in 5:\n  if 1 < i and y[i] < 0:\n    pass", "index 0 of y reaches 4"),
        ("alloc t: i32[0]", "the shape (0,) has a dimension below 1"),
        ("madd(x[0, 0])", "unknown instruction 'madd'"),
        ("dot_i16_i16_2(w[0], w[0])", "dot_i16_i16_2 takes 3 windows, not 2"),
        ("dot_i16_i16_2(w[0], x[0, 0], y[0])", "b of dot_i16_i16_2 is i16, x i8"),
        ("dot_i16_i16_2(w[3], w[0], y[0])", "index 0 of w reaches 3..4, outside 0..3"),
    ],
)
def test_a_broken_rule_is_named(body: str, message: str) -> None:
    instruction = dot_instruction(2)
    with pytest.raises(VerifyError) as caught:
        verify(function(body), {instruction.name: instruction})
    assert message in str(caught.value)
    assert caught.value.where.startswith("f: ")


@pytest.mark.parametrize(
    "body",
    [
        "for i in 6:\n  if i < 4:\n    y[i] = 0",
        "for i in 6:\n  y[0] = select(i < 4, y[min(i, 3)], 0)",
        "for i in 6:\n  y[0] = select(0 <= i - 1 and i - 1 < 4, y[i - 1], 0)",
        "for i in 6:\n  y[0] = select(4 <= i, 0, y[i])",  # the other side is not analysed
        "for i in 6:\n  if y[0] < 3:\n    y[i] = 0",  # may never be reached
        "for i in 6:\n  if 9 < i:\n    y[i] = 0",  # is never reached
        "for i in 6:\n  for j in 3:\n    if 3 <= j * j:\n      if j * j < 4:\n        y[i] = 0",
        "for i in 3:\n  if i * 4 <= 6:\n    y[i * 2] = 0",  # only i = 0 and 1
        "for i in 3:\n  for j in 3:\n    if 2 <= i + j and i + j < 4:\n      y[i + j - 2] = 0",
        "y[y[0]] = 0",
        "for i in 0:\n  y[9] = 0",
        "dot_i16_i16_2(w[2], w[0], y[3])",
        "z[0] = f32(h[0]) + exp(z[1])",
    ],
)
def test_what_is_right_or_unknown_passes(body: str) -> None:
    instruction = dot_instruction(2)
    verify(function(body), {instruction.name: instruction})


@pytest.mark.parametrize(
    "value",
    [
        ir.Const(128, DType.I8),
        ir.Const(2**31, DType.I32),
        ir.Const(0.1, DType.F32),
        ir.Const(1, DType.F32),
        ir.Const(1.5, DType.I32),
        ir.Const(70000.0, DType.F16),
    ],
)
def test_a_constant_is_a_value_of_its_type(value: ir.Const) -> None:
    params = (ir.Param("y", value.dtype, (1,), "out"),)
    func = ir.Func("f", params, (ir.Store("y", (ir.i32(0),), value),))
    with pytest.raises(VerifyError, match="is not a value of"):
        verify(func)


def test_a_negative_extent_is_refused() -> None:
    with pytest.raises(VerifyError, match="the extent -1 is negative"):
        verify(ir.Func("f", (), (ir.Loop("i", -1, ()),)))
