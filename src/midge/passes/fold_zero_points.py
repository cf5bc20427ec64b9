"""Move input zero points out of the inner loops, into biases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integer
from midge.graph.ir import OPS, Graph, Node, fresh

# Some outputs are sums of fewer products than others.
_UNEVEN = ("conv_transpose2d",)


def fold_zero_points(graph: Graph) -> Graph:
    """acc = b + sum (x - zx) * w   ->   acc = (b - zx * sum w) + sum x * w

    Padding counts as zx from then on (`pad_value`). Exact: it is the same sum in the same 32 bits.
    An accumulator that could overflow is refused here, as its value would be undefined in C.
    """
    types, consts = dict(graph.types), dict(graph.consts)
    nodes: list[Node] = []
    for node in graph.nodes:
        if OPS[node.op].channel_axis is not None and graph.types[node.inputs[0]].dtype.is_integer:
            node = _fold(node, types, consts)
        nodes.append(node)
    return replace(graph, types=types, consts=consts).with_nodes(nodes)


def _fold(node: Node, types: dict[str, TensorType], consts: dict[str, Array]) -> Node:
    x, w = node.inputs[:2]
    acc = types[node.outputs[0]].dtype
    zero = integer(node.attrs, "x_zero", 0)
    constant = w in consts and all(n in consts for n in node.inputs[2:])
    if not constant:
        return node
    weights = consts[w].astype(np.int64)
    sums = _per_channel(node, weights)
    bias = consts[node.inputs[2]].astype(np.int64).reshape(-1) if len(node.inputs) > 2 else 0 * sums
    folded = bias - zero * sums
    _check_overflow(node, types[x].dtype, acc, weights, folded)
    _check_overflow(node, types[x].dtype, acc, weights, bias)
    if zero == 0 or node.op in _UNEVEN:
        return node
    name = fresh(f"{node.outputs[0]}/bias", types)
    consts[name] = folded.astype(acc.numpy)
    types[name] = TensorType(folded.shape, acc)
    return replace(node, inputs=(x, w, name), attrs={**node.attrs, "x_zero": 0})


def _per_channel(node: Node, weights: Array) -> Array:
    """The sum of each output channel's weights."""
    channel = OPS[node.op].channel_axis
    others = tuple(axis for axis in range(weights.ndim) if axis != channel)
    sums: Array = weights.sum(others)
    return sums


def _check_overflow(node: Node, x: DType, acc: DType, weights: Array, bias: Array) -> None:
    """ModelError if |bias| + sum |x * w| can exceed the accumulator.

    Of 64 bits 47 are used: that is what MultiplyByQuantizedMultiplier of the reference takes.
    """
    bits, limit = (48, (1 << 47) - 1) if acc is DType.I64 else (8 * acc.size, acc.max)
    magnitude = _per_channel(node, np.abs(weights)) * (x.max - x.min)
    worst = [abs(b) + m for b, m in zip(bias.tolist(), magnitude.tolist(), strict=True)]
    if max(worst) > limit:
        raise ModelError(
            f"the accumulator of channel {worst.index(max(worst))} can overflow {bits} bits",
            where=node.where,
            hint="the bias is too large for its scale; check how the model was quantised",
        )
