"""What an oracle is, and the table that oracle files fill."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from midge.core.registry import Registry
from midge.core.types import Array
from midge.graph.ir import Graph


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


ORACLES: Registry[Oracle] = Registry("oracle")
