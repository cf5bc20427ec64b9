"""Run a graph with the NumPy references: the definition of what a model means."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from midge.core.errors import RunError, UsageError
from midge.core.types import Array, TensorType
from midge.graph.ir import OPS, Graph, Node, expand


def evaluate(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Input arrays by name -> output arrays by name. UsageError if an input does not fit."""
    values = evaluate_all(graph, inputs)
    return {name: values[name] for name in graph.outputs}


def evaluate_all(graph: Graph, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """As `evaluate`, with every value the graph names."""
    env = {**graph.consts, **{n: check_input(graph, n, inputs) for n in graph.inputs}}
    for node in graph.nodes:
        env.update(evaluate_node(node, graph.types, graph.consts, env))
    return env


def evaluate_node(
    node: Node,
    types: Mapping[str, TensorType],
    consts: Mapping[str, Array],
    values: Mapping[str, Array],
) -> dict[str, Array]:
    """The outputs of one node by its expansion; `values` has at least its inputs. RunError for sums
    of integers that overflow: what C gives then is open."""
    expansion = expand(node, types, consts)
    env = {**{n: values[n] for n in node.inputs}, **expansion.new_consts}
    for step in expansion.nodes:
        try:
            with np.errstate(all="ignore"):  # infinities and NaN go on, as they do in C
                results = OPS[step.op].reference([env[n] for n in step.inputs], step.attrs)
        except ArithmeticError as error:
            raise RunError(str(error), where=node.where, hint="give smaller inputs") from None
        env.update(zip(step.outputs, results, strict=True))
    return {n: env[n] for n in node.outputs}


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
