"""Cross-layer equalisation: the ranges of successive layers' weights made alike.

y = W2 f(W1 x + b1) + b2 is the same with W1, b1 divided by s > 0 per channel, and W2 multiplied,
where f(x / s) = f(x) / s: no activation and relu are such. With s = sqrt(r1 * r2) / r2, where
r1, r2 are a channel's largest weights on either side, both become sqrt(r1 * r2) (Nagel et al.,
Data-Free Quantization Through Weight Equalization and Bias Correction, 2019, section 4.1). r1
counts the bias too: else that of a channel with next to no weights grows with them until it
alone fills the range of the activations. relu6 and relu_n1_to_1 have limits that would have to
differ by channel: such pairs are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from midge.core.types import Array, DType
from midge.graph.ir import OPS, Graph, Node
from midge.quantize.weights import along

_ROUNDS = 20
_DONE = 1e-3  # relative change of a factor below which a round has changed nothing
_MOST = 1e3  # of a factor: channels that are nearly dead are not blown up


def equalize(graph: Graph) -> Graph:
    """The same function of the graph's inputs, in real numbers."""
    pairs = list(_pairs(graph))
    consts = dict(graph.consts)
    for _ in range(_ROUNDS):
        changes = [_balance(graph, consts, first, second) for first, second in pairs]
        if max(changes, default=0.0) < _DONE:
            break
    return replace(graph, consts=consts)


def _pairs(graph: Graph) -> Iterator[tuple[Node, Node]]:
    """Layers that follow each other, the second reading what nobody else reads, with constants
    of their own."""
    readers = graph.consumers()
    for node in graph.nodes:
        out = node.outputs[0]
        followers = readers.get(out, [])
        if len(followers) != 1 or out in graph.outputs:
            continue
        follower = followers[0]
        if node.attrs.get("activation", "relu") != "relu" or follower.inputs[0] != out:
            continue
        if all(_own_weights(graph, n, readers) for n in (node, follower)):
            yield node, follower


def _own_weights(graph: Graph, node: Node, readers: dict[str, list[Node]]) -> bool:
    if OPS[node.op].channel_axis is None or graph.types[node.inputs[0]].dtype is not DType.F32:
        return False
    consts = node.inputs[1:]
    return all(n in graph.consts and len(readers[n]) == 1 for n in consts)


def _balance(graph: Graph, consts: dict[str, Array], first: Node, second: Node) -> float:
    """Balance one pair; the largest relative change."""
    axis = OPS[first.op].channel_axis
    assert axis is not None
    w1, w2 = consts[first.inputs[1]], consts[second.inputs[1]]
    channels = w1.shape[axis]
    r1 = np.abs(w1).max(tuple(d for d in range(w1.ndim) if d != axis)).astype(np.float64)
    if len(first.inputs) > 2:
        r1 = np.maximum(r1, np.abs(consts[first.inputs[2]].reshape(-1)))
    reads = _input_axis(graph, second, channels)
    if reads is None:
        return 0.0
    r2 = _by_input(np.abs(w2), reads, channels)
    live = (r1 > 0) & (r2 > 0)
    factor = np.ones(channels)
    factor[live] = np.sqrt(r1[live] / r2[live])
    factor = np.clip(factor, 1 / _MOST, _MOST)
    consts[first.inputs[1]] = (w1 / along(factor, w1.ndim, axis)).astype(np.float32)
    if len(first.inputs) > 2:
        bias = consts[first.inputs[2]]
        consts[first.inputs[2]] = (bias / factor.reshape(bias.shape)).astype(np.float32)
    spread = np.repeat(factor, w2.shape[reads] // channels)
    consts[second.inputs[1]] = (w2 * along(spread, w2.ndim, reads)).astype(np.float32)
    return float(np.abs(factor - 1).max())


def _input_axis(graph: Graph, node: Node, channels: int) -> int | None:
    """The axis of the weights that counts input channels; None where groups would mix them."""
    shape = graph.types[node.inputs[1]].shape
    if node.op == "depthwise_conv2d":
        return 3 if shape[3] % channels == 0 else None
    axis = len(shape) - 1
    return axis if shape[axis] == channels else None


def _by_input(magnitudes: Array, axis: int, channels: int) -> Array:
    """The largest weight of each input channel."""
    moved = np.moveaxis(magnitudes, axis, 0).reshape(channels, -1)
    result: Array = moved.max(1).astype(np.float64)
    return result
