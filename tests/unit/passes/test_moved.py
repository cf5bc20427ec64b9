"""What transpositions and reshapes move through, and what stops them."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import Golden
from midge.core.types import Array
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.passes import run
from midge.passes.channels_last_io import channels_last_io
from midge.passes.copy_outputs import copy_outputs
from midge.passes.drop_dead import drop_dead
from midge.passes.join_parts import join_parts
from midge.passes.move_transposes import move_transposes
from midge.passes.sink_reshapes import sink_reshapes
from test_passes import text

BACK = "perm=(0 2 1)"
# A transposition of x, something, and one back: what is left between them.
BETWEEN = {
    "a table": ("i8[1x3x4]", """
  const t: i8[256] = [TABLE]
  a: i8[1x4x3] = transpose(x, perm=(0 2 1))
  b: i8[1x4x3] = lookup(a, t)
  y: i8[1x3x4] = transpose(b, perm=(0 2 1))"""),
    "a factor of one element": ("f32[1x3x4]", """
  g: f32[1x1x1] = mean(x, axes=(1 2))
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  b: f32[1x4x3] = mul(a, g)
  y: f32[1x3x4] = transpose(b, perm=(0 2 1))"""),
    "a factor of more axes": ("f32[3x4]", """
  const c: f32[1x1x1] = [2]
  a: f32[4x3] = transpose(x, perm=(1 0))
  b: f32[1x4x3] = mul(a, c)
  y: f32[1x3x4] = transpose(b, perm=(0 2 1))"""),
    "a factor of one element without axes": ("f32[1x3x4]", """
  g: f32[1x1x1] = mean(x, axes=(1 2))
  s: f32[1] = reshape(g, shape=(1))
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  b: f32[1x4x3] = mul(a, s)
  y: f32[1x3x4] = transpose(b, perm=(0 2 1))"""),
    "factors of two channels": ("f32[1x2x4]", """
  const c: f32[2] = [2, 3]
  a: f32[1x4x2] = transpose(x, perm=(0 2 1))
  b: f32[1x4x2] = mul(a, c)
  y: f32[1x2x4] = transpose(b, perm=(0 2 1))"""),
    "a split axis that is read as it is": ("f32[1x6x4]", """
  a: f32[1x4x6] = transpose(x, perm=(0 2 1))
  r: f32[1x4x3x2] = reshape(a, shape=(1 4 3 2))
  t: f32[1x3x4x2] = transpose(r, perm=(0 2 1 3))
  y: f32[1x3x4x2] = cumulate(t, axis=1, op="+", exclusive=0, reverse=0)"""),
    "a smaller operand that two turn": ("f32[2x3x4]", """
  m: f32[1x3x4] = mean(x, axes=(0))
  z: f32[1x4x3] = reshape(m, shape=(1 4 3))
  a: f32[2x4x3] = transpose(x, perm=(0 2 1))
  b: f32[2x4x3] = add(a, z)
  c: f32[2x4x3] = mul(b, z)
  y: f32[2x3x4] = transpose(c, perm=(0 2 1))"""),
    "a mean over an axis of one": ("f32[1x3x4]", """
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  b: f32[1x4x3] = mean(a, axes=(0))
  y: f32[1x3x4] = transpose(b, perm=(0 2 1))"""),
    "a smaller operand that is turned": ("f32[1x3x4]", """
  const c: f32[2x4x3] = [COUNT24]
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  b: f32[2x4x3] = add(a, c)
  y: f32[2x3x4] = transpose(b, perm=(0 2 1))"""),
    "a part without elements": ("f32[1x3x4]", """
  const c: f32[1x4x0] = []
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  b: f32[1x4x3] = concat(a, c, axis=2)
  y: f32[1x3x4] = transpose(b, perm=(0 2 1))"""),
    "nothing": ("f32[0x3]", """
  a: f32[3x0] = transpose(x, perm=(1 0))
  b: f32[3x0] = tanh(a)
  y: f32[0x3] = transpose(b, perm=(1 0))"""),
    "two readers of one shape": ("f32[1x6x4]", """
  a: f32[1x4x6] = transpose(x, perm=(0 2 1))
  r: f32[1x4x3x2] = reshape(a, shape=(1 4 3 2))
  b: f32[1x4x3x2] = tanh(r)
  c: f32[1x4x3x2] = abs(r)
  e: f32[1x3x2x4] = transpose(b, perm=(0 2 3 1))
  f: f32[1x3x2x4] = transpose(c, perm=(0 2 3 1))
  y: f32[1x3x2x4] = add(e, f)"""),
    "one order under two shapes": ("f32[1x3x4]", """
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  b: f32[4x3] = reshape(a, shape=(4 3))
  c: f32[1x4x3] = cumulate(a, axis=1, op="+", exclusive=0, reverse=0)
  e: f32[4x3] = cumulate(b, axis=0, op="+", exclusive=0, reverse=0)
  f: f32[4x3] = reshape(c, shape=(4 3))
  y: f32[4x3] = add(e, f)"""),
    "a gather along one of them": ("f32[1x3x4]", """
  const i: i32[2] = [2, 0]
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  b: f32[1x4x2] = gather(a, i, axis=2)
  y: f32[1x2x4] = transpose(b, perm=(0 2 1))"""),
    "a gather along an axis of one": ("f32[1x3x4]", """
  const i: i32[2] = [0, 0]
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  b: f32[2x4x3] = gather(a, i, axis=0)
  y: f32[2x3x4] = transpose(b, perm=(0 2 1))"""),
    "a gather along two": ("f32[2x3x4]", """
  const i: i32[2] = [7, 0]
  a: f32[4x3x2] = transpose(x, perm=(2 1 0))
  r: f32[12x2] = reshape(a, shape=(12 2))
  b: f32[2x2] = gather(r, i, axis=0)
  y: f32[2x2] = transpose(b, perm=(1 0))"""),
    "a gather of batches": ("f32[2x3x4]", """
  const i: i32[2] = [1, 0]
  a: f32[2x4x3] = transpose(x, perm=(0 2 1))
  b: f32[2x3] = gather(a, i, axis=1, batch=1)
  y: f32[3x2] = transpose(b, perm=(1 0))"""),
    "weights that are computed": ("f32[1x3x4]", """
  const c: f32[2x12] = [COUNT24]
  m: f32[1x1x1] = mean(x, axes=(1 2))
  s: f32[1x1] = reshape(m, shape=(1 1))
  w: f32[2x12] = mul(c, s)
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  f: f32[1x12] = reshape(a, shape=(1 12))
  y: f32[1x2] = dense(f, w)"""),
    "weights": ("f32[1x3x4]", """
  const w: f32[2x12] = [COUNT24]
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  f: f32[1x12] = reshape(a, shape=(1 12))
  y: f32[1x2] = dense(f, w)"""),
    "weights that are quantised": ("f32[1x3x4]", """
  const c: i8[2x12]{0.1; 3} = [COUNT24]
  w: f32[2x12] = dequantize(c)
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  f: f32[1x12] = reshape(a, shape=(1 12))
  y: f32[1x2] = dense(f, w)"""),
    "weights of columns of own scales": ("f32[1x2x2]", """
  const c: i8[2x4]{0.1 0.2 0.3 0.4; 0 0 0 0 axis 1} = [1, 2, 3, 4, 5, 6, 7, 8]
  w: f32[2x4] = dequantize(c)
  a: f32[1x2x2] = transpose(x, perm=(0 2 1))
  f: f32[1x4] = reshape(a, shape=(1 4))
  y: f32[1x2] = dense(f, w)"""),
    "a product of quantised weights": ("f32[1x3x4]", """
  const c: f32[2x12] = [COUNT24]
  w: f32[2x12] = abs(c)
  a: f32[1x4x3] = transpose(x, perm=(0 2 1))
  f: f32[1x12] = reshape(a, shape=(1 12))
  y: f32[1x2] = dense(f, w)"""),
    "a softmax before an axis of one": ("f32[4x2x3x1]", """
  a: f32[1x2x4x3] = transpose(x, perm=(3 1 0 2))
  b: f32[1x2x4x3] = tanh(a)
  y: f32[1x2x4x3] = softmax(b, beta=1.0)"""),
}  # fmt: skip
# Behind a dense layer of 6 rows of 4, in shape (2, 3, 4).
BEHIND = {
    "a bias": """
  y: f32[2x3x4] = add(r, c)""",
    "a factor per row": """
  const f: f32[2x3x1] = [COUNT6]
  y: f32[2x3x4] = mul(r, f)""",
    "another layer": """
  const v: f32[4x5] = [COUNT20]
  e: f32[6x4] = dense(x, v)
  s: f32[2x3x4] = reshape(e, shape=(2 3 4))
  y: f32[2x3x4] = add(r, s)""",
    "one row of another layer": """
  const v: f32[4x5] = [COUNT20]
  const o: f32[1x5] = [COUNT5]
  e: f32[1x4] = dense(o, v)
  s: f32[1x1x4] = reshape(e, shape=(1 1 4))
  y: f32[2x3x4] = add(r, s)""",
    "a larger operand": """
  const f: f32[5x2x3x4] = [COUNT120]
  y: f32[5x2x3x4] = add(r, f)""",
    "the reshape back": """
  b: f32[2x3x4] = tanh(r)
  m: f32[6x4] = reshape(b, shape=(6 4))
  y: f32[6x4] = abs(m)""",
    "the reshape back as an output": """
  b: f32[2x3x4] = tanh(r)
  y: f32[6x4] = reshape(b, shape=(6 4))""",
    "sums over rows": """
  y: f32[2x3x4] = cumulate(r, axis=0, op="+", exclusive=0, reverse=0)""",
    "another shape of the rows": """
  b: f32[2x3x4] = tanh(r)
  m: f32[3x2x4] = reshape(b, shape=(3 2 4))
  y: f32[3x2x4] = abs(m)""",
    "another last axis": """
  m: f32[2x4x3] = reshape(d, shape=(2 4 3))
  y: f32[2x4x3] = tanh(m)""",
    "one row added to more": """
  const o: f32[1x5] = [COUNT5]
  const f: f32[2x3x4] = [COUNT24]
  e: f32[1x4] = dense(o, w)
  s: f32[1x1x4] = reshape(e, shape=(1 1 4))
  y: f32[2x3x4] = add(s, f)""",
    "rows of nothing else": """
  m: f32[6x4] = reshape(d, shape=(6 4))
  y: f32[6x4] = tanh(m)""",
    "one axis": """
  const o: f32[1x5] = [COUNT5]
  e: f32[1x4] = dense(o, w)
  s: f32[4] = reshape(e, shape=(4))
  y: f32[4] = tanh(s)""",
    "rows that no layer makes": """
  m: f32[6x5] = tanh(x)
  s: f32[2x3x5] = reshape(m, shape=(2 3 5))
  y: f32[2x3x5] = abs(s)""",
    "rows that came in": """
  s: f32[2x3x5] = reshape(x, shape=(2 3 5))
  y: f32[2x3x5] = abs(s)""",
    "a matrix again": """
  m: f32[3x8] = reshape(d, shape=(3 8))
  y: f32[3x8] = tanh(m)""",
}
TABLES = """graph g(x: i8[6x5]{0.1; -3}):
  const w: i8[4x5]{0.01; 0} = [COUNT20]
  const c: i8[4]{0.2; 1} = [COUNT4]
  const t: i8[256] = [TABLE]
  d: i8[6x4]{0.3; 5} = dense(x, w)
  r: i8[2x3x4]{0.3; 5} = reshape(d, shape=(2 3 4))
"""
QUANTISED = {
    "a quantised bias": "  y: i8[2x3x4]{0.4; 6} = add(r, c)",
    "a table": "  y: i8[2x3x4] = lookup(r, t)",
}
JOINED = {
    "a function of a scalar": """graph g(x: f32[1x4], z: f32[1x4]):
  const c: f32[1] = [2]
  a: f32[2x4] = concat(x, z, axis=0)
  y: f32[2x4] = mul(a, c)""",
    "that adds an axis": """graph g(x: f32[1x4], z: f32[1x4]):
  const c: f32[1x1x1] = [2]
  a: f32[2x4] = concat(x, z, axis=0)
  y: f32[1x2x4] = mul(a, c)""",
    "along two axes": """graph g(x: f32[1x4], z: f32[1x4]):
  p: f32[1x4] = tanh(x)
  q: f32[1x4] = abs(z)
  a: f32[1x8] = concat(p, q, axis=1)
  b: f32[1x8] = tanh(a)
  y: f32[2x8] = concat(a, b, axis=0)""",
    "one in one along another axis": """graph g(x: f32[1x4], z: f32[1x4]):
  a: f32[2x4] = concat(x, z, axis=0)
  y: f32[2x8] = concat(a, a, axis=1)""",
    "of two pairs": """graph g(x: f32[1x4], z: f32[1x4]):
  a: f32[1x8] = concat(x, z, axis=1)
  b: f32[2x4] = reshape(a, shape=(2 4))
  c: f32[2x4] = concat(x, z, axis=0)
  y: f32[2x8] = concat(b, c, axis=1)""",
    "a part without elements": """graph g(x: f32[1x4], z: f32[1x0]):
  p: f32[1x0] = tanh(z)
  y: f32[1x4] = concat(x, p, axis=1)""",
    "a part of a concatenation": """graph g(x: f32[1x4], z: f32[1x4]):
  p: f32[1x4] = tanh(x)
  a: f32[2x4] = concat(p, z, axis=0)
  y: f32[2x8] = concat(a, a, axis=1)""",
}  # fmt: skip


def spelled(body: str) -> Graph:
    for count in (120, 24, 20, 6, 5, 4):
        values = ", ".join(str((7 * i) % 19 - 9) for i in range(count))
        body = body.replace(f"COUNT{count}]", f"{values}]")
    body = body.replace("TABLE", ", ".join(str((3 * i) % 251 - 125) for i in range(256)))
    head, *lines = body.splitlines()
    consts = [line for line in lines if line.startswith("  const ")]
    others = [line for line in lines if line not in consts]
    return text("\n".join([head, *consts, *others, "  return y"]))


def tried(graph: Graph, *steps: object) -> str:
    """What is left; and that it means the same."""
    after = run((*steps, drop_dead), graph)  # type: ignore[arg-type]
    for given in random_inputs(graph, 2, 5):
        want, have = (list(evaluate(g, given).values()) for g in (graph, after))
        for a, b in zip(have, want, strict=True):
            close(a, b)
    return " ".join(n.op for n in after.nodes) + "\n"


def close(have: Array, want: Array) -> None:
    assert have.shape == want.shape
    np.testing.assert_allclose(have.astype(float), want.astype(float), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BETWEEN)
def test_between_two_transpositions(name: str, golden: Golden) -> None:
    kind, body = BETWEEN[name]
    golden(tried(spelled(f"graph g(x: {kind}):{body}"), move_transposes))


@pytest.mark.parametrize("name", BEHIND)
def test_behind_rows_of_a_layer(name: str, golden: Golden) -> None:
    head = """graph g(x: f32[6x5]):
  const w: f32[4x5] = [COUNT20]
  const c: f32[4] = [COUNT4]
  d: f32[6x4] = dense(x, w)
  r: f32[2x3x4] = reshape(d, shape=(2 3 4))"""
    golden(tried(spelled(head + BEHIND[name]), sink_reshapes))


@pytest.mark.parametrize("name", QUANTISED)
def test_behind_quantised_rows(name: str, golden: Golden) -> None:
    golden(tried(spelled(TABLES + QUANTISED[name]), sink_reshapes))


@pytest.mark.parametrize("name", JOINED)
def test_concatenations(name: str, golden: Golden) -> None:
    golden(tried(spelled(JOINED[name]), join_parts))


@pytest.mark.parametrize("count", [256, 257])
def test_concatenations_of_so_many(count: int, golden: Golden) -> None:
    inner = ", ".join(["x"] * (count - 1))
    graph = spelled(f"""graph g(x: f32[1x1], z: f32[1x1]):
  a: f32[1x{count - 1}] = concat({inner}, axis=1)
  y: f32[1x{count}] = concat(a, z, axis=1)""")
    after = run((join_parts,), graph)
    golden(" ".join(n.op for n in after.nodes if n.op != "copy") + "\n")


@pytest.mark.parametrize("outputs", [("x",), ("c",), ("y", "x", "c")])
def test_outputs_that_nothing_computes_keep_their_order(outputs: tuple[str, ...]) -> None:
    graph = text(f"""graph g(x: f32[1x3x4x2]):
  const c: f32[1x2x2x2] = [1, 2, 3, 4, 5, 6, 7, 8]
  y: f32[1x3x4x2] = tanh(x)
  return {", ".join(outputs)}""")
    after = run((channels_last_io,), graph)
    assert [after.types[n].shape for n in after.outputs if n != "y"] == [
        graph.types[n].shape for n in graph.outputs if n != "y"
    ]


def test_outputs_that_are_views_keep_their_names() -> None:
    graph = text("""
graph g(x: f32[2x3]):
  a: f32[2x3] = tanh(x)
  b: f32[6] = reshape(a, shape=(6))
  c: f32[3x2] = reshape(b, shape=(3 2))
  v: f32[6] = reshape(x, shape=(6))
  w: f32[3x2] = reshape(v, shape=(3 2))
  return a, b, c, v, w""")
    after = run((copy_outputs,), graph)
    assert after.outputs == graph.outputs
    assert [n.op for n in after.nodes].count("copy") == 4
    for given in random_inputs(graph, 1, 0):
        want, have = evaluate(graph, given), evaluate(after, given)
        for name in graph.outputs:
            close(have[name], want[name])


def test_a_view_that_is_an_output_twice() -> None:
    graph = text("""
graph g(x: f32[2x3]):
  a: f32[2x3] = tanh(x)
  b: f32[6] = reshape(a, shape=(6))
  return b, b""")
    after = run((copy_outputs,), graph)
    first, second = after.outputs
    assert first == "b" != second
    for given in random_inputs(graph, 1, 0):
        want, have = evaluate(graph, given)["b"], evaluate(after, given)
        close(have[first], want)
        close(have[second], want)


def test_a_sum_that_goes_on_stays_as_its_start_lies() -> None:
    """What it begins with is another value, which no transposition turns."""
    graph = text("""
graph g(x: f32[1x2x3x4], start: f32[1x1x1x2]):
  a: f32[1x3x4x2] = transpose(x, perm=(0 2 3 1))
  s: f32[1x1x1x2] = sum(a, start, axes=(1 2))
  y: f32[1x2x1x1] = transpose(s, perm=(0 3 1 2))
  return y""")
    assert tried(graph, move_transposes) == "transpose sum reshape\n"
