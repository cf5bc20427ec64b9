"""What ONNX Runtime adds up and does not show.

Floats are measured in units of the largest value of an inference: sums in another order differ by
so much, and a small result may be the difference of large ones. InstanceNormalization is such a
difference, x * factor + (bias - mean * factor), in core/providers/cpu/nn/instance_norm.cc: of a
channel of one element the variance is 0, so that factor is 316 for the usual epsilon, and the
result, which is the bias, has the digits of 316 * x. Midge subtracts the mean first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from midge.core.types import Array


class Sums:
    """Of the operators of a model."""

    def __init__(self, model: Any) -> None:
        from onnx import helper, numpy_helper

        self._nodes: list[tuple[Any, float]] = []
        for node in model.graph.node:
            if node.op_type == "InstanceNormalization" and not node.domain:
                attrs = {a.name: helper.get_attribute_value(a) for a in node.attribute}
                self._nodes.append((node, attrs.get("epsilon", 1e-5)))
        named = {node.input[1] for node, _ in self._nodes}
        constants = (t for t in model.graph.initializer if t.name in named)
        self._scales = {t.name: numpy_helper.to_array(t) for t in constants}

    def of(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """mean * factor of each channel, by a name that no value has, where `values` have what it
        is made of."""
        known = {**self._scales, **values}
        return {
            f"{node.output[0]}/mean*factor": _moved(
                known[node.input[0]], known[node.input[1]], epsilon
            )
            for node, epsilon in self._nodes
            if all(n in known for n in node.input[:2])
        }


def _moved(x: Array, scale: Array, epsilon: float) -> Array:
    axes = tuple(range(2, x.ndim))
    mean = x.mean(axes, np.float64)
    deviation = np.sqrt(x.var(axes, np.float64) + epsilon)
    result: Array = (mean * scale / deviation).astype(np.float32)
    return result
