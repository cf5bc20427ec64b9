"""Make every output a computed value with memory of its own."""

from __future__ import annotations

from dataclasses import replace

from midge.graph.ir import OPS, Graph, Node, fresh
from midge.passes.mover import renamed


def copy_outputs(graph: Graph) -> Graph:
    """return y (a view of an input, a constant or another output)   ->   y = copy(y/view); return y

    The copy has the output's name, unless that is an input's, a constant's or another output's.
    """
    views = {n.outputs[0]: n.inputs[0] for n in graph.nodes if OPS[n.op].alias}
    types, nodes = dict(graph.types), list(graph.nodes)
    outputs: list[str] = []
    taken: set[str] = set()
    for number, name in enumerate(graph.outputs):
        base = name
        while base in views:
            base = views[base]
        if base in graph.inputs or base in graph.consts or base in taken:
            source, copied = name, fresh(f"{name}/copy{number}", types)
            if name in views and name not in outputs:
                source, copied = fresh(f"{name}/view", types), name
                nodes = [renamed(n, {name: source}) for n in nodes]
                own = {name: source}
                views = {own.get(v, v): own.get(of, of) for v, of in views.items()}
            types[source] = types[copied] = types[name]
            nodes.append(Node("copy", (source,), (copied,), {}, f"output {number}", "COPY"))
            name = base = copied
        taken.add(base)
        outputs.append(name)
    return replace(graph, types=types, outputs=tuple(outputs)).with_nodes(nodes)
