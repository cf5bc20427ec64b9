"""The quantiser: its graphs follow TFLite's rules, so LiteRT runs them with the same bytes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

import midge
from conftest import SHARED, unsearched
from float_nets import FloatNet, samples_of
from forests import forest
from graphs import random_graph
from midge import driver
from midge.core.errors import MidgeError, ModelError, UsageError
from midge.core.types import Array, DType, Quant
from midge.data import random_inputs
from midge.export.tflite import write
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.quantize.equalize import equalize
from midge.quantize.halves import float16_weights
from midge.quantize.mixed import choose_mixed
from midge.quantize.options import METHODS, Options
from midge.quantize.prepare import prepare
from midge.quantize.quantizer import Quantized, build, learn, quantize
from midge.quantize.report import as_inputs, layer_report, output_noise, top_1
from midge.run import RUNNERS
from midge.target import load_target
from oracle import litert
from small_models import MODELS
from small_models import graph as graph_of
from test_export_tflite import same_bytes, structure

pytestmark = pytest.mark.slow

TWINS = sorted(SHARED.glob("*_float.tflite")) if SHARED.is_dir() else []
I16 = Options(activations=DType.I16)


Samples = list[dict[str, Array]]


def agrees(quantized: Quantized, samples: Samples, *, equal: bool = True) -> None:
    """LiteRT and our evaluation give the same bytes; the file reads back equal (or, where TFLite
    has no word for a padding, with a PAD more)."""
    data = write(quantized.graph)
    again = graph_of(data, quantized.graph.name)
    if equal:
        assert structure(again) == structure(quantized.graph)
    for sample in samples:
        same_bytes(data, quantized.graph, as_inputs(quantized.graph, sample))
        same_bytes(data, again, as_inputs(quantized.graph, sample))


@pytest.mark.skipif(not TWINS, reason="../shared/models is not there")
@pytest.mark.parametrize("path", TWINS, ids=lambda p: p.stem)
def test_float_twins_run_in_litert_with_the_same_bytes(path: Path) -> None:
    model = driver.load(path)
    samples = random_inputs(model, 6, 3)
    calibrated = learn(model, samples, Options())
    for options in (Options(), I16, Options(float_io=True)):
        quantized = build(calibrated, options)
        agrees(quantized, samples[:2])
        assert output_noise(quantized, samples) > 20
        assert not quantized.left


@pytest.mark.parametrize("part", range(4))
def test_random_nets_run_in_litert_with_the_same_bytes(part: int) -> None:
    for seed in range(15 * part, 15 * part + 15):
        model = random_graph(random.Random(seed), quantised=False)
        samples = random_inputs(model, 5, seed)
        options = Options(
            method=METHODS[seed % 4],
            activations=(DType.I8, DType.I8, DType.I16)[seed % 3],
            float_io=seed % 5 == 0,
            equalize=seed % 2 == 0,
            bias_correction=seed % 7 != 0,
        )
        quantized = quantize(model, samples, options)
        if len({*model.outputs}) == len(model.outputs):
            agrees(quantized, samples[:2], equal=False)


def every_operator() -> Graph:
    """One of each kind that has an integer form, and one that has none on int16."""
    net = FloatNet()
    x = net.input((1, 8, 8, 3))
    a = net.conv(x, 6, activation="relu")
    b = net.depthwise(a)
    c = net.op("add", [a, b], activation="relu6")
    d = net.op("concat", [c, b], axis=3)
    e = net.pool("max_pool2d", d)
    f = net.op("leaky_relu", [e], alpha=0.125)
    g = net.op("mul", [f, net.const((12,))])
    h = net.op("sub", [g, f])
    i = net.op("hard_swish", [h])
    j = net.op("resize_bilinear", [i], size=(6, 6), align_corners=0, half_pixel=1)
    t = net.op("transpose", [j], perm=(0, 2, 1, 3))
    k = net.op("pad", [t], paddings=(0, 0, 1, 0, 0, 1, 0, 0), value=0.5)
    m = net.op("clip", [k], low=-0.25, high=0.75)
    n = net.pool("avg_pool2d", m)
    o = net.op("mean", [n], axes=(1, 2))
    p = net.dense(net.op("reshape", [o], shape=(1, 12)), 5)
    q = net.op("tanh", [net.op("abs", [p])])
    r = net.op("logistic", [q])
    s = net.op("softmax", [r], beta=1.0)
    return net.graph([s, h])


@pytest.mark.parametrize("options", [Options(), I16, Options(float_io=True)], ids=str)
def test_every_operator_runs_in_litert_with_the_same_bytes(options: Options) -> None:
    model = every_operator()
    samples = samples_of(model, 8)
    quantized = quantize(model, samples, options)
    agrees(quantized, samples[:3])
    assert [x.op for x in quantized.left] == (["hard_swish"] if options is I16 else [])
    assert output_noise(quantized, samples) > 15


def test_the_scales_are_those_of_the_specification() -> None:
    model = every_operator()
    quantized = quantize(model, samples_of(model, 8), Options())
    graph = quantized.graph
    for node in graph.nodes:
        types = [graph.types[n] for n in node.inputs]
        y = graph.types[node.outputs[0]]
        assert y.dtype is DType.I8
        if node.op in ("conv2d", "depthwise_conv2d", "dense"):
            x, w, b = (t.quant for t in types)
            assert x is not None
            assert w is not None
            assert b is not None
            assert w.axis == {"conv2d": 0, "depthwise_conv2d": 3, "dense": 0}[node.op]
            assert {*w.zero_point, *b.zero_point} == {0}
            assert graph.consts[node.inputs[1]].min() >= -127
            products = [float(np.float32(x.scale[0]) * np.float32(s)) for s in w.scale]
            assert list(b.scale) == products
        if node.op in ("max_pool2d", "avg_pool2d", "reshape", "pad", "concat", "resize_bilinear"):
            assert {t.quant for t in types} == {y.quant}
    fixed = {n.op: graph.types[n.outputs[0]].quant for n in graph.nodes}
    assert fixed["softmax"] == fixed["logistic"] == Quant.per_tensor(1 / 256, -128)
    assert fixed["tanh"] == Quant.per_tensor(1 / 128, 0)


def test_int16_is_symmetric_with_wide_biases() -> None:
    model = graph_of(MODELS["float"]())
    graph = quantize(model, random_inputs(model, 4, 0), I16).graph
    for t in graph.types.values():
        if t.dtype is DType.I16 and t.quant is not None:
            assert t.quant.zero_point == (0,)
    biases = [n.inputs[2] for n in graph.nodes if len(n.inputs) == 3]
    assert {graph.types[b].dtype for b in biases} == {DType.I64}


def test_an_operator_without_an_integer_form_stays_float_and_is_named() -> None:
    net = FloatNet()
    x = net.input((1, 4, 4, 2))
    model = net.graph([net.conv(net.op("hard_swish", [net.conv(x, 3)]), 2)])
    quantized = quantize(model, samples_of(model, 4), I16)
    (left,) = quantized.left
    assert (left.op, left.reason) == ("hard_swish", "it has no int16 form")
    ops = [n.op for n in quantized.graph.nodes]
    assert ops == ["conv2d", "dequantize", "hard_swish", "quantize", "conv2d"]
    agrees(quantized, samples_of(model, 2))


def test_scales_that_the_kernel_refuses_leave_the_operator_float() -> None:
    """HARD_SWISH on values that are nearly all negative has a finer output than it can give."""
    net = FloatNet()
    x = net.input((1, 8))
    model = net.graph([net.op("hard_swish", [x])])
    samples = [{x: np.linspace(-300, -2.9, 8, dtype=np.float32).reshape(1, 8)}]
    quantized = quantize(model, samples, Options())
    assert "too fine" in quantized.left[0].reason
    agrees(quantized, samples)


def test_layers_can_be_kept_on_int16() -> None:
    net = FloatNet()
    x = net.input((1, 6, 6, 2))
    a = net.conv(x, 4)
    b = net.conv(a, 4)
    model = net.graph([net.conv(net.pool("max_pool2d", b), 3)])
    quantized = quantize(model, samples_of(model, 4), Options(int16=frozenset([b])))
    types = {n: quantized.graph.types[quantized.values[n]].dtype for n in (a, b)}
    assert types == {a: DType.I8, b: DType.I16}
    assert [n.op for n in quantized.graph.nodes].count("quantize") == 2
    agrees(quantized, samples_of(model, 2))
    with pytest.raises(UsageError, match="no layer 'nothing'"):
        quantize(model, samples_of(model, 4), Options(int16=frozenset(["nothing"])))


def test_mixed_precision_stops_within_the_budget() -> None:
    model = every_operator()
    samples = samples_of(model, 12)
    calibrated = learn(model, samples, Options())
    start = output_noise(build(calibrated, Options()), samples)

    def loss(q: Quantized) -> float:
        return -output_noise(q, samples)

    found = choose_mixed(calibrated, Options(), samples, loss, -(start + 1.0))
    chosen = found.quantized.options.int16
    assert found.within
    assert chosen == {n for n, _ in found.order[: len(chosen)]}
    assert -found.losses[len(chosen)] >= start + 1.0
    assert -found.losses[len(chosen) - 1] < start + 1.0
    agrees(found.quantized, samples[:2])
    assert choose_mixed(calibrated, Options(), samples, loss, -1.0).losses.keys() == {0}
    beyond = choose_mixed(calibrated, Options(), samples, loss, -500.0)
    assert not beyond.within
    assert beyond.order == ()


def test_bias_correction_takes_the_mean_error_away() -> None:
    net = FloatNet(7)
    x = net.input((1, 6, 6, 3))
    model = net.graph([net.conv(x, 8, activation="")])
    samples = samples_of(model, 40, shift=2.0)
    errors = []
    for correct in (False, True):
        quantized = quantize(model, samples, Options(bias_correction=correct, method="minmax"))
        report = _mean_error(quantized, samples)
        errors.append(report)
    assert errors[1] < 0.5 * errors[0]


def _mean_error(quantized: Quantized, samples: Samples) -> float:
    graph = quantized.graph
    (y,) = graph.outputs
    quant = graph.types[y].quant
    assert quant is not None
    total = 0.0
    for sample in samples:
        q = evaluate(graph, as_inputs(graph, sample))[y]
        real = (q.astype(np.float64) - quant.zero_point[0]) * quant.scale[0]
        total = total + (real - evaluate(quantized.floats, sample)[y]).mean((0, 1, 2))
    return float(np.abs(total / len(samples)).mean())


def test_equalisation_keeps_the_function_and_balances_channels() -> None:
    net = FloatNet(3)
    x = net.input((1, 5, 5, 3))
    a = net.conv(x, 6, activation="relu", spread=4.0)
    b = net.depthwise(a, activation="relu")
    model = prepare(net.graph([net.conv(b, 4)]))
    balanced = equalize(model)
    for sample in samples_of(model, 4):
        for name, want in evaluate(model, sample).items():
            have = evaluate(balanced, sample)[name]
            np.testing.assert_allclose(have, want, rtol=0, atol=2e-5 * float(np.abs(want).max()))
    assert any(not np.array_equal(a, balanced.consts[n]) for n, a in model.consts.items())


def test_equalisation_leaves_limited_activations_alone() -> None:
    net = FloatNet(3)
    x = net.input((1, 5, 5, 3))
    model = prepare(net.graph([net.conv(net.conv(x, 6, activation="relu6"), 4)]))
    assert equalize(model) == model


def test_the_report_has_a_line_for_every_layer() -> None:
    model = every_operator()
    samples = samples_of(model, 6)
    quantized = quantize(model, samples, Options())
    layers = layer_report(quantized, samples)
    assert [x.name for x in layers] == [o for n in quantized.floats.nodes for o in n.outputs]
    assert all(x.dtype is DType.I8 for x in layers)
    assert all(10 < x.signal_to_noise < 90 for x in layers)
    better = layer_report(quantize(model, samples, I16), samples)
    assert better[0].signal_to_noise > layers[0].signal_to_noise


def test_top_1_counts_labels() -> None:
    outputs = [np.array([[0.1, 0.9]]), np.array([[0.8, 0.2]]), np.array([[0.3, 0.7]])]
    assert top_1(outputs, np.array([1, 0, 0])) == pytest.approx(2 / 3)
    assert top_1([np.array([0.7]), np.array([0.2])], np.array([1, 1])) == 0.5


def test_constants_of_zeros_and_large_biases_are_no_problem() -> None:
    net = FloatNet()
    x = net.input((1, 4, 4, 2))
    y = net.conv(x, 3)
    node = net.nodes[-1]
    net.consts[node.inputs[1]] = net.consts[node.inputs[1]] * np.float32(1e-6)
    net.consts[node.inputs[1]][1] = 0
    net.consts[node.inputs[2]] = np.array([1e4, 0.5, 0], np.float32)
    model = net.graph([y])
    for options in (Options(), I16):
        quantized = quantize(model, samples_of(model, 4), options)
        assert output_noise(quantized, samples_of(model, 4)) > 30
        agrees(quantized, samples_of(model, 2))


def test_float16_weights_halve_the_file_and_run_in_litert() -> None:
    net = FloatNet()
    x = net.input((1, 6, 6, 8))
    model = net.graph([net.conv(net.conv(x, 32), 32)])
    halves = float16_weights(model)
    data, given = write(halves), random_inputs(model, 1, 2)[0]
    assert len(data) < 0.6 * len(write(model))
    same_bytes(data, halves, given)
    want, have = evaluate(model, given), litert(data, given)
    for name, expected in want.items():
        np.testing.assert_allclose(have[name], expected, rtol=0.02, atol=0.02)
    net.consts[net.nodes[0].inputs[1]][0] = 1e6
    with pytest.raises(ModelError, match="does not fit binary16"):
        float16_weights(net.graph(list(model.outputs)))


def test_float16_weights_stay_so_in_flash_where_size_counts() -> None:
    net = FloatNet()
    x = net.input((1, 6, 6, 8))
    y = net.op("reshape", [net.depthwise(net.conv(x, 16))], shape=(36, 16))
    model = net.graph([net.dense(y, 12)])
    halves, target = float16_weights(model), load_target("cortex-m4")
    made = {
        g: driver.compile_graph(halves, target, unsearched(optimize=g)) for g in ("speed", "size")
    }
    assert made["size"].package.weights_size < 0.62 * made["speed"].package.weights_size
    given = samples_of(model, 1)[0]
    want = evaluate(halves, given)
    for compiled in made.values():
        session = RUNNERS["host"].load(compiled.package, toolchain=None, optimize="debug")
        have = session.run(given).outputs
        session.close()
        for mine, theirs in zip(compiled.package_outputs, model.outputs, strict=True):
            np.testing.assert_allclose(have[mine], want[theirs], rtol=0, atol=1e-5)


def test_quantised_models_and_missing_samples_are_refused() -> None:
    quantised = graph_of(MODELS["int8"]())
    with pytest.raises(ModelError, match="quantised already"):
        quantize(quantised, random_inputs(quantised, 2, 0))
    with pytest.raises(UsageError, match="no samples"):
        quantize(graph_of(MODELS["float"]()), [])


def test_a_forest_has_nothing_to_quantise() -> None:
    trees = forest(DType.F32, DType.F32, seed=1)
    with pytest.raises(ModelError, match="operators are tree_ensemble") as error:
        midge.quantize(trees, np.zeros((2, 1, 40), np.float32))
    assert "midge compile" in error.value.hint


@pytest.mark.parametrize(
    "wrong", [{"method": "best"}, {"percentile": 10.0}, {"activations": DType.U8}]
)
def test_wrong_options_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(MidgeError):
        Options(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "kind", "what"),
    [
        (np.nan, UsageError, "sample 1 of input 'x': has values that are not numbers"),
        (np.inf, UsageError, "sample 1 of input 'x': has infinite values"),
    ],
)
def test_samples_that_are_not_finite_are_refused(
    value: float, kind: type[MidgeError], what: str
) -> None:
    model = graph_of(MODELS["float"]())
    samples = random_inputs(model, 2, 0)
    samples[1][model.inputs[0]][:1] = value
    with pytest.raises(kind, match=what):
        quantize(model, samples)


def test_samples_are_arrays() -> None:
    with pytest.raises(UsageError, match="data: is list"):
        midge.quantize(graph_of(MODELS["float"]()), [1.0])  # type: ignore[arg-type]
