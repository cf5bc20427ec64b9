"""Each schedule step before and after, and each reason for which it is refused."""

from __future__ import annotations

import numpy as np
import pytest

from midge.core.errors import ScheduleError
from midge.core.types import DType
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.schedule import (
    ComputeAt,
    Fuse,
    Pack,
    Peel,
    Reorder,
    Split,
    Stage,
    Step,
    Tensorize,
    Unroll,
    apply,
    pack_array,
    pack_consts,
    parse_step,
)
from midge.loop.text import parse_func
from programs import (
    conv,
    dot,
    dot_instruction,
    float_sum,
    matmul,
    memory_for,
    recurrence,
    run,
    skewed,
    softmax,
    stages,
)

HEAD = "func f(x: i8[8] in, w: i8[4x3] const, y: i32[8] inout, z: f32[8] inout):\n"
DOT = dot_instruction(2)


def func(body: str) -> ir.Func:
    return parse_func(HEAD + body)


def check(before: str, steps: list[Step], after: str) -> None:
    result = apply(func(before), steps)
    assert str(result) == HEAD + after
    memory = memory_for(func(before), 5)
    assert run(result, memory) == run(func(before), memory)


def refused(f: ir.Func, steps: list[Step], message: str, **instructions: Instruction) -> None:
    with pytest.raises(ScheduleError) as caught:
        apply(f, steps, instructions)
    assert str(caught.value).startswith(f"{f.name}: {steps[-1]}: ")
    assert message in str(caught.value)


COPY = "  for i in 7:\n    y[i] = i32(x[i])\n"


def test_split_with_a_guard() -> None:
    check(COPY, [Split("i", 3, "guard")],
          "  for i_o in 3:\n    for i_i in 3:\n      if i_o * 3 + i_i < 7:\n"
          "        y[i_o * 3 + i_i] = i32(x[i_o * 3 + i_i])\n")  # fmt: skip


def test_split_with_the_rest_peeled() -> None:
    check(COPY, [Split("i", 3, "peel")],
          "  for i_o in 2:\n    for i_i in 3:\n      y[i_o * 3 + i_i] = i32(x[i_o * 3 + i_i])\n"
          "  y[6] = i32(x[6])\n")  # fmt: skip


def test_split_refusals() -> None:
    refused(func(COPY), [Split("i", 3)], "3 does not divide the extent 7\n  hint: use tail=")
    refused(func(COPY), [Split("i", 0)], "the factor 0 is below 1")
    refused(func(COPY), [Split("i", 8, "peel")], "the extent 7 does not fill one block of 8")
    refused(func(COPY), [Split("j", 2)], "there is no loop 'j'\n  hint: loops: i")


def test_names_in_a_schedule_exist_whatever_the_sizes_are() -> None:
    check(COPY, [Split("i", 7), Reorder(("i_i", "i_o")), Unroll("i_o"), Unroll("i_i")],
          "  for i_i in 7 unrolled:\n    y[i_i] = i32(x[i_i])\n")  # fmt: skip


def test_fuse() -> None:
    check("  for a in 2:\n    for b in 3:\n      y[a * 3 + b] = i32(w[a, b])\n", [Fuse("a", "b")],
          "  for a_b in 6:\n    y[a_b] = i32(w[a_b / 3, a_b % 3])\n")  # fmt: skip
    refused(func("  for a in 2:\n    y[a] = 0\n    for b in 3:\n      y[a] = b\n"),
            [Fuse("a", "b")], "b is not all that a contains")  # fmt: skip


def test_peel_settles_conditions() -> None:
    before = (
        "  for i in 7:\n    for k in 3:\n      if 0 <= i + k - 1 and i + k - 1 < 7:\n"
        "        y[i] = y[i] + i32(x[i + k - 1])\n"
    )
    after = (
        "  for k_first in 3:\n    if 0 <= k_first - 1:\n"
        "      y[0] = y[0] + i32(x[k_first - 1])\n"
        "  for i in 5:\n    for k in 3:\n      y[i + 1] = y[i + 1] + i32(x[i + k])\n"
        "  for k_last in 3:\n    if k_last + 5 < 7:\n      y[6] = y[6] + i32(x[k_last + 5])\n"
    )
    check(before, [Peel("i", 1, 1)], after)
    refused(func(before), [Peel("i", 4, 3)], "4 + 3 iterations leave none of 7 in the middle")
    refused(func(before), [Peel("i")], "cannot peel 0 and 0 iterations")


def test_reorder_through_an_imperfect_nest() -> None:
    check(
        "  for p in 2:\n    alloc acc: i32\n    acc = 0\n    for k in 3:\n"
        "      acc = acc + i32(x[p + k])\n    y[p] = acc\n",
        [Reorder(("k", "p"))],
        "  alloc acc: i32[2]\n  for p_pre in 2:\n    acc[p_pre] = 0\n"
        "  for k in 3:\n    for p in 2:\n      acc[p] = acc[p] + i32(x[p + k])\n"
        "  for p_post in 2:\n    y[p_post] = acc[p_post]\n",
    )


def test_reorder_keeps_what_one_part_needs_inside_it() -> None:
    check(
        "  for p in 2:\n    for k in 3:\n      y[p] = y[p] + i32(x[p + k])\n"
        "    alloc t: i32\n    t = y[p]\n    y[p + 2] = t\n",
        [Reorder(("k", "p"))],
        "  for k in 3:\n    for p in 2:\n      y[p] = y[p] + i32(x[p + k])\n"
        "  for p_post in 2:\n    alloc t: i32\n    t = y[p_post]\n    y[p_post + 2] = t\n",
    )


def test_reorder_moves_a_local_to_the_part_that_uses_it() -> None:
    check(
        "  for p in 2:\n    alloc t: i32\n    for k in 3:\n      y[p] = y[p] + i32(x[p + k])\n"
        "    t = y[p]\n    y[p + 2] = t\n",
        [Reorder(("k", "p"))],
        "  for k in 3:\n    for p in 2:\n      y[p] = y[p] + i32(x[p + k])\n"
        "  for p_post in 2:\n    alloc t: i32\n    t = y[p_post]\n    y[p_post + 2] = t\n",
    )


def test_reorder_leaves_conditions_of_other_loops_outside() -> None:
    check(
        "  for r in 3:\n    for p in 2:\n      if 1 <= r and p + r < 3:\n        for k in 3:\n"
        "          y[p] = y[p] + i32(x[p + k])\n",
        [Reorder(("k", "p"))],
        "  for r in 3:\n    if 1 <= r:\n      for k in 3:\n        for p in 2:\n"
        "          if p + r < 3:\n            y[p] = y[p] + i32(x[p + k])\n",
    )


def test_reorder_takes_conditions_along() -> None:
    check(
        "  for p in 4:\n    if p < 3:\n      y[p] = 0\n      for k in 3:\n"
        "        y[p] = y[p] + i32(x[p + k])\n",
        [Reorder(("k", "p"))],
        "  for p_pre in 4:\n    if p_pre < 3:\n      y[p_pre] = 0\n"
        "  for k in 3:\n    for p in 4:\n      if p < 3:\n        y[p] = y[p] + i32(x[p + k])\n",
    )


def test_reorder_of_three_loops_keeps_the_others_where_they_are() -> None:
    result = str(apply(conv(), [Reorder(("kw", "oh"))]))
    order = [line.split()[1] for line in result.splitlines() if line.strip().startswith("for")]
    assert [v for v in order if v in ("oh", "ow", "oc", "kh", "kw")] == [
        "kw",
        "ow",
        "oc",
        "kh",
        "oh",
    ]


@pytest.mark.parametrize(
    ("f", "loops", "message"),
    [
        (skewed(), ("j", "i"), "i and j cannot change places: y would be touched in another"),
        (softmax(), ("k", "i"), "i is not inside k"),
        (conv(), ("oh", "oh"), "give two or more different loops"),
        (conv(), ("oh",), "give two or more different loops"),
        (conv(), ("oh", "q"), "there is no loop 'q'"),
        # float sums keep their order
        (
            func("  for a in 2:\n    for b in 3:\n      z[0] = z[0] + f32(x[a * 3 + b])\n"),
            ("b", "a"),
            "z would be touched in another order",
        ),
        # a running sum, outside and inside
        (
            func("  for a in 2:\n    for b in 3:\n      y[b + 1] = y[b] + i32(x[a])\n"),
            ("b", "a"),
            "y would be touched in another order",
        ),
        # the later statement needs what the earlier one writes in a later iteration
        (
            func("  for a in 2:\n    y[a] = 1\n    for b in 3:\n      y[a + b + 1] = i32(x[b])\n"),
            ("b", "a"),
            "iterations of a depend on each other through y",
        ),
        # maxima and sums of one element do not commute
        (
            func(
                "  for a in 2:\n    for b in 3:\n      y[0] = y[0] + i32(x[a])\n"
                "      y[0] = max(y[0], i32(x[b]))\n"
            ),
            ("b", "a"),
            "y would be touched in another order",
        ),
        # the condition reads what the body changes
        (
            func(
                "  for a in 2:\n    for b in 3:\n      if y[0] < 9:\n"
                "        y[0] = y[0] + i32(x[a])\n"
            ),
            ("b", "a"),
            "y would be touched in another order",
        ),
        (
            func("  for a in 2:\n    if y[7] < 9:\n      for b in 3:\n        y[b] = 1\n"),
            ("b", "a"),
            "a condition around b depends on data",
        ),
        # some elements are the same, all are a multiple of 2
        (
            func("  for a in 2:\n    for b in 2:\n      y[a * 2 + b * 2] = a\n"),
            ("b", "a"),
            "y would be touched in another order",
        ),
        # elements of data-dependent places
        (
            func("  for a in 2:\n    for b in 3:\n      y[i32(x[b]) & 7] = a\n"),
            ("b", "a"),
            "y would be touched in another order",
        ),
    ],
)
def test_reorder_refusals(f: ir.Func, loops: tuple[str, ...], message: str) -> None:
    refused(f, [Reorder(loops)], message)


def test_reorder_that_is_legal_though_elements_are_shared() -> None:
    for f, loops in [
        (recurrence(), ("i", "r")),
        (float_sum(), ("j", "i")),
        (
            func("  for a in 2:\n    for b in 3:\n      y[0] = y[0] + i32(x[a * 3 + b])\n"),
            ("b", "a"),
        ),
        (
            func("  for a in 2:\n    for b in 2:\n      y[a * 2 + b] = y[a * 2 + b + 4]\n"),
            ("b", "a"),
        ),
    ]:
        memory = memory_for(f, 2)
        assert run(apply(f, [Reorder(loops)]), memory) == run(f, memory)


def test_stage_widens_what_is_read() -> None:
    check(
        "  for i in 6:\n    for k in 3:\n      y[i] = y[i] + i32(x[i + k])\n",
        [Stage("x", "i", DType.I16)],
        "  for i in 6:\n    alloc x_s: i16[3]\n    for x_s0 in 3:\n"
        "      x_s[x_s0] = i16(x[i + x_s0])\n"
        "    for k in 3:\n      y[i] = y[i] + i32(x_s[k])\n",
    )


def test_stage_copies_only_what_is_in_bounds() -> None:
    check(
        "  for i in 8:\n    for k in 3:\n      if i + k < 8:\n"
        "        y[i] = y[i] + i32(x[i + k])\n",
        [Stage("x", "i")],
        "  for i in 8:\n    alloc x_s: i8[3]\n    for x_s0 in 3:\n"
        "      if i + x_s0 < 8:\n        x_s[x_s0] = x[i + x_s0]\n"
        "    for k in 3:\n      if i + k < 8:\n        y[i] = y[i] + i32(x_s[k])\n",
    )


def test_stage_of_an_accumulator() -> None:
    check(
        "  for i in 6:\n    for k in 3:\n      y[i] = y[i] + i32(x[i + k])\n",
        [Stage("y", "i")],
        "  for i in 6:\n    alloc y_s: i32[1]\n    y_s[0] = y[i]\n"
        "    for k in 3:\n      y_s[0] = y_s[0] + i32(x[i + k])\n    y[i] = y_s[0]\n",
    )


def test_stage_reads_nothing_that_the_body_writes_first() -> None:
    check(
        "  for i in 2:\n    for k in 4:\n      y[i * 4 + k] = 0\n    y[i * 4 + 1] = y[i * 4] + 1\n",
        [Stage("y", "i")],
        "  for i in 2:\n    alloc y_s: i32[4]\n    for k in 4:\n      y_s[k] = 0\n"
        "    y_s[1] = y_s[0] + 1\n    for y_w0 in 4:\n      y[i * 4 + y_w0] = y_s[y_w0]\n",
    )


def test_stage_reads_what_the_body_leaves_alone() -> None:
    check(
        "  for i in 2:\n    for k in 2:\n      y[i * 4 + k * 2] = k\n",
        [Stage("y", "i")],
        "  for i in 2:\n    alloc y_s: i32[3]\n    for y_s0 in 3:\n"
        "      y_s[y_s0] = y[i * 4 + y_s0]\n"
        "    for k in 2:\n      y_s[k * 2] = k\n"
        "    for y_w0 in 3:\n      y[i * 4 + y_w0] = y_s[y_w0]\n",
    )


LOCAL = (
    "  alloc t: i32[8]\n  for i in 4:\n    t[i * 2] = i\n"
    "  for o in 2:\n    for k in 2:\n      y[o] = y[o] + t[o * 4 + k * 2]\n"
)


@pytest.mark.parametrize(
    ("f", "step", "message"),
    [
        (func(COPY), Stage("q", "i"), "there is no buffer 'q'"),
        (func(COPY), Stage("w", "i"), "i does not use w"),
        (func(COPY), Stage("y", "i", DType.I64), "y is written, so its copy must be i32"),
        (func(COPY), Stage("x", "i", DType.U8), "u8 does not hold every i8"),
        (func(COPY), Stage("x", "i", DType.F32), "f32 does not hold every i8"),
        (conv(), Stage("acc", "oc"), "acc is allocated inside oc"),
        (func(LOCAL), Stage("t", "o"), "may hold elements that were never written"),
        (
            func("  for i in 3:\n    y[i] = i32(x[i]) + i32(x[2 * i])\n"),
            Stage("x", "i"),
            "accesses to x do not move alike in dimension 0",
        ),
        (
            func("  for i in 3:\n    y[i] = i32(x[i32(x[i]) & 7])\n"),
            Stage("x", "i"),
            "an index of x depends on data",
        ),
    ],
)
def test_stage_refusals(f: ir.Func, step: Stage, message: str) -> None:
    refused(f, [step], message)


def test_pack() -> None:
    step = Pack("w", ((0, 3),), (0, 2, 1))
    result = apply(
        func("  for i in 4:\n    for k in 3:\n      y[i] = y[i] + i32(w[i, k])\n"), [step]
    )
    assert "w: i8[2x3x3] const" in str(result)
    assert "w[i / 3, k, i % 3]" in str(result)
    array = np.arange(12, dtype=np.int8).reshape(4, 3)
    packed = pack_array(step, array)
    assert packed.shape == (2, 3, 3)
    assert packed.tolist() == [
        [[0, 3, 6], [1, 4, 7], [2, 5, 8]],
        [[9, 0, 0], [10, 0, 0], [11, 0, 0]],
    ]
    assert packed.flags.c_contiguous


def test_pack_of_the_constants_of_a_kernel() -> None:
    f = matmul()
    steps = (Pack("w", (), (1, 0)), Unroll("k"), Pack("w", ((0, 2),), (0, 2, 1)))
    consts = {"weights": np.arange(36, dtype=np.int8).reshape(6, 6), "bias": np.zeros(6, np.int32)}
    packed = pack_consts(f, steps, ("input", "weights", "bias", "output"), consts)
    assert list(packed) == ["weights"]
    [w] = [p for p in apply(f, steps).params if p.name == "w"]
    assert packed["weights"].shape == w.shape
    assert np.array_equal(packed["weights"], pack_array(steps[2], consts["weights"].T))


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Pack("x", (), (0,)), "x is not a constant parameter"),
        (Pack("q", (), (0,)), "q is not a constant parameter"),
        (Pack("w", ((2, 2),), (0, 1, 2)), "split names different dimensions below 2"),
        (Pack("w", ((0, 0),), (0, 1, 2)), "a block is below 1"),
        (Pack("w", ((0, 2),), (0, 1)), "order is no permutation of the 3 dimensions"),
    ],
)
def test_pack_refusals(step: Pack, message: str) -> None:
    refused(func("  y[0] = i32(w[0, 0])\n"), [step], message)


def test_compute_at() -> None:
    result = apply(stages(depth=1), [ComputeAt("t", "o")])
    assert (
        str(result)
        == """\
func stages(x: i8[10x1] in, y: i32[8] out):
  for o in 8:
    alloc t: i32[3]
    for i in 3:
      t[i] = 7
      t[i] = t[i] + i32(x[o + i, 0]) * 2
    alloc acc: i32
    acc = 0
    for k in 3:
      acc = acc + t[k]
    y[o] = acc
"""
    )


def test_compute_at_of_more_than_there_is() -> None:
    check(
        "  alloc t: i32[4]\n  for i in 4:\n    t[i] = i32(x[i])\n"
        "  for o in 4:\n    for k in 2:\n      if o + k < 4:\n        y[o] = y[o] + t[o + k]\n",
        [ComputeAt("t", "o")],
        "  for o in 4:\n    alloc t: i32[2]\n    for i in 2:\n      if o + i < 4:\n"
        "        t[i] = i32(x[o + i])\n"
        "    for k in 2:\n      if o + k < 4:\n        y[o] = y[o] + t[k]\n",
    )


def test_compute_at_of_iterations_that_cannot_be_left_out() -> None:
    check(
        "  alloc t: i32[4]\n  t[0] = 1\n  for i in 3:\n    t[i + 1] = t[i] + i32(x[i])\n"
        "  for o in 4:\n    y[o] = t[o]\n",
        [ComputeAt("t", "o")],
        "  for o in 4:\n    alloc t: i32[4]\n    t[0] = 1\n    for i in 3:\n"
        "      t[i + 1] = t[i] + i32(x[i])\n    y[o] = t[o]\n",
    )


def test_compute_at_of_a_sum_that_is_carried_along() -> None:
    check(
        "  alloc t: i32[2x4]\n  for q in 2:\n    alloc run: i32\n    run = 0\n    for i in 4:\n"
        "      run = run + i32(x[i])\n      t[q, i] = run\n"
        "  for p in 2:\n    for o in 4:\n      y[o] = y[o] + t[p, o]\n",
        [ComputeAt("t", "o")],
        "  for p in 2:\n    for o in 4:\n      alloc t: i32[1x4]\n      alloc run: i32\n"
        "      run = 0\n"
        "      for i in 4:\n        run = run + i32(x[i])\n        t[0, i] = run\n"
        "      y[o] = y[o] + t[0, o]\n",
    )


def test_compute_at_of_a_diagonal() -> None:
    check(
        "  alloc t: i32[4x4]\n  for i in 4:\n    t[i, i] = i32(x[i])\n"
        "  for o in 4:\n    y[o] = t[o, o]\n",
        [ComputeAt("t", "o")],
        "  for o in 4:\n    alloc t: i32[4x4]\n    for i in 4:\n      t[i, i] = i32(x[i])\n"
        "    y[o] = t[o, o]\n",
    )


FILL = "  alloc t: i32[4]\n  for i in 4:\n    t[i] = i32(x[i])\n"


@pytest.mark.parametrize(
    ("body", "loop", "message"),
    [
        (FILL + "  for o in 4:\n    y[o] = 1\n", "o", "o does not read t"),
        (FILL + "  for o in 4:\n    y[o] = t[o]\n", "i", "t is used after i"),
        (FILL + "  for o in 4:\n    y[o] = t[o]\n    t[o] = 0\n", "o", "o writes t"),
        (FILL + "  for o in 4:\n    y[o] = t[o]\n  y[7] = t[0]\n", "o", "t is used after o"),
        (
            FILL + "  for o in 4:\n    y[o] = t[o]\n    for q in 2:\n      y[q] = t[q]\n",
            "q",
            "t is also used outside q",
        ),
        (
            "  alloc t: i32[4]\n  for i in 4:\n    t[i] = y[i + 1]\n"
            "  for o in 4:\n    y[o] = t[o]\n",
            "o",
            "y, which t is made of, is written before it is used",
        ),
        (
            "  alloc t: i32[4]\n  for i in 4:\n    t[i] = i32(x[i])\n    y[i] = 2\n"
            "  for o in 4:\n    z[o] = f32(t[o])\n",
            "o",
            "what fills t also writes y",
        ),
        ("  for o in 4:\n    y[o] = 1\n", "o", "there is no local buffer 't'"),
        (
            "  for a in 2:\n    alloc t: i32\n    t = 1\n    y[a] = t\n"
            "  for o in 4:\n    y[o] = 1\n",
            "o",
            "o is not where t is alive",
        ),
    ],
)
def test_compute_at_refusals(body: str, loop: str, message: str) -> None:
    refused(func(body), [ComputeAt("t", loop)], message)


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
    steps: list[Step] = [
        Split("m", 2),
        Split("n", 2),
        Reorder(("m_o", "n_o", "k", "m_i", "n_i")),
        Pack("w", ((0, 2),), (0, 2, 1)),
        Tensorize("m_i_pre", "block"),
    ]
    result = apply(f, steps, {"block": BLOCK})
    assert "block(x[m_o * 2, 0], w[n_o, 0, 0], b[n_o * 2], y[m_o * 2, n_o * 2])" in str(result)
    memory = memory_for(f, 1)
    packed = {**memory, "w": pack_array(steps[3], memory["w"])}  # type: ignore[arg-type]
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


@pytest.mark.parametrize(
    ("step", "text"),
    [
        (Split("oc", 4), "Split(oc, 4)"),
        (Split("oc", 4, "guard"), "Split(oc, 4, tail=guard)"),
        (Reorder(("k", "ow_i")), "Reorder((k, ow_i))"),
        (Peel("oh", last=1), "Peel(oh, last=1)"),
        (Stage("x", "ow", DType.I16), "Stage(x, ow, dtype=i16)"),
        (Pack("w", ((0, 4),), (0, 2, 1)), "Pack(w, ((0, 4),), (0, 2, 1))"),
        (Pack("w", (), (1, 0)), "Pack(w, (), (1, 0))"),
        (ComputeAt("t", "o"), "ComputeAt(t, o)"),
        (Tensorize("k", "smlad"), "Tensorize(k, smlad)"),
        (Fuse("a", "b"), "Fuse(a, b)"),
        (Unroll("i"), "Unroll(i)"),
    ],
)
def test_a_step_prints_and_reads_back(step: Step, text: str) -> None:
    assert str(step) == text
    assert parse_step(text) == step


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected '('"),
        ("Split", "expected '('"),
        ("Merge(a, b)", "unknown step 'Merge'"),
        ("Split(oc)", "factor"),
        ("Split(oc, four)", "'four' is not of the type"),
        ("Split(oc, 4, tail=some)", "'some' is not of the type"),
        ("Split(oc, 4, guard, 5)", "Split takes loop, factor, tail"),
        ("Split(oc, 4, size=2)", "Split takes loop, factor, tail"),
        ("Reorder(k)", "'k' is not of the type"),
        ("Stage(x, i, dtype=i9)", "'i9' is not of the type"),
        ("Unroll(i) Unroll(j)", "expected 'the end'"),
        ("Unroll(i", "expected"),
        ("Unroll(;)", "cannot read"),
    ],
)
def test_a_text_that_is_no_step(text: str, message: str) -> None:
    with pytest.raises(ScheduleError) as caught:
        parse_step(text)
    assert message in str(caught.value)
