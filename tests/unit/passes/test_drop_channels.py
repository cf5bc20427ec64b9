"""Channels that nobody needs go, those that somebody needs stay, and no byte changes."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_nets import ONE_BY_ONE, Net, extremes, plain

from conftest import Golden
from graphs import random_graph
from midge import driver
from midge.core.errors import ModelError
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, same_array, verify
from midge.passes import run
from midge.passes.drop_channels import Dropped, drop_and_report, drop_channels
from midge.pipeline import MODEL_PASSES, PLAIN_PASSES

ONE = "dilations=(1 1), padding=(0 0 0 0), strides=(1 1), pad_value=0"
PADDED = "dilations=(1 1), padding=(1 1 1 1), strides=(1 1)"
BESIDE = "dilations=(1 1), padding=(0 0 1 1), strides=(1 1)"
POOL = "dilations=(1 1), padding=(1 0 0 1), strides=(1 1), window=(2 2)"
Q = 'rounding="right", zero_out=0, low=-128, high=127, dtype="i8"'
# Channel 1 of t is 7 everywhere, whatever x is.
CONSTANT = f"""
graph g(x: i8[1x2x3x1]):
  const w: i8[3x1x1x1] = [5, 0, -3]
  const b: i32[3] = [0, 7, 1]
  const m: i32[1] = [1073741824]
  const ms: i32[3] = [1073741824, 1610612736, 2147483647]
  const s: i32[1] = [0]
  const ss: i32[3] = [0, 0, 1]
  a: i32[1x2x3x3] = conv2d(x, w, b, {ONE})
"""
T = f"""{CONSTANT}
  t: i8[1x2x3x3] = requantize(a, m, s, {Q})
"""
READ = f"""
  const v: i8[1x1x1x3] = [1, 2, 3]
  y: i32[1x2x3x1] = conv2d(t, v, {ONE})
  return y"""


def image(n: int, *values: int) -> str:
    """A 3x3 filter over n channels, the same values for every tap, or all of them."""
    array = values if len(values) == 9 * n else values * 9
    return ", ".join(map(str, array))


CASES: dict[str, str] = {
    "a constant goes into the next bias": T + READ,
    "a bias that is there grows": T + f"""
  const v: i8[2x1x1x3] = [1, 2, 3, 4, -5, 6]
  const c: i32[2] = [100, 200]
  y: i32[1x2x3x2] = conv2d(t, v, c, {ONE})
  return y""",
    "multipliers of each channel": CONSTANT + f"""
  const k: i32[3] = [2, 3, -4]
  u: i32[1x2x3x3] = mul(a, k)
  t: i8[1x2x3x3] = requantize(u, ms, ss, {Q})""" + READ,
    "what only zeros multiply": T + f"""
  const v: i8[2x1x1x3] = [0, 2, 3, 0, -5, 6]
  y: i32[1x2x3x2] = conv2d(t, v, {ONE})
  return y""",
    "depthwise, pools, views and dense layers": T + f"""
  const d: i8[1x1x2x3] = [1, 2, 3, 4, 5, 6]
  const e: i32[3] = [10, 20, 30]
  const v: i8[1x24] = [{", ".join(map(str, range(1, 25)))}]
  f: i32[1x2x2x3] = depthwise_conv2d(t, d, e, {ONE})
  h: i8[1x2x2x3] = requantize(f, m, s, {Q})
  k: i8[1x2x2x3] = max_pool2d(h, {POOL})
  l: i8[1x2x2x3] = avg_pool2d(k, {POOL})
  n: i8[1x2x2x3] = maximum(l, h)
  o: i8[1x2x4x3] = concat(n, l, axis=2)
  p: i8[1x24] = reshape(o, shape=(1 24))
  y: i32[1x1] = dense(p, v)
  return y""",
    "several outputs of a depthwise channel": T + f"""
  const d: i8[1x1x1x6] = [1, 2, 3, 4, 5, 6]
  const v: i8[1x1x1x6] = [1, 2, 3, 4, 5, 6]
  f: i32[1x2x3x6] = depthwise_conv2d(t, d, {ONE})
  h: i8[1x2x3x6] = requantize(f, m, s, {Q})
  y: i32[1x2x3x1] = conv2d(h, v, {ONE})
  return y""",
    "concat, pad and slice on channels": T + f"""
  const v: i8[1x1x1x7] = [1, 2, 3, 4, 5, 6, 7]
  c: i8[1x2x3x6] = concat(t, t, axis=3)
  p: i8[1x2x3x9] = pad(c, paddings=(0 0 0 0 0 0 1 2), value=9)
  q: i8[1x2x3x7] = slice(p, begin=(0 0 0 1), size=(1 2 3 7), strides=(1 1 1 1))
  y: i32[1x2x3x1] = conv2d(q, v, {ONE})
  return y""",
    "the mean of a border": T + f"""
  const d: i8[1x3x3x3] = [{image(3, 1, 2, 3)}]
  const v: i8[1x3] = [1, 2, 3]
  f: i32[1x2x3x3] = depthwise_conv2d(t, d, {PADDED}, pad_value=-5)
  h: i32[1x1x1x3] = sum(f, axes=(1 2))
  k: i8[1x1x1x3] = requantize(h, m, s, {Q})
  p: i8[1x3] = reshape(k, shape=(1 3))
  y: i32[1x1] = dense(p, v)
  return y""",
    "padding as the constant": T + f"""
  const v: i8[1x3x3x3] = [{image(3, 1, 2, 3)}]
  y: i32[1x2x3x1] = conv2d(t, v, {PADDED}, pad_value=4)
  return y""",
    "padding that no window reaches": T + """
  const v: i8[1x1x1x3] = [1, 2, 3]
  y: i32[1x2x2x1] = conv2d(t, v, dilations=(1 1), padding=(0 0 0 1), strides=(1 2), pad_value=-5)
  return y""",
    "a border that adds up to nothing": T + f"""
  const v: i8[1x2x3x3] = [1, 4, 1, 1, 9, 1, 1, -2, 1, 1, -4, 1, 1, 0, 1, 1, 2, 1]
  y: i32[1x1x3x1] = conv2d(t, v, {BESIDE}, pad_value=-5)
  return y""",
    "taps that are always outside": T + """
  const v: i8[1x2x1x3] = [1, 2, 3, 4, 5, 6]
  y: i32[1x1x3x1] = conv2d(t, v, dilations=(2 1), padding=(1 0 0 0), strides=(1 1), pad_value=-5)
  return y""",
    "a constant beside another padding stays": T + f"""
  const v: i8[1x3x3x3] = [{image(3, 1, 2, 3)}]
  y: i32[1x2x3x1] = conv2d(t, v, {PADDED}, pad_value=-5)
  return y""",
    "a residual of a constant and a variable stays": T + f"""
  const v: i8[1x1x1x3] = [1, 2, 3]
  r: i8[1x2x3x3] = maximum(t, x)
  y: i32[1x2x3x1] = conv2d(r, v, {ONE})
  return y""",
    "an output stays": T + f"""
  const v: i8[1x1x1x3] = [1, 2, 3]
  y: i32[1x2x3x1] = conv2d(t, v, {ONE})
  return y, t""",
    "an input stays": f"""
graph g(x: i8[1x2x3x2]):
  const w: i8[2x1x1x2] = [5, 0, -3, 0]
  y: i32[1x2x3x2] = conv2d(x, w, {ONE})
  return y""",
    "what a grouped convolution reads stays": T + f"""
  const g: i8[3x1x1x1] = [1, 2, 3]
  const v: i8[1x1x1x3] = [1, 2, 3]
  f: i32[1x2x3x3] = conv2d(t, g, {ONE})
  h: i8[1x2x3x3] = requantize(f, m, s, {Q})
  y: i32[1x2x3x1] = conv2d(h, v, {ONE})
  return y""",
    "what is transposed to rows stays": T + f"""
  const v: i8[1x1x1x2] = [1, 2]
  r: i8[1x3x3x2] = transpose(t, perm=(0 3 2 1))
  y: i32[1x3x3x1] = conv2d(r, v, {ONE})
  return y""",
    "what a sum over channels reads stays": T + """
  y: i32[1x2x3x1] = sum(t, axes=(3))
  return y""",
    "one channel is left of a constant": T.replace("[5, 0, -3]", "[0, 0, 0]") + READ,
    "of float layers what nobody reads": f"""
graph g(x: f32[1x2x3x1]):
  const w: f32[3x1x1x1] = [5.0, 0.0, -3.0]
  const v: f32[1x1x1x2] = [0.0, 2.0]
  a: f32[1x2x3x3] = conv2d(x, w, {ONE})
  t: f32[1x2x3x2] = slice(a, begin=(0 0 0 1), size=(1 2 3 2), strides=(1 1 1 1))
  y: f32[1x2x3x1] = conv2d(t, v, {ONE})
  return y""",
}  # fmt: skip


def check(before: Graph, seed: int = 0) -> Dropped:
    """What the pass dropped; it changed no byte of any output, and has nothing left to do."""
    after, dropped = drop_and_report(before)
    verify(after)
    assert all(t.elements for t in after.types.values())
    assert run([drop_channels], after) == after
    for given_ in extremes(before, seed):
        want, have = evaluate(before, given_), evaluate(after, given_)
        assert all(same_array(have[n], a) for n, a in want.items()), f"{before}\n{after}"
    return dropped


@pytest.mark.parametrize("case", CASES)
def test_before_and_after(case: str, golden: Golden) -> None:
    before = plain(CASES[case])
    dropped = check(before)
    after = run([drop_channels], before)
    golden(f"{before}\ndrop_channels\n\n{after}\n{dropped}\n")
    assert (after == before) == case.endswith("stays")


@settings(max_examples=150)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_byte_changes(seed: int) -> None:
    check(Net(seed).graph(), seed)


def test_the_random_networks_put_the_pass_to_work() -> None:
    """Each operator that can lose channels did, in some network; else the property says little."""
    lost: Counter[str] = Counter()
    for seed in range(200):
        graph = Net(seed).graph()
        kept = drop_and_report(graph)[1].kept
        lost.update(n.op for n in graph.nodes if n.outputs[0] in kept)
    assert {op for op, n in lost.items() if n >= 2} == set(Net.OPERATORS)


@pytest.mark.parametrize("quantised", [True, False], ids=["int8", "float"])
def test_models_with_nothing_to_drop_stay(quantised: bool) -> None:
    for seed in range(40):
        model = run(MODEL_PASSES, random_graph(random.Random(seed), quantised=quantised))
        check(run(PLAIN_PASSES, model), seed)


def test_a_table_is_no_operand_of_each_channel() -> None:
    """256 entries beside 256 channels, of which some are constant."""
    net = Net(0)
    weights = np.ones((256, 1, 1, 3), np.int8)
    weights[::3] = 0
    t = net.table(net.summed("conv2d", "x", weights, 256, {**ONE_BY_ONE, "x_zero": 0}))
    y = net.summed("conv2d", t, np.ones((2, 1, 1, 256), np.int8), 2, {**ONE_BY_ONE})
    graph = Graph("g", ("x",), (y,), net.types, net.consts, ()).with_nodes(net.nodes)
    dropped = check(run(PLAIN_PASSES, graph))
    assert (len(dropped.kept[t]), dropped.totals[t]) == (170, 256)


def test_a_bias_that_is_computed_is_not_known() -> None:
    """Zero weights of a depthwise convolution leave its bias, which is no constant here."""
    body = (
        T
        + f"""
  const d: i8[1x1x1x3] = [0, 3, 1]
  const v: i8[1x1x1x3] = [1, 2, 3]
  c: i32[1x1x1x3] = sum(t, axes=(1 2))
  f: i32[1x2x3x3] = depthwise_conv2d(t, d, c, {ONE})
  h: i8[1x2x3x3] = requantize(f, m, s, {Q})
  y: i32[1x2x3x1] = conv2d(h, v, {ONE})
  return y"""
    )
    assert check(plain(body)).kept["t"] == (0, 2)


def test_a_convolution_of_a_constant_is_left_alone() -> None:
    graph = plain(f"""
graph g(x: i32[1x1x1x1]):
  const c: i8[1x1x1x2] = [4, 5]
  const v: i8[1x1x1x2] = [1, 2]
  a: i32[1x1x1x1] = conv2d(c, v, {ONE})
  y: i32[1x1x1x1] = maximum(a, x)
  return y""")
    assert run([drop_channels], graph) == graph


def test_a_bias_that_could_overflow_is_refused() -> None:
    body = (
        T
        + f"""
  const v: i8[1x1x1x3] = [1, 2, 3]
  const c: i32[1] = [2147483000]
  y: i32[1x2x3x1] = conv2d(t, v, c, {ONE})
  return y"""
    )
    with pytest.raises(ModelError, match="accumulator of channel 0 can overflow 32 bits"):
        drop_channels(plain(body))
    check(plain(body.replace("2147483000", "2147482000")))


SHARED_MACS = {
    "vww_int8": (7489664, 3733073), "kws_int8": (2656768, 2656768), "ad_int8": (264192, 264192),
    "resnet_int8": (12501632, 12501632), "sww_int8": (826368, 826368),
    "micro_speech_int8": (336000, 336000), "hello_world_int8": (288, 288),
    "kws_float": (2656768, 2656768), "vww_float": (7489664, 7489664),
}  # fmt: skip


@pytest.mark.parametrize("stem", SHARED_MACS)
def test_shared_models_stay_exact(stem: str, shared_model: Callable[[str], Path]) -> None:
    graph = run(PLAIN_PASSES, run(MODEL_PASSES, driver.load(shared_model(stem))))
    assert check(graph).macs == SHARED_MACS[stem]
