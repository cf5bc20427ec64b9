"""PyTorch's exported programs (.pt2 of torch.export.save) to graphs, without PyTorch.

ATen operators are read as they stand, those of the training dialect (conv2d, linear, lstm) and the
core ones into which `run_decompositions` takes them apart; parameters and buffers are constants.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np

from midge.core.errors import ModelError, VerifyError
from midge.core.types import Array, DType, Quant, TensorType
from midge.frontends import FRONTENDS, Frontend
from midge.frontends.shapes import Shapes, resolved
from midge.frontends.torch_archive import AGAIN, DTYPES, dtype_of
from midge.frontends.torch_arguments import Arguments
from midge.frontends.torch_calls import Call, names
from midge.frontends.torch_file import STORED, File
from midge.frontends.torch_sizes import Sizes, is_of_sizes
from midge.frontends.ways_out import TORCH, unsupported
from midge.graph.evaluate import evaluate_node
from midge.graph.importers import IMPORTERS, Foreign, Importer, Ref
from midge.graph.ir import OPS, Graph, Node, fresh, live, verify
from midge.graph.untrusted import broken_file, check_numbers, checked_shape

_MOST_FOLDED = 1 << 24
_SCALARS = ("as_int", "as_bool", "as_string")
_LISTS = ("as_ints", "as_floats", "as_bools")
_CONVERT = "convert the operands (x.float(), x.to(torch.int32)) before this operator"
_EFFECTS = "leave out what does more than compute: assertions, checks of errors, printing"
_IGNORED = ("as_none", "as_device", "as_layout", "as_memory_format")


def read(data: bytes, name: str, shapes: Shapes = MappingProxyType({})) -> Graph:
    """The graph of a .pt2 file. ModelError says what is wrong and where."""
    with broken_file(name, AGAIN):
        return _Reader(File(data, name), shapes).graph()


class _Reader:
    def __init__(self, file: File, shapes: Shapes) -> None:
        self.shapes = resolved(file.declared(), shapes)
        file.check_ranges(self.shapes)
        self.sizes = Sizes()
        self.file, self.archive, self.name = file, file.archive, file.name
        self.types: dict[str, TensorType] = {}
        self.consts: dict[str, Array] = {}
        self.refused: dict[str, ModelError] = {}
        self.alias: dict[str, str] = {}
        self.nodes: list[Node] = []
        self.calls: list[tuple[Mapping[str, Any], Call]] = []
        self.inputs: list[str] = []

    def graph(self) -> Graph:
        for spec in self.file.signature["input_specs"]:
            self.input(spec)
        given = self.file.results()
        self.calls = self.file.calls([v["name"] for v in given])
        for node, call in self.calls:
            self.operator(node, call)
        outputs = tuple(str(self.ref(v)) for v in given)
        if not self.inputs or not outputs:
            raise self.archive.error("the model has no inputs or no outputs")
        graph = Graph(self.name, tuple(self.inputs), outputs, self.types, self.consts, ())
        graph = graph.with_nodes(live(self.nodes, outputs))
        verify(graph)
        return graph

    # Ends.

    def input(self, spec: Mapping[str, Any]) -> None:
        ((kind, own),) = spec.items()
        if kind == "user_input":
            value = own["arg"]
            if "as_none" in value:
                return
            if "as_tensor" not in value:
                what = f"an input is no tensor ({', '.join(value)})"
                raise self.archive.error(what, "export a model whose inputs are tensors")
            name = value["as_tensor"]["name"]
            self.types[name] = self.input_type(name)
            self.inputs.append(name)
            return
        if kind not in STORED:
            what = f"inputs of kind {kind} are not supported"
            if kind == "token":
                raise self.archive.error(what, _EFFECTS)
            raise self.archive.error(what)
        name = own["arg"]["name"]
        try:
            self.constant(name, self.file.stored(kind, own))
        except ModelError as error:
            self.refused[name] = error  # raised where it is used: counters of batches are not

    def constant(self, name: str, array: Array) -> None:
        check_numbers(array, f"{self.name}: {name}")
        self.consts[name] = array
        self.types[name] = TensorType(array.shape, DType.of(array))

    def input_type(self, name: str) -> TensorType:
        where = f"input {name}"
        dtype = dtype_of(self.file.program["tensor_values"][name]["dtype"], where)
        return TensorType(checked_shape(self.shapes[name], where), dtype)

    def check(self, name: str) -> None:
        if name in self.refused:
            raise self.refused[name]
        if name not in self.types and name not in self.alias:
            raise self.archive.error(f"{name!r} is used, but nothing before computes it")

    # Operators.

    def operator(self, node: Mapping[str, Any], call: Call) -> None:
        kind, src = call.kind, call.src
        if kind in ("_operator.getitem", "operator.getitem"):
            raise ModelError("getitem of a value that is no list", where=src, hint=AGAIN)
        if is_of_sizes(node):
            self.size(node, kind, src)
            return
        importer = _importer(kind)
        if importer is None:
            raise self.unknown()
        given = {arg["name"]: self.argument(arg["arg"], src) for arg in node["inputs"]}
        outputs = tuple(self.results(node["outputs"], src))
        refs = [v for a in given.values() for v in (a if isinstance(a, tuple) else (a,))]
        inputs = tuple(str(r) for r in refs if isinstance(r, Ref))
        attrs = Arguments(given)
        foreign = Foreign(_name(kind), inputs, outputs, attrs, src, self.types, self.consts)
        if not outputs or any(o in self.types or o in self.alias for o in outputs):
            raise foreign.error("has no outputs, or another one's", AGAIN)
        try:
            nodes = importer(foreign)
            attrs.check_read(foreign)
            for name, array in foreign.new_consts.items():
                self.constant(name, array)
            for made in _by_name(nodes, foreign):
                if made.op == "copy" and made.outputs[0] not in foreign.quants:
                    (source,) = made.inputs
                    self.alias[made.outputs[0]] = self.alias.get(source, source)
                else:
                    self.add(made, foreign.quants)
        except VerifyError as error:
            raise foreign.error(error.what, error.hint) from None
        for name in outputs:
            if name not in self.types and name not in self.alias:
                self.refused[name] = foreign.error(f"output {name!r} is not supported")
            else:
                self.check_type(name, foreign)

    def check_type(self, name: str, op: Foreign) -> None:
        """ModelError for a result that has another type than the file says, or another shape. The
        file knows types that Midge lacks (float64 of numbers), and a batch by name."""
        meta = self.file.program["tensor_values"].get(name)
        if meta is None:
            return
        found = self.types[self.alias.get(name, name)]
        dtype = DTYPES.get(meta["dtype"], found.dtype)
        sizes = [size.get("as_int", -1) for size in meta["sizes"]]
        fits = len(sizes) == len(found.shape) and all(
            n in (-1, m) for n, m in zip(sizes, found.shape, strict=True)
        )
        if found.dtype is not dtype or not fits:
            told = f"{dtype.value}[{', '.join('?' if n < 0 else str(n) for n in sizes)}]"
            raise op.error(f"gives {told}, Midge would compute {found}", _CONVERT)

    def argument(self, arg: Mapping[str, Any], src: str) -> Any:
        ((kind, value),) = arg.items()
        if kind == "as_tensor":
            return self.ref(value)
        if kind == "as_tensors":
            return tuple(self.ref(v) for v in value)
        if kind == "as_optional_tensor":
            return None if "as_none" in value else self.ref(value["as_tensor"])
        if kind == "as_optional_tensors":
            return tuple(self.ref(v["as_tensor"]) if "as_tensor" in v else None for v in value)
        if kind == "as_scalar_type":
            return DTYPES.get(value, value)
        if kind == "as_float":
            return float(value)
        if kind in _SCALARS:
            return value
        if kind in _LISTS:
            return tuple(value)
        if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
            return self.sizes.value(value, src)
        if kind == "as_sym_ints":
            return tuple(self.sizes.value(v, src) for v in value)
        if kind in _IGNORED:
            return None
        raise ModelError(f"an argument of kind {kind} is not supported", where=src)

    def ref(self, value: Mapping[str, Any]) -> Ref:
        self.check(value["name"])
        return Ref(self.alias.get(value["name"], value["name"]))

    def unknown(self) -> ModelError:
        """All operators that are not supported."""
        kinds = ((call.kind, call.src, is_of_sizes(node)) for node, call in self.calls)
        found = [(kind, src) for kind, src, sizes in kinds if not sizes and not _importer(kind)]
        hint = "try ExportedProgram.run_decompositions(), or see docs/pytorch.md"
        return unsupported(found, TORCH, where=self.name, hint=hint)

    def size(self, node: Mapping[str, Any], kind: str, src: str) -> None:
        """An operator that computes a size."""
        given = [self.argument(arg["arg"], src) for arg in node["inputs"]]
        arguments = [self.types[str(a)] if isinstance(a, Ref) else a for a in given]
        self.sizes.compute(kind, arguments, node, src)

    def results(self, outputs: Any, src: str) -> list[str]:
        found: list[str] = []
        for number, output in enumerate(outputs):
            ((kind, value),) = output.items()
            if kind in ("as_tensor", "as_tensors"):
                found += names(kind, value)
            elif "as_none" in output:
                found.append(fresh(f"{src}/none{number}", self.types))
            else:
                raise ModelError(f"a result of kind {', '.join(output)}", where=src, hint=AGAIN)
        return found

    def add(self, node: Node, quants: Mapping[str, Quant]) -> None:
        """Appends a node with its inferred types; those of constants are computed, but not what
        quantised constants stand for."""
        node = replace(node, inputs=tuple(self.alias.get(n, n) for n in node.inputs))
        results = OPS[node.op].infer([self.types[n] for n in node.inputs], node.attrs)
        for name, t in zip(node.outputs, results, strict=True):
            checked_shape(t.shape, node.where)
            self.types[name] = replace(t, quant=quants.get(name))
        known = node.op != "dequantize" and not quants
        small = all(t.elements <= _MOST_FOLDED for t in results)
        if known and small and all(n in self.consts for n in node.inputs):
            values = evaluate_node(node, self.types, self.consts, self.consts)
            for name, t in zip(node.outputs, results, strict=True):
                self.consts[name] = np.ascontiguousarray(values[name]).reshape(t.shape)
            return
        self.nodes.append(node)


def _by_name(nodes: Sequence[Node], op: Foreign) -> list[Node]:
    """The nodes of an operator; what it only copies to its outputs is called as these."""
    made = {n for node in nodes if node.op != "copy" for n in node.outputs} - op.quants.keys()
    copies = {
        node.inputs[0]: node.outputs[0]
        for node in reversed(nodes)
        if node.op == "copy" and node.inputs[0] in made and node.outputs[0] not in op.quants
    }

    def own(names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(copies.get(n, n) for n in names)

    renamed = (replace(n, inputs=own(n.inputs), outputs=own(n.outputs)) for n in nodes)
    return [n for n in renamed if n.inputs != n.outputs]


def _importer(kind: str) -> Importer | None:
    return IMPORTERS["torch"].get(kind) or IMPORTERS["torch"].get(_name(kind))


def _name(kind: str) -> str:
    """aten.relu_.default -> aten.relu."""
    domain, _, rest = kind.partition(".")
    return f"{domain}.{rest.partition('.')[0].removesuffix('_')}"


def looks_like_pt2(data: bytes) -> bool:
    """A zip with the mark of the format among its names, which stand at the end."""
    return data[:4] == b"PK\x03\x04" and b"/archive_format" in data[-(1 << 20) :]


FRONTENDS.add("torch", Frontend("torch", (".pt2",), looks_like_pt2, read))
