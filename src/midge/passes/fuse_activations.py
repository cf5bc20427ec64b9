"""Give an operator the activation that follows it."""

from __future__ import annotations

from dataclasses import replace

from midge.graph.attrs import number
from midge.graph.fixed_point import ACTIVATIONS
from midge.graph.ir import OPS, Graph, Node

_NAMES = {bounds: name for name, bounds in ACTIVATIONS.items()}


def fuse_activations(graph: Graph) -> Graph:
    """t = conv2d(x, w); y = clip(t) low=0 high=6   ->   y = conv2d(x, w) activation=relu6

    Only where t has no other reader and, if quantised, the same quantisation as y: then the clip
    is exactly the operator's own clamp.
    """
    readers = graph.consumers()
    producers = {o: n for n in graph.nodes for o in n.outputs}
    fused: dict[str, Node] = {}
    gone: set[str] = set()
    for node in graph.nodes:
        source = producers.get(node.inputs[0]) if node.inputs else None
        name = _activation(node)
        if not name or source is None or not _fits(graph, source, node, readers):
            continue
        fused[node.outputs[0]] = replace(
            source,
            outputs=node.outputs,
            attrs={**source.attrs, "activation": name},
            kind=f"{source.kind}+{node.kind}",
        )
        gone.add(source.outputs[0])
    nodes = [fused.get(n.outputs[0], n) for n in graph.nodes if n.outputs[0] not in gone]
    return graph.with_nodes(nodes)


def _activation(node: Node) -> str:
    if node.op != "clip":
        return ""
    return _NAMES.get((number(node.attrs, "low"), number(node.attrs, "high")), "")


def _fits(graph: Graph, source: Node, node: Node, readers: dict[str, list[Node]]) -> bool:
    (value,) = node.inputs
    return (
        OPS[source.op].activation
        and "activation" not in source.attrs
        and value not in graph.outputs
        and len(readers[value]) == 1
        and graph.types[value].quant == graph.types[node.outputs[0]].quant
    )
