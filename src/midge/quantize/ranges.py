"""From what was seen of a value to the range that its integers cover, and to scale and zero point.

Each method gets a histogram over (least, most) and answers with a part of that range that holds
zero. Values outside are cut off to the nearest end.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from midge.core.types import Array, DType, Quant
from midge.quantize.calibrate import BINS, Seen
from midge.quantize.options import Options

Range = tuple[float, float]
Loss = Callable[[Array, Array, Range], float]  # middles of the bins, their counts, a range tried

_LEVELS = 256
_STEPS = 96  # parts of the full range that are tried, from 1 down to _LEAST
_LEAST = 0.02
_ANY = 2.0**-7  # the scale of a tensor of zeros


def chosen_range(seen: Seen, options: Options) -> Range:
    """The range of an int8 tensor by the method of `options`."""
    full = seen.least, seen.most
    if seen.histogram is None:
        return with_zero(full)
    match options.method:
        case "percentile":
            return with_zero(_percentile(seen, seen.histogram, options.percentile))
        case "entropy":
            return _least_loss(seen, _without_zeros(seen, seen.histogram), _divergence)
        case "mse":
            return _least_loss(seen, seen.histogram, _squared_error)
        case _:
            return with_zero(full)


def with_zero(found: Range) -> Range:
    """Zero must be an integer's meaning: padding and activations rest on it."""
    return min(found[0], 0.0), max(found[1], 0.0)


def _percentile(seen: Seen, histogram: Array, percentile: float) -> Range:
    """What is left when the same share of values is cut off on either side."""
    edges = np.linspace(seen.least, seen.most, BINS + 1)
    below = np.cumsum(histogram) / histogram.sum()
    share = (100.0 - percentile) / 100.0
    low = int(np.searchsorted(below, share, side="right"))
    high = int(np.searchsorted(below, 1.0 - share, side="left")) + 1
    return float(edges[min(low, BINS - 1)]), float(edges[min(high, BINS)])


def _without_zeros(seen: Seen, histogram: Array) -> Array:
    """Zeros are exact in every range, but so many after a relu that all else counts for nothing."""
    counts = histogram.copy()
    place = int((0.0 - seen.least) / (seen.most - seen.least) * BINS)
    if 0 <= place < BINS:
        counts[place] = 0
    return counts if counts.any() else histogram


def _least_loss(seen: Seen, histogram: Array, loss: Loss) -> Range:
    """The part of the range with the least `loss`: first both ends are moved towards zero alike,
    then each alone, in turn."""
    edges = np.linspace(seen.least, seen.most, BINS + 1)
    middles = (edges[:-1] + edges[1:]) / 2
    low, high = with_zero((seen.least, seen.most))
    parts = [float(p) for p in np.geomspace(1.0, _LEAST, _STEPS)]

    def least(tried: list[Range]) -> Range:
        return min(tried, key=lambda r: loss(middles, histogram, r))

    best = least([(low * p, high * p) for p in parts])
    if low < 0.0 < high:
        for _ in range(2):
            best = least([best, *((best[0], high * p) for p in parts)])
            best = least([best, *((low * p, best[1]) for p in parts)])
    return best


def _rounded(middles: Array, tried: Range) -> Array:
    """The step of each value, 0 .. 255."""
    scale = (tried[1] - tried[0]) / (_LEVELS - 1)
    result: Array = np.clip(np.round((middles - tried[0]) / scale), 0, _LEVELS - 1)
    return result


def _squared_error(middles: Array, histogram: Array, tried: Range) -> float:
    """Sum of the squared differences to the nearest integers' meanings."""
    scale = (tried[1] - tried[0]) / (_LEVELS - 1)
    meant = _rounded(middles, tried) * scale + tried[0]
    return float((histogram * (middles - meant) ** 2).sum())


def _divergence(middles: Array, histogram: Array, tried: Range) -> float:
    """Kullback-Leibler divergence of the values, cut off to the range, from their integers.

    As in entropy calibration (Migacz, 8-bit inference with TensorRT, GTC 2017): the reference
    gets the outliers in its end bins, the candidate spreads what each integer holds evenly over
    the bins that it stands for and that hold anything.
    """
    steps = _rounded(middles, tried).astype(np.int64)
    inside = (middles >= tried[0]) & (middles <= tried[1])
    held = np.where(inside, histogram, 0).astype(np.float64)
    reference = held.copy()
    places = np.flatnonzero(inside)
    if not places.size:
        return float("inf")
    if not held.any():
        return float("inf")
    reference[places[0]] += histogram[: places[0]].sum()
    reference[places[-1]] += histogram[places[-1] + 1 :].sum()
    filled = inside & (histogram > 0)
    totals = np.bincount(steps[inside], held[inside], _LEVELS)
    counts = np.bincount(steps[filled], minlength=_LEVELS)
    candidate = np.zeros_like(held)
    candidate[filled] = totals[steps[filled]] / counts[steps[filled]]
    p = reference / reference.sum()
    q = candidate / max(candidate.sum(), 1e-30)
    live = p > 0
    return float((p[live] * np.log(p[live] / np.maximum(q[live], 1e-12))).sum())


def quant_for(found: Range, dtype: DType) -> Quant:
    """Scale (a binary32 number) and zero point of a tensor over a range.

    int8: asymmetric, zero is exactly one of the integers.  int16: symmetric, zero point 0.
    """
    low, high = with_zero(found)
    if dtype is DType.I16:
        return Quant.per_tensor(_scale(max(-low, high), dtype.max), 0)
    scale = _scale(high - low, dtype.max - dtype.min)
    zero = round(dtype.min - low / scale)
    return Quant.per_tensor(scale, max(dtype.min, min(dtype.max, zero)))


def _scale(extent: float, steps: int) -> float:
    """extent / steps in binary32; of a tensor of zeros any scale is right."""
    scale = float(np.float32(extent / steps))
    return scale if scale > np.finfo(np.float32).tiny else _ANY
