"""fuse_hard_swish and merge_clips: spelled out as frameworks do, and what must stay as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest

from float_nets import FloatNet
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.passes import run
from midge.passes.drop_dead import drop_dead
from midge.passes.fuse_hard_swish import fuse_hard_swish
from midge.passes.merge_clips import merge_clips
from midge.quantize.options import Options
from midge.quantize.quantizer import quantize


def number(net: FloatNet, value: float) -> str:
    name = net.const(())
    net.consts[name] = np.array(value, np.float32)
    return name


def spelled_out(way: str) -> Graph:
    net = FloatNet()
    x = net.input((1, 7))
    if way == "hard sigmoid":
        ramp = net.op("hard_sigmoid", [x], alpha=1 / 6, beta=0.5)
        return net.graph([net.op("mul", [ramp, x])])
    offset = 2.0 if way == "another offset" else 3.0
    moved = net.op("add", [x, number(net, offset)])
    above = net.op("clip", [moved], low=0.0, high=math.inf)
    ramp = net.op("clip", [above], low=-math.inf, high=6.0)
    if way == "divided first":
        ramp = net.op("div", [ramp, number(net, 6.0)])
        return net.graph([net.op("mul", [x, ramp])])
    return net.graph([net.op("mul", [net.op("mul", [x, ramp]), number(net, 1 / 6)])])


@pytest.mark.parametrize("way", ["hard sigmoid", "divided first", "divided last"])
def test_hard_swish_is_one_operator(way: str) -> None:
    graph = spelled_out(way)
    after = run((merge_clips, fuse_hard_swish, drop_dead), graph)
    assert [n.op for n in after.nodes] == ["hard_swish"]
    given = {graph.inputs[0]: np.linspace(-5, 5, 7, dtype=np.float32)[None]}
    (want,), (have,) = (evaluate(g, given).values() for g in (graph, after))
    np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-7)


def test_what_is_nearly_a_hard_swish_stays() -> None:
    after = run((merge_clips, fuse_hard_swish, drop_dead), spelled_out("another offset"))
    assert [n.op for n in after.nodes] == ["add", "clip", "mul", "mul"]


def test_hard_sigmoids_have_an_integer_form() -> None:
    """Also those with another slope."""
    net = FloatNet()
    x = net.input((1, 32))
    ramps = [net.op("hard_sigmoid", [x], alpha=a, beta=b) for a, b in ((1 / 6, 0.5), (0.2, 0.4))]
    graph = net.graph(ramps)
    samples = [
        {x: 4 * np.random.default_rng(i).standard_normal((1, 32)).astype(np.float32)}
        for i in range(8)
    ]
    quantized = quantize(graph, samples, Options(float_io=True))
    assert not quantized.left
    (given, *_) = samples
    have = evaluate(quantized.graph, {quantized.graph.inputs[0]: given[x]})
    want = evaluate(graph, given)
    for a, b in zip(have.values(), want.values(), strict=True):
        np.testing.assert_allclose(a, b, atol=0.03)
