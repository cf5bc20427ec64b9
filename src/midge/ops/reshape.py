"""reshape: the same bytes under another shape; costs nothing. Also squeeze and expand_dims."""

from __future__ import annotations

from collections.abc import Sequence

from midge.core.types import Array, TensorType
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Node, OpDef
from midge.ops._common import arity, fail


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    shape = attrs.get("shape")
    if not isinstance(shape, tuple):
        raise fail(f"attribute shape is {shape!r}, expected integers")
    result = TensorType(shape, inputs[0].dtype)
    if result.elements != inputs[0].elements or any(n < 0 for n in shape):
        raise fail(f"{inputs[0]} has {inputs[0].elements} elements, {result} does not")
    return (result,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    shape = attrs["shape"]
    assert isinstance(shape, tuple)
    return (inputs[0].reshape(shape),)


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    """The output's static shape is the new shape, whatever states it in the file."""
    op.expect_inputs(1, 2)
    return (op.node("reshape", {"shape": op.output.shape}, inputs=op.inputs[:1]),)


OPS.add("reshape", OpDef("reshape", infer, reference, alias=True))
for _kind in ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"):
    IMPORTERS["tflite"].add(_kind, from_tflite)
