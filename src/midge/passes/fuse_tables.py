"""Any function of one int8 tensor becomes a table of its 256 values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from midge.core.types import Array, DType, TensorType
from midge.graph.ir import Graph, Node, fresh
from midge.graph.region import BYTES, Region, Regions, tabulate, vectors

# Cycles per element on a Cortex-M4, roughly: what is not here costs more than a table.
_CYCLES = {
    "copy": 1,
    "clip": 2,
    "maximum": 2,
    "minimum": 2,
    "cast": 1,
    "add": 1,
    "sub": 1,
    "mul": 1,
}
_LOOKUP, _OTHERS = 4, 12
_TABLE = BYTES.size


def fuse_tables(graph: Graph) -> Graph:
    """u = lookup(x, t); v = requantize(u, m, s); y = clip(v)   ->   y = lookup(x, t')

    Elementwise nodes whose only computed operand is one int8 tensor, whatever types they go
    through, are evaluated on all its values. Constants of theirs have one element. A table must
    save a cycle for each byte of flash that it takes.
    """
    types, consts = dict(graph.types), dict(graph.consts)
    regions = Regions(graph, shared=True)
    known = {_key(graph.consts[t]): t for n in graph.nodes if (t := _table_of(graph, n))}
    needed = set(graph.outputs)
    kept: list[Node] = []
    for node in reversed(graph.nodes):
        if needed.isdisjoint(node.outputs):
            continue
        region = _largest(graph, regions, node)
        if region is not None and _pays(graph, region, regions.freed(region)):
            table = tabulate(region, graph, {region.roots[0]: BYTES})
            name = known.setdefault(_key(table), fresh(f"{region.output}/table", types))
            consts[name], types[name] = table, TensorType(table.shape, DType.of(table))
            node = region.as_node("lookup", (region.roots[0], name), {})
        needed.update(node.inputs)
        kept.append(node)
    return replace(graph, types=types, consts=consts).with_nodes(kept[::-1])


def _key(table: Array) -> bytes:
    return str(table.dtype).encode() + table.tobytes()


def _table_of(graph: Graph, node: Node) -> str | None:
    """The constant table of a lookup."""
    return node.inputs[1] if node.op == "lookup" and node.inputs[1] in graph.consts else None


def _largest(graph: Graph, regions: Regions, node: Node) -> Region | None:
    """The largest region that computes `node`'s bytes from one int8 tensor of the same shape."""
    y = graph.types[node.outputs[0]]
    if y.dtype not in (DType.I8, DType.U8):
        return None
    found = None
    for region in regions.ending_with(node):
        if vectors(region, graph):
            break
        if len(region.roots) == 1 and graph.types[region.roots[0]].shape == y.shape:
            found = region
    return found


def _pays(graph: Graph, region: Region, freed: Sequence[Node]) -> bool:
    """Whether the cycles that a table saves are at least the bytes that it adds, once the nodes
    `freed` are no more computed."""
    saved = sum(_cycles(graph, n) for n in freed) - _LOOKUP
    tables = sum(n.op == "lookup" for n in freed)
    return saved > 0 and saved * graph.types[region.output].elements >= (1 - tables) * _TABLE


def _cycles(graph: Graph, node: Node) -> int:
    if node.op == "lookup":
        return _LOOKUP
    floats = any(graph.types[v].dtype.is_float for v in (*node.inputs, *node.outputs))
    return _OTHERS if floats else _CYCLES.get(node.op, _OTHERS)
