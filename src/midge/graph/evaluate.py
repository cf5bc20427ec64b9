"""Run a graph with the NumPy references: the definition of what a model means."""

from __future__ import annotations

from collections.abc import Mapping

from midge.core.errors import UsageError
from midge.core.types import Array
from midge.graph.ir import OPS, Graph, Node, expand


def evaluate(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Input arrays by name -> output arrays by name. UsageError if an input does not fit."""
    values = evaluate_all(graph, inputs)
    return {name: values[name] for name in graph.outputs}


def evaluate_all(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """As `evaluate`, with every value the graph names."""
    env = {**graph.consts, **{n: check_input(graph, n, inputs) for n in graph.inputs}}
    for node in graph.nodes:
        local = dict(env)
        for step in _plain_nodes(graph, node, local):
            results = OPS[step.op].reference([local[n] for n in step.inputs], step.attrs)
            local.update(zip(step.outputs, results, strict=True))
        env.update((n, local[n]) for n in node.outputs)
    return env


def _plain_nodes(graph: Graph, node: Node, env: dict[str, Array]) -> tuple[Node, ...]:
    expansion = expand(node, graph.types, graph.consts)
    env.update(expansion.new_consts)
    return tuple(expansion.nodes)


def check_input(graph: Graph, name: str, inputs: Mapping[str, Array]) -> Array:
    """The array given for graph input `name`; UsageError if it is missing or does not fit."""
    want = graph.types[name]
    if name not in inputs:
        raise UsageError(
            "no data for this input", where=f"input {name!r}", hint=f"give an array {want}"
        )
    array = inputs[name]
    if array.shape != want.shape or array.dtype != want.dtype.numpy:
        raise UsageError(
            f"the data is {array.dtype}{list(array.shape)}",
            where=f"input {name!r}",
            hint=f"give an array {want.dtype.numpy}{list(want.shape)}",
        )
    return array
