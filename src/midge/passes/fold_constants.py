"""Compute at compile time what depends on constants only."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.core.types import Array
from midge.graph.evaluate import evaluate_node
from midge.graph.ir import Graph, Node

# A constant may grow this much (elements); beyond it the code is smaller than the data.
_MAX_ELEMENTS = 1 << 20


def fold_constants(graph: Graph) -> Graph:
    """c = f(const); y = g(x, c)   ->   y = g(x, const)

    Outputs of the graph stay computed: they need memory of their own.
    """
    consts = dict(graph.consts)
    kept: list[Node] = []
    for node in graph.nodes:
        is_output = any(n in graph.outputs for n in node.outputs)
        if all(n in consts for n in node.inputs) and _small(graph, node) and not is_output:
            consts.update(_evaluate(graph, node, consts))
        else:
            kept.append(node)
    return replace(graph, consts=consts).with_nodes(kept)


def _small(graph: Graph, node: Node) -> bool:
    return all(graph.types[n].elements <= _MAX_ELEMENTS for n in node.outputs)


def _evaluate(graph: Graph, node: Node, consts: dict[str, Array]) -> dict[str, Array]:
    results = evaluate_node(node, graph.types, consts, consts)
    return {n: np.ascontiguousarray(a).reshape(graph.types[n].shape) for n, a in results.items()}
