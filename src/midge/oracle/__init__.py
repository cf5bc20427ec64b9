"""Frameworks that say what a model's right answer is. One file each, by model format."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from midge.core.registry import import_all
from midge.core.types import Array
from midge.graph.ir import Graph
from midge.oracle.base import ORACLES

__all__ = ["ORACLES", "Oracle", "OracleSession", "oracle_for"]


class OracleSession(Protocol):
    """A loaded model in its framework."""

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Every value the framework can show, by the graph's names; outputs at least."""
        ...


class Oracle(Protocol):
    """title: for tables.  suffixes: of the files it reads."""

    @property
    def title(self) -> str: ...

    @property
    def suffixes(self) -> tuple[str, ...]: ...

    def available(self) -> str | None:
        """None if it is installed, else how to get it."""
        ...

    def load(self, path: Path, graph: Graph) -> OracleSession: ...


def oracle_for(path: Path) -> Oracle | None:
    """The framework that knows the format of `path`."""
    import_all(sys.modules[__name__])
    found = (ORACLES[name] for name in ORACLES)
    return next((o for o in found if path.suffix.lower() in o.suffixes), None)
