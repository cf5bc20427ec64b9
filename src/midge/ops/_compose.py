"""An importer that writes an operator as several of ONNX's, whose importers write the nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from midge.core.types import Array, DType, TensorType
from midge.graph.importers import IMPORTERS, Foreign, Importer
from midge.graph.ir import OPS, Node

_OPSET = 18  # from which on reductions take their axes as an input


class Composer:
    """Writes an operator as several of the file's own kind."""

    def __init__(self, op: Foreign) -> None:
        self.op, self.nodes = op, list[Node]()
        self.types = dict(op.types)
        self.consts = dict(op.consts)

    def call(
        self,
        kind: str,
        inputs: Sequence[str],
        attrs: Mapping[str, Any],
        output: str,
        *more: str,
        importer: Importer | None = None,
    ) -> str:
        """One of ONNX's operators, of this or a newer operator set; its first output.
        importer: of what ONNX has no operator for."""
        importer = importer or IMPORTERS["onnx"][kind]
        own = replace(
            self.op, kind=kind, inputs=tuple(inputs), outputs=(output, *more), attrs=attrs,
            types=self.types, consts=self.consts, opset=max(self.op.opset, _OPSET),
        )  # fmt: skip
        for node in importer(own):
            self.consts |= {n: a for n, a in own.new_consts.items() if n not in self.consts}
            for name, array in own.new_consts.items():
                self.types.setdefault(name, TensorType(array.shape, DType.of(array)))
            results = OPS[node.op].infer([self.types[v] for v in node.inputs], node.attrs)
            for name, t in zip(node.outputs, results, strict=True):
                self.types[name] = replace(t, quant=own.quants.get(name))
            self.nodes.append(node)
        return output

    def const(self, array: Array, name: str) -> str:
        full = f"{self.op.outputs[0]}/{name}"
        self.op.new_consts[full] = self.consts[full] = array
        self.types[full] = TensorType(array.shape, DType.of(array))
        return full
