"""The operators of PyTorch's quantised exports (pt2e)."""

from __future__ import annotations

import numpy as np

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import Node
from midge.ops._torch import Aten, Rule

_LIMITS = {DType.I8: (-128, 127), DType.U8: (0, 255), DType.I16: (-32768, 32767)}


def _quantization(a: Aten) -> tuple[str, str, DType]:
    """Scale, zero point and type; ModelError for limits within the type's, except that the least
    value of a signed type may be unused."""
    scale = a.operand("scale" if "scale" in a.op.attrs else "scales", DType.F32)
    name = next((n for n in ("zero_point", "zero_points") if n in a.op.attrs), "zero_point")
    dtype = a.scalar_type("dtype")
    if dtype not in _LIMITS and dtype is not DType.I32:
        raise a.op.error("quantisation to this type is not supported", "int8, uint8 or int16")
    assert dtype is not None
    zero = a.cast(a.operand(name, DType.I64), dtype)
    if zero not in a.consts and a.op.attrs.get(name) is not None:
        (value,) = [a.consts.get(str(a.op.attrs[name]))] if isinstance(a.op.attrs[name], str) else [
            np.asarray(a.op.attrs[name])
        ]  # fmt: skip
        if value is None:
            raise a.op.error("the zero point is computed at run time, which is not supported")
        zero = a.value(value, dtype)
    return scale, zero, dtype


def quantize(a: Aten) -> str:
    scale, zero, dtype = _quantization(a)
    limits = (a.integer("quant_min"), a.integer("quant_max"))
    if limits != _LIMITS.get(dtype):
        raise a.op.error(f"limits {limits} are not those of {dtype.value}", "use the whole range")
    attrs = {"axis": a.integer("axis", 0)}
    return a.onnx("QuantizeLinear", [a.tensor("input"), scale, zero], **attrs)


def dequantize(a: Aten) -> str:
    scale, zero, _ = _quantization(a)
    inputs = [a.tensor("input"), a.cast(scale, DType.F32), zero]
    return a.onnx("DequantizeLinear", inputs, axis=a.integer("axis", 0))


def _add_quantized(names: str, rule: Rule) -> None:
    def importer(op: Foreign) -> tuple[Node, ...]:
        a = Aten(op)
        return a.finish(rule(a))

    for name in names.split():
        IMPORTERS["torch"].add(f"quantized_decomposed.{name}", importer)


_add_quantized("quantize_per_tensor quantize_per_channel", quantize)
_add_quantized("dequantize_per_tensor dequantize_per_channel", dequantize)
