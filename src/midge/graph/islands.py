"""Where floats decide about integers: before a quantisation, a comparison, a choice."""

from __future__ import annotations

from midge.graph.ir import Graph


def becoming_integers(graph: Graph) -> frozenset[str]:
    """The float values from which integers or truth values are made, through whatever operators.

    A last digit that differs can be a step there, so C must round them exactly as the references
    do: no sums in another order, no fused multiply-adds.
    """
    found: set[str] = set()
    for node in reversed(graph.nodes):
        decides = any(n in found or not graph.types[n].dtype.is_float for n in node.outputs)
        if decides:
            found.update(
                n for n in node.inputs if graph.types[n].dtype.is_float and n not in graph.consts
            )
    return frozenset(found)
