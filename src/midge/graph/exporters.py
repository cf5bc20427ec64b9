"""How our operators become foreign ones. Writers read these tables, operator files fill them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from midge.core.errors import ModelError
from midge.core.registry import Registry
from midge.core.types import Array, DType, Quant, TensorType
from midge.graph.ir import Attrs, Node, fresh


@dataclass(frozen=True, slots=True)
class Written:
    """One operator of a foreign format.

    kind: its name there.  inputs: value names, "" for an absent optional one.
    options: the name of its options table, "" for none; fields: option name -> value, as the
    format's importer reads them.  version: of the operator, where the format has one.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1


class Exporting:
    """Where an exporter writes the foreign operators of one node at the model level.

    op.emit("SOFTMAX", options="SoftmaxOptions", beta=1.0)

    types, consts: of the graph's values, and of those that exporters made.
    """

    def __init__(self, node: Node, types: dict[str, TensorType], consts: dict[str, Array]) -> None:
        self.node = node
        self._types, self._consts = types, consts
        self.written: list[Written] = []

    @property
    def attrs(self) -> Attrs:
        return self.node.attrs

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.node.inputs

    def type(self, i: int = 0) -> TensorType:
        """The type of input `i`."""
        return self._types[self.node.inputs[i]]

    def type_of(self, name: str) -> TensorType:
        return self._types[name]

    @property
    def output(self) -> TensorType:
        return self._types[self.node.outputs[0]]

    def is_const(self, i: int) -> bool:
        return self.node.inputs[i] in self._consts

    def value_of(self, i: int) -> Array | None:
        """Input `i`, if it is a constant."""
        return self._consts.get(self.node.inputs[i])

    def error(self, what: str, hint: str = "") -> ModelError:
        return ModelError(what, where=self.node.where, hint=hint)

    def const(self, array: Array, suffix: str, quant: Quant | None = None) -> str:
        """A constant of the file, named after the node's output."""
        name = self.value(TensorType(array.shape, DType.of(array), quant), suffix)
        self._consts[name] = array
        return name

    def value(self, t: TensorType, suffix: str) -> str:
        """A value between the operators that are written."""
        name = fresh(f"{self.node.outputs[0]}/{suffix}", self._types)
        self._types[name] = t
        return name

    def version(self, *, i8: int = 1, i16: int = 1, other: int = 1) -> int:
        """The operator's version by the element type of input 0."""
        return {DType.I8: i8, DType.I16: i16}.get(self.type().dtype, other)

    def emit(
        self,
        kind: str,
        inputs: Sequence[str] | None = None,
        outputs: Sequence[str] | None = None,
        *,
        options: str = "",
        version: int = 1,
        **fields: Any,
    ) -> None:
        """Append a foreign operator; inputs and outputs default to the node's own."""
        ins = self.node.inputs if inputs is None else tuple(inputs)
        outs = self.node.outputs if outputs is None else tuple(outputs)
        self.written.append(Written(kind, ins, outs, options, fields, version))


Exporter = Callable[[Exporting], None]

EXPORTERS: Mapping[str, Registry[Exporter]] = {
    "tflite": Registry("operator of a TFLite file", ModelError),
}
