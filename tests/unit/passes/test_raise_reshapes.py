"""Reshapes that move to the input, and what keeps them where they are."""

from __future__ import annotations

import numpy as np
import pytest
from plain_nets import plain

from conftest import unsearched
from midge import driver
from midge.data import random_inputs
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.passes import run
from midge.passes.drop_dead import drop_dead
from midge.passes.raise_reshapes import raise_reshapes
from midge.target import load_target
from onnx_builder import OnnxModel

END = "y: f32[1x4x3x1] = softmax(r, beta=1)"
MOVED = {
    "one operator": ("f32[3x4]", """
  a: f32[3x4] = tanh(x)
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))"""),
    "a chain with small operands": ("f32[3x4]", """
  const c: f32[1] = [2]
  const d: f32[] = [3]
  a: f32[3x4] = mul(x, c)
  b: f32[3x4] = add(d, a)
  e: f32[3x4] = tanh(b)
  r: f32[1x4x3x1] = reshape(e, shape=(1 4 3 1))"""),
    "a constant of the same shape": ("f32[3x4]", """
  const c: f32[3x4] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
  a: f32[3x4] = mul(x, c)
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))"""),
    "an operand of one element and more axes": ("f32[1x3x4]", """
  const c: f32[1x1x1] = [2]
  a: f32[1x3x4] = mul(x, c)
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))"""),
    "an operand that is computed": ("f32[3x4]", """
  t: f32[1x1] = sum(x, axes=(0 1))
  a: f32[3x4] = mul(x, t)
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))"""),
    "a computed operand of as many axes": ("f32[1x1x3x4]", """
  t: f32[1x1x1x1] = sum(x, axes=(0 1 2 3))
  a: f32[1x1x3x4] = mul(x, t)
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))"""),
    "an input that others read": ("f32[3x4]", """
  a: f32[3x4] = tanh(x)
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))
  s: f32[1x1] = sum(x, axes=(0 1))"""),
}  # fmt: skip
LEFT = {
    "a value that others read": ("f32[3x4]", """
  a: f32[3x4] = tanh(x)
  s: f32[3x1] = sum(a, axes=(1))
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))"""),
    "an operand along an axis": ("f32[3x4]", """
  const c: f32[4] = [1, 2, 3, 4]
  a: f32[3x4] = mul(x, c)
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))"""),
    "what is no elementwise operator": ("f32[3x4]", """
  a: f32[3x4] = softmax(x, beta=1)
  b: f32[3x4] = tanh(a)
  r: f32[1x4x3x1] = reshape(b, shape=(1 4 3 1))"""),
    "a table, which is read at an index": ("i8[3x4]", """
  const t: i8[256] = [TABLE]
  a: i8[3x4] = lookup(x, t)
  b: f32[3x4] = cast(a, dtype="f32")
  r: f32[1x4x3x1] = reshape(b, shape=(1 4 3 1))"""),
    "a table as long as what it is read for": ("i8[256]", """
  const t: i8[256] = [TABLE]
  a: i8[256] = lookup(x, t)
  b: i8[1x16x16x1] = reshape(a, shape=(1 16 16 1))
  c: i8[1x4x3x1] = slice(b, begin=(0 0 0 0), size=(1 4 3 1), strides=(1 1 1 1))
  r: f32[1x4x3x1] = cast(c, dtype="f32")"""),
    "a row that a constant makes several of": ("f32[4]", """
  const c: f32[3x4] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
  a: f32[3x4] = add(x, c)
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))"""),
    "a constant": ("f32[1x4x3x1]", """
  const c: f32[3x4] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
  b: f32[1x4x3x1] = reshape(c, shape=(1 4 3 1))
  r: f32[1x4x3x1] = add(x, b)"""),
    "a square, whose value others read in between": ("f32[3x4]", """
  a: f32[3x4] = tanh(x)
  b: f32[3x4] = mul(a, a)
  r: f32[1x4x3x1] = reshape(b, shape=(1 4 3 1))"""),
}  # fmt: skip
TABLE = ", ".join(map(str, range(-128, 128)))


def net(head: str, body: str) -> Graph:
    own = body.replace("TABLE", TABLE)
    extra = ", s" if "\n  s:" in own else ""
    return plain(f"graph g(x: {head}):{own}\n  {END}\n  return y{extra}")


def same(a: Graph, b: Graph) -> None:
    for inputs in random_inputs(a, 3, 0):
        have, want = evaluate(b, inputs), evaluate(a, inputs)
        assert all(np.array_equal(have[n], want[n]) for n in a.outputs)


@pytest.mark.parametrize("name", MOVED)
def test_it_moves(name: str) -> None:
    graph = net(*MOVED[name])
    made = run([raise_reshapes, drop_dead], graph)
    same(graph, made)
    (shaped,) = [n for n in made.nodes if n.op == "reshape"]
    assert shaped.inputs == ("x",)
    assert len(made.nodes) == len(graph.nodes)


@pytest.mark.parametrize("name", LEFT)
def test_it_stays(name: str) -> None:
    graph = net(*LEFT[name])
    assert str(run([raise_reshapes, drop_dead], graph)) == str(graph)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("1x4x3x2", "1x8x3x1"),
        ("1x2x3x4", "1x1x6x4"),
        ("1x1x3x8", "24"),
        ("2x1x3x4", "2x3x4x1"),
        ("1x2x3x4", "1x6x4x1"),
        ("1x1x3x4", "1x1x12x1"),
    ],
)
def test_what_has_rows_or_gets_none_stays(before: str, after: str) -> None:
    shape = after.replace("x", " ")
    graph = plain(f"""graph g(x: f32[{before}]):
  a: f32[{before}] = tanh(x)
  r: f32[{after}] = reshape(a, shape=({shape}))
  y: f32[{after}] = softmax(r, beta=1)
  return y""")
    assert str(run([raise_reshapes], graph)) == str(graph)


@pytest.mark.parametrize("before", ["1x1x3x4", "12", "2x3x1x2"])
def test_an_image_of_what_has_no_rows(before: str) -> None:
    graph = plain(f"""graph g(x: f32[{before}]):
  a: f32[{before}] = tanh(x)
  b: f32[{before}] = mul(a, a)
  c: f32[{before}] = tanh(x)
  d: f32[{before}] = tanh(c)
  r: f32[1x3x4x1] = reshape(d, shape=(1 3 4 1))
  y: f32[1x3x4x1] = softmax(r, beta=1)
  return y, b""")
    made = run([raise_reshapes, drop_dead], graph)
    same(graph, made)
    assert [n.inputs for n in made.nodes if n.op == "reshape"] == [("x",)]


def test_a_computed_operand_of_more_axes_is_one_of_none() -> None:
    graph = plain("""graph g(x: f32[1x1x1x3x4]):
  t: f32[1x1x1x1x1] = sum(x, axes=(0 1 2 3 4))
  a: f32[1x1x1x3x4] = mul(x, t)
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))
  y: f32[1x4x3x1] = softmax(r, beta=1)
  return y""")
    made = run([raise_reshapes, drop_dead], graph)
    same(graph, made)
    shaped = [n for n in made.nodes if n.op == "reshape"]
    assert {n.inputs: made.types[n.outputs[0]].shape for n in shaped} == {
        ("x",): (1, 4, 3, 1), ("t",): (),
    }  # fmt: skip


def test_two_images_stay() -> None:
    graph = plain("""graph g(x: f32[3x4], z: f32[3x4]):
  a: f32[3x4] = add(x, z)
  r: f32[1x3x4x1] = reshape(a, shape=(1 3 4 1))
  y: f32[1x3x4x1] = softmax(r, beta=1)
  return y""")
    assert str(run([raise_reshapes], graph)) == str(graph)


@pytest.mark.parametrize("line", ["c: f32[3x4] = softmax(x, beta=1)", "c: f32[3x4] = tanh(x)"])
def test_what_others_read_on_the_way_stays(line: str) -> None:
    others = ", c" if "tanh" in line else ""
    graph = plain(f"""graph g(x: f32[3x4]):
  {line}
  a: f32[3x4] = tanh(c)
  r: f32[1x3x4x1] = reshape(a, shape=(1 3 4 1))
  y: f32[1x3x4x1] = softmax(r, beta=1)
  return y{others}""")
    assert str(run([raise_reshapes], graph)) == str(graph)


def test_what_is_an_output_stays() -> None:
    lines = "  a: f32[3x4] = tanh(x)\n  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))\n"
    for outputs in ("a, y", "r, y"):
        graph = plain(f"graph g(x: f32[3x4]):\n{lines}  {END}\n  return {outputs}")
        assert str(run([raise_reshapes], graph)) == str(graph)


def test_several_views_of_one_value() -> None:
    body = """
  a: f32[3x4] = tanh(x)
  r: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))
  q: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))
  z: f32[1x4x3x1] = sub(r, q)"""
    graph = plain(f"graph g(x: f32[3x4]):{body}\n  {END}\n  return y, z")
    made = run([raise_reshapes, drop_dead], graph)
    same(graph, made)
    assert [n.inputs for n in made.nodes if n.op == "reshape"] == [("x",)]
    other = body.replace(
        "q: f32[1x4x3x1] = reshape(a, shape=(1 4 3 1))", "q: f32[12] = reshape(a, shape=(12))"
    )
    other = other.replace("z: f32[1x4x3x1] = sub(r, q)", "z: f32[12] = tanh(q)")
    graph = plain(f"graph g(x: f32[3x4]):{other}\n  {END}\n  return y, z")
    assert str(run([raise_reshapes], graph)) == str(graph)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_quantised_image_of_one_channel_is_computed_in_bands(channels: int) -> None:
    """As one of two channels is."""
    m = OnnxModel()
    scale, zero = m.const(0.05), m.const(3, np.int8)

    def there_and_back(x: str) -> str:
        q = m.op("QuantizeLinear", x, scale, zero)
        return m.op("DequantizeLinear", q, scale, zero)

    weights = m.op(
        "DequantizeLinear", m.const(np.ones((8, channels, 3, 3)), np.int8), m.const(0.01)
    )
    y = m.op("Conv", there_and_back("x"), weights, pads=[1] * 4)
    y = m.op("MaxPool", there_and_back(y), kernel_shape=[2, 2], strides=[2, 2])
    y = m.op("GlobalAveragePool", there_and_back(y))
    model = m.build([("x", (1, channels, 48, 48))], [y])
    graph = read(model, "m")
    target = load_target("cortex-m4")
    banded = driver.compile_graph(graph, target, unsearched())
    whole = driver.compile_graph(graph, target, unsearched(bands=False))
    assert banded.package.arena_size < 0.75 * whole.package.arena_size
