"""Midge as a backend of the package `onnx`: onnx.backend.base.Backend over the generated C.

    import midge.onnx_backend as backend
    rep = backend.prepare(onnx.load("model.onnx"))
    outputs = rep.run([x])

A model that takes a shape, an axis or another parameter as an input is compiled when it is run,
with the values that it is given as constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from midge.core.errors import ModelError
from midge.core.options import CompileOptions
from midge.core.types import Array
from midge.driver import Compiled, compile_graph, load_operators
from midge.frontends.onnx import read
from midge.graph.importers import NotConstantError
from midge.graph.ir import Graph
from midge.run.base import RUNNERS
from midge.target import load_target


def bound_graph(data: bytes, name: str, inputs: Mapping[str, Array]) -> Graph:
    """The graph of a model for inputs of these shapes. Those inputs that Midge needs when
    compiling (shapes, axes, ...) become constants; ModelError if none would be left."""
    values: dict[str, Array] = {}
    while True:
        shapes = {n: a.shape for n, a in inputs.items() if n not in values}
        try:
            return read(data, name, shapes, values)
        except NotConstantError as error:
            free = [n for n in needed_inputs(data, error.value) if n in inputs and n not in values]
            # Where a function was read in place, everything that it reads is found.
            few = [n for n in free if inputs[n].ndim < 2 and inputs[n].dtype.kind in "iub"] or free
            if not few or len(few) + len(values) == len(inputs):
                raise
            values |= {n: inputs[n] for n in few}


def needed_inputs(data: bytes, value: str) -> list[str]:
    """The inputs of the model from which `value` is computed."""
    model = onnx.ModelProto.FromString(data)
    names = {value, value.split("/")[0]}
    for node in reversed(model.graph.node):
        if names.intersection(node.output):
            names.update(node.input)
    return [v.name for v in model.graph.input if v.name in names]


class MidgeRep(BackendRep):
    """A model that is compiled for the shapes of its inputs when it is run, and kept."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._data = model.SerializeToString()
        constant = {t.name for t in model.graph.initializer}
        self._inputs = [v.name for v in model.graph.input if v.name not in constant]

    def run(self, inputs: Any, **kwargs: Any) -> tuple[Any, ...]:
        """The outputs, by the generated C on this machine."""
        if not isinstance(inputs, Mapping):
            inputs = dict(zip(self._inputs, inputs, strict=True))
        given = {n: np.asarray(a) for n, a in inputs.items()}
        graph = bound_graph(self._data, "model", given)
        compiled = compiled_for_host(graph)
        session = RUNNERS["host"].load(compiled.package, toolchain=None, optimize=None)
        try:
            result = session.run({n: given[n] for n in graph.inputs})
        finally:
            session.close()
        return tuple(result.outputs[n] for n in compiled.package_outputs)


def compiled_for_host(graph: Graph) -> Compiled:
    """The package of a graph for this machine."""
    return compile_graph(graph, load_target("host"), CompileOptions(search=False))


class MidgeBackend(Backend):
    """What `onnx.backend.base` asks of a backend."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **kwargs: Any) -> MidgeRep:
        """ModelError for a model that is not supported, when it is run at the latest."""
        load_operators()
        return MidgeRep(model)

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[np.dtype[Any], tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """The outputs of one operator on these inputs."""
        arrays = [np.asarray(a) for a in inputs]
        names = [n for n in node.input if n]
        if len(names) != len(arrays):
            what = f"{len(arrays)} arrays for {len(names)} inputs"
            raise ModelError(what, where=node.op_type)
        values = [
            onnx.helper.make_tensor_value_info(
                n, onnx.helper.np_dtype_to_tensor_dtype(a.dtype), a.shape
            )
            for n, a in zip(names, arrays, strict=True)
        ]
        results = [onnx.helper.make_tensor_value_info(n, 1, None) for n in node.output if n]
        graph = onnx.helper.make_graph([node], "node", values, results)
        opset = onnx.helper.make_opsetid("", onnx.defs.onnx_opset_version())
        model = onnx.helper.make_model(graph, opset_imports=[opset])
        return cls.prepare(model, device).run(arrays)

    @classmethod
    def supports_device(cls, device: str) -> bool:
        return device == "CPU"


prepare = MidgeBackend.prepare
run_model = MidgeBackend.run_model
run_node = MidgeBackend.run_node
supports_device = MidgeBackend.supports_device
