"""Functions of one int8 tensor as tables: before and after, and on every value there is."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Golden
from graphs import GraphMaker
from midge import driver
from midge.core.types import Array, Quant
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.graph.text import parse_graph
from midge.passes import run
from midge.passes.drop_dead import drop_dead
from midge.passes.fold_constants import fold_constants
from midge.passes.fuse_tables import fuse_tables
from midge.passes.legalize import legalize

EVERY = np.arange(-128, 128).astype(np.int8)
TABLE = [(7 * i) % 256 - 128 for i in range(256)]
P, Q, R, S = "{0.05; -3}", "{0.04; -128}", "{0.03; 127}", "{0.00390625; -128}"


def plain(body: str) -> Graph:
    """A graph of the quantised level, spelled out."""
    driver.load_operators()
    head, *lines = body.strip().splitlines()
    placed = [
        f'{line} @ "operator {i}" "OP{i}"' if " = " in line and "const" not in line else line
        for i, line in enumerate(lines)
    ]
    return run((legalize, fold_constants, drop_dead), parse_graph("\n".join([head, *placed])))


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def keeps_the_meaning(before: Graph, after: Graph) -> None:
    """Over every value of int8, however often the input holds it."""
    (name,) = before.inputs
    shape = before.types[name].shape
    for shift in (0, 17):
        x = np.resize(np.roll(EVERY, shift), shape)
        want, have = evaluate(before, {name: x}), evaluate(after, {name: x})
        for output in before.outputs:
            np.testing.assert_array_equal(have[output], want[output])


CASES = {
    "a chain of functions": f"""
graph g(x: i8[16x16]{P}):
  a: i8[16x16]{Q} = hard_swish(x)
  b: i8[16x16]{R} = quantize(a, dtype="i8")
  c: i8[16x16]{P} = clip(b, low=0.0, high=6.0)
  y: i8[16x16]{S} = logistic(c)
  return y""",
    "a function of itself": f"""
graph g(x: i8[16x16]{P}):
  a: i8[16x16]{S} = logistic(x)
  y: i8[16x16]{Q} = mul(x, a)
  return y""",
    "a sum with itself": f"""
graph g(x: i8[16x16]{P}):
  y: i8[16x16]{Q} = add(x, x)
  return y""",
    "a constant operand": f"""
graph g(x: i8[16x16]{P}):
  const c: i8[1x1]{R} = [-100]
  y: i8[16x16]{Q} = sub(c, x, activation="relu6")
  return y""",
    "through reals": f"""
graph g(x: i8[16x16]{P}):
  a: f32[16x16] = dequantize(x)
  b: f32[16x16] = tanh(a)
  y: i8[16x16]{S} = quantize(b, dtype="i8")
  return y""",
    "what somebody else reads is where the table starts": f"""
graph g(x: i8[16x16]{P}):
  a: i8[16x16]{S} = logistic(x)
  b: i8[16x16]{Q} = quantize(a, dtype="i8")
  y: i8[16x16]{P} = hard_swish(b)
  return y, a""",
    "equal functions share a table": f"""
graph g(x: i8[16x16]{P}):
  a: i8[16x16]{Q} = quantize(x, dtype="i8")
  b: i8[16x16]{Q} = quantize(x, dtype="i8")
  return a, b""",
    "a table in another type": f"""
graph g(x: i8[16x16]):
  const t: i8[256] = {TABLE}
  a: i8[16x16] = lookup(x, t)
  y: u8[16x16] = cast(a, dtype="u8")
  return y""",
}


@pytest.mark.parametrize("case", CASES)
def test_before_and_after(case: str, golden: Golden) -> None:
    before = plain(CASES[case])
    after = run([fuse_tables], before)
    golden(f"{before}\nfuse_tables\n\n{after}")
    keeps_the_meaning(before, after)
    assert set(ops(after)) == {"lookup"}
    assert run([fuse_tables], after) == after


STAY = {
    "a cheap one": """
graph g(x: i8[64x64]):
  y: i8[64x64] = clip(x, low=-5.0, high=7.0)
  return y""",
    "few elements": f"""
graph g(x: i8[5]{P}):
  y: i8[5]{Q} = quantize(x, dtype="i8")
  return y""",
    "constants per channel": f"""
graph g(x: i8[128x2]{P}):
  const c: i8[2]{R} = [-100, 5]
  y: i8[128x2]{Q} = add(x, c)
  return y""",
    "two tensors": f"""
graph g(x: i8[16x16]{P}, z: i8[16x16]{P}):
  y: i8[16x16]{Q} = add(x, z)
  return y""",
    "what makes the tensor larger": f"""
graph g(x: i8[16x16]{P}):
  const c: i8[1x1x1]{R} = [-100]
  y: i8[1x16x16]{Q} = add(x, c)
  return y""",
    "an accumulator": f"""
graph g(x: i8[1x4]{P}):
  const w: i8[300x4]{{0.01; 0}} = {[i % 255 - 127 for i in range(1200)]}
  y: i8[1x300]{Q} = dense(x, w)
  return y""",
    "tables, as they are": f"""
graph g(x: i8[16x16]):
  const t: i8[256] = {TABLE}
  const u: i8[256] = {TABLE}
  a: i8[16x16] = lookup(x, t)
  b: i8[16x16] = lookup(x, u)
  return a, b""",
    "sixteen bits": """
graph g(x: i16[16x16]{0.01; 0}):
  y: i16[16x16]{0.02; 0} = quantize(x, dtype="i16")
  return y""",
}


@pytest.mark.parametrize("case", STAY)
def test_what_is_no_table(case: str) -> None:
    before = plain(STAY[case])
    assert run([fuse_tables], before) == before


def test_a_table_follows_a_convolution() -> None:
    """The requantisation of its sums stays, the rest is a table."""
    before = plain(f"""
graph g(x: i8[1x4]{P}):
  const w: i8[300x4]{{0.01; 0}} = {[i % 255 - 127 for i in range(1200)]}
  a: i8[1x300]{Q} = dense(x, w)
  b: i8[1x300]{R} = quantize(a, dtype="i8")
  y: i8[1x300]{S} = logistic(b)
  return y""")
    after = run([fuse_tables], before)
    assert ops(after) == ["dense", "requantize", "lookup"]
    keeps_the_meaning(before, after)


def test_what_another_operator_reads_stays() -> None:
    before = plain(f"""
graph g(x: i8[1x16x16x1]{P}):
  a: i8[1x16x16x1]{S} = logistic(x)
  y: i8[1x16x16x1]{Q} = quantize(a, dtype="i8")
  z: i8[1x8x8x1]{S} = max_pool2d(a, window=(2 2), strides=(2 2), dilations=(1 1), padding=(0 0 0 0))
  return y, z""")
    after = run([fuse_tables], before)
    assert ops(after) == ["lookup", "lookup", "max_pool2d"]
    keeps_the_meaning(before, after)


FUNCTIONS = ("logistic", "tanh", "hard_swish", "abs", "quantize", "clip", "leaky_relu", "add")


@st.composite
def chains(draw: st.DrawFn) -> Graph:
    """Functions of one tensor, one after the other; some also read an earlier value."""
    m = GraphMaker(random.Random(draw(st.integers(0, 10**6))), quantised=True)
    zero = st.one_of(st.sampled_from([-128, 127]), st.integers(-128, 127))
    scale = st.floats(0.01, 0.3).map(lambda v: float(np.float32(v)))
    quant = st.builds(Quant.per_tensor, scale, zero)
    x = m.input((2, 128, 1))
    m.types[x] = m.typed((2, 128, 1), draw(quant))
    values = [x]
    for _ in range(draw(st.integers(1, 5))):
        op = draw(st.sampled_from(FUNCTIONS))
        a, q = values[-1], draw(quant)
        if op == "add":
            b = draw(st.sampled_from([m.const(np.int8([[5]]), draw(quant)), *values]))
            values.append(m.node(draw(st.sampled_from(["add", "sub", "mul"])), [a, b], quant=q))
        elif op == "hard_swish":
            values.append(m.node(op, [a], quant=Quant.per_tensor(0.3, q.zero_point[0])))
        else:
            attrs = {"quantize": {"dtype": "i8"}, "clip": {"low": 0.0, "high": 6.0},
                     "leaky_relu": {"alpha": 0.3}}  # fmt: skip
            values.append(m.node(op, [a], attrs.get(op), quant=q))
    outputs = [values[-1], *draw(st.lists(st.sampled_from(values[1:]), max_size=1))]
    graph = Graph("g", (x,), tuple(dict.fromkeys(outputs)), m.types, m.consts, ())
    return graph.with_nodes(m.nodes)


@given(chains())
@settings(max_examples=150)
def test_chains_keep_every_byte(graph: Graph) -> None:
    before = run((legalize, fold_constants, drop_dead), graph)
    after = run([fuse_tables], before)
    keeps_the_meaning(graph, after)
    if len(graph.outputs) == 1:
        assert ops(after) in (["lookup"], ["clip"])


def test_the_meaning_is_that_of_all_values() -> None:
    """Each entry of a table is the function of its own index."""
    before = plain(CASES["a chain of functions"])
    after = run([fuse_tables], before)
    table: Array = after.consts[after.nodes[0].inputs[1]]
    want = evaluate(before, {"x": EVERY.reshape(16, 16)})["y"].reshape(-1)
    np.testing.assert_array_equal(table, want)


def test_paths_that_meet_again_are_one_function() -> None:
    """x * sigmoid(x), whose sigmoid is rounded on its way, plus what x itself becomes."""
    graph = plain(f"""
graph g(x: i8[16x16]{P}):
  r: f32[16x16] = dequantize(x)
  s: f32[16x16] = logistic(r)
  t: i8[16x16]{S} = quantize(s, dtype="i8")
  u: f32[16x16] = dequantize(t)
  v: f32[16x16] = mul(r, u)
  w: i8[16x16]{Q} = quantize(v, dtype="i8")
  p: f32[16x16] = dequantize(w)
  q: f32[16x16] = add(p, r)
  y: i8[16x16]{R} = quantize(q, dtype="i8")
  return y
""")
    made = fuse_tables(graph)
    assert ops(made) == ["lookup"]
    keeps_the_meaning(graph, made)


def test_what_is_read_elsewhere_is_computed_still() -> None:
    graph = plain(f"""
graph g(x: i8[16x16]{P}):
  r: f32[16x16] = dequantize(x)
  s: f32[16x16] = logistic(r)
  y: i8[16x16]{S} = quantize(s, dtype="i8")
  z: f32[16x16] = mul(r, s)
  return y, z
""")
    made = fuse_tables(graph)
    assert ops(made) == ["cast", "sub", "mul", "logistic", "lookup", "mul"]
    keeps_the_meaning(graph, made)


def test_a_table_that_saves_too_little_beside_what_stays() -> None:
    """Its nodes would be computed for others in any case, but for the last one."""
    graph = plain(f"""
graph g(x: i8[4]{P}):
  r: f32[4] = dequantize(x)
  s: f32[4] = logistic(r)
  y: i8[4]{S} = quantize(s, dtype="i8")
  z: f32[4] = mul(r, s)
  return y, z
""")
    assert "lookup" not in ops(fuse_tables(graph))
