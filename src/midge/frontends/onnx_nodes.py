"""Walks an ONNX graph and makes nodes of its operators.

Every operator takes the first way that fits: it only renames or states something static
(`onnx_static`), everything it reads is constant (`onnx_fold`), there is an importer, or it is a
function, of the model or of the operator's schema, whose body is read in its place.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from midge.core.errors import ModelError, VerifyError
from midge.core.types import Array, Quant, TensorType
from midge.frontends.onnx_fold import Folder
from midge.frontends.onnx_functions import body_of, function_key, lacking
from midge.frontends.onnx_model import (
    AGAIN,
    array_of,
    attribute,
    dense_array,
    dtype_of,
    type_of,
)
from midge.frontends.onnx_order import in_order
from midge.frontends.onnx_scope import Call, Scope
from midge.frontends.onnx_static import STATIC
from midge.frontends.onnx_upgrade import OLDEST, upgraded
from midge.frontends.shapes import Declared, Shapes, resolved
from midge.frontends.ways_out import ONNX, unsupported
from midge.graph.evaluate import evaluate_node
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Graph, Node, live, verify
from midge.graph.untrusted import check_numbers, checked_shape

_MOST_NODES = 100_000
_MOST_DEPTH = 16  # functions and branches inside each other
_MOST_FOLDED = 1 << 22  # elements of a value that is computed at once
_MOST_MEANT = 1 << 10  # and of one that is also kept as integers
_DOCS = "write it by operators that docs/onnx.md lists"


class Reader:
    """One model being read. shapes, values: as of `onnx.read`."""

    def __init__(
        self,
        model: Any,
        name: str,
        shapes: Shapes,
        values: Mapping[str, Array],
    ) -> None:
        self.model, self.name = model, name
        self.shapes, self.values = shapes, values
        self.types: dict[str, TensorType] = {}
        self.consts: dict[str, Array] = {}
        # Every constant, also of element types that Midge has not; shapes are computed from them.
        self.known: dict[str, Array] = {}
        # Small constants with a scale, and what they stand for: limits, padding, exponents.
        self.stated: dict[str, Array] = {}
        self.meant: dict[str, Array] = {}
        self.nodes: list[Node] = []
        self.count = 0
        self.folder = Folder()
        self.functions = {function_key(f): f for f in model.functions}
        self.taken: dict[str, int] = {}

    def graph(self) -> Graph:
        proto = self.model.graph
        scope = Scope({}, versions(self.model.opset_import, self.name), {}, "", 0)
        self.initializers(proto, scope)
        declared = self.open_inputs(proto, scope)
        shapes = resolved(_open_batches({v.name: self.declared(v) for v in declared}), self.shapes)
        inputs = [self.input(v, shapes[v.name]) for v in declared]
        for name in inputs:
            scope.names[name] = name
        self.body(proto.node, scope, "node")
        outputs = [self.output(v, scope) for v in proto.output]
        if not inputs or not outputs:
            what = "the model has no inputs or no outputs"
            raise ModelError(what, where=self.name, hint="what it computes is constant")
        for name in (*inputs, *outputs):
            if self.types[name].elements == 0:
                what = f"{self.types[name]} has no elements"
                raise ModelError(what, where=f"value {name!r}", hint="remove it from the model")
        return self.finish(inputs, outputs)

    def finish(self, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
        names = (tuple(inputs), tuple(outputs))
        graph = Graph(self.name, *names, self.types, self.consts, (), self.classes())
        graph = graph.with_nodes(live(self.nodes, outputs))
        verify(graph)
        for name, array in graph.consts.items():
            check_numbers(array, f"constant {name!r}")
        return graph

    def classes(self) -> tuple[str, ...]:
        """What the classifier of the model calls its classes, in place of which it gives their
        positions; () without one, and with several."""
        nodes = self.model.graph.node
        lists = [a.strings for n in nodes for a in n.attribute if a.name == "classlabels_strings"]
        found = [[s.decode("utf-8", "replace") for s in own] for own in lists if own]
        return tuple(found[0]) if len(found) == 1 else ()

    # Values.

    def open_inputs(self, proto: Any, scope: Scope) -> Sequence[Any]:
        """The inputs that have no value in the file."""
        return [v for v in proto.input if v.name not in scope.names]

    def initializers(self, proto: Any, scope: Scope) -> None:
        for tensor in proto.initializer:
            where = f"initializer {tensor.name!r}"
            self.define(scope, tensor.name, array_of(tensor, where), where)
        for sparse in proto.sparse_initializer:
            where = f"initializer {sparse.values.name!r}"
            self.define(scope, sparse.values.name, dense_array(sparse, where), where)
        if scope.depth == 0:
            for name, array in self.values.items():
                self.define(scope, name, np.asarray(array), f"input {name!r}")

    def declared(self, value: Any) -> Declared:
        """The sizes that the file states of an input."""
        where = f"input {value.name!r}"
        kind = value.type.WhichOneof("value")
        if kind != "tensor_type":
            what = f"is not a tensor but {kind or 'of no type'}"
            raise ModelError(what, where=where, hint="sequences and options are not supported")
        tensor = value.type.tensor_type
        if not tensor.HasField("shape"):
            if value.name in self.shapes:
                return self.shapes[value.name]
            hint = f"say it: --shape {value.name}=1,..."
            raise ModelError("has no shape", where=where, hint=hint)
        return [_dimension(d) for d in tensor.shape.dim]

    def input(self, value: Any, shape: tuple[int, ...]) -> str:
        """Declares an input of the graph."""
        where = f"input {value.name!r}"
        if not value.name or value.name in self.types:
            raise ModelError("has no name, or another input's", where=where, hint=AGAIN)
        dtype = dtype_of(value.type.tensor_type.elem_type, where)
        self.types[self.fresh(value.name)] = TensorType(checked_shape(shape, where), dtype)
        return str(value.name)

    def output(self, value: Any, scope: Scope) -> str:
        """The value that the graph returns, under its own name if that is free."""
        where = f"output {value.name!r}"
        name = self.resolve(scope, value.name, where)
        if name not in self.types:
            dtype_name = self.known[name].dtype
            raise ModelError(f"element type {dtype_name} is not supported", where=where)
        if name == value.name or value.name in self.types:
            return name
        output = self.fresh(value.name)
        self.types[output] = self.types[name].plain
        self.nodes.append(Node("copy", (name,), (output,), {}, where, "Identity"))
        return output

    def fresh(self, name: str) -> str:
        """`name`, or the first of `name.2`, `name.3`, ... that no value has."""
        unique = name or "value"
        while unique in self.types or unique in self.known:
            self.taken[name] = self.taken.get(name, 1) + 1
            unique = f"{name or 'value'}.{self.taken[name]}"
        return unique

    def define(self, scope: Scope, name: str, array: Array, where: str) -> None:
        """A constant under the name `name` of the file."""
        if not name or name in scope.own:
            raise ModelError(f"{name!r} is defined twice", where=where, hint=AGAIN)
        checked_shape(array.shape, where)
        unique = self.fresh(scope.prefix + name)
        self.add_const(unique, array)
        scope.bind(name, unique)

    def add_const(self, name: str, array: Array) -> None:
        self.known[name] = array
        if (t := type_of(array)) is not None:
            self.types[name], self.consts[name] = t, array

    def resolve(self, scope: Scope, name: str, where: str) -> str:
        """The graph's name of a value that the file calls `name`."""
        if name not in scope.names:
            what = f"{name!r} is used, but no initializer and nothing before computes it"
            raise ModelError(what, where=where, hint=AGAIN)
        found = scope.names[name]
        if isinstance(found, ModelError):
            raise found
        return found

    # Operators.

    def body(self, protos: Sequence[Any], scope: Scope, what: str) -> None:
        if scope.depth > _MOST_DEPTH:
            raise ModelError("functions call each other without end", where=self.name, hint=AGAIN)
        for i, proto in in_order(protos):
            self.count += 1
            if self.count > _MOST_NODES:
                raise ModelError(f"more than {_MOST_NODES} operators", where=self.name)
            src = scope.src or f"{what} {i}" + (f" {proto.name!r}" if proto.name else "")
            self.operator(proto, scope, src)

    def operator(self, proto: Any, scope: Scope, src: str) -> None:
        domain = "" if proto.domain == "ai.onnx" else proto.domain
        kind = f"{domain}.{proto.op_type}" if domain else str(proto.op_type)
        where = f"{src}: {kind} -> {', '.join(proto.output)}"
        opset = scope.opsets.get(domain, 0)
        protos = scope.attributes(proto)
        attrs = {p.name: attribute(p, where) for p in protos if kind != "Constant" or p.name}
        inputs = [
            self.resolve(scope, n, where) if n and n not in scope.absent else ""
            for n in proto.input
        ]
        while inputs and not inputs[-1]:
            inputs.pop()
        call = Call(kind, domain, opset, inputs, list(proto.output), attrs, src, where, scope)
        key = (proto.domain, proto.op_type, getattr(proto, "overload", ""))
        if key in self.functions:
            self.inline(self.functions[key], call, protos)
            return
        if not domain and opset < OLDEST:
            upgraded(self, call)
        if self.static(call) or self.fold(call) or self.imported(call):
            return
        function, defaults = body_of(self, call, proto)
        if function is None:
            raise self.unknown(call)
        self.inline(function, call, [*defaults, *protos])

    def step(
        self, call: Call, kind: str, inputs: Sequence[str], attrs: dict[str, Any] | None = None
    ) -> str:
        """One more operator before `call`, by its importer; its output."""
        name = f"{next(filter(None, call.outputs), 'value')}/{kind}"
        scope = call.scope.child(call.scope.prefix, call.src)
        extra = replace(call, kind=kind, inputs=list(inputs), outputs=[name], attrs=attrs or {})
        extra.scope, extra.opset = scope, max(call.opset, OLDEST)
        if not self.fold(extra) and not self.imported(extra):
            raise self.unknown(extra)
        return self.resolve(scope, name, call.where)

    def unknown(self, call: Call) -> ModelError:
        """That and all others that are not supported."""
        found = [*lacking(self.model, self.functions.keys(), call.kind)]
        if call.kind not in (kind for kind, _ in found):
            found.insert(0, (call.kind, call.src))
        return unsupported(found, ONNX, where=self.name, hint=_DOCS)

    def static(self, call: Call) -> bool:
        rule = STATIC.get(call.kind)
        return rule is not None and rule(self, call)

    def fold(self, call: Call) -> bool:
        """Computes an operator of constants."""
        if not call.inputs or not all(n in self.known for n in call.inputs if n):
            return False
        arrays = [self.known.get(n) if n else None for n in call.inputs]
        results = self.folder.run(call, arrays)
        if results is None:
            return False
        for name, array in zip(call.outputs, results, strict=True):
            if name:
                self.define(call.scope, name, array, call.where)
        return True

    def imported(self, call: Call) -> bool:
        """Nodes by the operator's importer."""
        importer = IMPORTERS["onnx"].get(call.kind)
        if importer is None:
            return False
        for name in filter(None, call.inputs):
            if name not in self.types:
                what = f"element type {self.known[name].dtype} of {name!r} is not supported"
                raise ModelError(what, where=call.where)
        outputs = tuple(self.fresh(call.scope.prefix + (n or "unused")) for n in call.outputs)
        if not outputs or len({*filter(None, call.outputs)} & call.scope.own):
            raise ModelError("has no outputs, or another one's", where=call.where, hint=AGAIN)
        foreign = Foreign(
            call.kind, tuple(call.inputs), outputs, call.attrs, call.src, self.types, self.consts,
            call.opset, meant=self.meant,
        )  # fmt: skip
        try:
            nodes = importer(foreign)
            for name, array in foreign.new_consts.items():
                self.add_const(name, array)
            for node in nodes:
                self.add(node, foreign.quants)
        except VerifyError as error:
            raise foreign.error(error.what, error.hint) from None
        for name, own in zip(call.outputs, outputs, strict=True):
            if own in self.types:
                call.scope.bind(name, own)
            elif name:
                call.scope.names[name] = foreign.error(f"output {name!r} is not supported")
        return True

    def add(self, node: Node, quants: Mapping[str, Quant] = MappingProxyType({})) -> None:
        """Appends a node with its inferred types; small ones of constants are computed, but not
        what quantised constants stand for."""
        types = [self.types[n] for n in node.inputs]
        results = OPS[node.op].infer(types, node.attrs)
        for name, t in zip(node.outputs, results, strict=True):
            checked_shape(t.shape, node.where)
            self.types[name] = replace(t, quant=quants.get(name))
        small = all(t.elements <= _MOST_MEANT for t in results)
        constant = all(n in self.consts for n in node.inputs)
        if node.op == "dequantize" or quants:
            if small and all(n in self.consts or n in self.stated for n in node.inputs):
                values = evaluate_node(
                    node, self.types, self.consts, ChainMap(self.stated, self.consts)
                )
                (self.meant if node.op == "dequantize" else self.stated).update(values)
        elif constant and all(t.elements <= _MOST_FOLDED for t in results):
            self.folder.spend(sum(t.elements for t in results), node.where)
            values = evaluate_node(node, self.types, self.consts, self.consts)
            for name, t in zip(node.outputs, results, strict=True):
                self.add_const(name, np.ascontiguousarray(values[name]).reshape(t.shape))
            return
        self.nodes.append(node)

    # What is read in place of an operator.

    def inline(self, function: Any, call: Call, protos: Sequence[Any]) -> None:
        """The body of a function in place of its call."""
        if len(call.inputs) > len(function.input) or len(call.outputs) > len(function.output):
            raise ModelError("has more inputs or outputs than its function", where=call.where)
        given = {p.name: p for p in function.attribute_proto} | {p.name: p for p in protos}
        prefix = f"{call.scope.prefix}{next(filter(None, call.outputs), 'value')}/"
        scope = Scope(
            {}, versions(function.opset_import, call.where, call.scope.opsets), given, prefix,
            call.scope.depth + 1, call.src,
        )  # fmt: skip
        for name, own in zip(function.input, call.inputs, strict=False):
            if own:
                scope.names[name] = own
        scope.absent = {n for n in function.input if n not in scope.names}
        self.body(function.node, scope, "node")
        self.bind_results(call, function.output, scope)

    def branch(self, graph: Any, call: Call) -> None:
        """The nodes of a branch in place of the If."""
        prefix = f"{call.scope.prefix}{next(filter(None, call.outputs), 'value')}/"
        scope = call.scope.child(prefix, call.src)
        self.initializers(graph, scope)
        self.body(graph.node, scope, "node")
        if len(graph.output) < len(call.outputs):
            raise ModelError("has more outputs than its branch", where=call.where, hint=AGAIN)
        self.bind_results(call, [v.name for v in graph.output], scope)

    def bind_results(self, call: Call, inner: Sequence[str], scope: Scope) -> None:
        for name, own in zip(call.outputs, inner, strict=False):
            if name:
                call.scope.bind(name, self.resolve(scope, own, call.where))


def versions(imports: Any, where: str, outer: Mapping[str, int] | None = None) -> dict[str, int]:
    """Domain -> version of its operator set."""
    result = dict(outer or {})
    for entry in imports:
        result["" if entry.domain == "ai.onnx" else entry.domain] = int(entry.version)
    if "" in result and not 1 <= result[""] <= 1000:
        raise ModelError(f"operator set {result['']} does not exist", where=where, hint=AGAIN)
    return result


def _open_batches(declared: Mapping[str, Declared]) -> dict[str, Declared]:
    """Old exporters leave a batch open by a 0, of all inputs: beside another number it is one."""
    stated = any(isinstance(d[0], int) and d[0] > 0 for d in declared.values() if d)
    return {n: [None, *d[1:]] if d and d[0] == 0 and not stated else d for n, d in declared.items()}


def _dimension(dim: Any) -> int | str | None:
    """A size, the name of one, or None."""
    if dim.WhichOneof("value") == "dim_value" and dim.dim_value != -1:
        return int(dim.dim_value)
    return str(dim.dim_param) or None
