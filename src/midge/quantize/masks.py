"""Masks of attention, whose largest negative numbers would take all steps of a scale.

softmax(x + mask), where mask has 0 and -inf or -1e9, keeps what the mask is 0 at. Only that the
masked results are 0 matters, and that an int8 softmax has for all that is a few units less than the
greatest: exp(-8) is less than a tenth of its step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.evaluate import evaluate_all
from midge.graph.ir import Graph, Node, fresh
from midge.passes import run
from midge.passes.legalize import legalize

_HUGE = -1e4  # masks have this or less; scores of attention are far from it
_MARGIN = {DType.I8: 8.0, DType.I16: 11.0}  # below the least score
_MOVES = ("reshape", "transpose")


def bound_masks(
    graph: Graph, samples: Sequence[Mapping[str, Array]], activations: DType = DType.I8
) -> Graph:
    """y = softmax(x + mask)   ->   y = softmax(where(mask is 0, x, low))

    and where(c, x, -1e9) -> where(c, x, low), with `low` less than all x of the samples.
    """
    masked = {i: found for i, n in enumerate(graph.nodes) if (found := _masked(graph, n))}
    if not masked:
        return graph
    least = _least({x for x, _ in masked.values()}, graph, samples)
    types, consts, nodes = dict(graph.types), dict(graph.consts), []
    for i, node in enumerate(graph.nodes):
        if i not in masked:
            nodes.append(node)
            continue
        value, mask = masked[i]
        low = np.array(least[value] - _MARGIN[activations], np.float32)
        if node.op == "where":
            bound = _constant(mask, np.broadcast_to(low, types[mask].shape), types, consts)
            inputs = tuple(bound if n == mask else n for n in node.inputs)
        else:
            keeps = _constant(mask, graph.consts[mask] > _HUGE, types, consts)
            inputs = (keeps, value, _constant(mask, low, types, consts))
        nodes.append(replace(node, op="where", inputs=inputs, attrs={}))
    return replace(graph, types=types, consts=consts).with_nodes(nodes)


def _constant(
    name: str, array: Array, types: dict[str, TensorType], consts: dict[str, Array]
) -> str:
    new = fresh(f"{name}/bound", types)
    consts[new] = np.array(array, order="C")
    types[new] = TensorType(array.shape, DType.of(array))
    return new


def _masked(graph: Graph, node: Node) -> tuple[str, str] | None:
    """The value and the mask of a node whose result only a softmax reads."""
    if node.op not in ("add", "where") or node.attrs.get("activation"):
        return None
    operands = node.inputs[-2:]
    masks = [n for n in operands if n in graph.consts and _is_mask(graph.consts[n], node.op)]
    if len(masks) != 1 or not _only_softmax(graph, node.outputs[0]):
        return None
    (value,) = (n for n in operands if n not in masks)
    return (value, masks[0]) if value not in graph.consts else None


def _is_mask(array: Array, op: str) -> bool:
    if array.dtype != np.float32 or array.size == 0:
        return False
    hidden = array <= _HUGE
    return bool(hidden.all()) if op == "where" else bool(hidden.any() and not array[~hidden].any())


def _only_softmax(graph: Graph, name: str) -> bool:
    users = [n for n in graph.nodes if name in n.inputs]
    if not users or name in graph.outputs:
        return False
    return all(
        u.op == "softmax" or (u.op in _MOVES and _only_softmax(graph, u.outputs[0])) for u in users
    )


def _least(
    names: set[str], graph: Graph, samples: Sequence[Mapping[str, Array]]
) -> dict[str, float]:
    """The least element of some values over all samples; masked ones do not count."""
    plain = run((legalize,), graph)
    least = dict.fromkeys(names, np.inf)
    for sample in samples:
        values = evaluate_all(plain, sample)
        for name in names:
            shown = values[name][values[name] > _HUGE]
            least[name] = min(least[name], float(shown.min(initial=np.inf)))
    return {n: v if np.isfinite(v) else 0.0 for n, v in least.items()}
