"""reshape: the same bytes under another shape; costs nothing. Also squeeze and expand_dims."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integers
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.index_ranges import INDEX_RULES, moved
from midge.graph.ir import OPS, Attrs, Node, OpDef
from midge.graph.quantizing import QUANTIZING, SAME
from midge.ops._common import arity, fail


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    shape = integers(attrs, "shape")
    result = TensorType(shape, inputs[0].dtype)
    if result.elements != inputs[0].elements or any(n < 0 for n in shape):
        raise fail(f"{inputs[0]} has {inputs[0].elements} elements, {result} does not")
    return (result,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    return (inputs[0].reshape(integers(attrs, "shape")),)


def shape_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """SHAPE: a constant, since shapes are known once the inputs' are."""
    op.expect_inputs(1)
    if op.output.dtype not in (DType.I32, DType.I64):
        raise op.error(f"the output is {op.output}", "int32 and int64 are supported")
    op.new_consts[op.outputs[0]] = np.array(op.type(0).shape, op.output.dtype.numpy)
    return ()


def from_tflite(op: Foreign) -> tuple[Node, ...]:
    """RESHAPE: to its second input, or what its options say; -1 is what is left
    (lite/kernels/reshape.cc)."""
    op.expect_inputs(1, 2)
    wanted = tuple(op.attrs.get("new_shape", ()))
    if op.has(1) and (op.inputs[1] in op.consts or op.outputs[0] in op.open):
        wanted = tuple(int(n) for n in op.const(1, "shape").reshape(-1))
    elif op.outputs[0] not in op.open:
        wanted = op.output.shape
    elif wanted == (0,):  # how old files write a scalar
        wanted = ()
    return reshaped(op, _filled(wanted, op.type(0).elements))


def _filled(wanted: Sequence[int], elements: int) -> list[int]:
    """The shape with one -1 replaced by what is left of `elements`."""
    shape = list(wanted)
    if shape.count(-1) == 1:
        rest = prod(n for n in shape if n != -1)
        shape[shape.index(-1)] = elements // rest if rest else 0
    return shape


def squeeze_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """SQUEEZE: without the axes named, or without all of length 1."""
    op.expect_inputs(1)
    shape = op.type(0).shape
    named = [int(a) for a in op.attrs.get("squeeze_dims", ())]
    axes = _placed(op, named, len(shape)) if named else {i for i, n in enumerate(shape) if n == 1}
    return _without(op, axes)


def expand_dims_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """EXPAND_DIMS: one more axis, of length 1."""
    op.expect_inputs(2)
    shape = op.type(0).shape
    axes = _axes(op, len(shape) + 1)
    if len(axes) != 1:
        raise op.error(f"axes {sorted(axes)}, expected one")
    (axis,) = axes
    return reshaped(op, (*shape[:axis], 1, *shape[axis:]))


def _without(op: Foreign, axes: set[int]) -> tuple[Node, ...]:
    shape = op.type(0).shape
    if any(shape[a] != 1 for a in axes):
        raise op.error(f"axes {sorted(axes)} of {op.type(0)} are not all of length 1")
    return reshaped(op, [n for i, n in enumerate(shape) if i not in axes])


def reshape_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Reshape: 0 keeps a dimension (without allowzero), -1 is what is left."""
    op.expect_inputs(2)
    x = op.type(0)
    wanted = [int(n) for n in op.const(1, "shape").reshape(-1)]
    if not op.attrs.get("allowzero", 0):
        wanted = [x.shape[i] if n == 0 and i < len(x.shape) else n for i, n in enumerate(wanted)]
    return reshaped(op, _filled(wanted, x.elements))


def reshaped(op: Foreign, shape: Sequence[int]) -> tuple[Node, ...]:
    """The operator's input 0 under another shape."""
    return (op.node("reshape", {"shape": tuple(shape)}, inputs=op.inputs[:1]),)


def flatten_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Flatten: two dimensions, those before `axis` and the others."""
    op.expect_inputs(1)
    shape = op.type(0).shape
    axis = int(op.attrs.get("axis", 1))
    if not -len(shape) <= axis <= len(shape):
        raise op.error(f"axis {axis} does not exist in {op.type(0)}")
    axis += len(shape) if axis < 0 else 0
    return reshaped(op, (prod(shape[:axis]), prod(shape[axis:])))


def squeeze_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1, 2)
    shape = op.type(0).shape
    axes = {i for i, n in enumerate(shape) if n == 1}
    if op.has(1):
        axes = _axes(op, len(shape))
    return _without(op, axes)


def unsqueeze_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2)
    rest = list(op.type(0).shape)
    rank = len(rest) + op.const(1, "axes").size
    axes = _axes(op, rank)
    if len(axes) != rank - len(rest):
        raise op.error(f"axes {op.const(1, 'axes').tolist()} name one twice")
    return reshaped(op, [1 if i in axes else rest.pop(0) for i in range(rank)])


def _axes(op: Foreign, rank: int) -> set[int]:
    return _placed(op, [int(a) for a in op.const(1, "axes").reshape(-1)], rank)


def _placed(op: Foreign, axes: Sequence[int], rank: int) -> set[int]:
    if not all(-rank <= a < rank for a in axes):
        raise op.error(f"axes {list(axes)} do not exist in {rank} dimensions")
    return {a % rank for a in axes}


def to_tflite(op: Exporting) -> None:
    shape = op.output.shape
    target = op.const(np.array(shape, np.int32), "shape")
    op.emit("RESHAPE", [op.inputs[0], target], options="ReshapeOptions", new_shape=shape)


OPS.add("reshape", OpDef("reshape", infer, reference, halves=True, alias=True))
for _kind, _importer in (
    ("RESHAPE", from_tflite),
    ("SQUEEZE", squeeze_from_tflite),
    ("EXPAND_DIMS", expand_dims_from_tflite),
):
    IMPORTERS["tflite"].add(_kind, _importer)
for _kind, _importer in (
    ("Reshape", reshape_from_onnx),
    ("Flatten", flatten_from_onnx),
    ("Squeeze", squeeze_from_onnx),
    ("Unsqueeze", unsqueeze_from_onnx),
):
    IMPORTERS["onnx"].add(_kind, _importer)
EXPORTERS["tflite"].add("reshape", to_tflite)
QUANTIZING.add("reshape", SAME)
IMPORTERS["tflite"].add("SHAPE", shape_from_tflite)
INDEX_RULES.add("reshape", moved)
