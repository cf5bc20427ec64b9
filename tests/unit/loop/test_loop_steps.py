"""Steps on loops before and after, and each reason for which they are refused."""

from __future__ import annotations

import pytest

from midge.core.errors import ScheduleError
from midge.core.types import DType
from midge.loop import ir
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
    parse_step,
)
from programs import (
    conv,
    float_sum,
    memory_for,
    recurrence,
    run,
    skewed,
    softmax,
)
from schedule_checks import check, func, refused

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
        "  for p in 2:\n    alloc t: i32\n    y[p] = 1\n    for k in 3:\n"
        "      y[p] = y[p] + i32(x[p + k])\n    t = y[p]\n    y[p + 2] = t\n",
        [Reorder(("k", "p"))],
        "  for p_pre in 2:\n    y[p_pre] = 1\n"
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
