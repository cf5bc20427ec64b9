"""The parts of an ONNX file: the model, tensors, types and attributes, each checked."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from midge.core.damage import damage
from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.onnx_types import DTYPES
from midge.graph.untrusted import checked_shape

AGAIN = "get the file again or export again"


def parsed(data: bytes, name: str) -> Any:
    """The ModelProto; ModelError unless it is one with a graph."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        what = "this is not an ONNX file, or a damaged one"
        raise ModelError(what, where=name, hint=AGAIN) from error
    if not model.HasField("graph") or not model.opset_import:
        what = "this is not an ONNX file (no graph or no operator set)"
        raise ModelError(what, where=name, hint=AGAIN)
    return model


def type_name(code: int) -> str:
    """The name of a TensorProto.DataType."""
    import onnx

    names = {v: k for k, v in onnx.TensorProto.DataType.items()}
    return str(names.get(code, f"number {code}")).lower()


def dtype_of(code: int, where: str) -> DType:
    """ModelError for an element type that Midge does not have."""
    if code not in DTYPES:
        known = ", ".join(d.value for d in DTYPES.values())
        what = f"element type {type_name(code)} is not supported"
        raise ModelError(what, where=where, hint=f"supported: {known}")
    return DTYPES[code]


def array_of(tensor: Any, where: str) -> Array:
    """The data of a TensorProto, of any element type that NumPy has."""
    import onnx
    from onnx import numpy_helper

    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise ModelError(
            "the data is in another file",
            where=where,
            hint="load the model by its path, beside its data files",
        )
    checked_shape(tuple(tensor.dims), where)
    if tensor.data_type == onnx.TensorProto.STRING:
        raise ModelError("strings are not supported", where=where, hint="remove them")
    try:
        array = np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError, OverflowError) as error:
        what = f"the tensor is damaged: {damage(error)}"
        raise ModelError(what, where=where, hint=AGAIN) from error
    return np.ascontiguousarray(array).reshape(array.shape)


def dense_array(sparse: Any, where: str) -> Array:
    """The data of a SparseTensorProto, zeros included."""
    shape = checked_shape(tuple(sparse.dims), where)
    values, indices = array_of(sparse.values, where), array_of(sparse.indices, where)
    if indices.ndim == 2 and indices.shape[1] == len(shape):
        flat = np.ravel_multi_index(tuple(indices.T.astype(np.int64)), shape)
    elif indices.ndim == 1:
        flat = indices.astype(np.int64)
    else:
        raise ModelError(f"sparse indices {indices.shape} for {shape}", where=where, hint=AGAIN)
    if values.ndim != 1 or len(flat) != len(values) or (flat < 0).any():
        raise ModelError("the sparse tensor is damaged", where=where, hint=AGAIN)
    result = np.zeros(prod(shape), values.dtype)
    result[flat] = values
    return result.reshape(shape)


def attribute(proto: Any, where: str) -> Any:
    """An attribute as int, float, str, tuple of those, array, or GraphProto."""
    import onnx

    kinds = onnx.AttributeProto
    if proto.ref_attr_name:
        what = f"attribute {proto.name} refers to {proto.ref_attr_name}, outside of a function"
        raise ModelError(what, where=where, hint=AGAIN)
    match proto.type:
        case kinds.FLOAT:
            return float(proto.f)
        case kinds.INT:
            return int(proto.i)
        case kinds.STRING:
            return proto.s.decode("utf-8", "replace")
        case kinds.FLOATS:
            return tuple(float(v) for v in proto.floats)
        case kinds.INTS:
            return tuple(int(v) for v in proto.ints)
        case kinds.STRINGS:
            return tuple(s.decode("utf-8", "replace") for s in proto.strings)
        case kinds.TENSOR:
            return array_of(proto.t, where)
        case kinds.SPARSE_TENSOR:
            return dense_array(proto.sparse_tensor, where)
        case kinds.GRAPH:
            return proto.g
    what = f"attribute {proto.name} is of a kind that is not supported"
    raise ModelError(what, where=where)


def type_of(array: Array) -> TensorType | None:
    """The type of an array, None if Midge has no such element type."""
    try:
        return TensorType(array.shape, DType.of(array))
    except KeyError:
        return None
