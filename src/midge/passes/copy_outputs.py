"""Make every output a computed value with memory of its own."""

from __future__ import annotations

from dataclasses import replace

from midge.graph.ir import OPS, Graph, Node, fresh


def copy_outputs(graph: Graph) -> Graph:
    """return x (an input, a constant, or a view of one)   ->   y = copy(x); return y"""
    views = {n.outputs[0]: n.inputs[0] for n in graph.nodes if OPS[n.op].alias}
    types = dict(graph.types)
    nodes: list[Node] = list(graph.nodes)
    outputs: list[str] = []
    taken: set[str] = set()
    for name in graph.outputs:
        base = name
        while base in views:
            base = views[base]
        if base in graph.inputs or base in graph.consts or base in taken:
            copied = fresh(f"{name}/copy{len(outputs)}", types)
            types[copied] = types[name]
            nodes.append(Node("copy", (name,), (copied,), {}, f"output {len(outputs)}", "COPY"))
            name = base = copied
        taken.add(base)
        outputs.append(name)
    return replace(graph, types=types, outputs=tuple(outputs)).with_nodes(nodes)
