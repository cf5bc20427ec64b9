"""LiteRT as the judge of Midge's own files: what they hold, written as a TFLite file."""

from __future__ import annotations

from pathlib import Path

from midge.export.tflite import write
from midge.graph.ir import Graph
from midge.oracle.base import ORACLES
from midge.oracle.litert import LiteRT, LiteRTSession


class MidgeFile:
    title = LiteRT.title
    suffixes = (".midge",)

    def available(self) -> str | None:
        return LiteRT().available()

    def load(self, path: Path, graph: Graph) -> LiteRTSession:
        """ModelError for what TFLite has no operator for; RunError if LiteRT refuses the file."""
        return LiteRTSession(write(graph), graph)


ORACLES.add("midge", MidgeFile())
