"""What ONNX Runtime's optimiser writes, against ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

import midge as midge_package
from midge import driver
from midge.core.errors import ModelError
from midge.core.types import Array
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate
from onnx_builder import OnnxModel

ort = pytest.importorskip("onnxruntime", reason="needs pip install '.[verify]'")
driver.load_operators()
F32 = onnx.TensorProto.FLOAT


def model(
    kind: str,
    shapes: Sequence[Sequence[int]],
    outputs: Sequence[str] = ("y",),
    domain: str = "com.microsoft",
    **attrs: Any,
) -> bytes:
    """One operator; an empty shape list stands for an input that is left out."""
    names = [f"x{i}" if shape else "" for i, shape in enumerate(shapes)]
    node = helper.make_node(kind, names, outputs, domain=domain, **attrs)
    given = [
        helper.make_tensor_value_info(n, F32, shape)
        for n, shape in zip(names, shapes, strict=True)
        if n
    ]
    results = [helper.make_tensor_value_info(n, F32, None) for n in outputs if n]
    graph = helper.make_graph([node], "g", given, results)
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString())


def agree(data: bytes) -> None:
    session = ort.InferenceSession(data)
    rng = np.random.default_rng(0)
    feeds: dict[str, Array] = {
        i.name: rng.normal(0, 1.5, i.shape).astype(np.float32) for i in session.get_inputs()
    }
    names = [o.name for o in session.get_outputs()]
    found = evaluate(read(data, "m"), feeds)
    for name, want in zip(names, session.run(names, feeds), strict=True):
        assert found[name].shape == want.shape
        np.testing.assert_allclose(found[name], want, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize(
    ("kind", "shapes", "attrs"),
    [
        ("Gelu", [(2, 5)], {}),
        ("BiasGelu", [(2, 5), (5,)], {}),
        ("FastGelu", [(2, 5)], {}),
        ("FastGelu", [(1, 2, 5), (5,)], {}),
        ("QuickGelu", [(2, 5)], {}),
        ("QuickGelu", [(2, 5)], {"alpha": 0.5}),
        ("FusedMatMul", [(2, 3), (3, 4)], {"alpha": 0.25}),
        ("FusedMatMul", [(3, 2), (3, 4)], {"transA": 1}),
        ("FusedMatMul", [(5, 2, 3), (5, 4, 3)], {"transB": 1, "alpha": -2.0}),
        ("FusedMatMul", [(2, 5, 3), (5, 3, 4)], {"transBatchA": 1}),
        ("FusedMatMul", [(3, 5, 2), (5, 3, 4)], {"transA": 1, "transBatchA": 1}),
        ("FusedMatMul", [(2, 5, 6, 3), (3, 5, 6, 4)], {"transBatchA": 1, "transBatchB": 1}),
        ("FusedMatMul", [(2, 6, 3), (4, 6, 3)],
         {"transBatchA": 1, "transBatchB": 1, "transB": 1}),
        ("FusedMatMul", [(3,), (3, 4)], {"transA": 1}),
        ("SkipLayerNormalization", [(1, 3, 4), (1, 3, 4), (4,)], {}),
        ("SkipLayerNormalization", [(1, 3, 4), (1, 3, 4), (4,), (4,)], {"epsilon": 1e-5}),
        ("SkipLayerNormalization", [(2, 3, 4), (2, 3, 4), (4,), (4,), (4,)], {}),
        ("SkipLayerNormalization", [(2, 3, 4), (3, 4), (4,), (), (4,)], {}),
        ("SkipSimplifiedLayerNormalization", [(1, 3, 4), (1, 3, 4), (4,)], {}),
        ("SkipSimplifiedLayerNormalization", [(1, 3, 4), (1, 3, 4), (4,), (4,)], {}),
        ("FusedConv", [(1, 2, 5, 5), (3, 2, 3, 3), (3,)], {"activation": "Relu"}),
        ("FusedConv", [(1, 2, 5, 5), (3, 2, 3, 3), (3,), (1, 3, 3, 3)],
         {"activation": "LeakyRelu", "activation_params": [0.1]}),
        ("FusedConv", [(1, 2, 5, 5), (3, 2, 3, 3), (), (1, 3, 5, 5)],
         {"pads": [1, 1, 1, 1]}),
        ("FusedConv", [(1, 2, 5, 5), (3, 2, 3, 3)],
         {"strides": [2, 1], "activation": "Clip", "activation_params": [-0.5, 1.0]}),
        ("FusedConv", [(1, 2, 5, 5), (3, 2, 3, 3)],
         {"activation": "HardSigmoid", "activation_params": [0.3, 0.4]}),
        ("FusedConv", [(1, 2, 7), (3, 2, 3)], {"activation": "Tanh"}),
        ("FusedGemm", [(2, 3), (3, 4), (4,)], {"activation": "Relu", "alpha": 0.5}),
        ("FusedGemm", [(3, 2), (4, 3), (2, 4)],
         {"activation": "Sigmoid", "transA": 1, "transB": 1, "beta": 2.0}),
        ("FusedGemm", [(2, 3), (3, 4), (4,)],
         {"activation": "LeakyRelu", "activation_alpha": 0.2}),
    ],
)  # fmt: skip
def test_it_computes_what_onnx_runtime_does(
    kind: str, shapes: Sequence[Sequence[int]], attrs: dict[str, Any]
) -> None:
    agree(model(kind, shapes, **attrs))


def test_the_sum_is_an_output_too() -> None:
    shapes = [(2, 3, 4), (2, 3, 4), (4,), (4,), (4,)]
    agree(model("SkipLayerNormalization", shapes, ("y", "", "", "sum")))
    agree(model("SkipSimplifiedLayerNormalization", shapes[:4], ("y", "", "", "sum")))


def test_a_simplified_norm_of_onnx_itself() -> None:
    agree(model("SimplifiedLayerNormalization", [(2, 3, 4), (4,)], domain="", axis=-1))


@pytest.mark.parametrize(
    ("kind", "shapes", "attrs", "match"),
    [
        ("FusedConv", [(1, 2, 5, 5), (3, 2, 3, 3)], {"activation": "Mish"}, "activation"),
        ("FusedConv", [(1, 2, 5, 5), (3, 2, 3, 3)],
         {"activation": "Clip", "activation_params": [1.0]}, "expected 2 numbers"),
        ("QuickGelu", [(2, 5)], {"alpha": float("nan")}, "alpha"),
        ("BiasGelu", [(2, 5)], {}, "inputs"),
        ("SkipSimplifiedLayerNormalization", [(1, 4), (1, 4)], {}, "inputs"),
        ("Attention", [(1, 4, 4), (4, 12), (12,)], {"num_heads": 2}, "not supported"),
    ],
)  # fmt: skip
def test_what_it_cannot_be_is_refused(
    kind: str, shapes: Sequence[Sequence[int]], attrs: dict[str, Any], match: str
) -> None:
    with pytest.raises(ModelError, match=match):
        read(model(kind, shapes, **attrs), "m")


def block(m: OnnxModel, x: str, width: int) -> str:
    """A transformer's second half: a residual, a norm, two layers with a GELU between."""
    y = m.op("Add", x, m.op("Add", m.op("MatMul", x, m.weights(width, width)), m.weights(width)))
    norm = m.op("LayerNormalization", y, m.weights(width), m.weights(width), axis=-1)
    wide = m.op("Add", m.op("MatMul", norm, m.weights(width, 3 * width)), m.weights(3 * width))
    half = m.op("Mul", wide, m.const(0.5))
    erf = m.op("Erf", m.op("Div", wide, m.const(2**0.5)))
    gelu = m.op("Mul", half, m.op("Add", erf, m.const(1.0)))
    return m.op("Add", norm, m.op("MatMul", gelu, m.weights(3 * width, width)))


def image(m: OnnxModel, x: str) -> str:
    y = m.op("Relu", m.norm(m.conv(x, 4, 6), 6))
    y = m.op("Add", m.conv(y, 6, 6), y)
    y = m.op("LeakyRelu", m.conv(m.op("Relu", y), 6, 4), alpha=0.2)
    flat = m.op("Flatten", m.op("GlobalAveragePool", y))
    return m.op("Sigmoid", m.linear(flat, 4, 3))


@pytest.mark.parametrize("level", ["BASIC", "EXTENDED", "ALL"])
@pytest.mark.parametrize("net", ["block", "image"])
def test_a_file_that_the_optimiser_has_written(net: str, level: str, tmp_path: Path) -> None:
    m = OnnxModel()
    y = block(m, block(m, "x", 8), 8) if net == "block" else image(m, "x")
    shape = (1, 5, 8) if net == "block" else (1, 4, 6, 6)
    data = m.build([("x", shape)], [y])
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, f"ORT_ENABLE_{level}")
    options.optimized_model_filepath = str(tmp_path / "written.onnx")
    session = ort.InferenceSession(data, options)
    x = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    (want,) = session.run(None, {"x": x})
    written = onnx.load(tmp_path / "written.onnx")
    if any(n.domain == "com.microsoft.nchwc" for n in written.graph.node):  # of this CPU alone
        with pytest.raises(ModelError, match=r"com\.microsoft\.nchwc"):
            midge_package.load(tmp_path / "written.onnx")
        return
    found = evaluate(midge_package.load(tmp_path / "written.onnx"), {"x": x})
    np.testing.assert_allclose(next(iter(found.values())), want, rtol=1e-4, atol=1e-5)
