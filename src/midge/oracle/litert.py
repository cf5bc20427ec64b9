"""LiteRT's interpreter with its reference kernels: the judge of TFLite models.

Its default (XNNPACK) and optimised kernels differ from the reference by single steps in most
models, so BUILTIN_REF is pinned (`litert_parts.py` says what becomes of operators that it lacks).
Hybrid models are judged with their weights dequantised, because that is what Midge compiles: the
framework's hybrid kernels quantise activations on the fly.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from midge.core.errors import RunError
from midge.core.extras import how_to_get
from midge.core.types import Array, DType
from midge.frontends.shapes import Shapes
from midge.frontends.tflite import unique_names
from midge.graph.ir import OPS, Graph
from midge.oracle.base import ORACLES
from midge.oracle.litert_parts import Part, divided, misread, quiet


class LiteRT:
    title = "LiteRT reference kernels"
    suffixes = (".tflite",)

    def available(self) -> str | None:
        if find_spec("ai_edge_litert") is None:
            return f"not installed: {how_to_get('verify')}"
        return None

    def load(self, path: Path, graph: Graph) -> LiteRTSession:
        """RunError if the framework itself cannot run the file."""
        data = _with_axes_of_biases(path.read_bytes())
        hybrid = _hybrid_weights(graph)
        return LiteRTSession(dequantized(data, hybrid, graph) if hybrid else data, graph)


class LiteRTSession:
    """The interpreter on a model, tensors by the graph's names."""

    apart: Mapping[str, str] = {}

    def __init__(self, data: bytes, graph: Graph) -> None:
        self._graph = graph
        shapes = {n: t.shape for n, t in graph.types.items() if n not in graph.consts}
        self._parts, self.notes = self._divide(data, shapes)

    def _divide(self, data: bytes, shapes: Shapes) -> tuple[list[Part], tuple[str, ...]]:
        refused = None
        if not misread(self._graph):
            try:
                return [Part(data, shapes)], ()
            except RunError as error:
                refused = error
        with quiet():
            parts, lacking, wrong = divided(data, refused, shapes)
        why = {"has no reference kernel": lacking, "has a reference kernel that is wrong": wrong}
        return parts, tuple(
            f"{', '.join(kinds)}: LiteRT {what}, its default one is the judge"
            for what, kinds in why.items()
            if kinds
        )

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        values = dict(inputs)
        for part in self._parts:
            values |= part.run(values)
        shown = self._graph.types.keys() - self._graph.consts.keys()
        return {name: array for name, array in values.items() if name in shown}


def _hybrid_weights(graph: Graph) -> frozenset[str]:
    """int8 constants that operators on float activations read."""
    return frozenset(
        name
        for node in graph.nodes
        if OPS[node.op].channel_axis is not None and graph.types[node.inputs[0]].dtype is DType.F32
        for name in node.inputs[1:]
        if name in graph.consts and graph.types[name].dtype is DType.I8
    )


def dequantized(data: bytes, names: frozenset[str], graph: Graph) -> bytes:
    """The TFLite file with the int8 tensors `names` as float32: scale * (q - zero point)."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    tensors = model.subgraphs[0].tensors
    texts = [t.name.decode("utf-8", "replace") if t.name else "" for t in tensors]
    for tensor, name in zip(tensors, unique_names(texts), strict=True):
        if name in names:
            floats = _floats(graph.consts[name], tensor.quantization)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(floats.tobytes(), np.uint8)
            model.buffers.append(buffer)
            tensor.buffer = len(model.buffers) - 1
            tensor.type = schema.TensorType.FLOAT32
            tensor.quantization = None
    return _packed(model, len(data))


def _packed(model: Any, size: int) -> bytes:
    import flatbuffers

    builder = flatbuffers.Builder(size * 4)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _with_axes_of_biases(data: bytes) -> bytes:
    """The file with scales along an axis that the tensor has: LiteRT refuses biases that name an
    axis of their weights, which TFLM runs, and so does Midge."""
    import tflite

    graph = tflite.Model.GetRootAs(data, 0).Subgraphs(0)
    tensors = [graph.Tensors(i) for i in range(graph.TensorsLength())]
    wrong = [i for i, t in enumerate(tensors) if _axis(t) >= max(t.ShapeLength(), 1)]
    if not wrong:
        return data
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for i in wrong:
        model.subgraphs[0].tensors[i].quantization.quantizedDimension = 0
    return _packed(model, len(data))


def _axis(tensor: Any) -> int:
    quant = tensor.Quantization()
    return 0 if quant is None else int(quant.QuantizedDimension())


def _floats(array: Array, quantization: Any) -> Array:
    scale = np.asarray(quantization.scale, np.float32)
    zero = np.asarray(quantization.zeroPoint, np.float32)
    shape = [1] * array.ndim
    if scale.size > 1:
        shape[quantization.quantizedDimension] = -1
    difference = array.astype(np.float32) - zero.reshape(shape if zero.size > 1 else -1)
    result: Array = (difference * scale.reshape(shape if scale.size > 1 else -1)).astype(np.float32)
    return result


ORACLES.add("tflite", LiteRT())
