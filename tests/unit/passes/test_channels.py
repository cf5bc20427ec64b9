"""Which channels belong together, and which are known, against what elements say."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from plain_nets import ONE_BY_ONE, plain

from midge import driver
from midge.core.types import DType, TensorType
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, Node
from midge.passes import run
from midge.passes.channels import known_channels, ties
from midge.passes.drop_channels import drop_and_report, drop_channels

ONE = "dilations=(1 1), padding=(0 0 0 0), strides=(1 1), pad_value=0"


def tied(shape: tuple[int, ...], wanted: tuple[int, ...]) -> set[tuple[int, int]] | None:
    driver.load_operators()
    types = {"x": TensorType(shape, DType.I8), "y": TensorType(wanted, DType.I8)}
    found = ties(Node("reshape", ("x",), ("y",), {"shape": wanted}), types)
    if found is None:
        return None
    (tie,) = found
    assert tie is not None
    return set(zip(tie.inner.tolist(), tie.outer.tolist(), strict=True))


SHAPES = [(24,), (1, 24), (6, 4), (4, 6), (3, 8), (12, 2), (2, 12), (24, 1), (2, 3, 4)]


@pytest.mark.parametrize(("shape", "wanted"), list(itertools.permutations(SHAPES, 2)))
def test_channels_of_a_reshape(shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Tied are the channels that hold one element; that is stated where one count divides the
    other."""
    a, b = shape[-1], wanted[-1]
    elements = {(i % a, i % b) for i in range(24)}
    assert tied(shape, wanted) == (elements if a % b == 0 or b % a == 0 else None)


def test_a_scalar_has_no_channels() -> None:
    assert tied((), (1, 1)) is None
    assert tied((1, 1), ()) is None
    assert tied((0, 4), (4, 0)) is None


def test_a_bias_of_other_axes_has_none() -> None:
    types = {
        "x": TensorType((1, 3, 3, 2), DType.I8),
        "w": TensorType((1, 1, 1, 2), DType.I8),
        "b": TensorType((2, 1), DType.I32),
        "y": TensorType((1, 3, 3, 2), DType.I32),
    }
    node = Node("depthwise_conv2d", ("x", "w", "b"), ("y",), ONE_BY_ONE)
    assert ties(node, types) is None
    found = ties(node, {**types, "b": TensorType((2,), DType.I32)})
    assert found is not None
    assert len(found) == 3


def rows(count: int, dtype: str = "i8") -> Graph:
    total = "f32" if dtype == "f32" else "i32"
    return plain(f"""
graph g(x: {dtype}[{count}x1]):
  const w: {dtype}[4x1] = [0, 0, 0, 0]
  const b: {total}[4] = [1, 2, 3, 4]
  y: {total}[{count}x4] = dense(x, w, b)
  return y""")


def test_what_is_known() -> None:
    """Of integers, up to so many elements, and nothing about what rests on inputs."""
    most = 1 << 20
    assert known_channels(rows(most))["y"].mask.all()
    assert not known_channels(rows(most + 1))
    assert not known_channels(rows(4, "f32"))
    assert not known_channels(
        plain("""
graph g(x: i8[2x3]):
  y: i8[2x3] = copy(x)
  return y""")
    )


HEAD = f"""
graph g(x: i8[1x3x4x2], z: i8[1x3x4x1]):
  const w: i8[2x1x1x2] = [0, 0, 0, 0]
  const b: i32[2] = [5, -7]
  const m: i32[1] = [1073741824]
  const s: i32[1] = [0]
  k: i32[1x3x4x2] = conv2d(x, w, b, {ONE})
"""
BYTES = 'requantize(k, m, s, rounding="right", zero_out=0, low=-128, high=127, dtype="i8")'
READERS = {
    "a broadcast operand that is not known": f"""
  const u: i8[2x1x1x2] = [1, 2, 3, 4]
  q: i32[1x3x4x1] = cast(z, dtype="i32")
  a: i32[1x3x4x2] = add(k, q)
  t: i8[1x3x4x2] = {BYTES.replace("(k,", "(a,")}
  y: i32[1x3x4x2] = conv2d(t, u, b, {ONE})
  return y""",
    "weights that are computed": f"""
  t: i8[1x3x4x2] = {BYTES}
  const f: i8[2x1x1x2] = [3, -4, 5, 6]
  a: i32[1x3x4x2] = conv2d(x, f, b, {ONE})
  p: i8[1x3x4x2] = {BYTES.replace("(k,", "(a,")}
  v: i8[1x1x1x2] = slice(p, begin=(0 0 0 0), size=(1 1 1 2), strides=(1 1 1 1))
  c: i32[1x3x4x2] = depthwise_conv2d(p, v, b, {ONE})
  q: i8[1x3x4x2] = {BYTES.replace("(k,", "(c,")}
  const u: i8[2x1x1x2] = [1, 2, 3, 4]
  y: i32[1x3x4x2] = conv2d(q, u, b, {ONE})
  return y""",
    "known channels that weights read": f"""
  const v: i8[2x1x1x2] = [3, -4, 0, 6]
  t: i8[1x3x4x2] = {BYTES}
  c: i32[1x3x4x2] = conv2d(t, v, b, {ONE})
  q: i8[1x3x4x2] = {BYTES.replace("(k,", "(c,")}
  const u: i8[2x1x1x2] = [1, 2, 3, 4]
  y: i32[1x3x4x2] = conv2d(q, u, b, {ONE})
  return y""",
    "known channels and a broadcast one": f"""
  const v: i8[2x1x1x2] = [3, -4, 0, 6]
  t: i8[1x3x4x2] = {BYTES}
  c: i8[1x3x4x3] = concat(t, z, axis=3)
  const u: i8[2x1x1x3] = [1, 2, 3, 4, 5, 6]
  y: i32[1x3x4x2] = conv2d(c, u, b, {ONE})
  return y""",
    "two layers": f"""
  const v: i8[2x1x1x2] = [3, -4, 0, 6]
  t: i8[1x3x4x2] = {BYTES}
  y: i32[1x3x4x2] = conv2d(t, v, b, {ONE})
  return y""",
}


KEPT: dict[str, dict[str, tuple[int, ...]]] = {
    "known channels that weights read": dict.fromkeys(("k", "t", "c", "q"), (0,)),
    "known channels and a broadcast one": {"k": (0,), "t": (0,), "c": (0, 2)},
    "two layers": {"k": (0,), "t": (0,)},
}


@pytest.mark.parametrize("name", READERS)
def test_no_byte_changes(name: str) -> None:
    before = plain(HEAD + READERS[name])
    after, dropped = drop_and_report(before)
    assert dropped.kept == KEPT.get(name, {})
    for given in random_inputs(before, 2, 1):
        want, have = evaluate(before, given), evaluate(after, given)
        for output in before.outputs:
            np.testing.assert_array_equal(have[output], want[output])


def test_a_value_without_channels_keeps_none() -> None:
    graph = plain("""
graph g(x: i8[2x0]):
  y: i8[2x0] = copy(x)
  return y""")
    assert run((drop_channels,), graph) == graph


def test_what_is_reported() -> None:
    """Values that lost channels, and no others; parts of a constant are made once."""
    graph = plain(
        HEAD
        + f"""
  const v: i8[2x1x1x2] = [3, 0, 4, 0]
  a: i32[1x3x4x2] = conv2d(x, v, b, {ONE})
  t: i8[1x3x4x2] = {BYTES.replace("(k,", "(a,")}
  c: i32[1x3x4x2] = conv2d(t, v, b, {ONE})
  y: i32[1x3x4x2] = conv2d(t, v, b, {ONE})
  return y, c"""
    )
    after, dropped = drop_and_report(graph)
    assert dropped.kept == {"a": (0,), "t": (0,)}
    made = [n for n in after.consts if n.startswith("v/kept")]
    assert len(made) == 2  # rows for the layer before, columns for the two behind
