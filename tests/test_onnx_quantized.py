"""Quantised ONNX models, in either form, against ONNX Runtime: the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import NO_SEARCH
from midge import driver
from midge.core.errors import ModelError
from midge.core.types import Array
from midge.export.tflite import write
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.oracle.steps import bounded
from midge.run import RUNNERS
from midge.target import load_target

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime", reason="pip install '.[verify]'")
F32 = onnx.TensorProto.FLOAT
driver.load_operators()


class Model:
    """An ONNX model under construction; values are their names."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.consts: list[Any] = []
        self.inputs: list[Any] = []

    def input(self, name: str, shape: Sequence[int], kind: int = F32) -> str:
        self.inputs.append(onnx.helper.make_tensor_value_info(name, kind, shape))
        return name

    def const(self, array: Any) -> str:
        name = f"c{len(self.consts)}"
        self.consts.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", **attrs: Any) -> str:
        name = f"v{len(self.nodes)}"
        node = onnx.helper.make_node(kind, list(inputs), [name], domain=domain, **attrs)
        self.nodes.append(node)
        return name

    def real(self, value: str, scale: Any, zero: Any, **attrs: Any) -> str:
        scale = self.const(np.asarray(scale, np.float32))
        return self.op("DequantizeLinear", value, scale, self.const(zero), **attrs)

    def quantized(self, value: str, scale: float, zero: Any) -> str:
        scales = self.const(np.float32(scale))
        return self.op("QuantizeLinear", value, scales, self.const(zero))

    def through(self, value: str, scale: float, zero: Any) -> str:
        """Quantised, and what that stands for."""
        return self.real(self.quantized(value, scale, zero), scale, zero)

    def weights(self, shape: Sequence[int], dtype: Any, axis: int | None) -> str:
        info = np.iinfo(dtype)
        q = self.rng.integers(info.min, info.max, shape, dtype, endpoint=True)
        if axis is None:
            return self.real(self.const(q), 0.01307, dtype(7 if dtype is np.int8 else 121))
        scales = self.rng.uniform(0.005, 0.02, shape[axis])
        return self.real(self.const(q), scales, np.zeros(shape[axis], dtype), axis=axis)

    def bias(self, n: int, scale: Any) -> str:
        q = self.rng.integers(-900, 900, n).astype(np.int32)
        if np.ndim(scale) == 0:
            return self.real(self.const(q), scale, np.int32(0))
        return self.real(self.const(q), scale, np.zeros(n, np.int32), axis=0)

    def build(self, *outputs: str, kind: int = F32) -> bytes:
        results = [onnx.helper.make_tensor_value_info(o, kind, None) for o in outputs]
        graph = onnx.helper.make_graph(self.nodes, "g", self.inputs, results, self.consts)
        opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("com.microsoft", 1)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
        return bytes(model.SerializeToString())


def compared(data: bytes, inputs: Sequence[dict[str, Array]]) -> driver.Compiled:
    """ONNX Runtime, the graph and the C on the host agree on every byte."""
    graph = read(data, "g")
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(data, options)
    made = driver.compile_graph(graph, load_target("cortex-m4"), NO_SEARCH)
    host = RUNNERS["host"].load(made.package, toolchain=None, optimize=None)
    for given in inputs:
        wanted = session.run(None, given)
        graphs = evaluate(made.graph, given)
        runs = host.run(given).outputs
        for want, name, port in zip(wanted, made.graph.outputs, made.package.outputs, strict=True):
            np.testing.assert_array_equal(graphs[name], want)
            np.testing.assert_array_equal(runs[port.name], want)
    host.close()
    return made


def uniform(seed: int, shape: Sequence[int], count: int = 6) -> list[dict[str, Array]]:
    rng = np.random.default_rng(seed)
    return [{"x": rng.uniform(-3, 3, shape).astype(np.float32)} for _ in range(count)]


def integer(made: driver.Compiled) -> bool:
    """Whether nothing but the ends is computed in float."""
    plain = made.plain
    ends = ("quantize", "cast", "sub", "mul", "reshape", "transpose")
    inner = [n for n in plain.nodes if n.op not in ends]
    return not any(plain.types[v].dtype.is_float for n in inner for v in n.outputs)


UNSIGNED, SIGNED = np.uint8(117), np.int8(-11)


@pytest.mark.parametrize("zero", [UNSIGNED, SIGNED], ids=["u8", "i8"])
@pytest.mark.parametrize(
    ("weights", "axis"), [(np.int8, None), (np.int8, 0), (np.uint8, None)], ids=str
)
@pytest.mark.parametrize(
    ("groups", "channels", "attrs"),
    [
        (1, 5, {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
        (4, 4, {"pads": [0, 1, 2, 0]}),
        (2, 6, {"dilations": [1, 2], "auto_pad": "VALID"}),
    ],
)
def test_convolutions(
    groups: int, channels: int, attrs: dict[str, Any], weights: Any, axis: int | None, zero: Any
) -> None:
    m = Model(groups)
    x = m.through(m.input("x", (1, 4, 7, 6)), 0.02513, zero)
    w = m.weights((channels, 4 // groups, 3, 3), weights, axis)
    scale = onnx.numpy_helper.to_array(m.consts[-2])
    b = m.bias(channels, np.float32(0.02513) * scale)
    y = m.op("Relu", m.op("Conv", x, w, b, group=groups, **attrs))
    data = m.build(m.through(y, 0.03971 if axis is None else 0.01997, zero))
    made = compared(data, uniform(1, (1, 4, 7, 6)))
    assert integer(made)


@pytest.mark.parametrize("zero", [UNSIGNED, SIGNED], ids=["u8", "i8"])
def test_a_network_of_all_kinds(zero: Any) -> None:
    """Two branches, sum, pool, mean, concatenation, table, matrix product."""
    m = Model(3)
    x = m.through(m.input("x", (1, 3, 8, 8)), 0.02513, zero)
    a = m.op("Conv", x, m.weights((8, 3, 3, 3), np.int8, 0), pads=[1, 1, 1, 1])
    a = m.through(m.op("Clip", a, m.const(np.float32(0)), m.const(np.float32(6))), 0.03, zero)
    b = m.through(m.op("Conv", a, m.weights((8, 8, 1, 1), np.int8, 0)), 0.05, zero)
    c = m.through(m.op("Add", a, b), 0.06, zero)
    d = m.through(m.op("MaxPool", c, kernel_shape=[2, 2], strides=[2, 2]), 0.06, zero)
    e = m.through(m.op("Sigmoid", d), 1 / 256, np.int8(-128) if zero is SIGNED else np.uint8(0))
    ends = (np.array([n]) for n in (0, 4, 1, 4, 8, 1))
    first, half, axis, start, stop, same = map(m.const, ends)
    parts = m.op("Slice", e, first, half, axis), m.op("Slice", e, start, stop, same)
    f = m.op("Concat", *parts, axis=1)
    g = m.through(m.op("GlobalAveragePool", f), 0.005, zero)
    flat = m.op("Flatten", g)
    y = m.through(m.op("MatMul", flat, m.weights((8, 5), np.int8, None)), 0.01, zero)
    made = compared(m.build(y), uniform(2, (1, 3, 8, 8), 20))
    assert sum(n.op == "transpose" for n in made.plain.nodes) <= 1  # of the model's input


@pytest.mark.parametrize("zero", [UNSIGNED, SIGNED], ids=["u8", "i8"])
def test_two_activations_multiplied(zero: Any) -> None:
    m = Model(5)
    x = m.through(m.input("x", (2, 5, 6)), 0.02513, zero)
    a = m.through(m.op("MatMul", x, m.weights((6, 4), np.int8, None)), 0.05, zero)
    turned = m.op("Transpose", a, perm=[0, 2, 1])
    y = m.through(m.op("MatMul", turned, a), 0.2, zero)
    compared(m.build(y), uniform(3, (2, 5, 6)))


def test_a_float_bias() -> None:
    """A bias that was not quantised is added in float, not rounded to a multiple of the scales."""
    m = Model(6)
    x = m.through(m.input("x", (1, 3, 4, 4)), 0.02513, SIGNED)
    b = m.const(m.rng.normal(size=5).astype(np.float32))
    y = m.through(m.op("Conv", x, m.weights((5, 3, 2, 2), np.int8, 0), b), 0.05, SIGNED)
    compared(m.build(y), uniform(4, (1, 3, 4, 4)))


@pytest.mark.parametrize("zero", [UNSIGNED, SIGNED], ids=["u8", "i8"])
def test_integers_in_and_out(zero: Any) -> None:
    """Without float ends the model's input and output are the integers."""
    m = Model(7)
    kind = onnx.TensorProto.UINT8 if zero is UNSIGNED else onnx.TensorProto.INT8
    x = m.real(m.input("x", (1, 2, 5, 5), kind), 0.02513, zero)
    y = m.op("Conv", x, m.weights((3, 2, 3, 3), np.int8, None))
    data = m.build(m.quantized(y, 0.06, zero), kind=kind)
    rng = np.random.default_rng(0)
    info = np.iinfo(zero.dtype)
    values = [
        rng.integers(info.min, info.max, (1, 2, 5, 5), zero.dtype, endpoint=True) for _ in "ab"
    ]
    made = compared(data, [{"x": v} for v in values])
    assert integer(made)


def quantized_parameters(m: Model, scale: float, zero: Any) -> tuple[str, str]:
    return m.const(np.float32(scale)), m.const(zero)


def test_operators_on_integers() -> None:
    """QLinearConv, QLinearMatMul and those of ONNX Runtime."""
    m = Model(8)
    q = quantized_parameters(m, 0.02513, UNSIGNED)
    x = m.op("QuantizeLinear", m.input("x", (1, 3, 6, 6)), *q)
    w = m.const(m.rng.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8))
    wq = quantized_parameters(m, 0.011, np.int8(0))
    b = m.const(m.rng.integers(-500, 500, 4).astype(np.int32))
    a = quantized_parameters(m, 0.05, np.uint8(100))
    y = m.op("QLinearConv", x, *q, w, *wq, *a, b, pads=[1, 1, 1, 1])
    s = quantized_parameters(m, 0.06, np.uint8(120))
    y = m.op("QLinearAdd", y, *a, y, *a, *s, domain="com.microsoft")
    t = quantized_parameters(m, 1 / 256, np.uint8(0))
    y = m.op("QLinearSigmoid", y, *s, *t, domain="com.microsoft")
    p = quantized_parameters(m, 1 / 300, np.uint8(3))
    y = m.op("QLinearGlobalAveragePool", y, *t, *p, domain="com.microsoft", channels_last=0)
    y = m.op("Flatten", y)
    k = m.const(m.rng.integers(0, 255, (4, 6)).astype(np.uint8))
    kq = quantized_parameters(m, 0.02, np.uint8(128))
    o = quantized_parameters(m, 0.01, np.uint8(128))
    y = m.op("QLinearMatMul", y, *p, k, *kq, *o)
    y = m.op("DequantizeLinear", y, *o)
    compared(m.build(y), uniform(5, (1, 3, 6, 6)))


@pytest.mark.parametrize("shape", [(1, 997), (1,)])
@pytest.mark.parametrize("zero", [UNSIGNED, SIGNED])
def test_products_of_integers_have_one_factor(zero: Any, shape: tuple[int, ...]) -> None:
    """Which decides ties: here every product of 2, 6, 10 ... is one."""
    m = Model(13)
    kind = onnx.helper.np_dtype_to_tensor_dtype(zero.dtype)
    a, b = m.input("a", (1, 997), kind), m.input("b", shape, kind)
    first = quantized_parameters(m, 0.1, zero)
    second = quantized_parameters(m, 0.07, zero)
    result = quantized_parameters(m, np.float32(0.1) * np.float32(0.07) * 4, zero)
    y = m.op("QLinearMul", a, *first, b, *second, *result, domain="com.microsoft")
    rng, info = np.random.default_rng(3), np.iinfo(zero.dtype)
    given = [
        {n: rng.integers(info.min, info.max + 1, s).astype(zero.dtype) for n, s in ends}
        for ends in [(("a", (1, 997)), ("b", shape))] * 12
    ]
    made = compared(m.build(y, kind=kind), given)
    assert not bounded(made.graph, Path("x.onnx"))


def test_where_processors_add_integers_otherwise_sums_are_bounded() -> None:
    m = Model(14)
    kind = onnx.TensorProto.UINT8
    s = quantized_parameters(m, 0.1, UNSIGNED)
    y = m.op("QLinearAdd", m.input("a", (2,), kind), *s, m.input("b", (2,), kind), *s, *s)
    m.nodes[-1].domain = "com.microsoft"
    (found,) = bounded(read(m.build(y, kind=kind), "g"), Path("x.onnx"))
    assert found.startswith(y)


def test_a_mask_whose_least_number_is_beyond_binary32() -> None:
    m = Model(15)
    far = np.float32(1.3345e36)  # 255 of it are more than there is
    hidden = m.const(np.array([[127, -128, 127], [-128, 127, -128]], np.int8))
    scores = m.op("Add", m.input("x", (2, 3)), m.real(hidden, far, np.int8(127)))
    q = np.float32(1 / 255), np.uint8(0)
    compared(m.build(m.through(m.op("Softmax", scores), *q)), uniform(4, (2, 3)))


def test_constants_that_overflow_are_refused() -> None:
    m = Model(16)
    large = m.real(m.const(np.int8([127, -128, -100])), np.float32(1.3345e36), np.int8(127))
    graph = read(m.build(m.op("Add", m.input("x", (3,)), large)), "g")
    with pytest.raises(ModelError, match="is not finite once computed"):
        driver.compile_graph(graph, load_target("cortex-m4"), NO_SEARCH)


def test_a_scale_that_calibration_took_from_infinities() -> None:
    m = Model(17)
    data = m.build(m.through(m.input("x", (2,)), np.float32(np.inf), np.int8(0)))
    with pytest.raises(ModelError, match="a scale is infinite") as caught:
        read(data, "g")
    assert "nodes_to_exclude" in caught.value.hint


def test_sums_of_integers() -> None:
    m = Model(9)
    kind = onnx.TensorProto.UINT8
    x = m.input("x", (1, 2, 5, 4), kind)
    w = m.const(m.rng.integers(-128, 128, (3, 2, 2, 2)).astype(np.int8))
    y = m.op("ConvInteger", x, w, m.const(np.uint8(200)), pads=[0, 1, 1, 0])
    given = np.random.default_rng(1).integers(0, 256, (1, 2, 5, 4)).astype(np.uint8)
    compared(m.build(y, kind=onnx.TensorProto.INT32), [{"x": given}])


def test_it_is_not_written_as_tflite() -> None:
    """Whose operators round otherwise."""
    m = Model(11)
    x = m.through(m.input("x", (1, 3, 4, 4)), 0.02513, SIGNED)
    y = m.through(m.op("Conv", x, m.weights((5, 3, 2, 2), np.int8, 0)), 0.05, SIGNED)
    graph = read(m.build(y), "g")
    for stage in (graph, driver.compile_graph(graph, load_target("cortex-m4"), NO_SEARCH).graph):
        with pytest.raises(ModelError, match="rounds ties to even"):
            write(stage)


def test_what_is_not_supported_says_so() -> None:
    m = Model(10)
    x = m.input("x", (2, 4))
    scale = m.const(np.array([0.1, -0.1, 0.1, 0.1], np.float32))
    y = m.op("DequantizeLinear", m.const(np.ones((2, 4), np.int8)), scale, axis=1)
    with pytest.raises(ModelError, match="not a positive number"):
        read(m.build(m.op("Add", x, y)), "g")


def test_left_as_it_is_without_quantised_operators() -> None:
    graph = Graph("g", (), (), {}, {}, ())
    from midge.passes.fuse_quantized import fuse_quantized

    assert fuse_quantized(graph) is graph
