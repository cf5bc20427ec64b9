"""Small TFLite files for tests, written with the framework's own schema classes.

model = TFLiteModel()
x = model.input((1, 4, 4, 3), "int8", scale=0.1, zero_point=3)
w = model.const(weights, scale=0.02)
y = model.value((1, 4, 4, 8), "int8", scale=0.2)
model.op("CONV_2D", [x, w, b], [y], "Conv2DOptions", strideH=1, strideW=1, padding=0)
data = model.build([y])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_CODES = {
    "float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8", "uint8": "UINT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "bool": "BOOL",
}  # fmt: skip


class TFLiteModel:
    """One subgraph under construction; tensors are their indices."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.description = "test"
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.name = b"main"
        self.graph.tensors, self.graph.operators = [], []
        self.graph.inputs, self.graph.outputs = [], []
        self.model.subgraphs = [self.graph]

    def value(
        self,
        shape: Sequence[int],
        dtype: str,
        scale: float | Sequence[float] | None = None,
        zero_point: int | Sequence[int] = 0,
        *,
        axis: int = 0,
        name: str = "",
        buffer: int = 0,
    ) -> int:
        """A tensor; quantised if `scale` is given, per channel on `axis` if it is a list."""
        tensor = self.schema.TensorT()
        tensor.shape = list(shape)
        tensor.type = getattr(self.schema.TensorType, _CODES[dtype])
        tensor.buffer = buffer
        tensor.name = (name or f"t{len(self.graph.tensors)}").encode()
        if scale is not None:
            quant = self.schema.QuantizationParametersT()
            quant.scale = [float(s) for s in np.atleast_1d(np.asarray(scale, np.float32))]
            zeros = np.broadcast_to(np.asarray(zero_point), (len(quant.scale),))
            quant.zeroPoint = [int(z) for z in zeros]
            quant.quantizedDimension = axis
            tensor.quantization = quant
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def input(self, shape: Sequence[int], dtype: str, *args: Any, **kwargs: Any) -> int:
        index = self.value(shape, dtype, *args, **kwargs)
        self.graph.inputs.append(index)
        return index

    def const(self, array: Any, *args: Any, **kwargs: Any) -> int:
        """A constant tensor of the array's shape and type."""
        array = np.asarray(array)
        buffer = self.schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        kwargs["buffer"] = len(self.model.buffers) - 1
        return self.value(array.shape, str(array.dtype), *args, **kwargs)

    def op(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        version: int = 1,
        **fields: Any,
    ) -> None:
        """An operator; `options` is the schema's options class, `fields` its camelCase fields."""
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        code.version = version
        self.model.operatorCodes.append(code)
        operator = self.schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self.schema, f"{options}T")()
            for field, value in fields.items():
                assert hasattr(operator.builtinOptions, field), f"{options} has no {field}"
                setattr(operator.builtinOptions, field, value)
        self.graph.operators.append(operator)

    def build(self, outputs: Sequence[int]) -> bytes:
        import flatbuffers

        self.graph.outputs = list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
