"""Tensorize before and after, and each reason for which it is refused."""

from __future__ import annotations

import pytest

from midge.core.errors import ScheduleError
from midge.loop.instruction import Instruction
from midge.loop.schedule import (
    Pack,
    Reorder,
    Split,
    Stage,
    Step,
    Tensorize,
    apply,
    pack_array,
)
from midge.loop.text import parse_func
from programs import (
    dot,
    dot_instruction,
    matmul,
    memory_for,
    run,
)
from schedule_checks import HEAD, func, refused

DOT = dot_instruction(2)


def test_tensorize_with_a_strided_window() -> None:
    f = parse_func("""
func f(a: i16[4x10] in, b: i16[6] const, y: i32[4x3] inout):
  for r in 4:
    for o in 3:
      for k in 2:
        y[r, o] = y[r, o] + i32(a[r, o * 3 + k + 1]) * i32(b[o + k])
""")
    result = apply(f, [Tensorize("k", DOT.name)], {DOT.name: DOT})
    assert str(result.body[0]).count("for") == 0
    assert "dot_i16_i16_2(a[r, o * 3 + 1], b[o], y[r, o])" in str(result)
    memory = memory_for(f, 1)
    assert run(result, memory, {DOT.name: DOT}) == run(f, memory)


BLOCK = Instruction("block", parse_func("""
func block(a: i8[2x4] in, w: i8[4x2] const, b: i32[2] const, y: i32[2x2] out):
  for p in 2:
    for c in 2:
      y[p, c] = b[c]
  for k in 4:
    for p2 in 2:
      for c2 in 2:
        y[p2, c2] = y[p2, c2] + i32(a[p2, k]) * i32(w[k, c2])
"""), "block();")  # fmt: skip


def test_tensorize_of_a_register_block() -> None:
    f = parse_func("""
func f(x: i8[4x4] in, w: i8[6x4] const, b: i32[6] const, y: i32[4x6] out):
  for m in 4:
    for n in 6:
      y[m, n] = b[n]
      for k in 4:
        y[m, n] = y[m, n] + i32(w[n, k]) * i32(x[m, k])
""")
    layout = Pack("w", ((0, 2),), (0, 2, 1))
    steps: list[Step] = [
        Split("m", 2),
        Split("n", 2),
        Reorder(("m_o", "n_o", "k", "m_i", "n_i")),
        layout,
        Tensorize("m_i_pre", "block"),
    ]
    result = apply(f, steps, {"block": BLOCK})
    assert "block(x[m_o * 2, 0], w[n_o, 0, 0], b[n_o * 2], y[m_o * 2, n_o * 2])" in str(result)
    memory = memory_for(f, 1)
    packed = {**memory, "w": pack_array(layout, memory["w"])}
    assert run(result, packed, {"block": BLOCK}) == run(f, memory)


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ("y[0] = y[0] + i32(a[k]) * i32(b[k + 1])", "its b may reach outside b"),
        ("y[0] = y[0] + i32(a[k]) * i32(a[k])", None),
        ("y[0] = y[0] + i32(a[k]) * i32(b[k * 2])", "index k * 2 of b moves unlike that of b"),
        ("y[0] = y[0] + i32(a[k]) * i32(b[1])", "index 1 of b moves unlike that of b"),
        ("y[0] = y[0] - i32(a[k]) * i32(b[k])", "y[0] - i32(a[k]) * i32(b[k]) where it has y + "),
        ("y[0] = y[0] + i32(a[k]) * 3", "3 where it has i32(b[k])"),
        ("y[0] = y[0] + i32(c[k]) * i32(b[k])", "c is i8, its a i16"),
        ("y[0] = y[1] + i32(a[k]) * i32(b[k])", "y stands for two places"),
        ("y[k] = y[k] + i32(a[k]) * i32(b[k])", "index k of y moves unlike that of y"),
        ("y[0] = y[0] + i32(i16(c[k])) * i32(b[k])", "c is i8, its a i16"),
    ],
)
def test_a_near_miss_says_which_part_differs(update: str, message: str | None) -> None:
    f = parse_func(f"""
func f(a: i16[2] in, b: i16[3] in, c: i8[2] in, y: i32[2] inout):
  for k in 2:
    {update}
""".replace("b: i16[3]", "b: i16[2]" if "k + 1" in update else "b: i16[3]"))  # fmt: skip
    if message is None:
        assert "dot_i16_i16_2(a[0], a[0], y[0])" in str(
            apply(f, [Tensorize("k", DOT.name)], {DOT.name: DOT})
        )
    else:
        refused(f, [Tensorize("k", DOT.name)], message, **{DOT.name: DOT})


def test_tensorize_refusals() -> None:
    known = {DOT.name: DOT, "block": BLOCK}
    refused(dot(4), [Tensorize("i", "dot_i16_i16_3")], "known: dot_i16_i16_2", **known)
    refused(dot(3), [Tensorize("i", DOT.name)], "i has the extent 3, its k 2", **known)
    refused(dot(2), [Tensorize("i", "block")], "does more than what stands at i", **known)
    both = parse_func("""
func f(a: i16[2] inout, b: i16[2] in, y: i32[2] inout):
  for k in 2:
    a[k] = a[k] + a[k]
""".replace("a[k] = a[k] + a[k]", "a[k] = i16(i32(a[k]) + i32(a[k]))"))  # fmt: skip
    add = parse_func("""
func add(p: i16[2] in, q: i16[2] in, r: i16[2] out):
  for k in 2:
    r[k] = i16(i32(p[k]) + i32(q[k]))
""")
    refused(both, [Tensorize("k", "add")], "p and r are both a", add=Instruction("add", add, ""))
    constant = Instruction("dotc", parse_func(
        str(DOT.meaning).replace("b: i16[2] in", "b: i16[2] const")), "")  # fmt: skip
    refused(dot(2), [Tensorize("i", "dotc")], "b is not a constant, its b is", dotc=constant)


def test_tensorize_of_a_local_that_is_needed_elsewhere() -> None:
    meaning = parse_func("""
func sum2(a: i8[2] in, y: i32 out):
  alloc t: i32
  t = 0
  for k in 2:
    t = t + i32(a[k])
  y = t
""")
    body = "  alloc s: i32\n  s = 0\n  for i in 2:\n    s = s + i32(x[i])\n  y[0] = s\n"
    instruction = Instruction("sum2", meaning, "")
    result = apply(func(body), [Tensorize("i", "sum2")], {"sum2": instruction})
    assert str(result) == HEAD + "  sum2(x[0], y[0])\n"
    refused(
        func(body + "  y[1] = s\n"), [Tensorize("i", "sum2")], "s is also used", sum2=instruction
    )


def test_steps_after_an_instruction_know_what_it_touches() -> None:
    f = matmul(2, 2, 4)
    dots = dot_instruction(2, "i8", "i8")
    table = {dots.name: dots}
    steps: list[Step] = [Split("k", 2), Tensorize("k_i", dots.name)]
    staged = apply(f, [*steps, Stage("x", "m"), Stage("w", "n")], table)
    memory = memory_for(f, 0)
    assert run(staged, memory, table) == run(f, memory)
    assert "x_s[0, k_o * 2]" in str(staged)
    moved = apply(f, [*steps, Reorder(("n", "m"))], table)
    assert run(moved, memory, table) == run(f, memory)
    refused(f, [*steps, Pack("w", (), (1, 0))], "an instruction already reads w", **table)
    with pytest.raises(ScheduleError, match="unknown instruction"):
        apply(apply(f, steps, table), [Reorder(("n", "m"))])
