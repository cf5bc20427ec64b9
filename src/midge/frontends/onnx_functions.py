"""Operators that are functions of simpler ones."""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import TYPE_CHECKING, Any

from midge.frontends.onnx_fold import FOLDED
from midge.frontends.onnx_scope import Call
from midge.frontends.onnx_static import STATIC
from midge.graph.importers import IMPORTERS

if TYPE_CHECKING:
    from midge.frontends.onnx_nodes import Reader

# Functions that none of their parts lets Midge compute: scales are constants.
_NOT_READ = ("DynamicQuantizeLinear",)


def function_key(function: Any) -> tuple[str, str, str]:
    """What a call of a model-local function names."""
    return (function.domain, function.name, getattr(function, "overload", ""))


def lacking(
    model: Any, functions: Container[tuple[str, str, str]], asked: str
) -> Iterator[tuple[str, str]]:
    """The operators of a model that nobody reads, as kind and place; `asked` is one of them."""
    for i, node in enumerate(model.graph.node):
        place = f"node {i}" + (f" {node.name!r}" if node.name else "")
        yield from _lacking(node, place, functions, asked)
    for function in model.functions:
        for node in function.node:
            yield from _lacking(node, f"function {function.name!r}", functions, asked)


def _lacking(
    node: Any, place: str, functions: Container[tuple[str, str, str]], asked: str
) -> Iterator[tuple[str, str]]:
    domain = "" if node.domain == "ai.onnx" else node.domain
    kind = f"{domain}.{node.op_type}" if domain else str(node.op_type)
    own = (node.domain, node.op_type, getattr(node, "overload", "")) in functions
    read = own or kind in STATIC or kind in FOLDED or kind in IMPORTERS["onnx"] or _has_body(node)
    if kind == asked or not read:
        yield kind, place
    for attr in node.attribute:
        for inner in attr.g.node if attr.HasField("g") else ():
            yield from _lacking(inner, place, functions, asked)


def _has_body(node: Any) -> bool:
    import onnx

    if node.op_type in _NOT_READ:
        return False
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, node.domain)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def body_of(reader: Reader, call: Call, proto: Any) -> tuple[Any, list[Any]]:
    """The FunctionProto by which the operator's schema defines it, or None, and what its attributes
    are where the operator does not say."""
    import onnx

    if call.kind in _NOT_READ:
        return None, []
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
