"""Stage, Pack and ComputeAt before and after, and each reason for which they are refused."""

from __future__ import annotations

import numpy as np
import pytest

from midge.core.types import Array, DType
from midge.loop import ir
from midge.loop.schedule import (
    ComputeAt,
    Pack,
    Stage,
    Unroll,
    apply,
    pack_array,
    pack_consts,
)
from programs import (
    conv,
    matmul,
    stages,
)
from schedule_checks import check, func, refused

COPY = "  for i in 7:\n    y[i] = i32(x[i])\n"


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
    check(
        "  for i in 2:\n    for k in 2:\n      y[i * 4 + k] = k\n    y[i * 4 + 3] = 7\n",
        [Stage("y", "i")],
        "  for i in 2:\n    alloc y_s: i32[4]\n    for y_s0 in 4:\n"
        "      y_s[y_s0] = y[i * 4 + y_s0]\n"
        "    for k in 2:\n      y_s[k] = k\n    y_s[3] = 7\n"
        "    for y_w0 in 4:\n      y[i * 4 + y_w0] = y_s[y_w0]\n",
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
    consts: dict[str, Array] = {
        "weights": np.arange(36, dtype=np.int8).reshape(6, 6),
        "bias": np.zeros(6, np.int32),
    }
    packed = pack_consts(f, steps, ("input", "weights", "bias", "output"), consts)
    assert list(packed) == ["weights"]
    [w] = [p for p in apply(f, steps).params if p.name == "w"]
    assert packed["weights"].shape == w.shape
    assert np.array_equal(packed["weights"], pack_array(steps[2], np.transpose(consts["weights"])))


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
