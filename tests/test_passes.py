"""Each pass as a pair of texts, and as a promise: the graph means the same afterwards."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest

from conftest import NO_SEARCH, Golden
from graphs import random_graph
from midge import driver
from midge.core.errors import ModelError
from midge.core.types import Array
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, verify
from midge.graph.text import parse_graph
from midge.passes import GraphPass, run
from midge.passes.copy_outputs import copy_outputs
from midge.passes.dequantize_weights import dequantize_weights
from midge.passes.drop_dead import drop_dead
from midge.passes.fold_constants import fold_constants
from midge.passes.fold_padding import fold_padding
from midge.passes.fold_scale_and_bias import fold_scale_and_bias
from midge.passes.fold_zero_points import fold_zero_points
from midge.passes.fuse_activations import fuse_activations
from midge.passes.legalize import legalize
from midge.pipeline import CHEAPER_PASSES, MODEL_PASSES, PLAIN_PASSES

ALL = (*MODEL_PASSES, *PLAIN_PASSES, *CHEAPER_PASSES)
PASSES = tuple(dict.fromkeys(ALL))
Q, R = "{0.1; -3}", "{0.05; 4}"
CONV = "dilations=(1 1), padding=(0 0 0 0), strides=(1 1)"
DENSE_F = "const w: f32[2x3] = [1, -2, 3, 0.5, 4, -1]"


def text(body: str) -> Graph:
    """A graph of lines; each node without a place of its own gets its line's number."""
    driver.load_operators()
    lines = [
        f'{line} @ "operator {i}" "OP{i}"' if " = " in line and "const" not in line else line
        for i, line in enumerate(body.strip().splitlines())
    ]
    graph = parse_graph("\n".join(lines))
    verify(graph)
    return graph


def results(graph: Graph, inputs: dict[str, Array]) -> list[Array]:
    """Outputs in order: a pass may rename them."""
    found = evaluate(graph, inputs)
    return [found[n] for n in graph.outputs]


def same(have: Sequence[Array], want: Sequence[Array]) -> None:
    """Integers exactly; floats within 16 units in the last place of the greatest value."""
    for a, b in zip(have, want, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if a.dtype == np.float32:
            unit = float(np.spacing(np.float32(max(np.abs(b).max(initial=0.0), 1.0))))
            np.testing.assert_allclose(a, b, rtol=0, atol=16 * unit)
        else:
            np.testing.assert_array_equal(a, b)


CASES: dict[str, tuple[GraphPass, str]] = {
    "dead nodes and constants": (drop_dead, f"""
graph g(x: f32[1x3]):
  {DENSE_F}
  const unused: f32[1] = [7]
  y: f32[1x2] = dense(x, w)
  dead: f32[1x2] = dense(x, w)
  deader: f32[1x2] = add(dead, y)
  return y"""),
    "constants are computed": (fold_constants, """
graph g(x: f32[2]):
  const a: f32[2] = [1, 2]
  const b: f32[2] = [10, 20]
  ab: f32[2] = mul(a, b)
  c: f32[2] = add(ab, b)
  y: f32[2] = add(x, c)
  return y"""),
    "quantised constants are computed": (fold_constants, f"""
graph g(x: i8[2]{Q}):
  const a: i8[2]{R} = [1, 2]
  b: i8[2]{Q} = mul(a, a, activation="relu")
  y: i8[2]{Q} = add(x, b)
  return y"""),
    "padding into a convolution": (fold_padding, f"""
graph g(x: f32[1x2x2x1]):
  const w: f32[1x2x1x1] = [1, -2]
  t: f32[1x4x3x1] = pad(x, paddings=(0 0 1 1 0 1 0 0), value=0.0)
  y: f32[1x3x3x1] = conv2d(t, w, {CONV})
  return y"""),
    "padding by the zero point": (fold_padding, f"""
graph g(x: i8[1x2x2x1]{Q}):
  const w: i8[1x2x1x1]{{0.01; 0}} = [100, -90]
  t: i8[1x4x2x1]{Q} = pad(x, paddings=(0 0 1 1 0 0 0 0), value=-3)
  y: i8[1x3x2x1]{R} = conv2d(t, w, {CONV})
  return y"""),
    "padding by another value stays": (fold_padding, f"""
graph g(x: f32[1x2x2x1]):
  const w: f32[1x2x1x1] = [1, -2]
  t: f32[1x4x3x1] = pad(x, paddings=(0 0 1 1 0 1 0 0), value=1.0)
  y: f32[1x3x3x1] = conv2d(t, w, {CONV})
  return y"""),
    "padding of channels stays": (fold_padding, f"""
graph g(x: f32[1x2x2x1]):
  const w: f32[1x1x1x2] = [1, -2]
  t: f32[1x2x2x2] = pad(x, paddings=(0 0 0 0 0 0 0 1), value=0.0)
  y: f32[1x2x2x1] = conv2d(t, w, {CONV})
  return y"""),
    "padding that is read twice": (fold_padding, f"""
graph g(x: f32[1x2x2x1]):
  const w: f32[1x2x1x1] = [1, -2]
  t: f32[1x4x3x1] = pad(x, paddings=(0 0 1 1 0 1 0 0), value=0.0)
  y: f32[1x3x3x1] = conv2d(t, w, {CONV})
  return y, t"""),
    "batch normalisation": (fold_scale_and_bias, f"""
graph g(x: f32[1x2x2x1]):
  const w: f32[2x1x1x1] = [1, -2]
  const b: f32[2] = [0.5, 0.25]
  const scale: f32[2] = [2, 3]
  const bias: f32[1x1x1x2] = [-1, 4]
  t: f32[1x2x2x2] = conv2d(x, w, b, {CONV})
  u: f32[1x2x2x2] = mul(t, scale)
  y: f32[1x2x2x2] = add(bias, u, activation="relu6")
  return y"""),
    "scale of a depthwise convolution": (fold_scale_and_bias, f"""
graph g(x: f32[1x2x2x2]):
  const w: f32[1x1x2x2] = [1, 2, 3, 4]
  const scale: f32[2] = [10, 100]
  t: f32[1x2x1x2] = depthwise_conv2d(x, w, {CONV})
  y: f32[1x2x1x2] = mul(scale, t)
  return y"""),
    "minus a bias of a dense layer": (fold_scale_and_bias, f"""
graph g(x: f32[1x3]):
  {DENSE_F}
  const c: f32[1] = [2]
  t: f32[1x2] = dense(x, w)
  y: f32[1x2] = sub(t, c)
  return y"""),
    "bias minus a dense layer stays": (fold_scale_and_bias, f"""
graph g(x: f32[1x3]):
  {DENSE_F}
  const c: f32[1] = [2]
  t: f32[1x2] = dense(x, w)
  y: f32[1x2] = sub(c, t)
  return y"""),
    "a scale after an activation stays": (fold_scale_and_bias, f"""
graph g(x: f32[1x3]):
  {DENSE_F}
  const c: f32[1] = [2]
  t: f32[1x2] = dense(x, w, activation="relu")
  y: f32[1x2] = mul(t, c)
  return y"""),
    "a scale of what somebody else reads stays": (fold_scale_and_bias, f"""
graph g(x: f32[1x3]):
  {DENSE_F}
  const c: f32[1] = [2]
  t: f32[1x2] = dense(x, w)
  y: f32[1x2] = mul(t, c)
  z: f32[1x2] = add(t, y)
  return z"""),
    "relu6 into its operator": (fuse_activations, f"""
graph g(x: f32[1x3]):
  {DENSE_F}
  t: f32[1x2] = dense(x, w)
  y: f32[1x2] = clip(t, high=6.0, low=0.0)
  return y"""),
    "quantised relu of the same scale": (fuse_activations, f"""
graph g(x: i8[4]{Q}, z: i8[4]{R}):
  t: i8[4]{Q} = add(x, z)
  y: i8[4]{Q} = clip(t, high=Infinity, low=0.0)
  return y"""),
    "quantised relu of another scale stays": (fuse_activations, f"""
graph g(x: i8[4]{Q}, z: i8[4]{R}):
  t: i8[4]{Q} = add(x, z)
  y: i8[4]{R} = clip(t, high=Infinity, low=0.0)
  return y"""),
    "relu of an output stays": (fuse_activations, f"""
graph g(x: f32[1x3]):
  {DENSE_F}
  t: f32[1x2] = dense(x, w)
  y: f32[1x2] = clip(t, high=Infinity, low=0.0)
  return y, t"""),
    "a clip that is no activation stays": (fuse_activations, f"""
graph g(x: f32[1x3]):
  {DENSE_F}
  t: f32[1x2] = dense(x, w)
  y: f32[1x2] = clip(t, high=5.0, low=0.0)
  return y"""),
    "relu of relu": (fuse_activations, f"""
graph g(x: f32[1x3]):
  {DENSE_F}
  t: f32[1x2] = dense(x, w)
  u: f32[1x2] = clip(t, high=Infinity, low=0.0)
  y: f32[1x2] = clip(u, high=6.0, low=0.0)
  return y"""),
    "outputs that are inputs, views or twice the same": (copy_outputs, """
graph g(x: f32[4]):
  const c: f32[1] = [3]
  v: f32[2x2] = reshape(x, shape=(2 2))
  y: f32[4] = add(x, c)
  w: f32[2x2] = reshape(y, shape=(2 2))
  return x, v, y, w, c"""),
    "weights of a hybrid layer": (dequantize_weights, """
graph g(x: f32[1x3]):
  const w: i8[2x3]{0.5 0.25; 0 1 axis 0} = [1, -2, 3, 4, 5, -6]
  y: f32[1x2] = dense(x, w)
  return y"""),
    "what a quantised layer stands for": (legalize, f"""
graph g(x: i8[1x3]{Q}):
  const w: i8[2x3]{{0.02 ; 0}} = [1, -2, 3, 4, 5, -6]
  const b: i32[2] = [100, -100]
  y: i8[1x2]{R} = dense(x, w, b, activation="relu")
  return y"""),
    "zero points into biases": (fold_zero_points, f"""
graph g(x: i8[1x2x2x1]):
  const w: i8[2x2x1x1] = [1, 2, -3, 4]
  const b: i32[2] = [100, -100]
  y: i32[1x1x2x2] = conv2d(x, w, b, {CONV}, pad_value=-5, x_zero=-5)
  return y"""),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_before_and_after(case: str, golden: Golden) -> None:
    step, body = CASES[case]
    before = text(body)
    after = run([step], before)
    golden(f"{before}\n{step.__name__}\n\n{after}")
    assert (after == before) == case.endswith("stays")
    for given in random_inputs(before, 3, 0):
        if case == "weights of a hybrid layer":
            continue  # the framework's own meaning of it is another one
        same(results(after, given), results(before, given))


# What these look for is in none of the random graphs: they have tests of their own.
ELSEWHERE = {
    "fuse_gelu", "sink_reshapes", "move_transposes", "fuse_quantized", "scale_products",
    "join_parts", "fuse_hard_swish", "spell_powers", "keep_order", "raise_reshapes",
    "join_dilations",
}  # fmt: skip


@pytest.mark.parametrize("quantised", [True, False], ids=["int8", "float"])
def test_every_pass_keeps_the_meaning(quantised: bool) -> None:
    """One after the other on random graphs; each of them found something to do."""
    changed: Counter[str] = Counter()
    for seed in range(250):
        graph = random_graph(random.Random(seed), quantised=quantised)
        (given,) = random_inputs(graph, 1, seed)
        want = results(graph, given)
        for step in ALL:
            before, graph = graph, run([step], graph)
            if graph == before:
                continue
            changed[step.__name__] += 1
            try:
                same(results(graph, given), want)
            except AssertionError as error:
                raise AssertionError(
                    f"seed {seed}: {step.__name__}: {error}\n{before}{graph}"
                ) from None
    integers = {"fold_zero_points", *(p.__name__ for p in CHEAPER_PASSES)}
    floats = {"fold_scale_and_bias", "merge_clips"}
    idle = {"dequantize_weights", *ELSEWHERE} | (floats if quantised else integers)
    often = {n for n, c in changed.items() if c >= 5}
    assert {p.__name__ for p in PASSES} - idle == often - {*ELSEWHERE}


@pytest.mark.parametrize("step", PASSES, ids=lambda p: p.__name__)
def test_a_pass_done_twice_does_nothing_more(step: GraphPass) -> None:
    for seed in range(40):
        once = run([step], stages(seed)[ALL.index(step)])
        assert run([step], once) == once


@cache
def stages(seed: int) -> list[Graph]:
    """A random graph before each of the passes."""
    found = [random_graph(random.Random(seed), quantised=seed % 2 == 0)]
    for step in ALL:
        found.append(run([step], found[-1]))
    return found


def test_a_pass_that_breaks_the_graph_is_a_bug_of_ours() -> None:
    graph = text("graph g(x: f32[1x3]):\n  return x")

    def renames(g: Graph) -> Graph:
        return Graph(g.name, g.inputs, ("nobody",), g.types, g.consts, g.nodes)

    with pytest.raises(AssertionError, match=r"pass renames broke the graph: .*'nobody'"):
        run([renames], graph)


def test_a_constant_that_is_a_weight_and_something_else() -> None:
    graph = text("""
graph g(x: f32[1x3]):
  const w: i8[2x3]{0.5; 0} = [1, -2, 3, 4, 5, -6]
  y: f32[1x2] = dense(x, w)
  z: i8[6]{0.5; 0} = reshape(w, shape=(6))
  return y, z""")
    have = results(run(MODEL_PASSES, graph), {"x": np.ones((1, 3), np.float32)})
    same(have, [np.array([[1, 1.5]], np.float32), np.array([1, -2, 3, 4, 5, -6], np.int8)])


def test_names_that_passes_make_up_may_be_taken() -> None:
    graph = text("""
graph g(x: f32[1x3], y/copy0: f32[2]):
  const y/w: f32[2x3] = [1, -2, 3, 0.5, 4, -1]
  const y/b: f32[2] = [2, 3]
  const q/float: f32[2] = [5, 5]
  const q: i8[2x3]{0.5; 0} = [1, -2, 3, 4, 5, -6]
  t: f32[1x2] = dense(x, y/w)
  y: f32[1x2] = mul(t, y/b)
  h: f32[1x2] = dense(x, q)
  i: f32[1x2] = add(h, q/float)
  z: f32[1x2] = add(i, y/b)
  return y, y, z, y/copy0""")
    given = {"x": np.ones((1, 3), np.float32), "y/copy0": np.ones(2, np.float32)}
    after = results(run((*MODEL_PASSES, *PLAIN_PASSES), graph), given)
    want = [[[4, 10.5]], [[4, 10.5]], [[8, 9.5]], [1, 1]]
    same(after, [np.array(w, np.float32) for w in want])
    zeros = text(f"""
graph g(x: i8[1x3]{Q}):
  const w: i8[1x3]{{0.02; 0}} = [1, 2, 3]
  const y/bias: i32[1] = [1000]
  y: i8[1x1]{R} = dense(x, w, y/bias)
  z: i8[1x1]{R} = dense(x, w, y/bias)
  y/dense: i8[1x1]{R} = dense(x, w)
  return y, z, y/dense""")
    given = {"x": np.array([[3, 4, 5]], np.int8)}
    same(results(run((*MODEL_PASSES, *PLAIN_PASSES), zeros), given), results(zeros, given))


@pytest.mark.parametrize(
    "body",
    [
        "  const c: f32[1] = [3e38]\n  d: f32[1] = add(c, c)\n  y: f32[1x3] = add(x, d)",
        "  const w: f32[1x3] = [3e38, 1, 1]\n  const c: f32[1] = [9]\n"
        "  t: f32[1x1] = dense(x, w)\n  y: f32[1x1] = mul(t, c)",
        "  const w: i8[1x3]{3e38; 0} = [2, 1, 1]\n  y: f32[1x1] = dense(x, w)",
    ],
    ids=["folded", "scaled", "dequantised"],
)
def test_constants_that_overflow_are_refused(body: str) -> None:
    from midge.target import load_target

    graph = text(f"graph g(x: f32[1x3]):\n{body}\n  return y")
    with pytest.raises(ModelError, match="not finite"):
        driver.compile_graph(graph, load_target("host"), NO_SEARCH)


def test_an_accumulator_that_may_overflow_is_refused() -> None:
    graph = text(f"""
graph g(x: i8[1x3]{Q}):
  const w: i8[1x3]{{0.02; 0}} = [127, 127, 127]
  const b: i32[1] = [2147483000]
  y: i8[1x1]{R} = dense(x, w, b)
  return y""")
    with pytest.raises(ModelError, match="of channel 0 can overflow 32 bits") as caught:
        run((*MODEL_PASSES, *PLAIN_PASSES), graph)
    assert "bias is too large" in caught.value.hint
    long = text(f"""
graph g(x: i8[1x66400]{Q}):
  const w: i8[1x66400]{{0.02; 0}} = [{", ".join(["127"] * 66_400)}]
  y: i8[1x1]{R} = dense(x, w)
  return y""")
    with pytest.raises(ModelError, match="of channel 0 can overflow 32 bits") as caught:
        run((*MODEL_PASSES, *PLAIN_PASSES), long)
    assert "products alone can: give the layer fewer inputs" in caught.value.hint


@pytest.mark.parametrize("bias", [2**47, -(2**47), 2**62, 2**63 - 1, -(2**63)])
def test_a_wide_accumulator_may_use_47_bits(bias: int) -> None:
    graph = text(f"""
graph g(x: i16[1x3]{{0.1; 0}}):
  const w: i8[1x3]{{0.02; 0}} = [127, 127, 127]
  const b: i64[1] = [{bias}]
  y: i16[1x1]{{0.1; 0}} = dense(x, w, b)
  return y""")
    with pytest.raises(ModelError, match="accumulator of channel 0 can overflow 48 bits"):
        run((*MODEL_PASSES, *PLAIN_PASSES), graph)
