"""Sums over weights, of which there can be many megabytes: without a copy in a wider type."""

from __future__ import annotations

import numpy as np

from midge.core.types import Array


def signed_sums(w: Array, axes: tuple[int, ...]) -> tuple[Array, Array]:
    """The sums over `axes` of the integers above zero, and of those below it; i64."""
    above = np.maximum(w, 0).sum(axes, dtype=np.int64)
    return np.asarray(above), np.asarray(w.sum(axes, dtype=np.int64) - above)


def magnitudes(w: Array, axes: tuple[int, ...]) -> Array:
    """The sums over `axes` of |w|; i64."""
    above, below = signed_sums(w, axes)
    return np.asarray(above - below)
