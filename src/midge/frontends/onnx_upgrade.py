"""Operators of old operator sets in the words of set 13.

What changed since is little: attributes became inputs, and broadcasting lost its axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from midge.frontends.onnx_scope import Call

if TYPE_CHECKING:
    from midge.frontends.onnx_nodes import Reader

OLDEST = 13
Rule = Callable[["Reader", Call], None]


def upgraded(reader: Reader, call: Call) -> None:
    """Changes `call` in place; what is new to the operator set is not looked for."""
    for kinds, before, rule in _RULES:
        if call.kind in kinds and call.opset < before:
            rule(reader, call)
    call.opset = OLDEST


def _inputs(*names: str, dtype: Any = np.int64) -> Rule:
    """Attributes become the inputs that follow the first."""

    def rule(reader: Reader, call: Call) -> None:
        given = [call.attrs.pop(n, None) for n in names]
        while given and given[-1] is None:
            given.pop()
        for name, value in zip(names, given, strict=False):
            call.inputs.append("" if value is None else _const(reader, call, name, value, dtype))

    return rule


def _const(reader: Reader, call: Call, name: str, value: Any, dtype: Any) -> str:
    own = reader.fresh(f"{call.outputs[0]}/{name}")
    reader.add_const(own, np.asarray(value, dtype))
    return own


def _pad(reader: Reader, call: Call) -> None:
    """Pad: pads (once called paddings) and value."""
    pads = call.attrs.pop("pads", call.attrs.pop("paddings", ()))
    value = call.attrs.pop("value", 0.0)
    call.inputs.append(_const(reader, call, "pads", pads, np.int64))
    call.inputs.append(_const(reader, call, "value", value, np.float32))


def _top_k(reader: Reader, call: Call) -> None:
    call.inputs.append(_const(reader, call, "k", [call.attrs.pop("k", 0)], np.int64))


def _upsample(reader: Reader, call: Call) -> None:
    """Upsample of set 7 has its scales as an attribute, and Resize of set 10 is like it."""
    if call.opset < 9:
        _inputs("scales", dtype=np.float32)(reader, call)
    call.kind = "Upsample"


def _tile(reader: Reader, call: Call) -> None:
    raise call.error("this operator is too old", "export with opset 13 or above")


def _broadcast(reader: Reader, call: Call) -> None:
    """Two operands: the second one is aligned at `axis` of the first, or at its end."""
    wanted, axis = call.attrs.pop("broadcast", 0), call.attrs.pop("axis", None)
    call.attrs.pop("consumed_inputs", None)
    if not wanted or axis is None or len(call.inputs) != 2:
        return
    a, b = (reader.types[n].shape for n in call.inputs)
    behind = len(a) - (axis % max(len(a), 1)) - len(b)
    if behind <= 0:
        return
    shape = _const(reader, call, "shape", [*b, *(1,) * behind], np.int64)
    call.inputs[1] = reader.step(call, "Reshape", [call.inputs[1], shape])


def _last_two(reader: Reader, call: Call) -> None:
    """Softmax and its kin: over all dimensions from `axis` on at once."""
    shape = reader.types[call.inputs[0]].shape
    axis = int(call.attrs.get("axis", 1))
    axis += len(shape) if axis < 0 else 0
    call.attrs["axis"] = -1
    if axis == len(shape) - 1:
        return
    if not 0 <= axis < len(shape):
        raise call.error(f"axis {axis} does not exist in {len(shape)} dimensions")
    flat = reader.step(call, "Flatten", [call.inputs[0]], {"axis": axis})
    result = reader.step(call, call.kind, [flat], dict(call.attrs))
    back = _const(reader, call, "shape", shape, np.int64)
    call.kind, call.attrs, call.inputs = "Reshape", {}, [result, back]


_BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")
_RULES: Sequence[tuple[Sequence[str], int, Rule]] = (
    (("Squeeze", "Unsqueeze", "ReduceSum"), 13, _inputs("axes")),
    (("Split",), 13, _inputs("split")),
    (("Softmax", "LogSoftmax", "Hardmax"), 13, _last_two),
    (("Pad",), 11, _pad),
    (("Clip",), 11, _inputs("min", "max", dtype=np.float32)),
    (("Slice",), 10, _inputs("starts", "ends", "axes")),
    (("TopK",), 10, _top_k),
    (("Upsample",), 10, _upsample),
    (("Resize",), 11, _upsample),
    (("Tile",), 6, _tile),
    (("Reshape",), 5, _inputs("shape")),
    (_BINARY, 7, _broadcast),
)
