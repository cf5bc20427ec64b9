"""One fused group as one loop function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from midge.core.types import DType, TensorType
from midge.graph.ir import OPS, Graph, Node
from midge.loop import ir
from midge.lower import (
    LOOP_RULES,
    SCALAR_RULES,
    Element,
    Local,
    Operand,
    Site,
    arithmetic,
    nest,
    ordered,
    widen,
)
from midge.lower.fuse import Group
from midge.lower.layouts import CHANNELS_FIRST, Layouts

# Whoever walks through an expression has a stack of Python's: one of more levels is cut by a local,
# and values of long groups are made in order. A few nodes are never so deep.
_DEEPEST = 100
_LONG, _SHORT = 100, 10

_ROWS_OF_CHANNELS = (0, 1, 3, 2)  # of an array of rows, each with its channels first


@dataclass(frozen=True, slots=True)
class Built:
    """A function and the values its parameters stand for."""

    func: ir.Func
    args: tuple[str, ...]


def build(
    graph: Graph,
    group: Group,
    name: str,
    layouts: Layouts = MappingProxyType({}),
    body: Callable[[Site], ir.Block] | None = None,
    value: str = "",
    rows: frozenset[str] = frozenset(),
    planes: Mapping[str, int] = MappingProxyType({}),
    pitches: Mapping[str, int] = MappingProxyType({}),
) -> Built:
    """Loops of `group`; parameter order: inputs, constants, output. `body` makes the loops of the
    anchor instead of its rule; what it stores is `value`, a value of the group (the anchor's).
    rows, planes, pitches: as in `Request`."""
    return _Builder(graph, group, layouts, body, value, rows, planes, pitches).build(name)


@dataclass(slots=True)
class _Builder:
    graph: Graph
    group: Group
    layouts: Layouts
    body: Callable[[Site], ir.Block] | None = None
    stored: str = ""
    rows: frozenset[str] = frozenset()
    planes: Mapping[str, int] = field(default_factory=dict)
    pitches: Mapping[str, int] = field(default_factory=dict)
    operands: dict[str, Operand] = field(default_factory=dict)  # external value -> operand
    used: set[str] = field(default_factory=set)
    produced: dict[str, Node] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)  # after collapsing

    def build(self, name: str) -> Built:
        self.used |= {"y"}
        self.produced = {n.outputs[0]: n for n in self.group.nodes}
        for node in self.group.nodes:
            self.declare(node)
        anchor = self.group.anchor
        body = self.elementwise() if anchor is None else self.anchored(anchor)
        values = [v for v, o in self.operands.items() if o.literal is None]
        values.sort(key=lambda v: v in self.graph.consts)
        out = self.group.output
        params = [self.param(v) for v in values]
        shape = self.memory(out, self.shapes.get(out, self.graph.types[out].shape))
        params.append(ir.Param("y", self.graph.types[out].dtype, shape, "out"))
        return Built(ir.Func(name, tuple(params), body), (*values, out))

    def param(self, value: str) -> ir.Param:
        o = self.operands[value]
        const = value in self.graph.consts
        if value in self.rows:
            n, height, width, channels = o.type.shape
            row = (width, channels)
            if o.order is not None:
                row = (channels, self.planes.get(value, height * width))
            return ir.Param(o.buffer, o.type.dtype, (n, height, *row), "in", 2)
        shape = self.memory(value, o.type.shape)
        return ir.Param(o.buffer, o.type.dtype, shape, "const" if const else "in")

    def memory(self, value: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The extents of the axes in the order in which they lie."""
        if value in self.pitches:
            return (*shape[:-1], self.pitches[value])
        order = self.layouts.get(value)
        if order is None or value not in self.planes:
            return ordered(shape, order)
        assert order == CHANNELS_FIRST
        n, _, width, channels = shape
        return (n, channels, self.planes[value] // width, width)

    def declare(self, node: Node) -> None:
        """Make operands of what `node` reads from outside the group."""
        rule = LOOP_RULES[node.op] if node is self.group.anchor else SCALAR_RULES[node.op]
        assert len(rule.operands) >= len(node.inputs), f"{node.op}: rule names too few operands"
        for value, role in zip(node.inputs, rule.operands, strict=False):
            if value not in self.produced and value not in self.operands:
                self.operands[value] = self.operand(value, role)

    def operand(self, value: str, role: str) -> Operand:
        t = self.graph.types[value]
        if value in self.graph.consts and t.elements == 1:
            element = self.graph.consts[value].reshape(()).item()
            return Operand("", t, ir.Const(element, t.dtype))
        order = self.layouts.get(value)
        if order is not None and value in self.rows:
            order = _ROWS_OF_CHANNELS
        return Operand(self.name(role), t, order=order)

    def tables(self, node: Node) -> tuple[str, ...]:
        """What `node` reads at indices of its own."""
        return tuple(node.inputs[i] for i in OPS[node.op].tables)

    def name(self, base: str) -> str:
        """`base`, or base2, base3, ... if it is taken."""
        name, n = base, 1
        while name in self.used:
            n += 1
            name = f"{base}{n}"
        self.used.add(name)
        return name

    def anchored(self, anchor: Node) -> ir.Block:
        inputs = tuple(self.operands[v] for v in anchor.inputs)
        output = self.graph.types[anchor.outputs[0]]
        name = self.stored or anchor.outputs[0]
        dtype = self.graph.types[name].dtype

        def store(index: Sequence[ir.Expr], value: ir.Expr) -> ir.Block:
            return self.store(tuple(index), {name: widen(value, dtype)})

        site = Site(inputs, output, anchor.attrs, store, self.name)
        return (self.body or LOOP_RULES[anchor.op].body)(site)

    def elementwise(self) -> ir.Block:
        shape = self.collapse()
        axes = tuple(ir.Var(self.name(n)) for n in _axis_names(len(shape)))
        self.shapes[self.group.output] = shape
        return nest(axes, shape, self.store(axes, {}))

    def collapse(self) -> tuple[int, ...]:
        """Merge neighbouring dimensions that every operand has whole, or not at all."""
        out = self.graph.types[self.group.output].shape
        tables = {v for n in self.group.nodes for v in self.tables(n)}
        live = {v: o for v, o in self.operands.items() if o.literal is None and v not in tables}
        if any(v in self.layouts or v in self.rows for v in (*live, self.group.output)):
            return out
        aligned = {v: (1,) * (len(out) - len(o.type.shape)) + o.type.shape for v, o in live.items()}
        cuts = [0]
        before = 0  # the last dimension that is longer than 1: others belong to any
        for d in range(1, len(out)):
            apart = d == len(out) - 1 and self.group.output in self.pitches
            pair = (before, d)
            if apart or (
                1 not in (out[before], out[d])
                and not all(_merges(s, out, pair) for s in aligned.values())
            ):
                cuts.append(d)
            before = d if out[d] != 1 else before
        spans = list(zip(cuts, [*cuts[1:], len(out)], strict=True))
        for value, full in aligned.items():
            o = live[value]
            shape = tuple(_product(full[a:b]) for a, b in spans)
            self.operands[value] = Operand(o.buffer, TensorType(shape, o.type.dtype))
        return tuple(_product(out[a:b]) for a, b in spans)

    def store(self, index: tuple[ir.Expr, ...], values: dict[str, ir.Expr]) -> ir.Block:
        """Compute the group's elementwise nodes at `index` and store the last one."""
        binder = _Binder(self, index, dict(values))
        out = self.group.output
        if len(self.group.nodes) > _LONG:
            made = [i for i, n in enumerate(self.group.nodes) if n.outputs[0] in values]
            for node in self.group.nodes[max(made, default=-1) + 1 :]:
                binder.value(node.outputs[0])
        value = binder.value(out)
        dtype = self.graph.types[out].dtype
        stored = ir.cast(dtype, value, arithmetic(dtype))
        place = ordered(index, self.layouts.get(out))
        return (*binder.statements, ir.Store("y", place, stored))


@dataclass(slots=True)
class _Binder:
    """Expressions of a group's values at one index; those read more than once become locals."""

    builder: _Builder
    index: tuple[ir.Expr, ...]
    values: dict[str, ir.Expr]
    statements: list[ir.Stmt] = field(default_factory=list)

    def value(self, name: str) -> ir.Expr:
        if name in self.values:
            return self.values[name]
        if name in self.builder.operands:
            result = self.load(self.builder.operands[name])
        else:
            result = self.compute(self.builder.produced[name])
        self.values[name] = result
        return result

    def load(self, operand: Operand) -> ir.Expr:
        if operand.literal is not None:
            return widen(operand.literal, operand.type.dtype)
        shape = operand.type.shape
        tail = self.index[len(self.index) - len(shape) :]
        index = tuple(ir.i32(0) if n == 1 else i for i, n in zip(tail, shape, strict=True))
        return operand.wide(*index)

    def compute(self, node: Node) -> ir.Expr:
        types = self.builder.graph.types
        rule = SCALAR_RULES[node.op]
        # Rules see constants as they are, everything else as a hole to be filled once it is known
        # how often it is read.
        holes = tuple(self.literal(v) or ir.Var(f"?{i}") for i, v in enumerate(node.inputs))
        inputs = tuple(types[v] for v in node.inputs)
        tables = tuple(self.builder.operands[v] for v in self.builder.tables(node))
        element = Element(holes, inputs, types[node.outputs[0]], node.attrs, tables)
        result = rule.value(element)
        for hole, value, t in zip(holes, node.inputs, inputs, strict=True):
            if isinstance(hole, ir.Const):
                continue
            uses = _count(result, hole)
            arg = self.value(value) if uses else ir.i32(0)
            if uses > 1 and not isinstance(arg, ir.Const) and not _is_scalar(arg):
                arg = self.bind(arg, arithmetic(t.dtype))
                self.values[value] = arg
            result = _fill(result, hole, arg)
        if len(self.builder.group.nodes) > _SHORT and _is_deep(result):
            return self.bind(result, arithmetic(types[node.outputs[0]].dtype))
        return result

    def literal(self, name: str) -> ir.Const | None:
        """The value of a constant of one element, as an arithmetic type."""
        operand = self.builder.operands.get(name)
        if operand is None or operand.literal is None:
            return None
        value = widen(operand.literal, operand.type.dtype)
        assert isinstance(value, ir.Const)
        return value

    def bind(self, value: ir.Expr, dtype: DType) -> ir.Expr:
        local = Local(self.builder.name("v"), dtype)
        self.statements += [local.alloc, local.set(value)]
        return local()


def _is_deep(e: ir.Expr, levels: int = _DEEPEST) -> bool:
    return levels == 0 or any(_is_deep(c, levels - 1) for c in _children(e))


def _is_scalar(e: ir.Expr) -> bool:
    return isinstance(e, ir.Load) and not e.index


def _count(e: ir.Expr, hole: ir.Var) -> int:
    if e == hole:
        return 1
    return sum(_count(c, hole) for c in _children(e))


def _children(e: ir.Expr) -> tuple[ir.Expr, ...]:
    match e:
        case ir.Load(_, index):
            return index
        case ir.Bin(_, lhs, rhs):
            return (lhs, rhs)
        case ir.Cast(_, arg):
            return (arg,)
        case ir.Select(cond, then, other):
            return (cond, then, other)
        case ir.Call(_, args):
            return args
        case _:
            return ()


def _fill(e: ir.Expr, hole: ir.Var, value: ir.Expr) -> ir.Expr:
    if e == hole:
        return value
    match e:
        case ir.Load(buffer, index):
            return ir.Load(buffer, tuple(_fill(i, hole, value) for i in index))
        case ir.Bin(op, lhs, rhs):
            return ir.Bin(op, _fill(lhs, hole, value), _fill(rhs, hole, value))
        case ir.Cast(dtype, arg):
            return ir.Cast(dtype, _fill(arg, hole, value))
        case ir.Select(c, t, o):
            return ir.Select(*(_fill(x, hole, value) for x in (c, t, o)))
        case ir.Call(name, args):
            return ir.Call(name, tuple(_fill(a, hole, value) for a in args))
        case _:
            return e


def _axis_names(rank: int) -> Sequence[str]:
    return {0: (), 1: ("i",), 2: ("i", "c")}.get(rank, tuple(f"i{d}" for d in range(rank)))


def _merges(shape: tuple[int, ...], out: tuple[int, ...], dims: tuple[int, int]) -> bool:
    """Whether two neighbouring dimensions of an operand are contiguous, or both broadcast."""
    pair, full = tuple(shape[d] for d in dims), tuple(out[d] for d in dims)
    return pair in (full, (1, 1))


def _product(shape: Sequence[int]) -> int:
    n = 1
    for d in shape:
        n *= d
    return n
