"""Operators on tensors without axes, real and quantised: through all passes, and as C."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from midge import driver, pipeline
from midge.core.options import CompileOptions
from midge.frontends import onnx as frontend
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.passes import run
from midge.run import RUNNERS
from midge.target import load_target

FUNCTIONS = (
    "Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Neg", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Softplus",
    "Softsign", "Sqrt", "Tanh",
)  # fmt: skip
PAIRS = ("Add", "Sub", "Mul", "Div", "Max", "Min")


def graph(kind: str, arity: int, quantised: bool) -> Graph:
    """y = kind(x, ...) of int8 scalars, or quantised again."""
    driver.load_operators()
    nodes = [helper.make_node("DequantizeLinear", ["x", "s", "z"], ["f"])]
    nodes.append(helper.make_node(kind, ["f"] * arity, ["g" if quantised else "y"]))
    if quantised:
        nodes.append(helper.make_node("QuantizeLinear", ["g", "s", "z"], ["y"]))
    kinds = (TensorProto.INT8, TensorProto.INT8 if quantised else TensorProto.FLOAT)
    ends = [helper.make_tensor_value_info(n, t, []) for n, t in zip("xy", kinds, strict=True)]
    consts = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.05]),
        helper.make_tensor("z", TensorProto.INT8, [], [3]),
    ]
    made = helper.make_graph(nodes, "g", ends[:1], ends[1:], consts)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return frontend.read(model.SerializeToString(), "scalar")


CASES = [(k, 1) for k in FUNCTIONS] + [(k, 2) for k in PAIRS]


@pytest.mark.parametrize("quantised", [False, True], ids=["", "quantised"])
@pytest.mark.parametrize(("kind", "arity"), CASES)
def test_scalars_stay_scalars(kind: str, arity: int, quantised: bool) -> None:
    before = graph(kind, arity, quantised)
    plain, _ = pipeline.spell_out(pipeline.prepare(before).graph)
    after = run(pipeline.CHEAPER_PASSES, plain)
    for x in (-128, 0, 3, 127):
        given = {"x": np.array(x, np.int8)}
        (want,), (have,) = evaluate(before, given).values(), evaluate(after, given).values()
        assert have.shape == want.shape == ()
        np.testing.assert_allclose(have, want, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", ["Add", "Sigmoid", "Relu"])
def test_scalars_as_c(kind: str) -> None:
    made: Any = driver.compile_graph(
        graph(kind, 1 + (kind == "Add"), True), load_target("host"),
        CompileOptions(search=False, prove=False),
    )  # fmt: skip
    session = RUNNERS["host"].load(made.package)
    for x in (-128, 5, 127):
        given = {"x": np.array(x, np.int8)}
        (want,) = evaluate(made.graph, given).values()
        (have,) = session.run(given).outputs.values()
        np.testing.assert_array_equal(have, want)
    session.close()
