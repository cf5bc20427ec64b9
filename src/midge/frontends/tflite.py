"""TFLite flatbuffers to graphs.

The file is not trusted: every vector's length is checked against the file's size before it is
read, and whatever the flatbuffer accessors raise on a broken table becomes a ModelError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from midge.core.errors import ModelError, VerifyError
from midge.core.types import Array, DType, Quant, TensorType
from midge.frontends import FRONTENDS, Frontend
from midge.frontends.shapes import Shapes, resolved
from midge.frontends.tflite_options import enum, fields
from midge.frontends.tflite_shapes import Declared, check, declared
from midge.frontends.ways_out import TFLITE, unsupported
from midge.graph.evaluate import evaluate_node
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Graph, Node, verify
from midge.graph.tflite_types import DTYPES
from midge.graph.untrusted import broken_file, check_numbers, checked_shape

_MOST_FOLDED = 64  # elements
_AGAIN = "get the file again or convert again"
_LEAST_SCALE = float(np.nextafter(np.float32(0), np.float32(1)))


def read(data: bytes, name: str, shapes: Shapes = MappingProxyType({})) -> Graph:
    """The graph of a .tflite file. ModelError says what is wrong and where."""
    with broken_file(name, _AGAIN):
        return _Reader(data, name, shapes).graph()


def unique_names(texts: Sequence[str]) -> list[str]:
    """A name for each tensor: the file's own where it has one that no tensor before it has."""
    names: list[str] = []
    seen: set[str] = set()
    for i, text in enumerate(texts):
        name = text
        while not name or name in seen:
            name = f"{name or 'tensor'}#{i}"
        seen.add(name)
        names.append(name)
    return names


class _Reader:
    def __init__(self, data: bytes, name: str, shapes: Shapes) -> None:
        import tflite

        if len(data) < 8 or data[4:8] != b"TFL3":
            raise ModelError("this is not a TFLite file (no TFL3 mark)", where=name, hint=_AGAIN)
        self.data, self.name, self.shapes = data, name, shapes
        self.schema = tflite
        self.model = tflite.Model.GetRootAs(data, 0)
        self.opcodes = enum(tflite.BuiltinOperator)
        self.types: dict[str, TensorType] = {}
        self.stated: dict[str, Declared] = {}
        self.given: dict[str, tuple[int, ...]] = {}
        self.consts: dict[str, Array] = {}
        self.scaleless: set[str] = set()

    def graph(self) -> Graph:
        count = self.length(self.model.SubgraphsLength(), "subgraphs")
        if count > 0:
            self.subgraph = self.model.Subgraphs(0)
        if count != 1:
            raise self.several(count)
        self.names = self.tensor_names()
        inputs = self.values(self.subgraph.InputsAsNumpy(), self.subgraph.InputsLength())
        outputs = self.values(self.subgraph.OutputsAsNumpy(), self.subgraph.OutputsLength())
        if not inputs or not outputs or "" in (*inputs, *outputs):
            raise ModelError("the model has no inputs or no outputs", where=self.name, hint=_AGAIN)
        self.given = resolved({n: self.declared(n).dims for n in inputs}, self.shapes)
        for name in (*inputs, *outputs):
            self.type(name)
        self.defined = set(inputs)
        nodes: list[Node] = []
        for i in range(self.length(self.subgraph.OperatorsLength(), "operators")):
            nodes.extend(self.operator(i))
        return self.finish(inputs, outputs, nodes)

    def finish(self, inputs: tuple[str, ...], outputs: tuple[str, ...], nodes: list[Node]) -> Graph:
        for name in inputs:
            self.consts.pop(name, None)
        for name in self.scaleless:
            self.check_nothing(name)
        graph = Graph(self.name, inputs, outputs, self.types, self.consts, ())
        graph = graph.with_nodes(nodes)
        verify(graph)
        return graph

    def length(self, n: int, what: str) -> int:
        """A vector's length; a corrupt one is larger than the file."""
        if not 0 <= n <= len(self.data):
            raise ModelError(f"the file is damaged ({n} {what})", where=self.name, hint=_AGAIN)
        return n

    def tensor_names(self) -> list[str]:
        """One unique name per tensor, the file's own where it has one."""
        count = self.length(self.subgraph.TensorsLength(), "tensors")
        raw = (self.subgraph.Tensors(i).Name() for i in range(count))
        names = unique_names([r.decode("utf-8", "replace") if r else "" for r in raw])
        self.index = {n: i for i, n in enumerate(names)}
        return names

    def values(self, indices: Any, length: int, where: str = "") -> tuple[str, ...]:
        """Tensor indices as names; -1 (an absent optional input) is ""."""
        if self.length(length, "indices") == 0:
            return ()
        return tuple(self.value(int(i), where or self.name) for i in indices)

    def value(self, index: int, where: str) -> str:
        if index == -1:
            return ""
        if not 0 <= index < len(self.names):
            what = f"tensor {index} does not exist, there are {len(self.names)}"
            raise ModelError(what, where=where, hint=_AGAIN)
        return self.names[index]

    def type(self, name: str) -> TensorType:
        """The type of a tensor; reads its constant data on the way."""
        if name not in self.types:
            tensor = self.subgraph.Tensors(self.index[name])
            where = f"tensor {self.index[name]} {name!r}"
            self.types[name] = t = self.tensor_type(name, tensor, where)
            _check_zero_points(t, where)
            array = self.constant(tensor, t, where)
            if array is not None:
                self.consts[name] = array
                if name in self.scaleless:
                    self.check_nothing(name)
        return self.types[name]

    def check_nothing(self, name: str) -> None:
        """ModelError if a tensor whose scale is 0 may hold anything else than zeros."""
        quant = self.types[name].quant
        assert quant is not None
        if name not in self.consts or (self.consts[name] != quant.zero_point[0]).any():
            where = f"tensor {self.index[name]} {name!r}"
            raise ModelError(
                "bad quantisation: a scale is not a positive finite number",
                where=where,
                hint=_AGAIN,
            )

    def declared(self, name: str) -> Declared:
        """What the file says of a tensor's shape."""
        if name not in self.stated:
            where = f"tensor {self.index[name]} {name!r}"
            tensor = self.subgraph.Tensors(self.index[name])
            self.stated[name] = declared(tensor, self.length, where)
        return self.stated[name]

    def tensor_type(self, name: str, tensor: Any, where: str) -> TensorType:
        """That of an input or a constant; of others it holds until they are computed."""
        dims = self.declared(name).dims
        shape = self.given.get(name) or tuple(1 if d is None else d for d in dims)
        checked_shape(shape, where)
        if tensor.Type() not in DTYPES:
            code = enum(self.schema.TensorType).get(tensor.Type(), str(tensor.Type()))
            known = f"supported: {', '.join(d.value for d in DTYPES.values())}"
            raise ModelError(f"element type {code} is not supported", where=where, hint=known)
        if tensor.Sparsity() is not None:
            raise ModelError(
                "sparse tensors are not supported", where=where, hint="convert without sparsity"
            )
        q = tensor.Quantization()
        if q is not None and q.ScaleLength() == 1 and not q.Scale(0):
            self.scaleless.add(name)
        return TensorType(shape, DTYPES[tensor.Type()], self.quant(tensor, shape, where))

    def quant(self, tensor: Any, shape: tuple[int, ...], where: str) -> Quant | None:
        q = tensor.Quantization()
        if q is None or q.ScaleLength() == 0:
            return None
        count = self.length(q.ScaleLength(), "scales")
        scales = [float(s) for s in q.ScaleAsNumpy()]
        if scales == [0.0]:  # calibrated on zeros alone, as the first states of recurrent layers
            scales = [_LEAST_SCALE]
        zeros = [0] * count
        if self.length(q.ZeroPointLength(), "zero points"):
            zeros = [int(z) for z in q.ZeroPointAsNumpy()]
        axis = q.QuantizedDimension() if count > 1 else None
        if axis is not None and math.prod(shape) == count and count in shape:
            axis = shape.index(count)  # some converters give a bias the axis of its weights
        if axis is not None and not (0 <= axis < len(shape) and shape[axis] == count):
            what = f"{count} scales on axis {axis} of {shape}"
            raise ModelError(what, where=where, hint=_AGAIN)
        try:
            return Quant(tuple(scales), tuple(zeros), axis)
        except ValueError as error:
            raise ModelError(f"bad quantisation: {error}", where=where, hint=_AGAIN) from None

    def constant(self, tensor: Any, t: TensorType, where: str) -> Array | None:
        """The tensor's data, or None if it is computed at run time."""
        index = tensor.Buffer()
        if index == 0:
            return None
        if tensor.IsVariable():
            what = "variable tensors are not supported"
            raise ModelError(what, where=where, hint="convert the model without state")
        if index >= self.length(self.model.BuffersLength(), "buffers"):
            raise ModelError(f"buffer {index} does not exist", where=where, hint=_AGAIN)
        buffer = self.model.Buffers(index)
        size = self.length(buffer.DataLength(), "bytes")
        if size == 0:
            return None
        if size != t.size:
            what = f"{size} bytes of data for {t}, expected {t.size}"
            raise ModelError(what, where=where, hint=_AGAIN)
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), t.dtype.numpy).reshape(t.shape)
        check_numbers(values, where)
        return values

    def operator(self, i: int) -> tuple[Node, ...]:
        op = self.subgraph.Operators(i)
        index = op.OpcodeIndex()
        if index >= self.length(self.model.OperatorCodesLength(), "operator codes"):
            what = f"operator code {index} does not exist"
            raise ModelError(what, where=f"operator {i}", hint=_AGAIN)
        kind = self.kind(index)
        src = f"operator {i}"
        if kind not in IMPORTERS["tflite"]:
            raise self.unknown()
        inputs = self.values(op.InputsAsNumpy(), op.InputsLength(), src)
        outputs = self.values(op.OutputsAsNumpy(), op.OutputsLength(), src)
        for name in filter(None, (*inputs, *outputs)):
            self.type(name)
        if not outputs or "" in outputs:
            raise ModelError(f"{kind} has no outputs", where=src, hint=_AGAIN)
        foreign = Foreign(
            kind, inputs, outputs, self.options(op), src, self.types, self.consts,
            open=frozenset(n for n in outputs if not self.declared(n).static),
        )  # fmt: skip
        self.check_defined(foreign)
        nodes = self.imported(foreign)
        self.add_consts(foreign)
        self.add_types(foreign, nodes)
        return () if self.folded(nodes) else nodes

    def kind(self, index: int) -> str:
        """The name of an operator code, "custom operator X" for one that is not built in."""
        code = self.model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        kind = self.opcodes.get(number, f"builtin operator {number}")
        if kind == "CUSTOM":
            return f"custom operator {(code.CustomCode() or b'?').decode('utf-8', 'replace')}"
        return kind

    def several(self, count: int) -> ModelError:
        """What runs the other subgraphs, if the first one says so."""
        if count > 0 and self.lacking():
            return self.unknown()
        return ModelError(
            f"the model has {count} subgraphs, one is supported",
            where=self.name,
            hint="control flow (If, While) must be removed before conversion",
        )

    def unknown(self) -> ModelError:
        """All operators that are not supported."""
        hint = "write it by operators that `midge ops` lists, or take a variant without it"
        return unsupported(self.lacking(), TFLITE, where=self.name, hint=hint)

    def lacking(self) -> list[tuple[str, str]]:
        """Those, by kind and place."""
        found = []
        for i in range(self.subgraph.OperatorsLength()):
            index = self.subgraph.Operators(i).OpcodeIndex()
            if index < self.model.OperatorCodesLength():
                kind = self.kind(index)
                if kind not in IMPORTERS["tflite"]:
                    found.append((kind, f"operator {i}"))
        return found

    def folded(self, nodes: Sequence[Node]) -> bool:
        """Whether they compute small constants of integers, as shapes are, which is then done."""
        made: dict[str, Array] = {}
        for node in nodes:
            types = [self.types[n] for n in (*node.inputs, *node.outputs)]
            known = all(n in self.consts or n in made for n in node.inputs)
            if not known or any(t.dtype.is_float or t.elements > _MOST_FOLDED for t in types):
                return False
            made |= evaluate_node(node, self.types, self.consts, {**self.consts, **made})
        self.consts |= made
        return True

    def check_defined(self, op: Foreign) -> None:
        """Everything it reads is an input, a constant or computed before."""
        for name in filter(None, op.inputs):
            if name not in self.defined and name not in self.consts:
                raise op.error(f"{name!r} has no data, and nothing before computes it", _AGAIN)
        self.defined.update(op.outputs)

    def imported(self, op: Foreign) -> tuple[Node, ...]:
        try:
            return IMPORTERS["tflite"][op.kind](op)
        except KeyError as error:
            if op.attrs:
                raise
            raise op.error(f"has no options, {error.args[0]!r} is needed", _AGAIN) from None

    def options(self, op: Any) -> dict[str, Any]:
        """The operator's options table as snake_case name -> value."""
        number = op.BuiltinOptionsType()
        name = enum(self.schema.BuiltinOptions).get(number)
        table = op.BuiltinOptions()
        if number == 0 or table is None or name is None:
            return {}
        cls = getattr(self.schema, name)
        options = cls()
        options.Init(table.Bytes, table.Pos)
        return {f: get(options) for f, get in fields(cls).items()}

    def add_consts(self, op: Foreign) -> None:
        """Constants that an importer made."""
        for name, array in op.new_consts.items():
            t = TensorType(array.shape, DType.of(array))
            if name in op.outputs:
                t = self.settled(op, name, t)
            self.types[name], self.consts[name] = t, array

    def add_types(self, op: Foreign, nodes: tuple[Node, ...]) -> None:
        """Types of what the nodes compute, as inferred; those that the file states must agree."""
        for node in nodes:
            for name, inferred in zip(node.outputs, self.inferred(node), strict=True):
                if name in op.outputs:
                    self.types[name] = self.settled(op, name, inferred)
                elif name not in self.types:
                    source = node.inputs[0] if OPS[node.op].alias else op.outputs[0]
                    self.types[name] = replace(inferred, quant=self.types[source].quant)

    def settled(self, op: Foreign, name: str, inferred: TensorType) -> TensorType:
        have = self.types[name]
        check(name, self.declared(name), have, inferred, op.where)
        return replace(inferred, quant=have.quant)

    def inferred(self, node: Node) -> tuple[TensorType, ...]:
        try:
            types = OPS[node.op].infer([self.types[n] for n in node.inputs], node.attrs)
        except VerifyError as error:
            raise ModelError(error.what, where=node.where, hint=error.hint) from None
        if len(types) != len(node.outputs):
            what = f"has {len(node.outputs)} outputs, not {len(types)}"
            raise ModelError(what, where=node.where)
        return types


def _check_zero_points(t: TensorType, where: str) -> None:
    if t.quant is not None and t.dtype.is_integer:
        for z in t.quant.zero_point:
            if not t.dtype.min <= z <= t.dtype.max:
                raise ModelError(f"zero point {z} is outside {t.dtype.value}", where=where)


FRONTENDS.add("tflite", Frontend("tflite", (".tflite",), lambda data: data[4:8] == b"TFL3", read))
