"""QuantizeLinear and DequantizeLinear whose results have another type than the usual one."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from midge import ops
from midge.core.errors import ModelError
from midge.core.types import Array
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph

X = np.float32([-5, -1, 0.05, 1, 20, 9000, -9000])


def graph(kind: str, given: Array, kinds: tuple[int, int], opset: int, **attrs: Any) -> Graph:
    """kind(x, scale 0.1), from and to element types `kinds`."""
    ops.load()
    node = helper.make_node(kind, ["x", "s"], ["y"], **attrs)
    ends = [
        helper.make_tensor_value_info(n, t, given.shape) for n, t in zip("xy", kinds, strict=True)
    ]
    scale = helper.make_tensor("s", TensorProto.FLOAT, [], [0.1])
    made = helper.make_graph([node], "g", ends[:1], ends[1:], [scale])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    onnx.checker.check_model(model)
    return read(model.SerializeToString(), "m")


@pytest.mark.parametrize(
    ("code", "dtype"),
    [(TensorProto.INT8, np.int8), (TensorProto.UINT8, np.uint8), (TensorProto.INT16, np.int16)],
)
def test_quantised_to_what_is_asked_for(code: int, dtype: Any) -> None:
    """Without a zero point it is 0 (onnx/docs/Operators.md, QuantizeLinear-21)."""
    y = evaluate(
        graph("QuantizeLinear", X, (TensorProto.FLOAT, code), 21, output_dtype=code), {"x": X}
    )["y"]
    limits = np.iinfo(dtype)
    want = np.clip(np.rint(X / np.float32(0.1)), limits.min, limits.max).astype(dtype)
    assert y.dtype == want.dtype
    np.testing.assert_array_equal(y, want)


def test_what_is_not_supported_is_refused() -> None:
    code = TensorProto.UINT16
    with pytest.raises(ModelError, match="element type 4 is not supported"):
        graph("QuantizeLinear", X, (TensorProto.FLOAT, code), 21, output_dtype=code)
    bytes_, half = np.zeros(3, np.int8), TensorProto.FLOAT16
    with pytest.raises(ModelError, match="another result than float32"):
        graph("DequantizeLinear", bytes_, (TensorProto.INT8, half), 23, output_dtype=half)
