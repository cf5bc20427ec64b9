"""What an oracle is, and the table that oracle files fill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from midge.core.registry import Registry
from midge.core.types import Array
from midge.graph.ir import Graph


class OracleSession(Protocol):
    """A loaded model in its framework.

    notes: how it judges, where that is not as usual.  apart: values that it computes otherwise
    than the specification of the format, which Midge follows; and how.
    """

    @property
    def notes(self) -> Sequence[str]: ...

    @property
    def apart(self) -> Mapping[str, str]: ...

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Every value the framework can show, by the graph's names; outputs at least. RunError if
        it refuses these inputs."""
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

    def load(self, path: Path, graph: Graph) -> OracleSession:
        """RunError if the framework itself refuses the file, in its own words."""
        ...


ORACLES: Registry[Oracle] = Registry("oracle")
