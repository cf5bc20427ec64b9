"""Divisions as multiplications by reciprocals: quantised, TFLite has no division."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.ir import Graph, Node, fresh


def avoid_division(graph: Graph) -> Graph:
    """y = div(x, c)   ->   y = mul(x, 1 / c);  y = div(x, sqrt(v))   ->   y = mul(x, rsqrt(v))

    Float tensors only; c constant, its reciprocals finite; the root read by nobody else. Changes
    the rounding of the result within the float bound.
    """
    types, consts = dict(graph.types), dict(graph.consts)
    makers = {o: n for n in graph.nodes for o in n.outputs}
    readers = graph.consumers()
    changed: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op != "div" or types[node.outputs[0]].dtype is not DType.F32:
            continue
        x, divisor = node.inputs
        maker = makers.get(divisor)
        if divisor in graph.consts:
            inverse = _inverse(graph.consts[divisor])
            if inverse is None:
                continue
            name = fresh(f"{divisor}/inverse", types)
            types[name], consts[name] = TensorType(inverse.shape, DType.F32), inverse
        elif maker is not None and maker.op == "sqrt" and len(readers[divisor]) == 1:
            if divisor in graph.outputs:
                continue
            changed[divisor] = replace(maker, op="rsqrt")
            name = divisor
        else:
            continue
        changed[node.outputs[0]] = replace(node, op="mul", inputs=(x, name))
    nodes = (changed.get(n.outputs[0], n) for n in graph.nodes)
    return replace(graph, types=types, consts=consts).with_nodes(nodes)


def _inverse(divisor: Array) -> Array | None:
    with np.errstate(all="ignore"):
        inverse: Array = (1.0 / divisor.astype(np.float64)).astype(np.float32)
    return inverse if np.isfinite(inverse).all() else None
