"""Operators that move nothing: they rename a value, or state what is known when compiling."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from midge.core.types import Array
from midge.frontends.onnx_scope import Call
from midge.graph.importers import NotConstantError
from midge.graph.onnx_types import DTYPES

if TYPE_CHECKING:
    from midge.frontends.onnx_nodes import Reader

Rule = Callable[["Reader", Call], bool]


def constant(reader: Reader, call: Call) -> bool:
    """Constant, in each of its spellings."""
    (kind,) = call.attrs
    if kind not in ("value", "sparse_value", *_SCALARS):
        raise call.error(f"attribute {kind} is not supported")
    value = call.attrs[kind]
    array: Array = np.asarray(value, _SCALARS[kind]) if kind in _SCALARS else value
    reader.define(call.scope, call.outputs[0], array, call.where)
    return True


_SCALARS = {
    "value_float": np.float32, "value_floats": np.float32, "value_int": np.int64,
    "value_ints": np.int64,
}  # fmt: skip


def identity(reader: Reader, call: Call) -> bool:
    """The output is the input under another name."""
    if not call.inputs or not call.inputs[0]:
        raise call.error("has no input")
    call.scope.bind(call.outputs[0], call.inputs[0])
    return True


def dropout(reader: Reader, call: Call) -> bool:
    """Inference: nothing is dropped; the mask is all true."""
    training = call.inputs[2] if len(call.inputs) > 2 else ""
    if training and (training not in reader.known or reader.known[training].any()):
        raise call.error("training mode is not supported", "export the model for inference")
    if len(call.outputs) > 1 and call.outputs[1]:
        shape = _shape(reader, call.inputs[0])
        reader.define(call.scope, call.outputs[1], np.ones(shape, bool), call.where)
    return identity(reader, call)


def cast(reader: Reader, call: Call) -> bool:
    """A cast to the type that the value has."""
    t = reader.types.get(call.inputs[0])
    if call.kind == "CastLike":
        other = reader.types.get(call.inputs[1])
        same = t is not None and other is not None and t.dtype is other.dtype
    else:
        same = t is not None and DTYPES.get(call.attrs.get("to", 0)) is t.dtype
    return same and identity(reader, call)


def shape(reader: Reader, call: Call) -> bool:
    """Shape, with start and end."""
    dims = _shape(reader, call.inputs[0])[slice(call.attrs.get("start"), call.attrs.get("end"))]
    reader.define(call.scope, call.outputs[0], np.array(dims, np.int64), call.where)
    return True


def size(reader: Reader, call: Call) -> bool:
    count = int(np.prod(_shape(reader, call.inputs[0]), dtype=object))
    reader.define(call.scope, call.outputs[0], np.array(count, np.int64), call.where)
    return True


def eye_like(reader: Reader, call: Call) -> bool:
    """EyeLike: ones on a diagonal, of the shape that the input has."""
    dims = _shape(reader, call.inputs[0])
    own = reader.types.get(call.inputs[0])
    dtype = None if own is None else own.dtype
    if "dtype" in call.attrs:
        dtype = DTYPES.get(call.attrs["dtype"])
    if len(dims) != 2 or dtype is None:
        raise call.error("is not a matrix, or of an element type that is not supported")
    reader.folder.spend(dims[0] * dims[1], call.where)
    k = int(np.clip(call.attrs.get("k", 0), -dims[0], dims[1]))
    array = np.eye(*dims, k, dtype=dtype.numpy)
    reader.define(call.scope, call.outputs[0], array, call.where)
    return True


def needs_constants(reader: Reader, call: Call) -> bool:
    """Operators whose result's shape is the value of their inputs."""
    for name in call.inputs:
        if name not in reader.known:
            what = f"{name!r}, which states a shape, is computed at run time"
            hint = "export the model with static shapes"
            raise NotConstantError(name, what, where=call.where, hint=hint)
    return False


def _shape(reader: Reader, name: str) -> tuple[int, ...]:
    return reader.known[name].shape if name in reader.known else reader.types[name].shape


def condition(reader: Reader, call: Call) -> bool:
    """If with a constant condition."""
    if call.inputs[0] not in reader.known:
        raise call.error(
            "the condition is computed at run time, which is not supported",
            "export the model without control flow",
        )
    taken: Any = reader.known[call.inputs[0]]
    if taken.size != 1:
        raise call.error(f"the condition has {taken.size} elements")
    branch = call.attrs["then_branch" if taken.reshape(-1)[0] else "else_branch"]
    reader.branch(branch, call)
    return True


STATIC: dict[str, Rule] = {
    "Constant": constant,
    "Identity": identity,
    # A map from labels to probabilities: here the probabilities in the order of the labels.
    "ai.onnx.ml.ZipMap": identity,
    "Dropout": dropout,
    "Cast": cast,
    "CastLike": cast,
    "Shape": shape,
    "Size": size,
    "If": condition,
    "EyeLike": eye_like,
    "Range": needs_constants,
    "ConstantOfShape": needs_constants,
}
