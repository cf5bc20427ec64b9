"""Operators that are functions of simpler ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from midge.frontends.onnx_scope import Call

if TYPE_CHECKING:
    from midge.frontends.onnx_nodes import Reader


def function_key(function: Any) -> tuple[str, str, str]:
    """What a call of a model-local function names."""
    return (function.domain, function.name, getattr(function, "overload", ""))


def body_of(reader: Reader, call: Call, proto: Any) -> tuple[Any, list[Any]]:
    """The FunctionProto by which the operator's schema defines it, or None, and what its attributes
    are where the operator does not say."""
    import onnx

    try:
        schema: Any = onnx.defs.get_schema(
            call.kind, min(call.opset, onnx.defs.onnx_opset_version())
        )
    except onnx.defs.SchemaError:
        return None, []
    defaults = [a.default_value for a in schema.attributes.values() if a.default_value.name]
    if schema.has_function:
        return schema.function_body, defaults
    if schema.has_context_dependent_function:
        return _made_for(schema, reader, call, proto), defaults
    return None, []


def _made_for(schema: Any, reader: Reader, call: Call, proto: Any) -> Any:
    """The body for the types and attributes of this call."""
    import onnx
    from onnx import helper

    node = onnx.NodeProto()
    node.CopyFrom(proto)
    del node.attribute[:]
    node.attribute.extend(call.scope.attributes(proto))
    types = []
    for name in call.inputs:
        if not name:
            types.append(onnx.TypeProto().SerializeToString())
            continue
        if name in reader.types:
            t = reader.types[name]
            code, dims = helper.np_dtype_to_tensor_dtype(t.dtype.numpy), t.shape
        else:
            array = reader.known[name]
            code, dims = helper.np_dtype_to_tensor_dtype(array.dtype), array.shape
        types.append(helper.make_tensor_type_proto(code, dims).SerializeToString())
    text = schema.get_context_dependent_function(node.SerializeToString(), types)
    return onnx.FunctionProto.FromString(text) if text else None
