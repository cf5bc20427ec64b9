"""Graphs at any level to Midge's own files, from which they load back equal."""

from __future__ import annotations

from midge.export import WRITERS, Writer
from midge.graph.archive import pack

WRITERS.add("midge", Writer("midge", (".midge",), pack))
