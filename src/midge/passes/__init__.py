"""Graph to graph passes: each a plain function in a file of its name; a pipeline is a tuple."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from midge.core.errors import VerifyError
from midge.graph.ir import Graph, verify

GraphPass = Callable[[Graph], Graph]


def run(passes: Iterable[GraphPass], graph: Graph) -> Graph:
    """Apply `passes` in order. The graph is valid before and after each of them."""
    verify(graph)
    for step in passes:
        # What overflows is for the caller to refuse, with the name of the constant.
        with np.errstate(all="ignore"):
            graph = step(graph)
        try:
            verify(graph)
        except VerifyError as error:
            raise AssertionError(f"pass {step.__name__} broke the graph: {error}") from error
    return graph
