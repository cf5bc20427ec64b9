"""Integer quantisation parameters, computed as TensorFlow Lite's kernels do when they prepare."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, Quant, TensorType

f32 = np.float32
MOST_SHIFT = 30  # bits: factors between scales are below 2^30


def quantize_multiplier(real: float) -> tuple[int, int]:
    """`real` as (multiplier, shift): real ~ multiplier * 2^(shift - 31), 2^30 <= multiplier < 2^31.

    QuantizeMultiplier in lite/kernels/internal/quantization_util.cc; below 2^-32 it is (0, 0).
    """
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    fixed = round_half_away(mantissa * (1 << 31))
    if fixed == 1 << 31:
        fixed //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    return fixed, shift


def multiplier_of(real: float, where: str, most: int = MOST_SHIFT) -> tuple[int, int]:
    """`quantize_multiplier` of a factor between scales; ModelError unless it is below 2^most."""
    if not math.isfinite(real):
        raise beyond(most, where)
    multiplier, shift = quantize_multiplier(real)
    if shift > most:
        raise beyond(most, where)
    return multiplier, shift


def beyond(most: int, where: str) -> ModelError:
    """The error of a factor that no 32-bit integer can be shifted by: no framework defines what
    comes out."""
    return ModelError(
        f"scales differ by more than 2^{most}: the output cannot hold the result",
        where=where,
        hint="check the scales of the input, weight and output tensors",
    )


def too_fine(scale: np.float32, where: str) -> ModelError:
    """The error of an output scale so small that the framework refuses it, or gives anything."""
    return ModelError(
        f"the output scale {scale:g} is too fine for the inputs",
        where=where,
        hint="no framework defines the result; convert again with more calibration data",
    )


def too_coarse(scale: np.float32, where: str) -> ModelError:
    """The error of an output scale so great that nothing is left of the result."""
    return ModelError(
        f"the output scale {scale:g} is too coarse for the inputs",
        where=where,
        hint="no framework defines the result; convert again with more calibration data",
    )


def round_half_away(x: float) -> int:
    """C's round(), of a finite number."""
    return math.floor(abs(x) + 0.5) * (1 if x >= 0 else -1)


def reduced_multiplier(multiplier: int) -> int:
    """A Q31 multiplier as Q15, as the 64-bit requantisation uses it."""
    return (multiplier + (1 << 15)) >> 16 if multiplier < 0x7FFF0000 else 0x7FFF


def per_tensor(t: TensorType, where: str) -> tuple[np.float32, int]:
    """Scale (as binary32) and zero point of a per-tensor quantised tensor, else ModelError."""
    if t.quant is None or t.quant.axis is not None:
        have = "not quantised" if t.quant is None else "quantised per channel"
        raise ModelError(f"tensor {t} is {have}, expected per-tensor quantisation", where=where)
    return f32(t.quant.scale[0]), t.quant.zero_point[0]


ACTIVATIONS = {
    "": (-math.inf, math.inf),
    "relu": (0.0, math.inf),
    "relu6": (0.0, 6.0),
    "relu_n1_to_1": (-1.0, 1.0),
}


def activation_range(activation: str, t: TensorType, where: str) -> tuple[int, int]:
    """The quantised clamp of a fused activation on output type `t`.

    CalculateActivationRangeQuantized in lite/kernels/kernel_util.cc.
    """
    low, high = t.dtype.min, t.dtype.max
    if activation == "":
        return low, high
    scale, zero = per_tensor(t, where)
    least, most = ACTIVATIONS[activation]
    low = max(low, quantize_value(least, scale, zero, where))
    if math.isfinite(most):
        high = min(high, quantize_value(most, scale, zero, where))
    return low, high


def quantize_value(x: float, scale: np.float32, zero: int, where: str) -> int:
    """round(x / scale) + zero, the division in binary32; ModelError where that leaves 32 bits."""
    steps = float(f32(x) / scale)
    if not abs(steps) < 1 << 31:
        raise ModelError(
            f"{x:g} is more than 2^31 steps of the scale {scale:g}",
            where=where,
            hint="check the scale of the output tensor",
        )
    return zero + round_half_away(steps)


def limited(x: float, low: int, high: int) -> int:
    """A float that is a whole number, limited to low..high; NaN is 0 as far as that lies inside."""
    return int(min(max(x, float(low)), float(high))) if x == x else min(max(0, low), high)


def multipliers(
    reals: Sequence[float], where: str = "", most: int = MOST_SHIFT
) -> tuple[Array, Array]:
    """`multiplier_of` each, as i32 arrays (multiplier, shift)."""
    pairs = [multiplier_of(r, where, most) for r in reals]
    return (
        np.array([m for m, _ in pairs], np.int32),
        np.array([s for _, s in pairs], np.int32),
    )


def accumulator(dtype: DType) -> DType:
    """The type in which products of `dtype` elements are summed."""
    return {DType.I8: DType.I32, DType.U8: DType.I32, DType.I16: DType.I64}.get(dtype, dtype)


def dequantize(array: Array, t: TensorType) -> Array:
    """scale * (q - zero point) in binary32, for a tensor with Quant."""
    assert t.quant is not None
    shape = [1] * array.ndim
    if t.quant.axis is not None:
        shape[t.quant.axis] = -1
    scale = np.array(t.quant.scale, np.float32).reshape(shape)
    zero = np.array(t.quant.zero_point, np.float32).reshape(shape)
    result: Array = (array.astype(np.float32) - zero) * scale
    return result.astype(np.float32)


def bias_quant(x: Quant, w: Quant) -> Quant:
    """The scale of a bias: input scale * weight scale in binary32, for each of the latter."""
    scales = tuple(float(f32(x.scale[0]) * f32(s)) for s in w.scale)
    return Quant(scales, (0,) * len(scales), None if w.axis is None else 0)
