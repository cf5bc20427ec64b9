"""Graphs at the model level to TFLite files, that LiteRT runs with the same bytes.

Operators write themselves (`graph.exporters`); here are tensors, buffers and tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, Quant, TensorType
from midge.export import WRITERS, Writer
from midge.graph.exporters import EXPORTERS, Exporting, Written
from midge.graph.ir import Graph, verify
from midge.graph.tflite_types import CODES

_ALIGNMENT = 16  # of a buffer's bytes, as the format demands
_DEPRECATED_CODES = 127


def _check_rounding(graph: Graph) -> None:
    """ModelError for operators that round as ONNX's and PyTorch's do, a step beside TFLite's."""
    for node in graph.nodes:
        if "scaling" in node.attrs or (
            node.op == "quantize" and node.attrs.get("rounding") == "even"
        ):
            raise ModelError(
                "rounds ties to even, TFLite's operators do not",
                where=node.where,
                hint="write a .midge file, or quantise the float model with midge quantize",
            )


def write(graph: Graph) -> bytes:
    """The bytes of a .tflite file. ModelError for what TFLite has no operator for, or another."""
    verify(graph)
    _check_rounding(graph)
    types, consts = dict(graph.types), dict(graph.consts)
    written: list[Written] = []
    for node in graph.nodes:
        op = Exporting(node, types, consts)
        if node.op not in EXPORTERS["tflite"]:
            raise op.error(
                f"operator {node.op} cannot be written to a TFLite file", "write a .midge file"
            )
        EXPORTERS["tflite"][node.op](op)
        written += op.written
    return _File(replace(graph, types=types, consts=consts), written).packed()


class _File:
    """Tables are built inside out: what a table holds comes before it."""

    def __init__(self, graph: Graph, written: Sequence[Written]) -> None:
        import flatbuffers
        import tflite

        self.schema = tflite
        self.builder: Any = flatbuffers.Builder(1024)
        self.graph, self.written = graph, written
        used = [*graph.inputs, *(n for w in written for n in (*w.inputs, *w.outputs))]
        names = dict.fromkeys([n for n in (*used, *graph.outputs) if n])
        self.index = {name: i for i, name in enumerate(names)}
        self.buffers: list[bytes] = [b""]

    def packed(self) -> bytes:
        build, schema = self.builder, self.schema
        tensors = self.tables([self.tensor(n) for n in self.index])
        kinds = list(dict.fromkeys((w.kind, w.version) for w in self.written))
        operators = self.tables([self.operator(w, kinds) for w in self.written])
        inputs, outputs = (self.indices(n) for n in (self.graph.inputs, self.graph.outputs))
        name = build.CreateString("main")
        schema.SubGraphStart(build)
        schema.SubGraphAddTensors(build, tensors)
        schema.SubGraphAddInputs(build, inputs)
        schema.SubGraphAddOutputs(build, outputs)
        schema.SubGraphAddOperators(build, operators)
        schema.SubGraphAddName(build, name)
        subgraphs = self.tables([schema.SubGraphEnd(build)])
        codes = self.tables([self.code(*k) for k in kinds])
        buffers = self.tables([self.buffer(b) for b in self.buffers])
        description = build.CreateString("written by Midge")
        schema.ModelStart(build)
        schema.ModelAddVersion(build, 3)
        schema.ModelAddOperatorCodes(build, codes)
        schema.ModelAddSubgraphs(build, subgraphs)
        schema.ModelAddDescription(build, description)
        schema.ModelAddBuffers(build, buffers)
        build.Finish(schema.ModelEnd(build), file_identifier=b"TFL3")
        return bytes(build.Output())

    def tables(self, offsets: Sequence[int]) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return int(self.builder.EndVector())

    def numbers(self, values: Sequence[float], dtype: str) -> int:
        return int(self.builder.CreateNumpyVector(np.array(values, dtype)))

    def indices(self, names: Sequence[str]) -> int:
        return self.numbers([self.index[n] if n else -1 for n in names], "int32")

    def tensor(self, name: str) -> int:
        build, schema, t = self.builder, self.schema, self.graph.types[name]
        buffer = self.data(name, t)
        text, shape = build.CreateString(name), self.numbers(t.shape, "int32")
        quant = self.quant(t.quant) if t.quant is not None else None
        schema.TensorStart(build)
        schema.TensorAddShape(build, shape)
        schema.TensorAddType(build, CODES[t.dtype])
        schema.TensorAddBuffer(build, buffer)
        schema.TensorAddName(build, text)
        if quant is not None:
            schema.TensorAddQuantization(build, quant)
        schema.TensorAddHasRank(build, True)
        return int(schema.TensorEnd(build))

    def data(self, name: str, t: TensorType) -> int:
        """The buffer of a constant; 0 of other tensors."""
        if name not in self.graph.consts:
            return 0
        array: Array = self.graph.consts[name]
        if array.size == 0:
            raise ModelError(
                f"constant {name!r} has no elements", where=self.graph.name, hint="remove it"
            )
        self.buffers.append(np.ascontiguousarray(array).astype(t.dtype.numpy).tobytes())
        return len(self.buffers) - 1

    def quant(self, quant: Quant) -> int:
        build, schema = self.builder, self.schema
        scale = self.numbers(quant.scale, "float32")
        zero = self.numbers(quant.zero_point, "int64")
        schema.QuantizationParametersStart(build)
        schema.QuantizationParametersAddScale(build, scale)
        schema.QuantizationParametersAddZeroPoint(build, zero)
        schema.QuantizationParametersAddQuantizedDimension(build, quant.axis or 0)
        return int(schema.QuantizationParametersEnd(build))

    def operator(self, written: Written, kinds: Sequence[tuple[str, int]]) -> int:
        build, schema = self.builder, self.schema
        inputs, outputs = self.indices(written.inputs), self.indices(written.outputs)
        options = self.options(written) if written.options else None
        schema.OperatorStart(build)
        schema.OperatorAddOpcodeIndex(build, kinds.index((written.kind, written.version)))
        schema.OperatorAddInputs(build, inputs)
        schema.OperatorAddOutputs(build, outputs)
        if options is not None:
            code = getattr(schema.BuiltinOptions, written.options)
            schema.OperatorAddBuiltinOptionsType(build, code)
            schema.OperatorAddBuiltinOptions(build, options)
        return int(schema.OperatorEnd(build))

    def options(self, written: Written) -> int:
        """The options table; its fields in snake_case, vectors are of int32."""
        build, schema, name = self.builder, self.schema, written.options
        values = {
            field: self.numbers(value, "int32") if isinstance(value, tuple) else value
            for field, value in written.fields.items()
        }
        getattr(schema, f"{name}Start")(build)
        for field, value in values.items():
            getattr(schema, f"{name}Add{_camel(field)}")(build, value)
        return int(getattr(schema, f"{name}End")(build))

    def code(self, kind: str, version: int) -> int:
        build, schema = self.builder, self.schema
        number = getattr(schema.BuiltinOperator, kind)
        schema.OperatorCodeStart(build)
        schema.OperatorCodeAddDeprecatedBuiltinCode(build, min(number, _DEPRECATED_CODES))
        schema.OperatorCodeAddVersion(build, version)
        schema.OperatorCodeAddBuiltinCode(build, number)
        return int(schema.OperatorCodeEnd(build))

    def buffer(self, data: bytes) -> int:
        build, schema = self.builder, self.schema
        vector = None
        if data:
            build.StartVector(1, len(data), _ALIGNMENT)
            build.head -= len(data)
            build.Bytes[build.head : build.head + len(data)] = data
            vector = build.EndVector()
        schema.BufferStart(build)
        if vector is not None:
            schema.BufferAddData(build, vector)
        return int(schema.BufferEnd(build))


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


WRITERS.add("tflite", Writer("tflite", (".tflite",), write))
