"""Midge's own files to graphs (`graph.archive`)."""

from __future__ import annotations

from midge.frontends import FRONTENDS, Frontend
from midge.frontends.shapes import Shapes, resolved
from midge.graph.archive import FIRST, unpack
from midge.graph.ir import Graph

_LOCAL_HEADER = 30  # bytes of a zip entry before its name


def _matches(data: bytes) -> bool:
    """A zip whose first entry is ours."""
    name = data[_LOCAL_HEADER : _LOCAL_HEADER + len(FIRST)]
    return data[:4] == b"PK\3\4" and name == FIRST.encode()


def read(data: bytes, name: str, shapes: Shapes) -> Graph:
    """The graph of a .midge file, whose shapes are never open. ModelError for a damaged one."""
    graph = unpack(data, name)
    resolved({n: graph.types[n].shape for n in graph.inputs}, shapes)
    return graph


FRONTENDS.add("midge", Frontend("midge", (".midge",), _matches, read))
