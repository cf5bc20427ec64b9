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
from midge.graph.ir import Graph, verify
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


# Spelled out, and not quite what is looked for.
WIDEN = """requantize({}, half, none, dtype="i32", high=2147483647, left_shift=20, low=-2147483648,
 rounding="right", zero_in=-3, zero_out=0)""".replace("\n", "")
NARROW = """requantize({}, {}, {}, dtype="i8", high=127, low=-128, rounding="right", zero_in={},
 zero_out=0)""".replace("\n", "")


GIVEN = (
    "half: i32[1] = [1073741824]", "odd: i32[1] = [1173741824]", "none: i32[1] = [0]",
    "one: i32[1] = [1]", "ten: i32[1] = [10]", "low: i32[1] = [16]", "far: i32[1] = [19]",
    "pair: i32[2] = [1073741824, 1173741824]", "shifts: i32[2] = [18, 19]",
    "three: i32[3] = [0, 1000, 70000]",
)  # fmt: skip


def spelled(inputs: str, *lines: str, result: str = "i8[4]") -> Graph:
    """y: the last line; its value is at hand by every name."""
    driver.load_operators()
    text = [f"graph g({inputs}):", *(f"  const {c}" for c in GIVEN)]
    text += [f"  {line}" for line in lines if line.startswith("const")]
    text += [f'  {line} @ "{line[0]}" ""' for line in lines[:-1] if not line.startswith("const")]
    text += [f'  y: {result} = {lines[-1]} @ "y" ""', "  return y"]
    graph = run((drop_dead,), parse_graph("\n".join(text)))
    verify(graph)
    return graph


def narrowed(value: str, factor: str = "half", shift: str = "far", zero: int = 0) -> str:
    return NARROW.format(value, factor, shift, zero)


def offset_by(*ends: int, factor: str = "half", shift: str = "one", to: str = "i8") -> Graph:
    """16-bit numbers and a constant between the ends, by a factor."""
    values, n = ", ".join(map(str, ends)), len(ends)
    last = narrowed("t", factor, shift).replace('"i8"', f'"{to}"')
    return spelled(f"x: i16[{n}]", f"const c: i32[{n}] = [{values}]",
                   f'w: i32[{n}] = cast(x, dtype="i32")', f"t: i32[{n}] = add(w, c)", last,
                   result=f"{to}[{n}]")  # fmt: skip


SUMS = (f"u: i32[2x3] = {WIDEN.format('a')}", f"v: i32[2x3] = {WIDEN.format('b')}",
        "s: i32[2x3] = add(u, v)")  # fmt: skip
WIDE = f"u: i32[3] = {WIDEN.format('x')}"
SUM = "t: i32[1x1x2] = sum(x, axes=(0 1), x_zero=0)"
NEAR = {
    "two tensors and a constant": spelled(
        "a: i8[2x3], b: i8[2x3]", *SUMS, "t: i32[2x3] = add(s, three)", narrowed("t"),
        result="i8[2x3]"),
    "two tensors": spelled("a: i8[2x3], b: i8[2x3]", *SUMS, narrowed("s"), result="i8[2x3]"),
    "a constant of more axes": spelled(
        "x: i8[3]", WIDE, "const c: i32[1x3] = [0, 1000, 70000]", "t: i32[1x3] = add(u, c)",
        narrowed("t"), result="i8[1x3]"),
    "a constant per row": spelled(
        "x: i8[3x3]", f"u: i32[3x3] = {WIDEN.format('x')}", "const c: i32[3x1] = [0, 1000, 70000]",
        "t: i32[3x3] = add(u, c)", narrowed("t"), result="i8[3x3]"),
    "a cast": spelled("x: i8[3]", WIDE, 'cast(u, dtype="i8")', result="i8[3]"),
    "a constant alone": spelled("x: i8[3]", narrowed("three"), result="i8[3]"),
    "a computed factor": spelled("x: i8[4x4x2], f: i32[1]", SUM, narrowed("t", "f"),
                                 result="i8[1x1x2]"),
    "a computed shift": spelled("x: i8[4x4x2], f: i32[1]", SUM, narrowed("t", "half", "f"),
                                result="i8[1x1x2]"),
    "a zero point": spelled("x: i8[4x4x2]", SUM, narrowed("t", zero=5), result="i8[1x1x2]"),
    "factors of two channels": spelled("x: i8[4x4x2]", SUM, narrowed("t", "pair"),
                                       result="i8[1x1x2]"),
    "shifts of two channels": spelled("x: i8[4x4x2]", SUM, narrowed("t", "half", "shifts"),
                                      result="i8[1x1x2]"),
    "32 bits that came in": spelled("x: i32[4]", narrowed("x")),
    "64 bits": spelled(
        "x: i16[4]", 'w: i64[4] = cast(x, dtype="i64")', narrowed("w", shift="none")),
    "floats that are constant": spelled(
        "x: i8[3]", "const f: f32[3] = [1.5, 2, -3]", 'c: i32[3] = cast(f, dtype="i32")',
        'w: i32[3] = cast(x, dtype="i32")', "t: i32[3] = mul(w, c)", narrowed("t", shift="none"),
        result="i8[3]"),
    "nothing": spelled(
        "x: i16[0]", "const c: i32[0] = []", 'w: i32[0] = cast(x, dtype="i32")',
        "t: i32[0] = mul(w, c)", narrowed("t"), result="i8[0]"),
}  # fmt: skip


POINTS = 1 << 17  # as many are tried
REACH = (1 << 29) - 1  # so far an operand may be shifted
EDGES = {
    "as many points as are tried": (
        offset_by(0, POINTS - 0x10000, factor="odd", shift="low"),
        "affine",
    ),
    "a point more": (offset_by(0, POINTS - 0x10000 + 1, factor="odd", shift="low"), "identity"),
    "what does not fall below 0": (offset_by(0x8000, 0x28000, factor="odd", shift="ten"), "scale"),
    "to 16 bits": (offset_by(0x8000, 0x28000, factor="odd", shift="ten", to="i16"), "identity"),
    "operands up to the last": (offset_by(REACH - 0x7FFF, REACH - 0x7FFF), "identity"),
    "operands above it": (offset_by(REACH - 0x7FFE, REACH - 0x7FFE), "requantize"),
}


@pytest.mark.parametrize("name", EDGES)
def test_edges(name: str) -> None:
    before, wanted = EDGES[name]
    after = run([fit_elementwise], before)
    last = after.nodes[-1]
    assert ("identity" if "left_shift" in last.attrs else last.op) == wanted
    given_ = {"x": np.array([-0x8000, 0x7FFF], np.int16)}
    np.testing.assert_array_equal(evaluate(after, given_)["y"], evaluate(before, given_)["y"])


@pytest.mark.parametrize("name", NEAR)
def test_what_nearly_is_a_sum_or_a_mean(name: str, golden: Golden) -> None:
    before = NEAR[name]
    after = run([fit_elementwise], before)
    verify(after)
    golden(" ".join(ops(after)) + "\n")
    rng = np.random.default_rng(1)
    x = {n: rng.integers(max(before.types[n].dtype.min, -9999), 20, before.types[n].shape)
         .astype(before.types[n].dtype.numpy) for n in before.inputs}  # fmt: skip
    if "computed" not in name:
        np.testing.assert_array_equal(evaluate(after, x)["y"], evaluate(before, x)["y"])


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
