"""Midge's own files to graphs (`graph.archive`)."""

from __future__ import annotations

from midge.frontends import FRONTENDS, Frontend
from midge.graph.archive import FIRST, unpack

_LOCAL_HEADER = 30  # bytes of a zip entry before its name


def _matches(data: bytes) -> bool:
    """A zip whose first entry is ours."""
    name = data[_LOCAL_HEADER : _LOCAL_HEADER + len(FIRST)]
    return data[:4] == b"PK\3\4" and name == FIRST.encode()


FRONTENDS.add("midge", Frontend("midge", (".midge",), _matches, unpack))
