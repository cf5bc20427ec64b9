"""LiteRT's interpreter on a model, or on its operators one after the other.

The reference resolver lacks some operators (ELU, CEIL, ROUND), and its SUM reads signed quantised
values as unsigned. A model that has one is cut: such operators are run by LiteRT's default kernels,
all else by the reference.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from itertools import groupby
from operator import itemgetter
from types import MappingProxyType
from typing import Any

import numpy as np

from midge.core.errors import RunError
from midge.core.types import Array, DType
from midge.frontends.shapes import Shapes
from midge.frontends.tflite import unique_names
from midge.graph.ir import Graph
from midge.graph.tflite_types import DTYPES

_MISREAD = (DType.I8, DType.U8, DType.I16)


class Part:
    """The interpreter on a file. RunError, in its words, if it refuses the file.

    shapes: of its inputs, by name, where the file leaves them open.  default: take its default
    kernels.  makes: the names of the tensors that count; None: of all.
    """

    def __init__(
        self,
        data: bytes,
        shapes: Shapes = MappingProxyType({}),
        *,
        default: bool = False,
        makes: frozenset[str] | None = None,
    ) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        kinds = OpResolverType
        resolver = kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES if default else kinds.BUILTIN_REF
        try:
            with quiet():
                self._interpreter: Any = Interpreter(
                    model_content=data,
                    experimental_op_resolver_type=resolver,
                    experimental_preserve_all_tensors=True,
                )
                self._index = tensor_indices(self._interpreter.get_tensor_details())
                self._names = {i: name for name, i in self._index.items()}
                self._resize(shapes)
                self._interpreter.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise RunError(f"LiteRT refuses the model: {error}", where="LiteRT") from error
        self._makes = frozenset(self._index) if makes is None else makes

    def _resize(self, shapes: Shapes) -> None:
        for detail in self._interpreter.get_input_details():
            index = int(detail["index"])
            shape = shapes.get(self._names[index])
            if shape is not None and shape != tuple(detail["shape"]):
                self._interpreter.resize_tensor_input(index, shape)

    def run(self, values: Mapping[str, Array]) -> dict[str, Array]:
        """Copies of the tensors that it makes, as far as it still holds them."""
        try:
            for detail in self._interpreter.get_input_details():
                name = self._names[int(detail["index"])]
                self._interpreter.set_tensor(detail["index"], values[name])
            with quiet():
                self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise RunError(f"LiteRT refuses an input: {error}", where="LiteRT") from error
        found = {}
        for name in self._makes:
            with contextlib.suppress(ValueError):
                found[name] = np.array(self._interpreter.get_tensor(self._index[name]))
        return found


def misread(graph: Graph) -> bool:
    """Whether there is an operator that the reference kernels compute wrong."""
    return any(n.op == "sum" and graph.types[n.inputs[0]].dtype in _MISREAD for n in graph.nodes)


def tensor_indices(details: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Graph value name -> tensor index, the names as the frontend makes them."""
    texts = [""] * (1 + max((int(d["index"]) for d in details), default=-1))
    for d in details:
        texts[int(d["index"])] = str(d["name"])
    return {name: i for i, name in enumerate(unique_names(texts))}


def divided(
    data: bytes, refused: RunError | None, shapes: Shapes
) -> tuple[list[Part], list[str], list[str]]:
    """The parts of a model that the reference resolver refuses, or runs wrong; the operators that
    it lacks, and those that it runs wrong. `refused` if that is not the reason."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph = model.subgraphs[0]
    if len(model.subgraphs) != 1:
        assert refused is not None, "the frontend reads one subgraph"
        raise refused
    texts = [t.name.decode("utf-8", "replace") if t.name else "" for t in graph.tensors]
    names = unique_names(texts)
    for name, tensor in zip(names, graph.tensors, strict=True):
        tensor.shape = list(shapes.get(name, tensor.shape if tensor.shape is not None else ()))
    kinds = {code: name for name, code in vars(schema.BuiltinOperator).items() if name.isupper()}
    codes = [kinds[max(c.builtinCode, c.deprecatedBuiltinCode)] for c in model.operatorCodes]
    lacking: dict[int, bool] = {}
    wrong: list[bool] = []
    for operator in graph.operators:
        kind = codes[operator.opcodeIndex]
        wrong.append(kind == "SUM" and _kind(graph, operator.inputs[0]) in _MISREAD)
        if refused is not None and not wrong[-1] and operator.opcodeIndex not in lacking:
            lacking[operator.opcodeIndex] = _lacks(_cut(model, [operator]), refused)
    if refused is not None and not any(lacking.values()):
        raise refused
    defaults = [
        w or lacking.get(o.opcodeIndex, False) for w, o in zip(wrong, graph.operators, strict=True)
    ]
    parts = []
    for default, group in groupby(zip(defaults, graph.operators, strict=True), itemgetter(0)):
        own = [operator for _, operator in group]
        makes = frozenset(names[i] for o in own for i in o.outputs)
        parts.append(Part(_cut(model, own), default=default, makes=makes))
    return parts, [codes[i] for i, missing in lacking.items() if missing], ["SUM"] * any(wrong)


def _kind(graph: Any, tensor: int) -> DType | None:
    return DTYPES.get(graph.tensors[tensor].type)


def _lacks(data: bytes, refused: RunError) -> bool:
    """Whether one operator runs by default kernels only. `refused` if it does not run at all."""
    with contextlib.suppress(RunError):
        Part(data)
        return False
    try:
        Part(data, default=True)
    except RunError:
        raise refused from None
    return True


def _cut(model: Any, operators: Sequence[Any]) -> bytes:
    """A file of some successive operators: it takes what they read and gives all that they make."""
    import flatbuffers

    graph = model.subgraphs[0]
    made = {i for o in operators for i in o.outputs}
    read = dict.fromkeys(i for o in operators for i in o.inputs if i >= 0)
    used = {graph.tensors[i].buffer for i in read}
    codes = {o.opcodeIndex for o in operators}
    own = copy(model)
    own.subgraphs = [copy(graph)]
    own.subgraphs[0].inputs = [i for i in read if i not in made and not _constant(model, i)]
    own.subgraphs[0].outputs, own.subgraphs[0].operators = list(made), list(operators)
    # The resolver looks at every kind that the file names, used or not.
    other = model.operatorCodes[operators[0].opcodeIndex]
    own.operatorCodes = [c if i in codes else other for i, c in enumerate(model.operatorCodes)]
    empty = type(model.buffers[0])()
    own.buffers = [b if i in used else empty for i, b in enumerate(model.buffers)]
    own.signatureDefs = []
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(own.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _constant(model: Any, tensor: int) -> bool:
    data = model.buffers[model.subgraphs[0].tensors[tensor].buffer].data
    return data is not None and len(data) > 0


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
