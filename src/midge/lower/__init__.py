"""Graph to loops: how an operator's loops are written, and the tables that hold them.

An operator file registers one of two rules. A scalar rule makes an elementwise operator's output
element from its input elements. A loop rule makes the loop nest of any other operator; it stores
its results through `Site.store`, into which the elementwise operators that follow are inlined.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from midge.core.registry import Registry
from midge.core.types import DType, TensorType
from midge.graph.ir import Attrs
from midge.loop import ir


@dataclass(frozen=True, slots=True)
class Operand:
    """An input of a loop rule: call it with index expressions to load an element.

    A constant of one element has `literal` instead of a buffer. order: the axes in the order in
    which they lie in memory, if that is not the type's.
    """

    buffer: str
    type: TensorType
    literal: ir.Const | None = None
    order: tuple[int, ...] | None = None

    def __call__(self, *index: ir.Expr) -> ir.Expr:
        if self.literal is not None:
            return self.literal
        assert len(index) == len(self.type.shape), f"{self.buffer}: {len(index)} indices"
        return ir.Load(self.buffer, ordered(index, self.order))

    def wide(self, *index: ir.Expr) -> ir.Expr:
        """The element as an arithmetic type: narrow integers as i32."""
        return widen(self(*index), self.type.dtype)

    def as_type(self, dtype: DType, *index: ir.Expr) -> ir.Expr:
        """The element as `dtype`."""
        return ir.cast(dtype, self(*index), self.type.dtype)


_T = TypeVar("_T")


def ordered(items: Sequence[_T], order: tuple[int, ...] | None) -> tuple[_T, ...]:
    """`items`, one per axis, in the order in which the axes lie in memory."""
    return tuple(items) if order is None else tuple(items[axis] for axis in order)


def arithmetic(dtype: DType) -> DType:
    """The type in which values of `dtype` are computed with."""
    return DType.I32 if dtype in (DType.I8, DType.U8, DType.I16, DType.BOOL) else dtype


def widen(e: ir.Expr, dtype: DType) -> ir.Expr:
    return ir.cast(arithmetic(dtype), e, dtype)


@dataclass(frozen=True, slots=True)
class Site:
    """Where a loop rule writes: its operands, its output type, and how results are stored.

    store: (index, value of the output's element type) -> statements.
    name: makes a loop variable or local buffer name that is unique in the function.
    """

    inputs: tuple[Operand, ...]
    output: TensorType
    attrs: Attrs
    store: Callable[[Sequence[ir.Expr], ir.Expr], ir.Block]
    name: Callable[[str], str]

    def axes(self, names: str) -> tuple[ir.Var, ...]:
        """Fresh loop variables, e.g. `oh, ow = site.axes("oh ow")`."""
        return tuple(ir.Var(self.name(n)) for n in names.split())

    def local(self, name: str, dtype: DType, shape: tuple[int, ...] = ()) -> Local:
        return Local(self.name(name), dtype, shape)


@dataclass(frozen=True, slots=True)
class Local:
    """A local buffer: `alloc` declares it, `set` stores, calling it loads."""

    buffer: str
    dtype: DType
    shape: tuple[int, ...] = ()

    @property
    def alloc(self) -> ir.Alloc:
        return ir.Alloc(self.buffer, self.dtype, self.shape)

    def __call__(self, *index: ir.Expr) -> ir.Load:
        return ir.Load(self.buffer, index)

    def set(self, value: ir.Expr, *index: ir.Expr) -> ir.Store:
        return ir.Store(self.buffer, index, value)

    def update(self, op: ir.BinOp, value: ir.Expr, *index: ir.Expr) -> ir.Store:
        """local[index] = local[index] op value."""
        return self.set(ir.Bin(op, self(*index), value), *index)


def nest(axes: Sequence[ir.Var], extents: Sequence[int], body: ir.Block) -> ir.Block:
    """`body` inside one loop per axis, the first outermost."""
    for axis, extent in reversed(list(zip(axes, extents, strict=True))):
        body = (ir.Loop(axis.name, extent, body),)
    return body


@dataclass(frozen=True, slots=True)
class LoopRule:
    """operands: parameter names of the inputs, in order, for the reader of the C."""

    operands: tuple[str, ...]
    body: Callable[[Site], ir.Block]


@dataclass(frozen=True, slots=True)
class Element:
    """What a scalar rule sees: its operands' values as `arithmetic` types and the types.

    tables: the operands that `OpDef.tables` names, to be read at any index; they have no value.
    """

    args: tuple[ir.Expr, ...]
    inputs: tuple[TensorType, ...]
    output: TensorType
    attrs: Attrs
    tables: tuple[Operand, ...] = ()


@dataclass(frozen=True, slots=True)
class ScalarRule:
    """value: the output element as `arithmetic(output dtype)`. operands: as in LoopRule."""

    operands: tuple[str, ...]
    value: Callable[[Element], ir.Expr]


LOOP_RULES: Registry[LoopRule] = Registry("loop rule")
SCALAR_RULES: Registry[ScalarRule] = Registry("scalar rule")
