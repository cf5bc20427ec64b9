"""ONNX Runtime on the CPU: the judge of ONNX models.

Its graph optimisations are off: they fuse operators, and values in between would be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from midge.core.errors import RunError
from midge.core.extras import how_to_get
from midge.core.types import Array
from midge.frontends import read_file
from midge.graph.ir import Graph
from midge.oracle.base import ORACLES
from midge.oracle.onnx_departures import departures, limit_casts
from midge.oracle.onnx_sums import Sums


class OnnxRuntime:
    title = "ONNX Runtime"
    suffixes = (".onnx",)

    def available(self) -> str | None:
        if find_spec("onnxruntime") is None:
            return f"not installed: {how_to_get('verify')}"
        return None

    def load(self, path: Path, graph: Graph) -> OnnxRuntimeSession:
        """RunError if the framework itself cannot run the file."""
        return OnnxRuntimeSession(read_file(path), graph)


class OnnxRuntimeSession:
    """A model whose values are shown by the names that the graph has, too."""

    def __init__(self, data: bytes, graph: Graph) -> None:
        import onnx

        model = onnx.ModelProto.FromString(data)
        self.apart = departures(model)
        self._sums = Sums(model)
        self._limited = limit_casts(model, graph)
        self._outside = dict.fromkeys(self._limited, (0, 0))
        if self._limited:
            _show(model, (cast.inside for cast in self._limited))
            data = model.SerializeToString()
        try:
            self._session = _session(_with_values(data, graph))
        except RunError:
            self._session = _session(data)
        self._outputs = [o.name for o in self._session.get_outputs()]

    @property
    def notes(self) -> Sequence[str]:
        """Of what it has run."""
        return [cast.note(*counts) for cast, counts in self._outside.items() if counts[0]]

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        try:
            results = self._session.run(self._outputs, dict(inputs))
        except Exception as error:
            raise RunError(f"ONNX Runtime refuses an input: {error}", where="run") from error
        found = dict(zip(self._outputs, map(_array, results), strict=True))
        for cast in self._limited:
            inside = found.pop(cast.inside)
            outside, elements = self._outside[cast]
            self._outside[cast] = (outside + int((~inside).sum()), elements + inside.size)
        found |= self._sums.of({**inputs, **found})
        return {name: array for name, array in found.items() if array.dtype.kind not in "OUS"}


def _array(result: Any) -> Array:
    """An output; maps from labels to probabilities (ZipMap) as a tensor, in the labels' order."""
    if isinstance(result, list) and result and isinstance(result[0], dict):
        return np.array([list(row.values()) for row in result], np.float32)
    return np.asarray(result)


def _session(data: bytes) -> Any:
    """A session. RunError, in its words, if the framework refuses the model."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    # Its errors have no common class below Exception.
    except Exception as error:
        what = f"ONNX Runtime refuses the model: {error}"
        raise RunError(what, where="ONNX Runtime") from error


def _with_values(data: bytes, graph: Graph) -> bytes:
    """The model with every value that the graph knows as one more output."""
    import onnx

    model = onnx.ModelProto.FromString(data)
    made = (name for node in model.graph.node for name in node.output)
    _show(model, (name for name in made if name in graph.types and name not in graph.consts))
    return bytes(model.SerializeToString())


def _show(model: Any, names: Iterable[str]) -> None:
    """More outputs."""
    import onnx

    shown = {v.name for v in model.graph.output}
    for name in names:
        if name not in shown:
            model.graph.output.append(onnx.ValueInfoProto(name=name))
            shown.add(name)


ORACLES.add("onnx", OnnxRuntime())
