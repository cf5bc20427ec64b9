"""float16 weights: a float graph whose constants take half the bytes.

Weights are rounded to binary16 and brought back to binary32 by a cast, which TFLite files have as
DEQUANTIZE: activations and arithmetic stay binary32.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import DType, TensorType
from midge.graph.ir import Graph, Node, fresh, verify
from midge.quantize.prepare import prepare

_LEAST = 16  # elements; smaller constants gain nothing


def float16_weights(graph: Graph) -> Graph:
    """y = conv2d(x, w: f32)   ->   w = cast(h: f16); y = conv2d(x, w)

    ModelError for a weight beyond the range of binary16.
    """
    graph = prepare(graph)
    types, consts = dict(graph.types), dict(graph.consts)
    casts: list[Node] = []
    readers = graph.consumers()
    for name, array in graph.consts.items():
        if array.dtype != np.float32 or array.size < _LEAST or name in graph.outputs:
            continue
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        if not np.isfinite(half).all():
            raise ModelError(
                f"a weight of {float(np.abs(array).max()):g} does not fit binary16",
                where=f"constant {name!r}",
                hint="quantise to int8 instead",
            )
        stored = fresh(f"{name}/half", types)
        types[stored] = TensorType(array.shape, DType.F16)
        consts[stored] = half
        del consts[name]
        src = readers[name][0].src
        casts.append(Node("cast", (stored,), (name,), {"dtype": "f32"}, src, "DEQUANTIZE"))
    result = replace(graph, types=types, consts=consts).with_nodes((*casts, *graph.nodes))
    verify(result)
    return result
