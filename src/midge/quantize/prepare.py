"""A float graph as the quantiser wants it: constants folded, batch norms and activations fused."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import number
from midge.graph.fixed_point import ACTIVATIONS
from midge.graph.ir import Graph, Node, fresh
from midge.passes import run
from midge.passes.avoid_division import avoid_division
from midge.passes.dequantize_weights import dequantize_weights
from midge.passes.drop_dead import drop_dead
from midge.passes.fold_constants import fold_constants
from midge.passes.fold_padding import fold_padding
from midge.passes.fold_scale_and_bias import fold_scale_and_bias
from midge.passes.fuse_activations import fuse_activations
from midge.passes.fuse_gelu import fuse_gelu
from midge.passes.fuse_hard_swish import fuse_hard_swish
from midge.passes.merge_clips import merge_clips
from midge.passes.move_transposes import move_transposes
from midge.passes.sink_reshapes import sink_reshapes

_KNOWN = [ACTIVATIONS[name] for name in ("relu", "relu6")]


def check_float(graph: Graph) -> None:
    """ModelError for a graph that is quantised, before anything else is looked at."""
    if any(t.quant is not None for t in graph.types.values()):
        prepare(graph)


def prepare(graph: Graph) -> Graph:
    """The same function in fewer, larger operators. ModelError for a graph that is quantised."""
    passes = (
        dequantize_weights,
        fold_constants,
        drop_dead,
        move_transposes,
        merge_clips,
        fuse_gelu,
        fuse_hard_swish,
        ramps_as_relu6,
        avoid_division,
        sink_reshapes,
        fold_padding,
        fold_scale_and_bias,
        fuse_activations,
        limits_as_operators,
        drop_dead,
    )
    prepared = run(passes, graph)
    quantised = sorted(n for n, t in prepared.types.items() if t.quant is not None)
    if quantised:
        raise ModelError(
            f"the model is quantised already ({quantised[0]!r} is {prepared.types[quantised[0]]})",
            where=graph.name,
            hint="start from the float model that it was made of",
        )
    if not any(t.dtype is DType.F32 for t in prepared.types.values()):
        raise ModelError("has no float values to quantise", where=graph.name)
    return prepared


def ramps_as_relu6(graph: Graph) -> Graph:
    """y = hard_sigmoid(x) alpha=a beta=b   ->   y = relu6(x * 6a + 6b) / 6

    TFLite has no operator for it, but for each of these.
    """
    types, consts = dict(graph.types), dict(graph.consts)
    nodes: list[Node] = []

    def step(node: Node, op: str, value: str, constant: float, target: str = "") -> str:
        limit = fresh(f"{node.outputs[0]}/{op}", types)
        consts[limit] = np.array(constant, np.float32)
        types[limit] = TensorType((), DType.F32)
        output = target or fresh(f"{node.outputs[0]}/{op}", types)
        types[output] = types[node.outputs[0]]
        nodes.append(replace(node, op=op, inputs=(value, limit), outputs=(output,), attrs={}))
        return output

    for node in graph.nodes:
        if node.op != "hard_sigmoid":
            nodes.append(node)
            continue
        slope, offset = (6 * number(node.attrs, k) for k in ("alpha", "beta"))
        value = node.inputs[0]
        if not math.isclose(slope, 1.0, rel_tol=1e-6):
            value = step(node, "mul", value, slope)
        moved = step(node, "add", value, offset)
        kept = fresh(f"{node.outputs[0]}/clip", types)
        types[kept] = types[moved]
        limits = {"low": 0.0, "high": 6.0}
        nodes.append(replace(node, op="clip", inputs=(moved,), outputs=(kept,), attrs=limits))
        step(node, "mul", kept, 1 / 6, node.outputs[0])
    return replace(graph, types=types, consts=consts).with_nodes(nodes)


def limits_as_operators(graph: Graph) -> Graph:
    """y = clip(x) low=0 high=20   ->   t = maximum(x, 0); y = minimum(t, 20)

    Limits other than those of RELU and RELU6 have no operator of their own in TFLite, at least not
    on int16.
    """
    types, consts = dict(graph.types), dict(graph.consts)
    nodes: list[Node] = []
    for node in graph.nodes:
        limits = _limits(graph.types, node)
        if limits is None or limits in _KNOWN:
            nodes.append(node)
        elif limits == ACTIVATIONS[""]:
            shape = types[node.outputs[0]].shape
            nodes.append(replace(node, op="reshape", attrs={"shape": shape}))
        else:
            nodes += _limited(node, *limits, types, consts)
    return replace(graph, types=types, consts=consts).with_nodes(nodes)


def _limits(types: Mapping[str, TensorType], node: Node) -> tuple[float, float] | None:
    """Of a clip of floats."""
    if node.op != "clip" or types[node.outputs[0]].dtype is not DType.F32:
        return None
    return number(node.attrs, "low"), number(node.attrs, "high")


def _limited(
    node: Node, low: float, high: float, types: dict[str, TensorType], consts: dict[str, Array]
) -> list[Node]:
    (value,), (out,) = node.inputs, node.outputs
    bounds = [("maximum", low), ("minimum", high)]
    bounds = [(op, bound) for op, bound in bounds if math.isfinite(bound)]
    nodes: list[Node] = []
    for i, (op, bound) in enumerate(bounds):
        limit = fresh(f"{out}/limit", types)
        consts[limit] = np.array(bound, np.float32)
        types[limit] = TensorType((), DType.F32)
        target = out if i + 1 == len(bounds) else fresh(f"{out}/{op}", types)
        types[target] = types[out]
        nodes.append(replace(node, op=op, inputs=(value, limit), outputs=(target,), attrs={}))
        value = target
    return nodes
