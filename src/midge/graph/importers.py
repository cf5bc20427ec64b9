"""How foreign operators become ours. Frontends read these tables, operator files fill them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from midge.core.errors import ModelError
from midge.core.registry import Registry
from midge.core.types import Array, DType, Quant, TensorType
from midge.graph.ir import OPS, Attrs, Node, fresh

# What three dimensions are, made of two.
CONV_3D = (
    "of a volume: add up 2-D convolutions, one for each slice k of the kernel's depth, of slices "
    "k, k + stride, k + 2 stride, ... of the input's depth, as a batch or one by one"
)
CONV_TRANSPOSE_3D = (
    "of a volume: add up 2-D transposed convolutions, one for each slice k of the kernel's depth; "
    "that of the input's slice d belongs to the output's slice d stride + k"
)
POOL_3D = (
    "of a volume: pool one axis at a time, as a series: height and width with depth among the "
    "channels ([N, C * D, H, W]), then depth ([N, C, D, H * W]); of TFLite's: [N * D, H, W, C], "
    "then [N, D, H * W, C]"
)
# TFLite's integers were unsigned once.
_INT8 = (
    ": convert the float model again, with tf.lite.OpsSet.TFLITE_BUILTINS_INT8 and "
    "inference_input_type = inference_output_type = tf.int8, or use `midge quantize`"
)


class NotConstantError(ModelError):
    """An input that must be a constant is computed at run time. value: its name in the graph."""

    def __init__(self, value: str, what: str, *, where: str, hint: str = "") -> None:
        self.value = value
        super().__init__(what, where=where, hint=hint)


class Ref(str):
    """The name of a value, among attributes."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Foreign:
    """One operator as the model file has it, decoded but not interpreted.

    kind: its name in the format.  inputs: value names, "" for an absent optional one.
    attrs: option name -> value as the format has it.  types, consts: of the model's values.
    opset: the version of the operator set, where the format has one.
    new_consts: the constants that the importer makes; the reader adds them to the graph.
    quants: what the integers of values that the importer makes stand for, if it says so.
    meant: small values that are dequantised from constants: known, but not constants of the graph.
    open: the outputs whose shapes the file does not state; their types hold for the rest only.
    """

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any]
    src: str
    types: Mapping[str, TensorType]
    consts: Mapping[str, Array]
    opset: int = 0
    new_consts: dict[str, Array] = field(default_factory=dict)
    quants: dict[str, Quant] = field(default_factory=dict)
    meant: Mapping[str, Array] = field(default_factory=dict)
    open: frozenset[str] = frozenset()

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
        if name in self.meant:
            return self.meant[name]
        if name not in self.consts:
            raise NotConstantError(
                name,
                f"{what} ({name!r}) is computed at run time, which is not supported",
                where=self.where,
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
            hint = f"use {names}"
            if have is DType.U8 and self.type(i).quant is not None:
                hint += _INT8
            raise self.error(f"input {i} is {have.value}, which is not supported", hint)

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


class Steps:
    """Where an importer writes the nodes of one foreign operator that takes several.

    steps = Steps(op)
    wide = steps.emit("mul", [op.inputs[0], steps.const(np.float32(2), "two")])
    return steps.finish("add", [wide, op.inputs[1]])
    """

    def __init__(self, op: Foreign) -> None:
        self.op = op
        self.nodes: list[Node] = []
        self._types: dict[str, TensorType] = {}

    def type(self, name: str) -> TensorType:
        """The type of a value of the model or of one made here, without Quant."""
        return (self._types.get(name) or self.op.types[name]).plain

    def constant(self, name: str) -> Array | None:
        """The array of a constant of the model, or made here; None for other values."""
        return self.op.consts.get(name, self.op.new_consts.get(name))

    def const(self, value: Array | np.generic, suffix: str) -> str:
        """A constant named after the operator's first output."""
        array = np.asarray(value)
        name = self._fresh(suffix)
        self.op.new_consts[name] = array
        self._types[name] = TensorType(array.shape, DType.of(array))
        return name

    def emit(
        self, op: str, inputs: Sequence[str], attrs: Attrs | None = None, *, output: str = ""
    ) -> str:
        """Append a node of one output and infer its type; VerifyError if the inputs don't fit."""
        out = output or self._fresh(op)
        (result,) = OPS[op].infer([self.type(n) for n in inputs], attrs or {})
        self.nodes.append(self.op.node(op, attrs, inputs=inputs, outputs=[out]))
        self._types[out] = result
        return out

    def finish(
        self, op: str, inputs: Sequence[str], attrs: Attrs | None = None
    ) -> tuple[Node, ...]:
        """Append the node that writes the operator's first output; all nodes."""
        self.emit(op, inputs, attrs, output=self.op.outputs[0])
        return tuple(self.nodes)

    def renamed(self) -> tuple[Node, ...]:
        """All nodes, the last one writing the operator's first output."""
        last = self.nodes.pop()
        return (*self.nodes, self.op.node(last.op, last.attrs, inputs=last.inputs))

    def _fresh(self, suffix: str) -> str:
        return fresh(f"{self.op.outputs[0]}/{suffix}", self._types, self.op.types)


Importer = Callable[[Foreign], tuple[Node, ...]]

IMPORTERS: Mapping[str, Registry[Importer]] = {
    "tflite": Registry("TFLite operator", ModelError),
    "onnx": Registry("ONNX operator", ModelError),
    "torch": Registry("ATen operator", ModelError),
}
