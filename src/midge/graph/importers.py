"""How foreign operators become ours. Frontends read these tables, operator files fill them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from midge.core.errors import ModelError
from midge.core.registry import Registry
from midge.core.types import Array, DType, TensorType
from midge.graph.ir import Attrs, Node


@dataclass(frozen=True, slots=True)
class Foreign:
    """One operator as the model file has it, decoded but not interpreted.

    kind: its name in the format.  inputs: value names, "" for an absent optional one.
    attrs: option name -> value as the format has it.  types, consts: of the model's values.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    src: str
    types: Mapping[str, TensorType]
    consts: Mapping[str, Array]

    @property
    def where(self) -> str:
        return f"{self.src}: {self.kind} -> {', '.join(self.outputs)}"

    def error(self, what: str, hint: str = "") -> ModelError:
        return ModelError(what, where=self.where, hint=hint)

    def type(self, i: int) -> TensorType:
        """The type of input `i`."""
        return self.types[self.inputs[i]]

    @property
    def output(self) -> TensorType:
        return self.types[self.outputs[0]]

    def has(self, i: int) -> bool:
        """Whether the optional input `i` is there."""
        return i < len(self.inputs) and self.inputs[i] != ""

    def const(self, i: int, what: str) -> Array:
        """The value of input `i`; ModelError if it is not a constant."""
        if not self.has(i):
            raise self.error(f"input {i} ({what}) is missing")
        name = self.inputs[i]
        if name not in self.consts:
            raise self.error(
                f"{what} ({name!r}) is computed at run time, which is not supported",
                hint=f"export the model with a constant {what}",
            )
        return self.consts[name]

    def expect_inputs(self, least: int, most: int | None = None) -> None:
        """ModelError unless the number of inputs is in range and the first `least` are there."""
        most = least if most is None else most
        if not least <= len(self.inputs) <= most or not all(map(self.has, range(least))):
            raise self.error(f"has {len(self.inputs)} inputs, expected {least} to {most}")

    def expect_dtype(self, i: int, *dtypes: DType) -> None:
        """ModelError unless input `i` has one of `dtypes`."""
        have = self.type(i).dtype
        if have not in dtypes:
            names = ", ".join(d.value for d in dtypes)
            raise self.error(f"input {i} is {have.value}, which is not supported", f"use {names}")

    def node(
        self,
        op: str,
        attrs: Attrs | None = None,
        *,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Node:
        """A graph node in this operator's place; inputs and outputs default to its own."""
        ins = self.inputs if inputs is None else tuple(inputs)
        outs = self.outputs if outputs is None else tuple(outputs)
        return Node(op, ins, outs, attrs or {}, self.src, self.kind)


Importer = Callable[[Foreign], tuple[Node, ...]]

IMPORTERS: Mapping[str, Registry[Importer]] = {
    "tflite": Registry("TFLite operator", ModelError),
}
