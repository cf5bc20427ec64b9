"""ONNX files whose messages are whole, with one thing changed in them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from damaging.values import content, integer, listed, real

# The fields that a kind of change is about, as message.field.
_KINDS = {
    "shape": ("TensorProto.dims", "Dimension.dim_value"),
    "index": ("NodeProto.input", "NodeProto.output"),
    "type": ("TensorProto.data_type", "Tensor.elem_type", "AttributeProto.type",
             "TensorProto.data_location"),
    "data": ("TensorProto.raw_data", "TensorProto.float_data", "TensorProto.int64_data",
             "TensorProto.int32_data"),
    "option": ("AttributeProto.f", "AttributeProto.i", "AttributeProto.s", "AttributeProto.floats",
               "AttributeProto.ints", "AttributeProto.strings", "AttributeProto.name"),
    "name": ("ValueInfoProto.name", "TensorProto.name", "NodeProto.op_type", "NodeProto.domain",
             "OperatorSetIdProto.domain"),
    "version": ("OperatorSetIdProto.version", "ModelProto.ir_version"),
}  # fmt: skip
_COUNTED = ("GraphProto.node", "GraphProto.input", "GraphProto.output", "GraphProto.initializer",
            "NodeProto.input", "NodeProto.output", "NodeProto.attribute", "TensorProto.dims",
            "AttributeProto.ints", "AttributeProto.floats", "TensorShapeProto.dim",
            "ModelProto.opset_import")  # fmt: skip
KINDS = (*_KINDS, "scale", "count")
Place = tuple[Any, Any]


def damaged(rng: random.Random, kind: str, data: bytes) -> bytes | None:
    """The file with one change of that kind; None if there is no place for it."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    if kind == "scale":
        return _scaled(rng, model)
    fields = _COUNTED if kind == "count" else _KINDS[kind]
    groups: dict[str, list[Place]] = {}
    for owner, field in _places(model):
        name = f"{owner.DESCRIPTOR.name}.{field.name}"
        if name in fields:
            groups.setdefault(name, []).append((owner, field))
    if not groups:
        return None
    owner, field = rng.choice(groups[rng.choice(sorted(groups))])
    old = getattr(owner, field.name)
    try:
        if kind == "count":
            _replace(owner, field.name, listed(rng, list(old)))
        elif _is_repeated(old):
            values = list(old)
            at = rng.randrange(len(values))
            values[at] = _value(rng, model, field.name, values[at])
            _replace(owner, field.name, values)
        else:
            setattr(owner, field.name, _value(rng, model, field.name, old))
        return bytes(model.SerializeToString())
    except (ValueError, TypeError):
        return None


def _places(message: Any) -> Iterator[Place]:
    for field, value in message.ListFields():
        yield message, field
        for part in value if _is_repeated(value) else [value]:
            if hasattr(part, "ListFields"):
                yield from _places(part)


def _is_repeated(value: Any) -> bool:
    return not isinstance(value, str | bytes | int | float) and not hasattr(value, "ListFields")


def _replace(owner: Any, field: str, values: list[Any]) -> None:
    copies = [type(v).FromString(v.SerializeToString()) if hasattr(v, "ListFields") else v
              for v in values]  # fmt: skip
    owner.ClearField(field)
    getattr(owner, field).extend(copies)


def _value(rng: random.Random, model: Any, field: str, old: Any) -> Any:
    if field in ("input", "output"):
        known = sorted({n for node in model.graph.node for n in (*node.input, *node.output)})
        return rng.choice((*known, "", "nowhere", *(i.name for i in model.graph.input)))
    if field == "op_type":
        kinds = sorted({node.op_type for node in model.graph.node})
        return rng.choice((*kinds, "If", "Loop", "Nothing", "Constant", "Resize", "LSTM"))
    if field in ("type", "data_type", "elem_type", "data_location"):
        return rng.randrange(0, 24)
    if field == "version":
        return integer(rng, old) if rng.random() < 0.3 else rng.randrange(1, 30)
    if isinstance(old, bytes):
        return (
            content(rng, old) if field == "raw_data" else rng.choice((b"", b"VALID", b"\xff", b"x"))
        )
    if isinstance(old, str):
        return rng.choice(("", "x", "y", "axis", "to", "pads", "a" * 5000, "ai.onnx.ml", "ü\n*/"))
    if isinstance(old, float):
        return real(rng, old)
    bits = 63 if field in ("dims", "dim_value", "i", "ints", "int64_data", "ir_version") else 31
    return integer(rng, old, -(2**bits), 2**bits - 1)


def _scaled(rng: random.Random, model: Any) -> bytes | None:
    """A constant of few floats, as scales and limits are, or a zero point."""
    from onnx import numpy_helper

    few = [t for t in model.graph.initializer if np.prod(t.dims or [1]) <= 8]
    if not few:
        return None
    tensor = rng.choice(few)
    values = numpy_helper.to_array(tensor).copy()
    way: Callable[..., Any] = real if values.dtype.kind == "f" else integer
    limits = [] if values.dtype.kind == "f" else _limits(values.dtype)
    if not values.size:
        return None
    with np.errstate(all="ignore"):
        values.flat[rng.randrange(values.size)] = way(rng, values.flat[0].item(), *limits)
    if rng.random() < 0.2:
        values = np.concatenate([values.reshape(-1), values.reshape(-1)])
    tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    return bytes(model.SerializeToString())


def _limits(dtype: Any) -> list[int]:
    if dtype.kind == "b":
        return [0, 1]
    info = np.iinfo(dtype)
    return [int(info.min), int(info.max)]
