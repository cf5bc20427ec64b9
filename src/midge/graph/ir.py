"""The graph IR: operators on named tensors, immutable, in topological order.

Values are referred to by name, so a graph prints, diffs and pickles as plain data. A graph lives
at one of two levels, and an operator's definition serves both:

* quantised: tensors carry `Quant`, nodes mean what the framework's quantised operators mean;
* plain: no tensor carries `Quant`; integer arithmetic is spelled out. `passes.legalize` leads from
  the first to the second by each operator's `expand`, which is thereby the definition of its
  quantised meaning: evaluating a quantised node is evaluating its expansion.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from midge.core.errors import ModelError, VerifyError
from midge.core.registry import Registry
from midge.core.texts import listed, shorten
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import Attr, Attrs, Limits, check_limits

__all__ = [
    "OPS",
    "Attr",
    "Attrs",
    "Expansion",
    "Graph",
    "Node",
    "OpDef",
    "Rows",
    "Sample",
    "check_tables",
    "expand",
    "fresh",
    "is_plain",
    "live",
    "same_array",
    "verify",
]


@dataclass(frozen=True, slots=True)
class Node:
    """One operator application. `src` says where in the model file it came from, `kind` what the
    file calls it."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Attrs = field(default_factory=dict)
    src: str = "built"
    kind: str = ""

    @property
    def where(self) -> str:
        """For error messages."""
        return f"{self.src}: {self.kind or self.op} -> {', '.join(self.outputs)}"


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """inputs, outputs: value names.  types: of every value.  consts: arrays of constant values.
    classes: what the model calls the classes that its outputs number or list, in that order; () if
    it does not say."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType]
    consts: Mapping[str, Array]
    nodes: tuple[Node, ...]
    classes: tuple[str, ...] = ()

    def with_nodes(self, nodes: Iterable[Node]) -> Graph:
        """The same with other nodes; types and constants nobody mentions any more are dropped."""
        nodes = tuple(nodes)
        used = {*self.inputs, *self.outputs}
        for node in nodes:
            used.update(node.inputs, node.outputs)
        types = {n: t for n, t in self.types.items() if n in used}
        consts = {n: c for n, c in self.consts.items() if n in used}
        return replace(self, nodes=nodes, types=types, consts=consts)

    def consumers(self) -> dict[str, list[Node]]:
        """Value name -> nodes that read it, in order; a node that reads it twice stands twice."""
        readers: dict[str, list[Node]] = {}
        for node in self.nodes:
            for name in node.inputs:
                readers.setdefault(name, []).append(node)
        return readers

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Graph):
            return NotImplemented
        return (
            (self.name, self.inputs, self.outputs, self.nodes, self.classes)
            == (other.name, other.inputs, other.outputs, other.nodes, other.classes)
            and dict(self.types) == dict(other.types)
            and self.consts.keys() == other.consts.keys()
            and all(same_array(a, other.consts[n]) for n, a in self.consts.items())
        )

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        from midge.graph.text import print_graph

        return print_graph(self)

    def __repr__(self) -> str:
        """What it is, in a few lines; `str` has all of it."""
        inputs, outputs = (
            [(n, self.types.get(n, "?")) for n in own] for own in (self.inputs, self.outputs)
        )
        size = sum(array.nbytes for array in self.consts.values())
        return (
            f"<Graph {shorten(self.name)}: {len(self.nodes)} nodes, {size} bytes of constants\n"
            f"{listed('inputs', inputs)}\n{listed('outputs', outputs)}>"
        )


def same_array(a: Array, b: Array) -> bool:
    """Equal type, shape and bytes (so that NaN equals itself)."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def fresh(name: str, *taken: Container[str]) -> str:
    """`name`, or `name.2`, `name.3`, ..., the first that is in none of `taken`."""
    unique, n = name, 1
    while any(unique in names for names in taken):
        n += 1
        unique = f"{name}.{n}"
    return unique


def live(nodes: Sequence[Node], outputs: Sequence[str]) -> list[Node]:
    """Those of `nodes` that the values `outputs` depend on."""
    needed = set(outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]


Infer = Callable[[Sequence[TensorType], Attrs], tuple[TensorType, ...]]
Reference = Callable[[Sequence[Array], Attrs], tuple[Array, ...]]


@dataclass(frozen=True, slots=True)
class Sample:
    """One use of a plain operator, for the tests that sweep them all.

    inputs: types; consts: position -> value of the inputs that are constants; low, high: range of
    the random values of the other inputs (None: the whole range of the element type, or -4..4).
    """

    inputs: tuple[TensorType, ...]
    attrs: Attrs = field(default_factory=dict)
    consts: Mapping[int, Array] = field(default_factory=dict)
    low: int | None = None
    high: int | None = None


@dataclass(frozen=True, slots=True)
class OpDef:
    """What the graph layer must know of an operator. Lowering is registered elsewhere.

    infer: input types and attributes -> output types without Quant; VerifyError if they don't fit.
    reference: the meaning on plain arrays, vectorised NumPy, integers exact.
    expand: for a node with quantised tensors or a fused activation: the plain nodes it stands for.
    elementwise: output[i] depends on input[i] only (inputs broadcast to the output's shape).
    tables: positions of those inputs of an elementwise operator that are no part of this: constants
    read at an index that is computed.
    alias: the output is the input's bytes under another shape.
    halves: takes float16, which it only moves or converts; `verify` refuses them for others.
    activation: takes a fused activation, as attribute `activation`.
    channel_axis: for an operator that sums products of input 0 and constant weights (input 1) and
    adds a bias (input 2): the axis of the weights that is the output channel.
    macs: input and output types -> multiply-accumulates.
    rows: attributes and input types -> how the rows of an image that it makes depend on those of
    its inputs; None where a row needs more than that. Elementwise operators need no rule.
    limits: what attributes that are numbers may be; `verify` refuses others.
    check: for an operator whose constants are indices: constant inputs by position, types and
    attributes -> VerifyError if one is of nothing that there is. Nothing else looks at them.
    samples: small uses of the plain operator, edges included.
    """

    name: str
    infer: Infer
    reference: Reference
    expand: Callable[[Node, Expansion], None] | None = None
    elementwise: bool = False
    tables: tuple[int, ...] = ()
    alias: bool = False
    halves: bool = False
    activation: bool = False
    channel_axis: int | None = None
    macs: Callable[[Sequence[TensorType], Sequence[TensorType]], int] | None = None
    rows: Callable[[Attrs, Sequence[TensorType]], Rows | None] | None = None
    limits: Limits = field(default_factory=dict)
    check: Callable[[Mapping[int, Array], Sequence[TensorType], Attrs], None] | None = None
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Rows:
    """Row r of the output depends on `taps` rows of input 0 from r * stride - top on; those beyond
    the image count as full of `outside`. An operator with several images reads the same row of
    each.
    """

    stride: int
    taps: int
    top: int
    outside: int | float = 0


OPS: Registry[OpDef] = Registry("operator", VerifyError)


class Expansion:
    """Where an operator writes the plain nodes of one quantised node.

    `types` and `const` look at the node's surroundings as the model states them (with Quant).
    The last node must write the output name itself.
    """

    def __init__(
        self, node: Node, types: Mapping[str, TensorType], consts: Mapping[str, Array]
    ) -> None:
        self.node = node
        self._types = types
        self._consts = consts
        self.nodes: list[Node] = []
        self.new_types: dict[str, TensorType] = {}
        self.new_consts: dict[str, Array] = {}

    def type(self, name: str) -> TensorType:
        return self._types[name]

    @property
    def inputs(self) -> list[TensorType]:
        return [self._types[n] for n in self.node.inputs]

    @property
    def output(self) -> TensorType:
        return self._types[self.node.outputs[0]]

    def const(self, name: str, what: str = "") -> Array:
        """The value of a constant input; ModelError if it is computed at run time."""
        if name not in self._consts:
            raise ModelError(
                f"{what or name!r} must be a constant, but it is computed at run time",
                where=self.node.where,
                hint="export the model with constant weights",
            )
        return self._consts[name]

    def is_const(self, name: str) -> bool:
        return name in self._consts

    def add_const(self, value: Array, suffix: str) -> str:
        """A constant named after the node's output. One number adds no axis to a scalar."""
        if value.size == 1 and self.output.shape == ():
            value = value.reshape(())
        return self._name_const(f"{self.node.outputs[0]}/{suffix}", value)

    def _name_const(self, name: str, value: Array) -> str:
        name = self._fresh(name)
        self.new_consts[name] = value
        self.new_types[name] = TensorType(value.shape, DType.of(value))
        return name

    def _fresh(self, name: str) -> str:
        return fresh(name, self.new_types, self._types)

    def emit(
        self, op: str, inputs: Sequence[str], attrs: Attrs | None = None, *, output: str = ""
    ) -> str:
        """Append a node; its type is inferred. `output` is given by the last one only."""
        node = self.node
        out = output or self._fresh(f"{node.outputs[0]}/{op}")
        plain = [(self.new_types.get(n) or self._types[n]).plain for n in inputs]
        (result,) = OPS[op].infer(plain, attrs or {})
        self.nodes.append(Node(op, tuple(inputs), (out,), attrs or {}, node.src, node.kind))
        self.new_types[out] = result
        return out

    def finish(self, op: str, inputs: Sequence[str], attrs: Attrs | None = None) -> None:
        """`emit` the node that writes the expanded node's output."""
        self.emit(op, inputs, attrs, output=self.node.outputs[0])


def verify(graph: Graph) -> None:
    """Raise VerifyError unless every value is defined once, before use, with its inferred type."""
    for name, array in graph.consts.items():
        declared = graph.types[name]
        if array.shape != declared.shape or DType.of(array) is not declared.dtype:
            raise VerifyError(
                f"constant {name!r} is {array.dtype}{list(array.shape)}, declared {declared}",
                where=graph.name,
            )
    defined = {*graph.inputs, *graph.consts}
    if len(defined) != len(graph.inputs) + len(graph.consts):
        raise VerifyError("an input is defined twice", where=graph.name)
    for node in graph.nodes:
        _verify_node(graph, node, defined)
        defined.update(node.outputs)
    for name in graph.outputs:
        if name not in defined:
            raise VerifyError(f"output {name!r} is never defined", where=graph.name)


def check_tables(graph: Graph) -> None:
    """VerifyError for constants that would make an operator read what is not there."""
    for node in graph.nodes:
        check = OPS[node.op].check
        if check is not None:
            given = enumerate(node.inputs)
            consts = {i: graph.consts[n] for i, n in given if n in graph.consts}
            try:
                check(consts, [graph.types[n] for n in node.inputs], node.attrs)
            except VerifyError as error:
                raise VerifyError(error.what, where=node.where, hint=error.hint) from None


def _verify_node(graph: Graph, node: Node, defined: set[str]) -> None:
    for name in node.inputs:
        if name not in defined:
            raise VerifyError(f"input {name!r} is used before it is defined", where=node.where)
    inputs = [graph.types[n] for n in node.inputs]
    if not OPS[node.op].halves and any(t.dtype is DType.F16 for t in inputs):
        raise VerifyError(
            "would compute in float16, which is not supported",
            where=node.where,
            hint="compute in float32 (PyTorch: module.float()); weights may be float16 where they "
            "are cast to float32",
        )
    try:
        check_limits(node.attrs, OPS[node.op].limits, inputs)
        inferred = OPS[node.op].infer(inputs, node.attrs)
    except VerifyError as error:
        raise VerifyError(error.what, where=node.where, hint=error.hint) from None
    if len(inferred) != len(node.outputs):
        raise VerifyError(f"has {len(node.outputs)} outputs, not {len(inferred)}", where=node.where)
    for name, want in zip(node.outputs, inferred, strict=True):
        if name in defined:
            raise VerifyError(f"{name!r} is defined twice", where=node.where)
        have = graph.types[name]
        if (have.shape, have.dtype) != (want.shape, want.dtype):
            raise VerifyError(f"{name!r} is {have}, inferred {want}", where=node.where)


def is_plain(node: Node, types: Mapping[str, TensorType]) -> bool:
    """Whether a node needs no expansion: no quantised tensor, no fused activation."""
    names = (*node.inputs, *node.outputs)
    return "activation" not in node.attrs and all(types[n].quant is None for n in names)


def expand(node: Node, types: Mapping[str, TensorType], consts: Mapping[str, Array]) -> Expansion:
    """The plain nodes that `node` stands for; data movement without `expand` moves the bytes.

    Factors between scales overflow to infinity while a rule computes them, as in C.
    """
    context = Expansion(node, types, consts)
    rule = OPS[node.op].expand
    if rule is not None and not is_plain(node, types):
        with np.errstate(all="ignore"):
            rule(node, context)
    else:
        context.nodes.append(node)
        context.new_types.update({n: types[n].plain for n in node.outputs})
    return context
