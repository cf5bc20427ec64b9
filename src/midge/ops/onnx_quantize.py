"""ONNX's quantised operators: QuantizeLinear, DequantizeLinear, and those made of them.

Integers with constant scales are known by their Quant, uint8 as int8 with a zero point 128 less;
`passes.fuse_quantized` puts operators between them on the integers. QLinearConv and the like, and
those of ONNX Runtime (com.microsoft), are read as the three steps that they stand for. Everything
else (computed scales, one for each channel of an activation) is spelled out in float.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from midge.core.types import Array, DType, Quant
from midge.graph.importers import IMPORTERS, Foreign, Importer, Steps
from midge.graph.ir import Attr, Attrs, Node
from midge.graph.onnx_types import DTYPES
from midge.ops._compose import Composer
from midge.ops._onnx import integer

_NARROW = (DType.I8, DType.U8, DType.I16)
_FLOAT = 1  # of TensorProto.DataType


def quantize_from_onnx(
    op: Foreign, rounding: str = "even", divisor: float | None = None
) -> tuple[Node, ...]:
    """QuantizeLinear: saturate(round(x / scale) + zero point), ties to even. divisor: of x in the
    place of the scale.  rounding: as of `quantize`."""
    op.expect_inputs(2, 3)
    op.expect_dtype(0, DType.F32, DType.I32)
    _no_blocks(op)
    zero = op.const(2, "zero point") if op.has(2) else np.zeros((), np.uint8)
    wanted = integer(op, "output_dtype", 0)
    if wanted and not op.has(2) and wanted in DTYPES:
        zero = np.zeros((), DTYPES[wanted].numpy)
    dtype = DType.of(zero)
    if dtype not in _NARROW or (wanted and DTYPES.get(wanted) is not dtype):
        name = f"element type {wanted}" if wanted else dtype.value
        raise op.error(f"quantisation to {name} is not supported", "int8, uint8 or int16")
    if integer(op, "precision", 0) not in (0, _FLOAT):
        raise op.error("a division in another precision than float32 is not supported")
    steps = Steps(op)
    x = op.inputs[0]
    if op.type(0).dtype is not DType.F32:
        x = steps.emit("cast", [x], {"dtype": "f32"})
    scale = _constant(op, 1)
    if scale is None or scale.size != 1:
        return _spelled_quantization(op, steps, x, zero)
    narrow = DType.I8 if dtype is DType.U8 else dtype
    point = int(zero.reshape(())) - (128 if dtype is DType.U8 else 0)
    quant = Quant.per_tensor(_positive(op, scale)[0], point)
    attrs: dict[str, Attr] = {"dtype": narrow.value, "rounding": rounding}
    if divisor is not None:
        attrs["scale"] = divisor
    if rounding != "even" and dtype is DType.U8:
        attrs["shift"] = 128
    result = steps.emit("quantize", [x], attrs)
    op.quants[result] = quant
    return steps.finish("flip_sign" if dtype is DType.U8 else "copy", [result])


def dequantize_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """DequantizeLinear: (x - zero point) * scale."""
    op.expect_inputs(2, 3)
    op.expect_dtype(0, *_NARROW, DType.I32)
    _no_blocks(op)
    if integer(op, "output_dtype", 0) not in (0, _FLOAT):
        raise op.error("another result than float32 is not supported", "dequantise to float32")
    x, scale, dtype = op.inputs[0], _constant(op, 1), op.type(0).dtype
    zero = op.const(2, "zero point") if op.has(2) else np.zeros((), dtype.numpy)
    steps = Steps(op)
    known = scale is not None and (dtype is not DType.I32 or x in op.consts)
    if not known or (scale is not None and scale.size != 1 and x not in op.consts):
        return _spelled_dequantization(op, steps, zero)
    assert scale is not None
    axis = _axis(op, scale)
    points = [
        int(z) - (128 if dtype is DType.U8 else 0)
        for z in np.broadcast_to(zero.reshape(-1), scale.size)
    ]
    named = steps.emit("flip_sign" if dtype is DType.U8 else "copy", [x])
    op.quants[named] = Quant(_positive(op, scale), tuple(points), axis)
    return steps.finish("dequantize", [named])


def _no_blocks(op: Foreign) -> None:
    if integer(op, "block_size", 0):
        raise op.error("quantisation in blocks is not supported", "use one scale for each channel")
    if op.has(2) and op.type(2).elements != op.type(1).elements:
        raise op.error(f"zero point {op.type(2)} does not fit scale {op.type(1)}")


def _constant(op: Foreign, i: int) -> Array | None:
    op.expect_dtype(i, DType.F32)
    return op.consts.get(op.inputs[i])


def _positive(op: Foreign, scale: Array) -> tuple[float, ...]:
    values = tuple(map(float, scale.reshape(-1)))
    if np.inf in values:
        hint = "calibration saw infinities: leave masks of -inf out of it (nodes_to_exclude)"
        raise op.error("a scale is infinite", hint)
    if not all(np.isfinite(v) and v > 0 for v in values):
        raise op.error("a scale is not a positive number", "quantise the model again")
    return values


def _axis(op: Foreign, scale: Array) -> int | None:
    """The axis with a scale for each index; None for one scale."""
    if scale.size == 1:
        return None
    rank = len(op.type(0).shape)
    axis = integer(op, "axis", 1)
    if not -rank <= axis < rank or scale.shape != (op.type(0).shape[axis],):
        raise op.error(f"{scale.size} scales do not fit axis {axis} of {op.type(0)}")
    return axis % rank


def _along(op: Foreign, steps: Steps, i: int, name: str) -> str:
    """Scales or zero points shaped to broadcast along `axis`."""
    t = op.type(i)
    if t.elements == 1:
        return steps.emit("reshape", [name], {"shape": ()})
    rank = len(op.type(0).shape)
    axis = integer(op, "axis", 1)
    if not -rank <= axis < rank or t.shape != (op.type(0).shape[axis],):
        raise op.error(f"{t} does not fit axis {axis} of {op.type(0)}")
    shape = [1] * rank
    shape[axis] = -1
    return steps.emit(
        "reshape", [name], {"shape": tuple(t.elements if n < 0 else n for n in shape)}
    )


def _spelled_quantization(op: Foreign, steps: Steps, x: str, zero: Array) -> tuple[Node, ...]:
    dtype = DType.of(zero)
    scaled = steps.emit("div", [x, _along(op, steps, 1, op.inputs[1])])
    rounded = steps.emit("rint", [scaled])
    if op.has(2):
        zeros = steps.emit("cast", [_along(op, steps, 2, op.inputs[2])], {"dtype": "f32"})
        rounded = steps.emit("add", [rounded, zeros])
    limits: Attrs = {"low": float(dtype.min), "high": float(dtype.max)}
    return steps.finish("cast", [steps.emit("clip", [rounded], limits)], {"dtype": dtype.value})


def _spelled_dequantization(op: Foreign, steps: Steps, zero: Array) -> tuple[Node, ...]:
    value = steps.emit("cast", [op.inputs[0]], {"dtype": "i32"})
    if op.has(2) and zero.any():
        zeros = steps.emit("cast", [_along(op, steps, 2, op.inputs[2])], {"dtype": "i32"})
        value = steps.emit("sub", [value, zeros])
    value = steps.emit("cast", [value], {"dtype": "f32"})
    return steps.finish("mul", [value, _along(op, steps, 1, op.inputs[1])])


# Operators that stand for dequantisation, a float operator, and quantisation.


class _Quantized(Composer):
    """With steps between integers and the numbers that they stand for."""

    def real(self, value: str, scale: str, zero: str, axis: int = 0) -> str:
        """The numbers that integers stand for."""
        inputs = [value, scale, *([zero] if zero else [])]
        name = f"{self.op.outputs[0]}/{len(self.nodes)}/real"
        return self.call("DequantizeLinear", inputs, {"axis": axis}, name)

    def quantized(
        self, value: str, scale: str, zero: str, rounding: str = "even",
        divisor: float | None = None,
    ) -> tuple[Node, ...]:  # fmt: skip
        inputs = [value, scale, *([zero] if zero else [])]
        importer = partial(quantize_from_onnx, rounding=rounding, divisor=divisor)
        self.call("QuantizeLinear", inputs, {}, self.op.outputs[0], importer=importer)
        return tuple(self.nodes)


def _three(names: Sequence[str], i: int) -> tuple[str, str, str]:
    return names[i], names[i + 1], names[i + 2]


def _between(kind: str, count: int, *kept: str, rounding: str = "even") -> Importer:
    """Of the operator com.microsoft.QLinear`kind`: `count` operands as (value, scale, zero point),
    then scale and zero point of the result; attributes `kept` are those of `kind`."""

    def from_onnx(op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(3 * count + 1, 3 * count + 2)
        composer = _Quantized(op)
        names = [*op.inputs, ""]
        parts = [composer.real(*_three(names, i)) for i in range(0, 3 * count, 3)]
        attrs = {k: v for k, v in op.attrs.items() if k in kept}
        value = composer.call(kind, parts, attrs, f"{op.outputs[0]}/float")
        scale, zero = names[3 * count : 3 * count + 2]
        return composer.quantized(value, scale, zero, rounding)

    return from_onnx


def mul_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """com.microsoft's QLinearMul: one factor for the exact product of the differences to the zero
    points (MlasQLinearMulVectorS16 in onnxruntime/core/mlas/lib/qlmul.cpp)."""
    op.expect_inputs(7, 8)
    if not all(op.inputs[i] in op.consts for i in (1, 4, 6)):
        return _between("Mul", 2, rounding="even_sum")(op)
    composer, name = _Quantized(op), op.outputs[0]
    a, _, za, b, _, zb, sy, zy = [*op.inputs, ""][:8]
    scales = (_positive(op, op.const(i, "scale").reshape(())) for i in (1, 4, 6))
    first, second, result = (np.float32(s) for (s,) in scales)
    parts = [
        _difference(composer, a, za, "a", DType.I32),
        _difference(composer, b, zb, "b", DType.I32),
    ]
    products = composer.call("Mul", parts, {}, f"{name}/products")
    value = composer.call("Cast", [products], {"to": _FLOAT}, f"{name}/float")
    factor = composer.const(np.asarray(first * second / result, np.float32), "factor")
    steps = composer.call("Mul", [value, factor], {}, f"{name}/steps")
    return composer.quantized(steps, sy, zy, "even_sum", divisor=1.0)


def pool_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """com.microsoft's QLinearAveragePool and QLinearGlobalAveragePool. The first adds floats row by
    row and rounds its result with the zero point (QLinearPoolDescriptor in onnxruntime/contrib_ops/
    cpu/quantization/qlinear_pool.cc), the second adds integers."""
    if op.attrs.get("channels_last", 0):
        raise op.error("channels_last is not supported", "export with the channels first")
    op.expect_inputs(4, 5)
    composer = _Quantized(op)
    names = [*op.inputs, ""]
    attrs = {k: v for k, v in op.attrs.items() if k != "channels_last"} | {"order": "rows"}
    kind = op.kind.removeprefix("com.microsoft.QLinear")
    value = composer.call(kind, [composer.real(*_three(names, 0))], attrs, f"{op.outputs[0]}/float")
    rounding = "even_sum" if kind == "AveragePool" else "even"
    return composer.quantized(value, names[3], names[4], rounding)


def concat_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """com.microsoft's QLinearConcat: scale and zero point of the result come first."""
    if len(op.inputs) < 5 or len(op.inputs) % 3 != 2:
        raise op.error(f"has {len(op.inputs)} inputs, expected 2 and 3 for each part")
    composer = _Quantized(op)
    parts = [composer.real(*_three(op.inputs, i)) for i in range(2, len(op.inputs), 3)]
    value = composer.call(
        "Concat", parts, {"axis": integer(op, "axis", 0)}, f"{op.outputs[0]}/float"
    )
    return composer.quantized(value, op.inputs[0], op.inputs[1])


def conv_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """QLinearConv; its bias has the scale of the products."""
    op.expect_inputs(8, 9)
    composer = _Quantized(op)
    x, sx, zx, w, sw, zw, sy, zy = op.inputs[:8]
    parts = [composer.real(x, sx, zx), composer.real(w, sw, zw)]
    if op.has(8):
        scale = op.const(1, "scale").reshape(()) * op.const(4, "scale")
        products = composer.const(np.asarray(scale, np.float32), "bias_scale")
        parts.append(composer.real(op.inputs[8], products, ""))
    value = composer.call("Conv", parts, dict(op.attrs), f"{op.outputs[0]}/float")
    return composer.quantized(value, sy, zy)


def matmul_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """QLinearMatMul."""
    op.expect_inputs(8)
    composer = _Quantized(op)
    a, sa, za, b, sb, zb, sy, zy = op.inputs
    columns = len(op.type(3).shape) - 1
    parts = [composer.real(a, sa, za, len(op.type(0).shape) - 2), composer.real(b, sb, zb, columns)]
    value = composer.call("MatMul", parts, {}, f"{op.outputs[0]}/float")
    return composer.quantized(value, sy, zy)


def gemm_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """com.microsoft's QGemm; its bias has the scale of the products. Without a scale of the result,
    that is float."""
    op.expect_inputs(6, 9)
    composer = _Quantized(op)
    names = [*op.inputs, *[""] * (9 - len(op.inputs))]
    a, sa, za, b, sb, zb, c, sy, zy = names
    rows = 0 if op.attrs.get("transB", 0) else 1
    parts = [composer.real(a, sa, za), composer.real(b, sb, zb, rows)]
    if c:
        alpha = float(op.attrs.get("alpha", 1.0))
        scale = alpha * op.const(1, "scale").reshape(()) * op.const(4, "scale")
        products = composer.const(np.asarray(scale, np.float32), "bias_scale")
        parts.append(composer.real(c, products, "", len(op.type(6).shape) - 1))
    if not sy:
        composer.call("Gemm", parts, dict(op.attrs), op.outputs[0])
        return tuple(composer.nodes)
    value = composer.call("Gemm", parts, dict(op.attrs), f"{op.outputs[0]}/float")
    return composer.quantized(value, sy, zy)


# Integers times integers.


def _difference(composer: _Quantized, value: str, zero: str, name: str, dtype: DType) -> str:
    """value - zero point, of bytes: i16 holds it."""
    steps, op = Steps(composer.op), composer.op
    t = composer.types[value]
    if t.dtype not in (DType.I8, DType.U8):
        raise op.error(f"an operand is {t}", "int8 and uint8 are supported")
    wide = steps.emit("cast", [value], {"dtype": "i32"}, output=f"{op.outputs[0]}/{name}/wide")
    if zero:
        shape: tuple[int, ...] = ()
        if (point := composer.types[zero]).elements > 1:
            rows = (point.elements, *[1] * (len(t.shape) - 1))
            shape = rows if op.kind == "ConvInteger" else point.shape
            if op.kind == "MatMulInteger" and name == "a" and len(point.shape) == 1:
                shape = (point.elements, 1)
        point_wide = steps.emit(
            "cast", [zero], {"dtype": "i32"}, output=f"{op.outputs[0]}/{name}/zero"
        )
        shaped = steps.emit(
            "reshape", [point_wide], {"shape": shape}, output=f"{op.outputs[0]}/{name}/zeros"
        )
        wide = steps.emit("sub", [wide, shaped], output=f"{op.outputs[0]}/{name}/difference")
    result = steps.emit("cast", [wide], {"dtype": dtype.value}, output=f"{op.outputs[0]}/{name}")
    for node in steps.nodes:
        composer.types[node.outputs[0]] = steps.type(node.outputs[0])
    composer.nodes += steps.nodes
    return result


def integers_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """ConvInteger and MatMulInteger: int32 sums of differences to the zero points."""
    op.expect_inputs(2, 4)
    composer = _Quantized(op)
    zeros = [op.inputs[i] if op.has(i) else "" for i in (2, 3)]
    parts = [
        _difference(composer, value, zero, name, DType.I16)
        for value, zero, name in zip(op.inputs[:2], zeros, "ab", strict=True)
    ]
    kind = op.kind.removesuffix("Integer")
    sums = composer.call(kind, parts, dict(op.attrs), f"{op.outputs[0]}/sums")
    if composer.types[sums].dtype is DType.I32:
        return (*composer.nodes, op.node("copy", inputs=[sums]))
    return (*composer.nodes, op.node("cast", {"dtype": "i32"}, inputs=[sums]))


IMPORTERS["onnx"].add("QuantizeLinear", quantize_from_onnx)
IMPORTERS["onnx"].add("DequantizeLinear", dequantize_from_onnx)
IMPORTERS["onnx"].add("QLinearConv", conv_from_onnx)
IMPORTERS["onnx"].add("QLinearMatMul", matmul_from_onnx)
IMPORTERS["onnx"].add("ConvInteger", integers_from_onnx)
IMPORTERS["onnx"].add("MatMulInteger", integers_from_onnx)
IMPORTERS["onnx"].add("com.microsoft.QuantizeLinear", quantize_from_onnx)
IMPORTERS["onnx"].add("com.microsoft.DequantizeLinear", dequantize_from_onnx)
IMPORTERS["onnx"].add("com.microsoft.QGemm", gemm_from_onnx)
IMPORTERS["onnx"].add("com.microsoft.QLinearConcat", concat_from_onnx)
for _kind in ("AveragePool", "GlobalAveragePool"):
    IMPORTERS["onnx"].add(f"com.microsoft.QLinear{_kind}", pool_from_onnx)
# Sums round with the zero point (qladd.cpp and qlmul.cpp in onnxruntime/core/mlas/lib).
IMPORTERS["onnx"].add("com.microsoft.QLinearAdd", _between("Add", 2, rounding="even_sum"))
IMPORTERS["onnx"].add("com.microsoft.QLinearMul", mul_from_onnx)
IMPORTERS["onnx"].add("com.microsoft.QLinearSigmoid", _between("Sigmoid", 1))
IMPORTERS["onnx"].add("com.microsoft.QLinearLeakyRelu", _between("LeakyRelu", 1, "alpha"))
IMPORTERS["onnx"].add("com.microsoft.QLinearSoftmax", _between("Softmax", 1, "axis"))
