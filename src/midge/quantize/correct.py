"""Bias correction: the mean error that rounded weights make, taken from the biases.

A layer is linear: the mean over samples of its error is the layer of the weights' errors on the
mean input (Nagel et al., Data-Free Quantization, 2019, section 4.2, with calibrated means; the
borders of images are exact here, since the mean input is a whole image).
"""

from __future__ import annotations

import numpy as np

from midge.core.types import Array
from midge.graph.ir import OPS, Node


def mean_errors(node: Node, mean: Array, error: Array) -> Array:
    """What weights that are off by `error` add to each output channel, in the mean.

    mean: of the layer's input over the samples.
    """
    attrs = {k: v for k, v in node.attrs.items() if k != "activation"}
    inputs = [mean.astype(np.float32), error.astype(np.float32)]
    (output,) = OPS[node.op].reference(inputs, attrs)
    result: Array = output.astype(np.float64).reshape(-1, output.shape[-1]).mean(0)
    return result
