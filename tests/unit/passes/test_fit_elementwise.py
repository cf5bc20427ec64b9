"""Quantised sums, products and means in fewer operations: before and after, and on every value."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Golden
from midge import driver
from midge.core.types import Array
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.graph.text import parse_graph
from midge.passes import run
from midge.passes.drop_dead import drop_dead
from midge.passes.fit_elementwise import fit_elementwise
from midge.passes.fold_constants import fold_constants
from midge.passes.legalize import legalize

EVERY = np.arange(-128, 128).astype(np.int8)
P, Q, R = "{0.0513; -3}", "{0.03117; 7}", "{0.0607; -10}"
TOP = "{0.0607; -128}"
# Ties that the framework decides by the noise of its own roundings.
NOISE = ("{0.05; -3}", "{0.031; 7}", "{0.06; -10}")


def plain(body: str) -> Graph:
    """A graph of the quantised level, spelled out."""
    driver.load_operators()
    head, *lines = body.strip().splitlines()
    placed = [
        f'{line} @ "operator {i}" "OP{i}"' if " = " in line and "const" not in line else line
        for i, line in enumerate(lines)
    ]
    return run((legalize, fold_constants, drop_dead), parse_graph("\n".join([head, *placed])))


def pair(op: str, a: str, b: str, y: str, activation: str = "") -> Graph:
    """`op` on two tensors that have every pair of bytes."""
    given = f', activation="{activation}"' if activation else ""
    return plain(f"""
graph g(a: i8[256x256]{a}, b: i8[256x256]{b}):
  y: i8[256x256]{y} = {op}(a, b{given})
  return y""")


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def pairs() -> dict[str, Array]:
    a, b = np.meshgrid(EVERY, EVERY, indexing="ij")
    return {"a": a, "b": b}


def agree_on_all_pairs(before: Graph) -> Graph:
    after = run([fit_elementwise], before)
    want, have = evaluate(before, pairs())["y"], evaluate(after, pairs())["y"]
    np.testing.assert_array_equal(have, want)
    assert run([fit_elementwise], after) == after
    return after


CASES = {
    "a sum": pair("add", P, Q, R),
    "a difference with an activation": pair("sub", P, Q, TOP, "relu6"),
    "a product": pair("mul", P, Q, "{0.1114; -10}"),
    "a product of what is positive": pair(
        "mul", "{0.0513; -128}", "{0.0312; -128}", "{0.2264; -128}"
    ),
    "a sum of a constant per channel": plain(f"""
graph g(x: i8[256x3]{P}):
  const c: i8[1x3]{Q} = [-128, 127, 5]
  y: i8[256x3]{R} = add(x, c)
  return y"""),
    "a constant per channel minus a tensor": plain(f"""
graph g(x: i8[256x3]{P}):
  const c: i8[3]{Q} = [-128, 127, 5]
  y: i8[256x3]{R} = sub(c, x)
  return y"""),
    "a product with a constant per channel": plain(f"""
graph g(x: i8[256x3]{P}):
  const c: i8[3]{Q} = [-128, 127, 6]
  y: i8[256x3]{R} = mul(x, c)
  return y"""),
    "a mean": plain(f"""
graph g(x: i8[1x5x5x2]{P}):
  y: i8[1x1x1x2]{Q} = mean(x, axes=(1 2))
  return y"""),
    "a mean of too much for 32 bits": plain(f"""
graph g(x: i8[1x100x100x1]{P}):
  y: i8[1x1x1x1]{Q} = mean(x, axes=(1 2))
  return y"""),
    "a requantisation that is no worth a table": plain(f"""
graph g(x: i8[4]{P}):
  y: i8[4]{R} = quantize(x, dtype="i8")
  return y"""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_before_and_after(case: str, golden: Golden) -> None:
    before = CASES[case]
    after = run([fit_elementwise], before)
    golden(f"{before}\nfit_elementwise\n\n{after}")
    assert "requantize" not in ops(after)


@pytest.mark.parametrize("case", [c for c, g in CASES.items() if len(g.inputs) == 2])
def test_every_pair_of_bytes(case: str) -> None:
    agree_on_all_pairs(CASES[case])


@pytest.mark.parametrize("case", [c for c, g in CASES.items() if "channel" in c])
def test_every_byte_of_every_channel(case: str) -> None:
    before, x = CASES[case], {"x": np.stack([EVERY] * 3, 1)}
    after = run([fit_elementwise], before)
    np.testing.assert_array_equal(evaluate(after, x)["y"], evaluate(before, x)["y"])


@pytest.mark.parametrize("case", ["a mean", "a mean of too much for 32 bits"])
def test_means_of_everything_between_the_extremes(case: str) -> None:
    before = CASES[case]
    after = run([fit_elementwise], before)
    rng = np.random.default_rng(0)
    shape = before.types["x"].shape
    for low, high in itertools.product((-128, -7, 0, 100), (-127, 3, 127)):
        if low < high:
            x = {"x": rng.integers(low, high, shape, np.int8, endpoint=True)}
            np.testing.assert_array_equal(evaluate(after, x)["y"], evaluate(before, x)["y"])


STAY = {
    "ties that rounding noise decides": pair("add", *NOISE),
    "sixteen bits": plain("""
graph g(a: i16[4]{0.01; 0}, b: i16[4]{0.013; 0}):
  y: i16[4]{0.02; 0} = add(a, b)
  return y"""),
    "integers without scales": plain("""
graph g(a: i32[4], b: i32[4]):
  y: i32[4] = mul(a, b)
  return y"""),
    "an accumulator": plain(f"""
graph g(x: i8[1x2]{P}):
  const w: i8[2x2]{{0.01; 0}} = [1, 2, 3, 4]
  y: i8[1x2]{Q} = dense(x, w)
  return y"""),
}


@pytest.mark.parametrize("case", STAY)
def test_what_has_no_fit(case: str) -> None:
    assert run([fit_elementwise], STAY[case]) == STAY[case]


def test_what_somebody_else_reads_is_still_made() -> None:
    before = plain(f"""
graph g(a: i8[256x256]{P}, b: i8[256x256]{Q}):
  s: i8[256x256]{R} = add(a, b)
  y: i8[256x256]{TOP} = add(s, a)
  return y, s""")
    after = agree_on_all_pairs(before)
    assert ops(after) == ["affine", "affine"]
    np.testing.assert_array_equal(evaluate(after, pairs())["s"], evaluate(before, pairs())["s"])


def test_a_sum_after_a_convolution_reads_its_bytes() -> None:
    """The requantisation of the convolution is no part of the sum: it has its own rounding."""
    before = plain(f"""
graph g(x: i8[1x4]{P}, a: i8[1x2]{Q}):
  const w: i8[2x4]{{0.01; 0}} = [1, 2, 3, 4, 5, 6, 7, 8]
  t: i8[1x2]{R} = dense(x, w)
  y: i8[1x2]{TOP} = add(t, a)
  return y""")
    after = run([fit_elementwise], before)
    assert ops(after) == ["dense", "requantize", "affine"]
    assert {"t", "a"} < set(after.nodes[-1].inputs)


zeros = st.one_of(st.sampled_from([-128, 127]), st.integers(-128, 127))
scales = st.floats(0.004, 0.3).map(lambda v: float(np.float32(v)))


@given(st.sampled_from(["add", "sub", "mul"]), scales, scales, st.floats(0.3, 3.0), zeros, zeros,
       zeros, st.sampled_from(["", "relu", "relu6"]))  # fmt: skip
@settings(max_examples=60)
def test_any_quantisation(
    op: str, a: float, b: float, ratio: float, za: int, zb: int, zy: int, activation: str
) -> None:
    y = float(np.float32((a * b * 100 if op == "mul" else a + b) * ratio))
    after = agree_on_all_pairs(
        pair(op, f"{{{a}; {za}}}", f"{{{b}; {zb}}}", f"{{{y}; {zy}}}", activation)
    )
    if op == "mul":
        assert ops(after)[-1] in ("affine", "scale")


def test_nearly_all_sums_have_a_fit() -> None:
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(25):
        a, b = (float(s) for s in np.float32(10 ** rng.uniform(-2, -1, 2)))
        y = float(np.float32((a + b) * rng.uniform(0.5, 1.2)))
        za, zb, zy = rng.integers(-128, 128, 3)
        graph = pair("add", f"{{{a}; {za}}}", f"{{{b}; {zb}}}", f"{{{y}; {zy}}}")
        found += ops(run([fit_elementwise], graph)) == ["affine"]
    assert found >= 24
