"""ONNX files: what is read, how it is evaluated, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from midge import driver, pipeline
from midge.core.errors import ModelError
from midge.frontends.onnx import looks_like_onnx, read
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.onnx_backend import MidgeBackend, compiled_for_host
from midge.oracle.onnxruntime import OnnxRuntimeSession
from midge.run.base import RUNNERS
from onnx_builder import NETS, OnnxModel, random_inputs

pytestmark = pytest.mark.slow

driver.load_operators()


def graph(m: OnnxModel, shape: Any = (1, 2, 3), outputs: Any = ("y",)) -> Graph:
    return read(m.build([("x", shape)], outputs), "m")


def refused(data: bytes) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read(data, "m")
    return caught.value


@pytest.mark.parametrize("name", NETS)
def test_networks_give_what_onnx_runtime_gives(name: str, tmp_path: Path) -> None:
    """By evaluation and by the generated C."""
    pytest.importorskip("onnxruntime", reason="needs pip install '.[verify]'")
    from midge.oracle import oracle_for

    path = tmp_path / f"{name}.onnx"
    path.write_bytes(NETS[name]())
    net = driver.load(path)
    oracle = oracle_for(path)
    assert oracle is not None
    session = oracle.load(path, net)
    inputs = random_inputs({n: net.types[n].shape for n in net.inputs})
    wanted = session.run(inputs)
    with np.errstate(all="ignore"):
        results = evaluate(net, inputs)
    compiled = compiled_for_host(net)
    host = RUNNERS["host"].load(compiled.package, toolchain=None, optimize=None)
    outputs = host.run(inputs).outputs
    host.close()
    for output, own in zip(net.outputs, compiled.package_outputs, strict=True):
        np.testing.assert_allclose(results[output], wanted[output], rtol=0, atol=2e-6)
        np.testing.assert_allclose(outputs[own], wanted[output], rtol=0, atol=1e-5)


def test_the_arithmetic_of_shapes_vanishes() -> None:
    m = OnnxModel()
    dim = m.op("Gather", m.op("Shape", "x"), m.const(0, np.int64))
    shape = m.op("Concat", m.op("Unsqueeze", dim, m.ints(0)), m.ints(-1), axis=0)
    m.op("Reshape", "x", shape, output="y")
    net = graph(m, ("N", 2, 3))
    assert [n.op for n in net.nodes] == ["reshape"]
    assert net.types["y"].shape == (1, 6)
    assert not net.consts


def test_renaming_operators_leave_nothing_but_the_names_of_outputs() -> None:
    m = OnnxModel()
    a = m.op("Dropout", m.op("Identity", "x"))
    m.op("Cast", m.op("Abs", a, output="z"), output="y", to=TensorProto.FLOAT)
    net = graph(m, outputs=("y", "z"))
    assert [n.op for n in net.nodes] == ["abs", "copy"]
    assert net.outputs == ("y", "z")


def test_outputs_may_be_inputs_constants_and_the_same_twice() -> None:
    m = OnnxModel()
    m.op("Identity", "x", output="same")
    m.op("Identity", m.const([1.0, 2.0]), output="constant")
    m.op("Abs", "x", output="y")
    m.op("Identity", "y", output="twice")
    net = graph(m, outputs=("same", "constant", "y", "twice"))
    x = -np.ones((1, 2, 3), np.float32)
    compiled = compiled_for_host(net)
    session = RUNNERS["host"].load(compiled.package, toolchain=None, optimize=None)
    outputs = session.run({"x": x}).outputs
    session.close()
    for own, wanted in zip(compiled.package_outputs, (x, [1, 2], -x, -x), strict=True):
        np.testing.assert_array_equal(outputs[own], wanted)


def test_a_constant_condition_takes_its_branch() -> None:
    m = OnnxModel()
    branches = {}
    for name, kind in (("then_branch", "Abs"), ("else_branch", "Neg")):
        node = helper.make_node(kind, ["x"], ["r"])
        out = onnx.ValueInfoProto(name="r")
        branches[name] = helper.make_graph([node], name, [], [out])
    m.op("If", m.const(False, np.bool_), output="y", **branches)
    assert [n.op for n in graph(m).nodes] == ["neg", "copy"]


def test_functions_of_the_model_are_read_in_place() -> None:
    m = OnnxModel()
    m.op("Twice", "x", output="y", domain="own", by=3.0)
    model = onnx.ModelProto.FromString(m.build([("x", [4])], ["y"]))
    by = helper.make_node("Constant", [], ["k"])
    attribute = by.attribute.add(name="value_float", type=onnx.AttributeProto.FLOAT)
    attribute.ref_attr_name = "by"
    body = [by, helper.make_node("Mul", ["a", "k"], ["b"])]
    imports = [helper.make_opsetid("", 17)]
    function = helper.make_function("own", "Twice", ["a"], ["b"], body, imports, attributes=["by"])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    net = read(model.SerializeToString(), "m")
    x = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(evaluate(net, {"x": x})["y"], 3 * x)


def test_functions_that_call_themselves_are_refused() -> None:
    m = OnnxModel()
    m.op("F", "x", output="y", domain="own")
    model = onnx.ModelProto.FromString(m.build([("x", [4])], ["y"]))
    body = [helper.make_node("F", ["a"], ["b"], domain="own") for _ in range(1)]
    model.functions.append(helper.make_function("own", "F", ["a"], ["b"], body, []))
    assert "without end" in refused(model.SerializeToString()).what


def test_old_operator_sets_are_read_in_todays_words() -> None:
    m = OnnxModel(opset=8)
    y = m.op("Unsqueeze", "x", axes=[0])
    y = m.op("Slice", y, starts=[0], ends=[2], axes=[2])
    m.op("Softmax", m.op("Clip", y, min=-1.0, max=1.0), output="y", axis=1)
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    e = np.exp(np.clip(x[None, :, :2], -1, 1))
    result = evaluate(graph(m, (2, 3)), {"x": x})["y"]
    np.testing.assert_allclose(result, e / e.sum((1, 2), keepdims=True), rtol=1e-6)


def test_open_dimensions_can_be_given() -> None:
    m = OnnxModel()
    m.op("Abs", "x", output="y")
    data = m.build([("x", ["N", "length", 3])], ["y"])
    error = refused(data)
    assert (error.what, error.where) == ("has open dimensions: 1,length,3", "input 'x'")
    assert "--shape x=1,length,3" in error.hint
    assert read(data, "m", {"x": (2, 7, 3)}).types["y"].shape == (2, 7, 3)


def test_inputs_can_become_constants() -> None:
    m = OnnxModel()
    m.op("Reshape", "x", "shape", output="y")
    model = onnx.ModelProto.FromString(m.build([("x", [6])], ["y"]))
    model.graph.input.append(helper.make_tensor_value_info("shape", TensorProto.INT64, [2]))
    data = model.SerializeToString()
    assert "computed at run time" in refused(data).what
    net = read(data, "m", values={"shape": np.array([2, 3])})
    assert (net.inputs, net.types["y"].shape) == (("x",), (2, 3))
    x = np.arange(6, dtype=np.float32)
    (y,) = MidgeBackend.prepare(model).run([x, np.array([3, -1])])
    np.testing.assert_array_equal(y, x.reshape(3, 2))


def test_a_node_runs_alone() -> None:
    node = helper.make_node("Add", ["a", "b"], ["y"])
    a = np.arange(3, dtype=np.float32)
    (y,) = MidgeBackend.run_node(node, [a, a])
    np.testing.assert_array_equal(y, 2 * a)


def test_sparse_constants_are_filled_up() -> None:
    m = OnnxModel()
    m.op("Add", "x", "s", output="y")
    model = onnx.ModelProto.FromString(m.build([("x", [2, 3])], ["y"]))
    values = numpy_helper.from_array(np.array([5.0, 7.0], np.float32), "s")
    indices = numpy_helper.from_array(np.array([1, 5]), "")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2, 3]))
    net = read(model.SerializeToString(), "m")
    (constant,) = net.consts.values()
    np.testing.assert_array_equal(constant, [[0, 5, 0], [0, 0, 7]])


def test_errors_name_the_operator_and_what_to_do() -> None:
    m = OnnxModel()
    m.op("Abs", "x")
    m.op("Nothing", "v0", output="y")
    error = refused(m.build([("x", [4])], ["y"]))
    assert error.what == "operator Nothing is not supported"
    assert error.where == "node 1"
    assert "docs/onnx.md" in error.hint


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
def test_control_flow_is_refused(kind: str) -> None:
    m = OnnxModel()
    m.op(kind, "x", output="y")
    assert "unroll it" in refused(m.build([("x", [4])], ["y"])).hint


def test_operators_in_any_order() -> None:
    m = OnnxModel()
    m.op("Abs", "later", output="y")
    m.op("Add", "x", "second", output="later")
    m.op("Neg", "x", output="second")
    net = read(m.build([("x", [2])], ["y"]), "m")
    assert [n.src for n in net.nodes] == ["node 2", "node 1", "node 0"]
    assert evaluate(net, {"x": np.float32([1, -2])})["y"].tolist() == [0, 0]


def test_a_branch_waits_for_what_it_reads() -> None:
    m = OnnxModel()
    inner = helper.make_node("Neg", ["later"], ["z"])
    result = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    branch = helper.make_graph([inner], "branch", [], [result])
    m.op("If", m.const(True, bool), output="y", then_branch=branch, else_branch=branch)
    m.op("Abs", "x", output="later")
    net = read(m.build([("x", [2])], ["y"]), "m")
    assert evaluate(net, {"x": np.float32([1, -2])})["y"].tolist() == [-1, -2]


def test_operators_that_wait_for_each_other_are_refused() -> None:
    m = OnnxModel()
    m.op("Abs", "later", output="y")
    m.op("Neg", "y", output="later")
    assert "'y', 'later' are computed from each other" in refused(m.build([("x", [4])], ["y"])).what
    m = OnnxModel()
    m.op("Abs", "y", output="y")
    assert "'y' is computed from itself" in refused(m.build([("x", [4])], ["y"])).what
    m = OnnxModel()
    m.op("Abs", "nowhere", output="y")
    assert "'nowhere' is used" in refused(m.build([("x", [4])], ["y"])).what


def test_data_in_other_files_is_never_opened() -> None:
    m = OnnxModel()
    m.op("Add", "x", m.const([1.0]), output="y")
    model = onnx.ModelProto.FromString(m.build([("x", [4])], ["y"]))
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    error = refused(model.SerializeToString())
    assert error.what == "the data is in another file"


def test_weights_that_are_no_numbers_are_refused() -> None:
    m = OnnxModel()
    m.op("Add", "x", m.const([0.1, np.nan, 0.2, 0.3]), output="y")
    assert "NaN" in refused(m.build([("x", [4])], ["y"])).what


def test_infinities_are_masks_and_thresholds() -> None:
    m = OnnxModel()
    m.op("Min", "x", m.const([0.1, np.inf, -np.inf, 0.3]), output="y")
    x = np.float32([1, 2, 3, np.nan])
    result = evaluate(read(m.build([("x", [4])], ["y"]), "m"), {"x": x})["y"]
    np.testing.assert_array_equal(result, np.float32([0.1, 2, -np.inf, np.nan]))


@pytest.mark.parametrize("shape", [(1 << 62, 4), (0, 1 << 62), (1,) * 9, (-3,), (1 << 30,)])
def test_impossible_shapes_are_refused(shape: tuple[int, ...]) -> None:
    m = OnnxModel()
    m.op("Abs", "x", output="y")
    refused(m.build([("x", [*shape])], ["y"]))


def test_constants_do_not_grow_without_bound() -> None:
    m = OnnxModel()
    y = m.op("ConstantOfShape", m.ints(1 << 20, 1 << 20))
    m.op("Add", "x", y, output="y")
    assert "at most 4194304" in refused(m.build([("x", [4])], ["y"])).what
    for limits, what in (((0, 1 << 30, 1), "1073741824 elements"), ((0, 9, 0), "its step is 0")):
        m = OnnxModel()
        ends = [m.op("Squeeze", m.ints(n)) for n in limits]
        m.op("Add", "x", m.op("Cast", m.op("Range", *ends), to=1), output="y")
        assert what in refused(m.build([("x", [1])], ["y"])).what
    m = OnnxModel()
    y = m.const(np.ones((1 << 18, 1)))
    m.op("Add", "x", m.op("Mul", y, m.op("Transpose", y, perm=[1, 0])), output="y")
    refused(m.build([("x", [1])], ["y"]))


def test_a_flood_of_functions_is_refused() -> None:
    """Each function calls the next one twice."""
    m = OnnxModel()
    m.op("F0", "x", output="y", domain="own")
    model = onnx.ModelProto.FromString(m.build([("x", [4])], ["y"]))
    for i in range(15):
        inner = [helper.make_node(f"F{i + 1}", [a], [b], domain="own") for a, b in ("ab", "bc")]
        inner += [helper.make_node(f"F{i + 1}", ["c"], [f"d{k}"], domain="own") for k in range(2)]
        model.functions.append(helper.make_function("own", f"F{i}", ["a"], ["c"], inner, []))
    end = [helper.make_node("Abs", ["a"], ["c"])]
    imports = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("own", "F15", ["a"], ["c"], end, imports))
    refused(model.SerializeToString())


def test_truncation_at_every_byte_gives_a_model_error() -> None:
    data = NETS["cnn1d"]()
    step = max(1, len(data) // 600)
    for size in [*range(0, len(data), step), len(data) - 1]:
        try:
            read(data[:size], "m")
        except ModelError:
            continue


@pytest.mark.parametrize("name", ["resnet", "unet", "lstm", "transformer"])
def test_flipped_bits_give_a_model_error_or_a_graph(name: str) -> None:
    data = NETS[name]()
    rng = np.random.default_rng(0)
    for _ in range(120):
        broken = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            broken[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            read(bytes(broken), "m")
        except ModelError:
            continue


def test_the_format_is_recognised() -> None:
    assert looks_like_onnx(NETS["vgg"]())
    assert not looks_like_onnx(b"\x1c\x00\x00\x00TFL3")
    assert not looks_like_onnx(b"")
    assert "not an ONNX file" in refused(b"PK\x03\x04").what


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (1, 64), (1, 16, 4), (64,)])
def test_an_input_that_is_read_as_an_image_has_the_rows_of_that(shape: tuple[int, ...]) -> None:
    """Operators by bands read rows of the input: those of the image, not of its own shape."""
    m = OnnxModel()
    x = m.op("Reshape", "x", m.ints(1, 1, 8, 8))
    x = m.op("Relu", m.conv(x, 1, 4))
    m.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2], output="y")
    net = graph(m, shape)
    inputs = random_inputs({"x": shape})
    compiled = compiled_for_host(net)
    session = RUNNERS["host"].load(compiled.package, toolchain=None, optimize=None)
    (y,) = session.run(inputs).outputs.values()
    session.close()
    np.testing.assert_allclose(y, evaluate(net, inputs)["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("index", "ops"),
    [(-1, ["slice", "reshape"]), ((2, 3), ["slice", "reshape"]), ((0, -1), ["gather"])],
)
def test_gathers_of_constant_indices(index: object, ops: list[str]) -> None:
    """x[..., -1] is a slice; no index that is left is negative, which LiteRT would refuse."""
    model = OnnxModel()
    y = model.op("Gather", "x", model.const(index, np.int64), axis=2)
    graph = read(model.build([("x", (1, 3, 5))], [y]), "g")
    assert [n.op for n in graph.nodes] == ops
    x = np.arange(15, dtype=np.float32).reshape(1, 3, 5)
    np.testing.assert_array_equal(evaluate(graph, {"x": x})[graph.outputs[0]], x[..., index])
    assert all((graph.consts[n] >= 0).all() for node in graph.nodes for n in node.inputs[1:])


def test_batch_norms_of_dequantised_parameters() -> None:
    """As quantisers leave them that could not fold them into a layer."""
    model, parameters = OnnxModel(), []
    for value in ((1, 2), (3, 4), (5, 6), (70, 80)):
        scale = model.const(0.125)
        parameters.append(model.op("DequantizeLinear", model.const(value, np.int8), scale))
    y = model.op("BatchNormalization", "x", *parameters)
    graph = pipeline.prepare(read(model.build([("x", (1, 2, 4))], [y]), "g")).graph
    x = np.random.default_rng(0).standard_normal((1, 2, 4)).astype(np.float32)
    scale, bias, mean, variance = (
        np.array(v)[:, None] / 8 for v in ((1, 2), (3, 4), (5, 6), (70, 80))
    )
    want = (x - mean) / np.sqrt(variance + 1e-5) * scale + bias
    np.testing.assert_allclose(evaluate(graph, {"x": x})[graph.outputs[0]], want, rtol=1e-5)
    assert not {"sqrt", "div"} & {n.op for n in graph.nodes}


def test_batch_norms_of_dequantised_parameters_are_the_frameworks_to_the_bit() -> None:
    """So that those which are quantised next are not a step away."""
    pytest.importorskip("onnxruntime", reason="needs pip install '.[verify]'")
    rng, model, parameters = np.random.default_rng(1), OnnxModel(), []
    integers = model.const(rng.integers(20, 128, 8), np.int8)
    parameters.append(model.op("DequantizeLinear", integers, model.const(0.013)))
    parameters += [model.const(v) for v in (rng.normal(size=8), rng.normal(size=8))]
    parameters.append(model.const(rng.uniform(0.5, 2, 8)))
    y = model.op("BatchNormalization", "x", *parameters)
    data = model.build([("x", (1, 8, 50))], [y])
    inputs = {"x": rng.standard_normal((1, 8, 50)).astype(np.float32)}
    graph = pipeline.prepare(read(data, "g")).graph
    want = OnnxRuntimeSession(data, graph).run(inputs)[y]
    np.testing.assert_array_equal(evaluate(graph, inputs)[graph.outputs[0]], want)
