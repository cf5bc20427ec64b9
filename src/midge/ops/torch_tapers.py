"""PyTorch's tapers of signals (hann_window and its kin): constants.

Computed in float64 and rounded once, where PyTorch's own float32 may be a few units in the last
place away. Source: torch/_refs, which follows Harris 1978, "On the use of windows for harmonic
analysis with the discrete Fourier transform".
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from midge.core.types import DType
from midge.ops._torch import Aten, add

_LONGEST = 1 << 20


def _cosines(a: Aten, weights: Sequence[float]) -> str:
    """A sum of cosines; periodic: of one element more, without the last."""
    length = a.integer("window_length")
    if not 0 < length <= _LONGEST:
        raise a.op.error(f"a window of {length} elements is not supported")
    if length == 1:
        return a.value(np.ones(1), DType.F32)
    whole = length if a.op.attrs.get("periodic") is not False else length - 1
    angle = 2 * math.pi * np.arange(length) / whole
    return a.value(sum(w * np.cos(k * angle) for k, w in enumerate(weights)), DType.F32)


def hamming(a: Aten) -> str:
    return _cosines(a, (a.number("alpha", 0.54), -a.number("beta", 0.46)))


add("hann_window", lambda a: _cosines(a, (0.5, -0.5)))
add("hamming_window", hamming)
add("blackman_window", lambda a: _cosines(a, (0.42, -0.5, 0.08)))
