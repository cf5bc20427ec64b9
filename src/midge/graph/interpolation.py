"""Linear interpolation along an axis as ONNX Runtime computes it.

UpsampleBilinear and SetupUpsampleBilinear in onnxruntime/core/providers/cpu/tensor: positions and
weights in binary32, two neighbours of which the second may be the first.
"""

from __future__ import annotations

import numpy as np

from midge.core.types import Array

f32 = np.float32


def positions(n: int, m: int, scale: np.float32, mode: str) -> Array:
    """Where each of m elements lies among n, before it is limited to them: f32 [m].

    mode: of ONNX's coordinate transformations "half_pixel", "pytorch_half_pixel", "align_corners",
    "asymmetric", "half_pixel_symmetric".
    """
    i = np.arange(m).astype(f32)
    if scale == 1:
        return i
    if m == 1 and mode in ("align_corners", "pytorch_half_pixel"):
        return np.zeros(1, f32)
    half: Array = (i + f32(0.5)) / scale - f32(0.5)
    match mode:
        case "align_corners":
            result: Array = i * f32(n - 1) / f32(m - 1)
        case "asymmetric":
            result = i / scale
        case "half_pixel_symmetric":
            offset = f32(n) / f32(2) * (f32(1) - f32(m) / (scale * f32(n)))
            # The halves are doubles there, and the sum is one.
            result = float(offset) + (i + 0.5).astype(np.float64) / float(scale) - 0.5
        case _:
            result = half
    return result.astype(f32)


def neighbours(n: int, places: Array) -> tuple[Array, Array]:
    """The two elements around each place, i32 [m, 2], and their weights, f32 [m, 2]."""
    at = np.clip(places, f32(0), f32(n - 1))
    first = np.minimum(at.astype(np.int64), n - 1)
    second = np.minimum(first + 1, n - 1)
    far, near = np.abs(at - first.astype(f32)), np.abs(at - second.astype(f32))
    alone = first == second
    weights = np.stack([np.where(alone, f32(0.5), near), np.where(alone, f32(0.5), far)], 1)
    return np.stack([first, second], 1).astype(np.int32), weights.astype(f32)
