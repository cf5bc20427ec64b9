"""Operators that are not supported: all of a model at once, and what can be done about each."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import tflite
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from midge import driver
from midge.core.errors import ModelError
from midge.frontends import onnx as onnx_frontend
from midge.frontends import tflite as tflite_frontend
from midge.frontends import torch as torch_frontend
from midge.frontends.onnx_static import STATIC
from midge.frontends.ways_out import ONNX, TFLITE, TORCH, unsupported
from midge.graph.evaluate import evaluate
from midge.graph.importers import CONV_3D, CONV_TRANSPOSE_3D, IMPORTERS, POOL_3D
from onnx_builder import OnnxModel
from test_frontend_torch import CASES, nodes_of, rewritten
from tflite_builder import TFLiteModel

driver.load_operators()


@pytest.mark.parametrize("kind", [k for k in TFLITE if not k.startswith("custom operator ")])
def test_a_way_out_is_of_an_operator_of_tflite_that_midge_lacks(kind: str) -> None:
    assert hasattr(tflite.BuiltinOperator, kind)
    assert kind not in IMPORTERS["tflite"]


@pytest.mark.parametrize("kind", [k for k in ONNX if not k.startswith("com.microsoft")])
def test_a_way_out_is_of_an_operator_of_onnx_that_midge_lacks(kind: str) -> None:
    domain, _, name = kind.rpartition(".")
    assert onnx.defs.has(name, domain)
    assert kind not in IMPORTERS["onnx"]
    assert kind not in STATIC


@pytest.mark.parametrize("start", TORCH)
def test_a_way_out_is_of_an_operator_of_pytorch_that_midge_lacks(start: str) -> None:
    assert start.endswith("*")
    assert not [k for k in IMPORTERS["torch"] if f"{k}.".startswith(start[:-1])]


def refused(read: Any, data: bytes) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read(data, "net")
    assert len(str(caught.value)) < 1500
    return caught.value


def test_all_of_an_onnx_model() -> None:
    m = OnnxModel()
    y = m.op("NonMaxSuppression", "x", "x")
    y = m.op("Nothing", y)
    m.nodes[-1].name = "a name"
    for _ in range(4):
        y = m.op("Nothing", y)
    inner = helper.make_node("RandomNormal", [], ["z"])
    result = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branch = helper.make_graph([inner], "branch", [], [result])
    m.op("If", m.const(True, bool), output="y", then_branch=branch, else_branch=branch)
    m.op("Local", "x", domain="own")
    model = onnx.ModelProto.FromString(m.build([("x", [4])], ["y"]))
    body = [helper.make_node("Other", ["a"], ["b"])]
    imports = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "Local", ["a"], ["b"], body, imports))
    error = refused(onnx_frontend.read, model.SerializeToString())
    assert error.what == (
        "4 kinds of operators are not supported: NonMaxSuppression (node 0); Nothing (5 times: "
        "node 1 'a name', node 2, node 3 and 2 more); RandomNormal (2 times: node 6, node 6); "
        "Other (function 'Local')"
    )
    assert error.where == "net"
    assert "NonMaxSuppression: end the model before it" in error.hint
    assert "RandomNormal: draw random numbers outside" in error.hint
    assert "Nothing, Other: write it by operators that docs/onnx.md lists" in error.hint


def test_one_of_an_onnx_model() -> None:
    m = OnnxModel()
    m.op("Loop", "x", output="y")
    error = refused(onnx_frontend.read, m.build([("x", [4])], ["y"]))
    assert (error.what, error.where) == ("operator Loop is not supported", "node 0")
    assert "unroll it" in error.hint


def test_scales_that_the_model_computes() -> None:
    """As ONNX Runtime's quantize_dynamic writes them: a function by ONNX, of which no part is what
    its author knows."""
    m = OnnxModel()
    y = m.op("DynamicQuantizeLinear", "x")
    m.op("DequantizeLinear", y, m.const(1.0, np.float32), output="y")
    error = refused(onnx_frontend.read, m.build([("x", [4])], ["y"]))
    assert error.what == "operator DynamicQuantizeLinear is not supported"
    assert "quantize_static" in error.hint


def test_integers_that_are_interpolated() -> None:
    """As ONNX Runtime's QuantFormat.QOperator leaves a Resize."""
    m = OnnxModel()
    small = m.op("QuantizeLinear", "x", m.const(0.1, np.float32), m.const(0, np.int8))
    wide = m.op("Resize", small, "", m.const([1, 1, 2, 2], np.float32), mode="linear")
    m.op("DequantizeLinear", wide, m.const(0.1, np.float32), m.const(0, np.int8), output="y")
    error = refused(onnx_frontend.read, m.build([("x", [1, 1, 4, 4])], ["y"]))
    assert "linear of i8" in error.what
    assert "QuantFormat.QDQ" in error.hint


def test_what_is_computed_from_constants_only_is_not_counted() -> None:
    """NonZero of constants is fine: it stands in the list only where that is what fails."""
    m = OnnxModel()
    m.op("NonZero", m.const([1.0]))
    m.op("Nothing", "x", output="y")
    assert "NonZero" not in refused(onnx_frontend.read, m.build([("x", [4])], ["y"])).what
    m = OnnxModel()
    m.op("NonZero", "x", output="y")
    error = refused(onnx_frontend.read, m.build([("x", [4])], ["y"]))
    assert error.what == "operator NonZero is not supported"
    assert "mask" in error.hint


def test_all_of_a_tflite_model() -> None:
    m = TFLiteModel()
    y = m.input([4], "float32")
    for kind in ("WHILE", "RFFT2D", "custom FlexErf", "custom FlexErf", "custom Mine"):
        before, y = y, m.value([4], "float32")
        m.op(kind.partition(" ")[0].upper(), [before], [y])
        if kind.startswith("custom"):
            m.model.operatorCodes[-1].customCode = kind.partition(" ")[2].encode()
    error = refused(tflite_frontend.read, m.build([y]))
    assert error.what == (
        "4 kinds of operators are not supported: WHILE (operator 0); RFFT2D (operator 1); "
        "custom operator FlexErf (2 times: operator 2, operator 3); "
        "custom operator Mine (operator 4)"
    )
    for part in ("WHILE: unroll it", "unroll=True", "RFFT2D: compute the spectrum",
                 "custom operator FlexErf: convert with tf.lite.OpsSet.TFLITE_BUILTINS",
                 "custom operator Mine: no operator of TFLite"):  # fmt: skip
        assert part in error.hint


@pytest.mark.parametrize(
    ("kind", "weights", "way"),
    [("Conv", (4, 2, 3, 3, 3), CONV_3D), ("ConvTranspose", (2, 4, 3, 3, 3), CONV_TRANSPOSE_3D),
     ("MaxPool", (), POOL_3D), ("AveragePool", (), POOL_3D)],
)  # fmt: skip
def test_volumes_of_onnx(kind: str, weights: tuple[int, ...], way: str) -> None:
    m = OnnxModel()
    more = {} if weights else {"kernel_shape": [2, 2, 2]}
    m.op(kind, "x", *([m.weights(*weights)] if weights else []), output="y", **more)
    error = refused(onnx_frontend.read, m.build([("x", [1, 2, 5, 6, 7])], ["y"]))
    assert "3 spatial dimensions" in error.what
    assert way in error.hint


@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("CONV_3D", CONV_3D),
        ("CONV_3D_TRANSPOSE", CONV_TRANSPOSE_3D),
        ("custom FlexMaxPool3D", POOL_3D),
    ],
)
def test_volumes_of_tflite(kind: str, way: str) -> None:
    m = TFLiteModel()
    x, y = m.input([1, 5, 6, 7, 2], "float32"), m.value([1, 5, 6, 7, 2], "float32")
    word, _, custom = kind.partition(" ")
    m.op(word.upper(), [x], [y])
    if custom:
        m.model.operatorCodes[-1].customCode = custom.encode()
    assert way in refused(tflite_frontend.read, m.build([y])).hint


def test_a_convolution_of_volumes_is_a_sum() -> None:
    """As its way out says; so is the transposed one."""
    m, stride = OnnxModel(), 2
    w = m.rng.normal(size=(4, 2, 3, 3, 3)).astype(np.float32)
    v = m.rng.normal(size=(2, 4, 3, 3, 3)).astype(np.float32)
    depth = (5 - 3) // stride + 1
    parts = []
    for k in range(3):
        ends = (m.ints(k), m.ints(k + stride * (depth - 1) + 1), m.ints(2), m.ints(stride))
        slices = m.op("Transpose", m.op("Slice", "x", *ends), perm=[0, 2, 1, 3, 4])
        batch = m.op("Reshape", slices, m.ints(depth, 2, 6, 7))
        parts.append(m.op("Conv", batch, m.const(w[:, :, k]), strides=[stride] * 2))
    m.op("Sum", *parts, output="y")
    planes: list[list[str]] = [[] for _ in range((3 - 1) * stride + 3)]
    for d in range(3):
        plane = m.op("Reshape", m.op("Slice", "z", m.ints(d), m.ints(d + 1), m.ints(2)),
                     m.ints(1, 2, 4, 4))  # fmt: skip
        for k in range(3):
            y = m.op("ConvTranspose", plane, m.const(v[:, :, k]), strides=[stride] * 2)
            planes[d * stride + k].append(y)
    m.op("Concat", *(m.op("Sum", *own) for own in planes), output="t", axis=0)
    ports = [("x", [1, 2, 5, 6, 7]), ("z", [1, 2, 3, 4, 4])]
    split = onnx_frontend.read(m.build(ports, ["y", "t"]), "net")
    whole = OnnxModel()
    whole.op("Conv", "x", whole.const(w), output="y", strides=[stride] * 3)
    whole.op("ConvTranspose", "z", whole.const(v), output="t", strides=[stride] * 3)
    given = {n: m.rng.normal(size=s).astype(np.float32) for n, s in ports}
    want = ReferenceEvaluator(onnx.load_from_string(whole.build(ports, ["y", "t"]))).run(
        None, given
    )
    have = evaluate(split, given)
    np.testing.assert_allclose(have["y"], want[0][0].transpose(1, 0, 2, 3), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(have["t"], want[1][0].transpose(1, 0, 2, 3), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_a_pool_of_volumes_is_a_series(kind: str) -> None:
    m = OnnxModel()
    planes = m.op("Reshape", "x", m.ints(1, 10, 6, 7))
    planes = m.op(kind, planes, kernel_shape=[2, 3], strides=[2, 1])
    columns = m.op("Reshape", planes, m.ints(1, 2, 5, 15))
    m.op(kind, columns, kernel_shape=[3, 1], strides=[2, 1], output="y")
    split = onnx_frontend.read(m.build([("x", [1, 2, 5, 6, 7])], ["y"]), "net")
    whole = OnnxModel()
    whole.op(kind, "x", output="y", kernel_shape=[3, 2, 3], strides=[2, 2, 1])
    model = onnx.load_from_string(whole.build([("x", [1, 2, 5, 6, 7])], ["y"]))
    given = {"x": m.rng.normal(size=(1, 2, 5, 6, 7)).astype(np.float32)}
    (want,) = ReferenceEvaluator(model).run(None, given)
    np.testing.assert_allclose(
        evaluate(split, given)["y"].reshape(want.shape), want, rtol=1e-5, atol=1e-5
    )


def test_what_tflite_had_before_int8() -> None:
    m = TFLiteModel()
    x, y = m.input([1, 4], "uint8", 0.1, 3), m.value([1, 4], "uint8", 0.1, 3)
    m.op("SOFTMAX", [x], [y], "SoftmaxOptions", beta=1.0)
    error = refused(tflite_frontend.read, m.build([y]))
    assert error.what == "input 0 is u8, which is not supported"
    assert "inference_input_type = inference_output_type = tf.int8" in error.hint


@pytest.mark.parametrize(("kind", "hint"), [("DENSIFY", "sparse"), ("CUSTOM", "a variant")])
def test_what_one_can_do_with_the_file_alone(kind: str, hint: str) -> None:
    m = TFLiteModel()
    x, y = m.input([4], "float32"), m.value([4], "float32")
    m.op(kind, [x], [y])
    assert hint in refused(tflite_frontend.read, m.build([y])).hint


def test_a_loop_with_subgraphs_of_its_own() -> None:
    """As a recurrent layer of a fixed batch comes out: what runs the other subgraphs is told."""
    m = TFLiteModel()
    x, y = m.input((4,), "float32"), m.value((4,), "float32")
    m.op("WHILE", [x], [y], "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=1)
    m.model.subgraphs.append(m.graph)
    error = refused(tflite_frontend.read, m.build([y]))
    assert error.what == "operator WHILE is not supported"
    assert "unroll=True" in error.hint


def test_all_of_a_pytorch_program() -> None:
    def change(model: Any) -> None:
        for number, node in enumerate(nodes_of(model)):
            node["target"] = f"torch.ops.aten.{('stft', 'cubist')[number % 2]}.default"

    error = refused(torch_frontend.read, rewritten(CASES["norms"].program, change))
    assert "2 kinds of operators are not supported: aten.stft.default (" in error.what
    assert "aten.cubist.default (" in error.what
    assert "aten.stft.default: compute the spectrum" in error.hint
    assert "run_decompositions" in error.hint


def test_several_places_of_one_kind() -> None:
    error = unsupported([("A", "1"), ("A", "2")], {}, where="net", hint="look")
    assert (error.what, error.where) == ("operator A is not supported, 2 times: 1, 2", "net")
    assert error.hint == "look"
