"""Move input zero points out of the inner loops, into biases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.core.errors import ModelError
from midge.core.sums import signed_sums
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
    above, below = _per_channel(node, consts[w])
    sums, magnitudes = above + below, above - below
    bias = consts[node.inputs[2]].astype(np.int64).reshape(-1) if len(node.inputs) > 2 else 0 * sums
    folded = bias - zero * sums
    _check_overflow(node, types[x].dtype, acc, magnitudes, folded)
    _check_overflow(node, types[x].dtype, acc, magnitudes, bias)
    if zero == 0 or node.op in _UNEVEN:
        return node
    name = fresh(f"{node.outputs[0]}/bias", types)
    consts[name] = folded.astype(acc.numpy)
    types[name] = TensorType(folded.shape, acc)
    return replace(node, inputs=(x, w, name), attrs={**node.attrs, "x_zero": 0})


def _per_channel(node: Node, weights: Array) -> tuple[Array, Array]:
    """The sums of each output channel's weights above zero, and of those below it."""
    channel = OPS[node.op].channel_axis
    return signed_sums(weights, tuple(a for a in range(weights.ndim) if a != channel))


def _check_overflow(node: Node, x: DType, acc: DType, magnitudes: Array, bias: Array) -> None:
    """ModelError if |bias| + sum |x * w| can exceed the accumulator. magnitudes: the sums of |w|.

    Of 64 bits 47 are used: that is what MultiplyByQuantizedMultiplier of the reference takes.
    """
    bits, limit = (48, (1 << 47) - 1) if acc is DType.I64 else (8 * acc.size, acc.max)
    products = magnitudes * (x.max - x.min)
    worst = [abs(b) + m for b, m in zip(bias.tolist(), products.tolist(), strict=True)]
    if max(worst) > limit:
        channel = worst.index(max(worst))
        hint = "the bias is too large for its scale; check how the model was quantised"
        if products[channel] > limit:
            hint = (
                "its products alone can: give the layer fewer inputs, by a pool before it for "
                "example, or make several layers of parts of the inputs and add their results"
            )
        raise ModelError(
            f"the accumulator of channel {channel} can overflow {bits} bits",
            where=node.where,
            hint=hint,
        )
