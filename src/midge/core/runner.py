"""The seam between a package and whatever executes it. A runner is one file in `run/`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from midge.core.package import Package
from midge.core.texts import listed
from midge.core.types import Array


@dataclass(frozen=True, slots=True)
class OperatorRun:
    """What one operator cost in one inference; None where the runner cannot tell."""

    name: str
    instructions: int | None
    cycles: int | None


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a linked image: flash is code + constants, ram excludes arena and stack."""

    flash: int
    code: int
    weights: int
    ram: int


@dataclass(frozen=True, slots=True)
class Run:
    """One inference: outputs by tensor name, and what was counted.

    cycles: estimated by a model, never measured, unless a board says so. stack: bytes.
    layers: with `layers=True`, each operator's outputs by tensor name, as it left them.

    Of a batch: outputs of all inferences along a leading axis, counts of the first one, the
    deepest stack; each: every inference alone.  accuracy: the share of outputs that are their
    labels, if labels were given.
    """

    outputs: Mapping[str, Array]
    instructions: int | None = None
    cycles: int | None = None
    stack: int | None = None
    operators: tuple[OperatorRun, ...] = ()
    layers: Mapping[str, Array] = field(default_factory=dict)
    each: tuple[Run, ...] = ()
    accuracy: float | None = None

    def __repr__(self) -> str:
        """What there is, in a few lines; the fields have all of it."""
        counted = {
            "instructions": self.instructions,
            "cycles": self.cycles,
            "bytes of stack": self.stack,
            "inferences": len(self.each) or None,
            "of the labels met": self.accuracy,
        }
        found = ", ".join(f"{n} {what}" for what, n in counted.items() if n is not None)
        outputs = [(n, f"{y.dtype}{list(y.shape)}") for n, y in self.outputs.items()]
        return f"<Run{': ' if found else ''}{found}\n{listed('outputs', outputs)}>"


class Session(Protocol):
    """A built and loaded package."""

    @property
    def sizes(self) -> Sizes | None: ...

    def run(self, inputs: Mapping[str, Array], *, layers: bool = False) -> Run: ...

    def close(self) -> None: ...


class Runner(Protocol):
    """Something that executes packages. `load` builds; RunError when it cannot."""

    name: str

    def available(self) -> str | None:
        """None when it can run here, else what is missing and how to get it."""
        ...

    def load(
        self, package: Package, *, toolchain: str | None = None, optimize: str | None = None
    ) -> Session: ...
