"""PyTorch's operators on one element at a time."""

from __future__ import annotations

import math

import numpy as np

from midge.core.types import DType
from midge.ops._torch import Aten, Rule, add


def _unary(kind: str) -> Rule:
    """A function that ONNX has, of floats."""

    def rule(a: Aten) -> str:
        x = a.tensor("self") or a.tensor("input")
        dtype = a.type(x).dtype
        if dtype is DType.I64 and kind == "Abs":
            return a.onnx("Max", [x, a.node("neg", [x])])
        if dtype is DType.I64 and kind in ("Neg", "Sign"):
            return a.node(kind.lower(), [x])
        if dtype.is_integer and kind in ("Floor", "Ceil"):
            return x
        if dtype.is_integer and kind not in ("Abs", "Neg", "Sign", "Relu"):
            x = a.cast(x, DType.F32)
        return a.onnx(kind, [x])

    return rule


for _names, _kind in {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp", "log": "Log",
    "sqrt": "Sqrt", "abs": "Abs", "neg": "Neg", "erf": "Erf", "sin": "Sin", "cos": "Cos",
    "tan": "Tan", "asin arcsin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh",
    "cosh": "Cosh", "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "floor": "Floor",
    "ceil": "Ceil", "sign sgn": "Sign", "reciprocal": "Reciprocal",
    "hardswish": "HardSwish", "mish": "Mish", "selu": "Selu", "isnan": "IsNaN", "isinf": "IsInf",
}.items():  # fmt: skip
    add(_names, _unary(_kind))


def _same(a: Aten) -> str:
    return a.tensor("self") or a.tensor("input")


add("clone contiguous detach alias lift_fresh_copy lift_fresh", _same)


def truncated(a: Aten) -> str:
    x = a.tensor("self")
    return x if a.type(x).dtype.is_integer else a.node("trunc", [x])


def dropout(a: Aten) -> str:
    if a.op.attrs.get("train") is True:
        raise a.op.error("dropout is in training mode", "export the model after model.eval()")
    return a.tensor("input") or a.tensor("self")


add("dropout feature_dropout", dropout)
add("logical_not", lambda a: a.onnx("Not", [a.cast(a.tensor("self"), DType.BOOL)]))
add(
    "bitwise_not",
    lambda a: a.onnx(
        "Not" if a.type(a.tensor("self")).dtype is DType.BOOL else "BitwiseNot", [a.tensor("self")]
    ),
)
add("trunc fix", truncated)
add("expm1", lambda a: a.node("expm1", [a.tensor("self")]))
add("log1p", lambda a: a.node("log1p", [a.tensor("self")]))
add("rsqrt", lambda a: a.node("rsqrt", [a.tensor("self")]))
add("square", lambda a: a.onnx("Mul", [a.tensor("self")] * 2))
add("silu", lambda a: a.onnx("Mul", [a.tensor("self"), a.onnx("Sigmoid", [a.tensor("self")])]))
add(
    "log_sigmoid",
    lambda a: a.onnx("Neg", [a.onnx("Softplus", [a.onnx("Neg", [a.tensor("self")])])]),
)
add(
    "leaky_relu",
    lambda a: a.onnx("LeakyRelu", [a.tensor("self")], alpha=a.number("negative_slope", 0.01)),
)
add("celu", lambda a: a.onnx("Celu", [a.tensor("self")], alpha=a.number("alpha", 1.0)))
add("hardsigmoid", lambda a: a.onnx("HardSigmoid", [a.tensor("self")], alpha=1 / 6, beta=0.5))
add(
    "gelu",
    lambda a: a.onnx("Gelu", [a.tensor("self")], approximate=a.op.attrs.get("approximate", "none")),
)


def round_(a: Aten) -> str:
    """To an integer, or to so many decimals; PyTorch multiplies by the power of 10 and divides."""
    x, decimals = a.tensor("self"), a.integer("decimals", 0)
    if a.type(x).dtype.is_integer:
        return x
    if decimals == 0:
        return a.onnx("Round", [x])
    power = a.value(10.0 ** abs(decimals), DType.F32)
    there, back = ("Mul", "Div") if decimals > 0 else ("Div", "Mul")
    return a.onnx(back, [a.onnx("Round", [a.onnx(there, [x, power])]), power])


def elu(a: Aten) -> str:
    x, alpha = a.tensor("self"), a.number("alpha", 1.0)
    scale, input_scale = a.number("scale", 1.0), a.number("input_scale", 1.0)
    if scale == input_scale == 1.0:
        return a.onnx("Elu", [x], alpha=alpha)
    if input_scale == 1.0 and np.allclose((alpha, scale), _SELU, rtol=1e-6, atol=0):
        return a.onnx("Selu", [x])
    raise a.op.error("elu with scales is not supported", "use ELU or SELU")


_SELU = (1.6732632423543772, 1.0507009873554805)  # alpha, scale
# PyTorch's softplus is x from here on: unasked, where float32 sees no difference; and the
# exponential of more than this is infinite.
_SOFTPLUS_IS_X, _MOST_EXPONENT = 20.0, 88.0


def softplus(a: Aten) -> str:
    """log(1 + exp(beta x)) / beta; x where beta x is beyond `threshold`."""
    x, beta, limit = a.tensor("self"), a.number("beta", 1.0), a.number("threshold", _SOFTPLUS_IS_X)
    if limit > _MOST_EXPONENT:
        raise a.op.error(f"a threshold of {limit} lets exp overflow", "use the default, 20")
    scale = a.value(beta, DType.F32)
    scaled = x if beta == 1.0 else a.onnx("Mul", [x, scale])
    y = a.onnx("Softplus", [scaled])
    if beta != 1.0:
        y = a.onnx("Div", [y, scale])
    if limit >= _SOFTPLUS_IS_X:
        return y
    return a.onnx("Where", [a.onnx("Greater", [scaled, a.value(limit, DType.F32)]), x, y])


def prelu(a: Aten) -> str:
    """One slope, or one for each channel (axis 1)."""
    x = a.tensor("self") or a.tensor("input")
    slope = a.tensor("weight")
    rank = len(a.shape(x))
    if a.type(slope).elements > 1 and rank > 2:
        slope = a.reshape(slope, (a.type(slope).elements, *[1] * (rank - 2)))
    return a.onnx("PRelu", [x, slope])


add("round", round_)
add("elu", elu)
add("softplus", softplus)
add("prelu _prelu_kernel", prelu)


def _limit(a: Aten, name: str, end: float, like: DType) -> str:
    """A limit as a tensor; "" for none."""
    value = a.op.attrs.get(name)
    value = end if value is None else value
    if value == math.copysign(math.inf, -1 if name.startswith("min") else 1):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        raise a.op.error(f"a limit of {value} is not supported")
    return value if isinstance(value, str) else a.number_as(value, like)


def _clamped(low: str, high: str, defaults: tuple[float, float]) -> Rule:
    def rule(a: Aten) -> str:
        x = a.tensor("self") or a.tensor("input")
        like = a.type(x).dtype
        limits = [
            _limit(a, name, end, like) for name, end in ((low, defaults[0]), (high, defaults[1]))
        ]
        x, *found = a.promoted(x, *(v for v in limits if v))
        limits = [found.pop(0) if v else "" for v in limits]
        if any(v and a.shape(v) for v in limits):
            for kind, v in zip(("Max", "Min"), limits, strict=True):
                x = a.onnx(kind, [x, v]) if v else x
            return x
        return a.onnx("Clip", [x, *limits])

    return rule


add("clamp clip", _clamped("min", "max", (-math.inf, math.inf)))
add("clamp_min", _clamped("min", "max", (-math.inf, math.inf)))
add("clamp_max", _clamped("min", "max", (-math.inf, math.inf)))
add("hardtanh", _clamped("min_val", "max_val", (-1.0, 1.0)))
add("relu6", _clamped("-", "--", (0.0, 6.0)))


def _binary(kind: str) -> Rule:
    """An operator on two tensors, or a tensor and a number."""

    def rule(a: Aten) -> str:
        return a.onnx(kind, operands(a))

    return rule


def operands(a: Aten) -> list[str]:
    """`self` and `other`, of one type."""
    x = a.op.attrs.get("self")
    like = a.type(str(x)).dtype if isinstance(x, str) else None
    other = a.operand("other", like)
    first = a.operand("self", a.type(other).dtype)
    return a.promoted(first, other)


def _sum(kind: str, turned: bool = False) -> Rule:
    """self + alpha * other; turned: other - alpha * self."""

    def rule(a: Aten) -> str:
        x, y = operands(a)
        x, y = (y, x) if turned else (x, y)
        if a.type(x).dtype is DType.BOOL and kind == "Add":
            return a.onnx("Or", [x, y])
        if a.number("alpha", 1.0) != 1.0:
            y = a.onnx("Mul", [y, a.value(a.number("alpha"), a.type(y).dtype)])
        return a.onnx(kind, [x, y])

    return rule


def div(a: Aten) -> str:
    x, y = operands(a)
    mode = a.op.attrs.get("rounding_mode")
    if mode is None:
        return a.onnx("Div", [a.cast(x, DType.F32), a.cast(y, DType.F32)])
    if a.type(x).dtype.is_float:
        return _floored(a, x, y) if mode == "floor" else a.node("trunc", [a.onnx("Div", [x, y])])
    return _down(a, x, y) if mode == "floor" else a.onnx("Div", [x, y])


def floor_divide(a: Aten) -> str:
    x, y = operands(a)
    return _floored(a, x, y) if a.type(x).dtype.is_float else _down(a, x, y)


def _down(a: Aten, x: str, y: str) -> str:
    """Division of integers, rounded down: one less where something remains and signs differ."""
    dtype = a.type(x).dtype
    whole = a.onnx("Div", [x, y])
    if dtype is DType.U8:
        return whole
    rest = a.onnx("Sub", [x, a.onnx("Mul", [whole, y])])
    zero = a.value(0, dtype)
    signs = [a.onnx("Less", [v, zero]) for v in (rest, y)]
    remains = a.onnx("Not", [a.onnx("Equal", [rest, zero])])
    below = a.onnx("And", [a.onnx("Xor", signs), remains])
    return a.onnx("Sub", [whole, a.cast(below, dtype)])


def rest_of(a: Aten, x: str, y: str) -> tuple[str, str]:
    """The remainder of floats with the sign of x, and whether y has another one."""
    rest = a.onnx("Mod", [x, y], fmod=1)
    zero = a.value(0.0, DType.F32)
    signs = [a.onnx("Less", [v, zero]) for v in (rest, y)]
    whole = a.onnx("Equal", [rest, zero])
    return rest, a.onnx("And", [a.onnx("Xor", signs), a.onnx("Not", [whole])])


def _floored(a: Aten, x: str, y: str) -> str:
    """Floor division as div_floor_floating in PyTorch's c10/util: (x - rest) / y to the next
    integer; of y = 0 as it divides."""
    one, half, zero = (a.value(v, DType.F32) for v in (1.0, 0.5, 0.0))
    rest, turned = rest_of(a, x, y)
    near = a.onnx("Div", [a.onnx("Sub", [x, rest]), y])
    near = a.onnx("Where", [turned, a.onnx("Sub", [near, one]), near])
    low = a.onnx("Floor", [near])
    above = a.onnx("Greater", [a.onnx("Sub", [near, low]), half])
    low = a.onnx("Where", [above, a.onnx("Add", [low, one]), low])
    return a.onnx("Where", [a.onnx("Equal", [y, zero]), a.onnx("Div", [x, y]), low])


def power(a: Aten) -> str:
    base, exponent = a.op.attrs.get("self"), a.op.attrs.get("exponent")
    x = a.operand("self", DType.F32)
    if isinstance(exponent, float):
        x = a.cast(x, DType.F32)
    if isinstance(exponent, int | float) and isinstance(base, str):
        if exponent == 2:
            return a.onnx("Mul", [x, x])
        if exponent == 0.5:
            return a.onnx("Sqrt", [a.cast(x, DType.F32)])
        if exponent == -0.5:
            return a.node("rsqrt", [a.cast(x, DType.F32)])
    return a.onnx("Pow", a.promoted(x, a.operand("exponent", a.type(x).dtype)))


add("add", _sum("Add"))
add("sub", _sum("Sub"))
add("rsub", _sum("Sub", turned=True))
add("div true_divide", div)
add("floor_divide", floor_divide)
add("pow", power)
for _names, _kind in {
    "maximum": "Max", "minimum": "Min", "eq": "Equal", "lt": "Less",
    "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual", "logical_and": "And",
    "logical_or": "Or", "logical_xor": "Xor",
}.items():  # fmt: skip
    add(_names, _binary(_kind))


def product(a: Aten) -> str:
    """Of truth values: both of them."""
    x, y = operands(a)
    return a.onnx("And" if a.type(x).dtype is DType.BOOL else "Mul", [x, y])


add("mul", product)


def _bits(kind: str) -> Rule:
    """Of truth values; of integers ONNX has others."""

    def rule(a: Aten) -> str:
        x, y = operands(a)
        return a.onnx(kind if a.type(x).dtype is DType.BOOL else f"Bitwise{kind}", [x, y])

    return rule


for _names, _kind in {"and": "And", "or": "Or", "xor": "Xor"}.items():
    add(f"bitwise_{_names} __{_names}_", _bits(_kind))
add("ne", lambda a: a.onnx("Not", [a.onnx("Equal", operands(a))]))
add("fmod", lambda a: a.onnx("Mod", operands(a), fmod=1))


def where(a: Aten) -> str:
    return a.onnx("Where", [a.tensor("condition"), *operands(a)])


def masked_fill(a: Aten) -> str:
    x = a.tensor("self")
    return a.onnx(
        "Where", [a.tensor("mask"), a.cast(a.operand("value", a.type(x).dtype), a.type(x).dtype), x]
    )


add("where", where)
add("masked_fill", masked_fill)


def convert(a: Aten) -> str:
    x = a.tensor("self") or a.tensor("x")
    like = a.tensor("other")
    return a.cast(x, a.type(like).dtype) if like else a.typed(x)


add("_to_copy to type_as", convert)


def _filled(fill: float | None) -> Rule:
    """A constant tensor."""

    def rule(a: Aten) -> str:
        like = a.op.attrs.get("self")
        shape = a.integers("size") if "size" in a.op.attrs else a.shape(str(like))
        value = a.op.attrs.get("fill_value", a.op.attrs.get("s")) if fill is None else fill
        dtype = a.scalar_type("dtype")
        if dtype is None:
            dtype = a.type(str(like)).dtype if isinstance(like, str) else DType.F32
            if not isinstance(like, str) and fill is None and isinstance(value, int):
                dtype = DType.BOOL if isinstance(value, bool) else DType.I64
        if np.prod(shape, dtype=np.float64) > 1 << 24:
            raise a.op.error(f"a constant of shape {shape} is too large")
        return a.value(np.full(shape, value), dtype)

    return rule


add("zeros zeros_like new_zeros empty empty_like", _filled(0.0))
add("ones ones_like new_ones", _filled(1.0))
add("full full_like new_full", _filled(None))
add("scalar_tensor", lambda a: a.value(a.number("s"), a.scalar_type("dtype") or DType.F32))
