"""TFLite files whose tables are whole, with one thing changed in them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from damaging.values import content, integer, listed, real

# The fields that a kind of change is about; options are those of an operator's own table.
_KINDS = {
    "shape": ("shape", "shapeSignature"),
    "index": ("inputs", "outputs", "buffer", "opcodeIndex"),
    "scale": ("scale", "zeroPoint", "quantizedDimension"),
    "type": ("type", "builtinCode", "deprecatedBuiltinCode", "builtinOptionsType", "isVariable"),
    "data": ("data",),
    "name": ("name",),
}
_COUNTED = ("tensors", "operators", "buffers", "operatorCodes", "inputs", "outputs", "subgraphs",
            "shape", "scale", "zeroPoint")  # fmt: skip
KINDS = (*_KINDS, "option", "count")
Place = tuple[Any, str]


def damaged(rng: random.Random, kind: str, data: bytes) -> bytes | None:
    """The file with one change of that kind; None if there is no place for it."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    places = [p for p in _places(model) if _fits(p, kind)]
    if not places:
        return None
    owner, field = rng.choice(places)
    old = getattr(owner, field)
    setattr(owner, field, _CHANGE.get(kind, _changed)(rng, field, old))
    return packed(model)


def packed(model: Any) -> bytes | None:
    """The bytes of a model; None where the format has no room for a value."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    try:
        builder.Finish(model.Pack(builder), b"TFL3")
    except (TypeError, ValueError, OverflowError, AttributeError):
        return None
    return bytes(builder.Output())


def _places(table: Any) -> Iterator[Place]:
    for field, value in vars(table).items():
        yield table, field
        for part in value if isinstance(value, list) else [value]:
            if hasattr(part, "Pack"):
                yield from _places(part)


def _fits(place: Place, kind: str) -> bool:
    owner, field = place
    value = getattr(owner, field)
    if kind == "option":
        own = type(owner).__name__.endswith("OptionsT")
        return own and isinstance(value, bool | int | float | np.ndarray)
    if kind == "count":
        return field in _COUNTED and value is not None and len(value) > 0
    if value is None or type(owner).__name__.endswith("OptionsT"):
        return False
    return field in _KINDS[kind]


def _changed(rng: random.Random, field: str, old: Any) -> Any:
    if isinstance(old, list | np.ndarray):
        values = list(old)
        if not values or rng.random() < 0.15:
            return [*values, 1] if rng.random() < 0.5 else values[:-1]
        at = rng.randrange(len(values))
        values[at] = _number(rng, field, values[at])
        return values
    return _number(rng, field, old)


def _number(rng: random.Random, field: str, old: Any) -> Any:
    if isinstance(old, bool | np.bool_):
        return not old
    if isinstance(old, float | np.floating):
        return real(rng, float(old))
    if field in ("type", "deprecatedBuiltinCode", "builtinOptionsType"):
        return rng.randrange(0, 127)
    if field == "builtinCode":
        return rng.randrange(0, 210)
    if field in ("buffer", "opcodeIndex"):
        return integer(rng, int(old), 0, 2**32 - 1) if rng.random() < 0.4 else rng.randrange(12)
    bits = 63 if field == "zeroPoint" else 31
    if field in ("inputs", "outputs") and rng.random() < 0.6:
        return rng.randrange(-1, 12)
    return integer(rng, int(old), -(2**bits), 2**bits - 1)


def _count(rng: random.Random, field: str, old: Any) -> Any:
    return listed(rng, list(old))


def _data(rng: random.Random, field: str, old: Any) -> Any:
    return np.frombuffer(content(rng, bytes(bytearray(old))), np.uint8)


def _name(rng: random.Random, field: str, old: Any) -> Any:
    return rng.choice((b"", b"x", b"\xff\xfe", b"t0", b"a" * 5000, b"../../x\n*/", None))


_CHANGE: dict[str, Callable[[random.Random, str, Any], Any]] = {
    "count": _count, "data": _data, "name": _name,
}  # fmt: skip
