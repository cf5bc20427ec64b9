"""LiteRT's interpreter with its reference kernels: the judge of TFLite models.

Its default (XNNPACK) and optimised kernels differ from the reference by single steps in most
models, so BUILTIN_REF is pinned. Hybrid models are judged with their weights dequantised, because
that is what Midge compiles: the framework's hybrid kernels quantise activations on the fly.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from midge.core.errors import RunError
from midge.core.types import Array, DType
from midge.frontends.tflite import unique_names
from midge.graph.ir import OPS, Graph
from midge.oracle.base import ORACLES


class LiteRT:
    title = "LiteRT reference kernels"
    suffixes = (".tflite",)

    def available(self) -> str | None:
        if find_spec("ai_edge_litert") is None:
            return "not installed: pip install 'midge[verify]'"
        return None

    def load(self, path: Path, graph: Graph) -> LiteRTSession:
        """RunError if the framework itself cannot run the file."""
        data = path.read_bytes()
        hybrid = _hybrid_weights(graph)
        return LiteRTSession(dequantized(data, hybrid, graph) if hybrid else data, graph)


class LiteRTSession:
    """The interpreter on a model, tensors by the graph's names."""

    def __init__(self, data: bytes, graph: Graph) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        try:
            with quiet():
                self._interpreter: Any = Interpreter(
                    model_content=data,
                    experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
                    experimental_preserve_all_tensors=True,
                )
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise RunError(f"LiteRT refuses the model: {error}", where=graph.name) from error
        self._graph = graph
        self._index = _tensor_indices(self._interpreter.get_tensor_details())

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        for name, array in inputs.items():
            self._interpreter.set_tensor(self._index[name], array)
        self._interpreter.invoke()
        return dict(self._values())

    def _values(self) -> Iterator[tuple[str, Array]]:
        """Copies of all tensors the interpreter still holds."""
        for name in self._graph.types:
            if name in self._index and name not in self._graph.consts:
                with contextlib.suppress(ValueError):
                    yield name, np.array(self._interpreter.get_tensor(self._index[name]))


def _tensor_indices(details: list[dict[str, Any]]) -> dict[str, int]:
    """Graph value name -> tensor index, the names as the frontend makes them."""
    texts = [""] * (1 + max((int(d["index"]) for d in details), default=-1))
    for d in details:
        texts[int(d["index"])] = str(d["name"])
    return {name: i for i, name in enumerate(unique_names(texts))}


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
    import flatbuffers
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
    builder = flatbuffers.Builder(len(data) * 4)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _floats(array: Array, quantization: Any) -> Array:
    scale = np.asarray(quantization.scale, np.float32)
    zero = np.asarray(quantization.zeroPoint, np.float32)
    shape = [1] * array.ndim
    if scale.size > 1:
        shape[quantization.quantizedDimension] = -1
    difference = array.astype(np.float32) - zero.reshape(shape if zero.size > 1 else -1)
    result: Array = (difference * scale.reshape(shape if scale.size > 1 else -1)).astype(np.float32)
    return result


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The interpreter's C++ writes notices to the terminal; keep them from users and JSON."""
    saved = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)


ORACLES.add("tflite", LiteRT())
