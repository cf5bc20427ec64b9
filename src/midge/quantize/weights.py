"""Weights and biases as integers: int8 symmetric per channel, biases in the accumulator's scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, DType, Quant
from midge.graph.fixed_point import bias_quant

_MOST = 127
_BIAS_BITS = {DType.I32: 30, DType.I64: 40}  # so that sums of products still fit
# A bias of more steps is no more exact in an output of 8 bits, and keeps fast requantisations (one
# product whose offset is a word, `passes.fit_requantize`) from being right.
_ENOUGH_BITS = {DType.I32: 19, DType.I64: 39}


@dataclass(frozen=True, slots=True)
class Weights:
    """Integer weights and bias of a layer, and their scales."""

    weights: Array
    weight_quant: Quant
    bias: Array
    bias_quant: Quant


def quantize_weights(
    weights: Array, bias: Array, axis: int, x: Quant, dtype: DType, mean_error: Array | None = None
) -> Weights:
    """Weights of a layer with input scale `x`; dtype: of the bias, I32 or I64.

    mean_error: what the rounded weights add to each output channel in the mean is taken from the
    bias; see `correct.mean_errors`.
    """
    scales = _scales(weights, bias, axis, x, dtype)
    quant = Quant(tuple(scales.tolist()), (0,) * scales.size, axis)
    if scales.size == 1:
        quant = Quant(quant.scale, quant.zero_point)
    rounded = np.round(weights.astype(np.float64) / along(scales, weights.ndim, axis))
    integers = np.clip(rounded, -_MOST, _MOST).astype(np.int8)
    of_bias = bias_quant(x, quant)
    wanted = bias if mean_error is None else bias - mean_error
    limit = 2 ** _BIAS_BITS[dtype]
    steps = np.clip(np.round(wanted / np.array(of_bias.scale)), -limit, limit)
    return Weights(integers, quant, steps.astype(dtype.numpy), of_bias)


def along(values: Array, rank: int, axis: int) -> Array:
    """A vector in the shape that broadcasts along `axis`."""
    shape = [1] * rank
    shape[axis] = -1
    return values.reshape(shape)


def _scales(weights: Array, bias: Array, axis: int, x: Quant, dtype: DType) -> Array:
    """max |w| / 127 of each channel, as binary32 numbers in float64.

    More where the bias would have more steps than are of use: next to it the weights are as good
    as zero. A channel of zeros gets the scale of the
    largest one: any is right.
    """
    others = tuple(d for d in range(weights.ndim) if d != axis)
    most = np.abs(weights).max(others).astype(np.float64)
    largest = float(most.max(initial=0.0)) or float(_MOST)
    scales = np.where(most > 0, most, largest) / _MOST
    scales = np.maximum(scales, 2.0**-100 * max(1.0, 1.0 / x.scale[0]))  # no product is subnormal
    needed = np.abs(bias).astype(np.float64) / (x.scale[0] * 2.0 ** _ENOUGH_BITS[dtype])
    result: Array = np.maximum(scales, needed).astype(np.float32).astype(np.float64)
    return result


def meaning(w: Weights, axis: int) -> Array:
    """The real numbers that the integer weights stand for."""
    result: Array = w.weights * along(np.array(w.weight_quant.scale), w.weights.ndim, axis)
    return result
