"""The order in which operators are read: the file's, where each comes after what it reads."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

from midge.core.errors import ModelError
from midge.frontends.onnx_model import AGAIN


def in_order(protos: Sequence[Any]) -> list[tuple[int, Any]]:
    """Operators and their numbers in the file, whose order is kept as far as it can be. ModelError
    if some wait for each other."""
    maker: dict[str, int] = {}
    for i, proto in enumerate(protos):
        for name in filter(None, proto.output):
            maker.setdefault(name, i)
    waits = [{maker[n] for n in _read(proto) if n in maker} for proto in protos]
    if all(j < i for i, before in enumerate(waits) for j in before):
        return [*enumerate(protos)]
    readers: list[list[int]] = [[] for _ in protos]
    for i, before in enumerate(waits):
        for j in before:
            readers[j].append(i)
    open_ = [len(before) for before in waits]
    ready = [i for i, count in enumerate(open_) if not count]
    found: list[int] = []
    while ready:
        found.append(heapq.heappop(ready))
        for i in readers[found[-1]]:
            open_[i] -= 1
            if not open_[i]:
                heapq.heappush(ready, i)
    if len(found) < len(protos):
        raise _circle(protos, waits, {*found})
    return [(i, protos[i]) for i in found]


def _circle(protos: Sequence[Any], waits: Sequence[set[int]], done: set[int]) -> ModelError:
    """Every operator that is left waits for one that is left."""
    i = next(i for i in range(len(protos)) if i not in done)
    seen: list[int] = []
    while i not in seen:
        seen.append(i)
        i = min(waits[i] - done)
    circle = seen[seen.index(i) :]
    names = ", ".join(f"{protos[j].output[0]!r}" for j in circle[:4])
    more = f" and {len(circle) - 4} more" if len(circle) > 4 else ""
    what = f"{names}{more} are computed from each other"
    if len(circle) == 1:
        what = f"{names} is computed from itself"
    return ModelError(what, where=f"node {i}: {protos[i].op_type}", hint=AGAIN)


def _read(proto: Any) -> Iterator[str]:
    """Names that an operator reads, its branches included."""
    yield from proto.input
    for attr in proto.attribute:
        for graph in (attr.g, *attr.graphs) if attr.HasField("g") or attr.graphs else ():
            yield from _from_outside(graph)


def _from_outside(graph: Any) -> Iterator[str]:
    own = {v.name for v in (*graph.input, *graph.initializer)}
    own |= {name for node in graph.node for name in node.output}
    read = (name for node in graph.node for name in _read(node))
    yield from (name for name in (*read, *(v.name for v in graph.output)) if name not in own)
