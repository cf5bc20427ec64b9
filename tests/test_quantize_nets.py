"""Whole nets that are no chains of convolutions: attention and recurrence, quantised."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import NO_SEARCH
from float_nets import FloatNet, samples_of
from midge.core.types import DType, TensorType
from midge.driver import compile_graph
from midge.export.tflite import write
from midge.graph.ir import Graph
from midge.quantize.options import Options
from midge.quantize.quantizer import Quantized, quantize
from midge.quantize.report import Sample, as_inputs, output_noise
from midge.target import load_target
from test_export_tflite import same_bytes

_STEPS, _WIDTH, _HEADS = 6, 8, 2


class Encoder(FloatNet):
    """A transformer's encoder on [1, steps, width]."""

    def rows(self, x: str, channels: int) -> str:
        """A fully connected layer on every step."""
        flat = self.op("reshape", [x], shape=(_STEPS, self.types[x].shape[2]))
        return self.op("reshape", [self.dense(flat, channels)], shape=(1, _STEPS, channels))

    def norm(self, x: str) -> str:
        """Layer normalisation, spelled out."""
        centred = self.op("sub", [x, self.op("mean", [x], axes=(2,))])
        variance = self.op("mean", [self.op("mul", [centred, centred])], axes=(2,))
        small = self.const((1,), 0.0)
        self.consts[small][:] = 1e-3
        return self.op("mul", [centred, self.op("rsqrt", [self.op("add", [variance, small])])])

    def heads(self, x: str, perm: tuple[int, ...]) -> str:
        split = self.op("reshape", [x], shape=(1, _STEPS, _HEADS, _WIDTH // _HEADS))
        return self.op("transpose", [split], perm=perm)

    def attention(self, x: str) -> str:
        q, k, v = (self.rows(x, _WIDTH) for _ in range(3))
        keys = self.heads(k, (0, 2, 3, 1))
        scores = self.op("matmul", [self.heads(q, (0, 2, 1, 3)), keys])
        shares = self.op("softmax", [scores], beta=1.0)
        mixed = self.op("matmul", [shares, self.heads(v, (0, 2, 1, 3))])
        joined = self.op("transpose", [mixed], perm=(0, 2, 1, 3))
        return self.rows(self.op("reshape", [joined], shape=(1, _STEPS, _WIDTH)), _WIDTH)

    def block(self, x: str) -> str:
        x = self.norm(self.op("add", [x, self.attention(x)]))
        inner = self.op("gelu", [self.rows(x, 2 * _WIDTH)])
        return self.norm(self.op("add", [x, self.rows(inner, _WIDTH)]))


def encoder() -> Graph:
    net = Encoder(1)
    x = net.input((1, _STEPS, _WIDTH))
    pooled = net.op("mean", [net.block(x)], axes=(1,))
    return net.graph([net.dense(net.op("reshape", [pooled], shape=(1, _WIDTH)), 4)])


def gated(shared: bool = False) -> Graph:
    """An LSTM's cell, three steps of it; with one set of weights, if they are shared."""
    net = FloatNet(2)
    layer: list[str] = []
    x = net.input((1, 3, 5))
    first = net.op("slice", [x], begin=(0, 0, 0), size=(1, 1, 4), strides=(1, 1, 1))
    zeros = net.op("mul", [first, net.const((1,), 0.0)])
    state = hidden = net.op("reshape", [zeros], shape=(1, 4))
    for step in range(3):
        now = net.op("slice", [x], begin=(0, step, 0), size=(1, 1, 5), strides=(1, 1, 1))
        both = net.op("concat", [net.op("reshape", [now], shape=(1, 5)), hidden], axis=1)
        if shared and layer:
            gates = net.op("dense", [both, *layer])
        else:
            gates = net.dense(both, 16)
            layer = list(net.nodes[-1].inputs[1:])
        parts = [
            net.op("slice", [gates], begin=(0, 4 * i), size=(1, 4), strides=(1, 1))
            for i in range(4)
        ]
        take, keep, show = (net.op("logistic", [p]) for p in parts[:3])
        fresh = net.op("mul", [take, net.op("tanh", [parts[3]])])
        state = net.op("add", [net.op("mul", [keep, state]), fresh])
        hidden = net.op("mul", [show, net.op("tanh", [state])])
    return net.graph([net.dense(hidden, 3)])


def judged(model: Graph, options: Options) -> tuple[Quantized, float]:
    """LiteRT has the same bytes; the result and its signal to noise."""
    samples: list[Sample] = [*samples_of(model, 30)]
    quantized = quantize(model, samples, options)
    file = write(quantized.graph)
    for sample in samples[:3]:
        same_bytes(file, quantized.graph, as_inputs(quantized.graph, sample))
    return quantized, output_noise(quantized, samples)


@pytest.mark.parametrize("make", [encoder, gated])
def test_it_is_all_int8_and_near_the_float_model(make) -> None:  # type: ignore[no-untyped-def]
    quantized, noise = judged(make(), Options())
    assert not quantized.left
    assert {d for d in quantized.dtypes if d} == {DType.I8}
    assert noise > 22


def test_steps_of_a_recurrent_layer_share_scales_and_constants() -> None:
    quantized, noise = judged(gated(shared=True), Options())
    assert noise > 22
    graph = quantized.graph
    layers = [n for n in graph.nodes if n.op == "dense"][:3]
    assert len({n.inputs[1] for n in layers}) == 1
    for op, most in (("logistic", 1), ("tanh", 2), ("mul", 4), ("add", 1)):
        quants = {graph.types[n.outputs[0]].quant for n in graph.nodes if n.op == op}
        assert len(quants) <= most, op
    assert len({graph.types[n.outputs[0]].quant for n in layers}) == 1
    made = compile_graph(graph, load_target("cortex-m4"), NO_SEARCH)
    own = quantize(gated(), [*samples_of(gated(), 30)], Options()).graph
    apart = compile_graph(own, load_target("cortex-m4"), NO_SEARCH)
    assert len(made.package.operators) == len(apart.package.operators)
    assert made.package.weights_size < 0.5 * apart.package.weights_size


def test_int16_is_nearer() -> None:
    for make, least in ((encoder, 35), (gated, 40)):
        quantized, noise = judged(make(), Options(activations=DType.I16))
        assert {x.op for x in quantized.left} <= {"gelu"}
        assert noise > least


def test_scales_are_shared_where_numbers_only_move() -> None:
    graph = quantize(gated(), [*samples_of(gated(), 8)], Options()).graph
    for node in graph.nodes:
        if node.op in ("slice", "concat", "reshape"):
            quants = {graph.types[n].quant for n in (*node.inputs, *node.outputs)}
            assert len(quants) == 1


@pytest.mark.parametrize("way", ["add", "where"])
def test_masks_of_attention_do_not_take_the_scale_of_the_scores(way: str) -> None:
    """Minus 1e9 beside scores of a few units: int8 would be left with two values."""
    net = FloatNet(3)
    x = net.input((1, 6, 6))
    hidden = np.triu(np.ones((6, 6), np.bool_), 1)
    mask = net.const((6, 6) if way == "add" else ())
    if way == "add":
        net.consts[mask] = np.where(hidden, np.float32(-1e9), np.float32(0))
        scores = net.op("add", [x, mask])
    else:
        net.consts[mask] = np.array(-3e38, np.float32)
        keeps = net.const((6, 6))
        net.consts[keeps], net.types[keeps] = ~hidden, TensorType((6, 6), DType.BOOL)
        scores = net.op("where", [keeps, x, mask])
    quantized, noise = judged(net.graph([net.op("softmax", [scores], beta=1.0)]), Options())
    assert not quantized.left
    assert noise > 25
