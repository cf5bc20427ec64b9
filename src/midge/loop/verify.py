"""Check that a function keeps the rules of the loop IR.

Names are unique and known where they are used, expressions have types, stores fit their buffers,
and no access is certainly outside its buffer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn, assert_never

import numpy as np

from midge.core.errors import VerifyError
from midge.core.types import DType
from midge.loop import ir
from midge.loop.inbounds import outside
from midge.loop.instruction import Instruction
from midge.loop.rewrite import own_exprs
from midge.loop.text import RESERVED, print_stmt
from midge.loop.types import expr_type


def verify(func: ir.Func, instructions: Mapping[str, Instruction] | None = None) -> None:
    """VerifyError, with the function and the statement, at the first rule that is broken.

    Uses of instructions need `instructions`, by name.
    """
    checker = _Checker(func.name, instructions or {})
    checker.name(func.name)
    for p in func.params:
        checker.place = f"parameter {p.name}"
        checker.name(p.name)
        checker.shape(p.shape)
        checker.declare(p.name, p)
    checker.block(func.body, _Scope())


@dataclass(frozen=True, slots=True)
class _Scope:
    """What encloses a statement: loop variables with their extents, and conditions."""

    extents: Mapping[str, int] = field(default_factory=dict)
    conditions: tuple[ir.Expr, ...] = ()

    def loop(self, var: str, extent: int) -> _Scope:
        return replace(self, extents={**self.extents, var: extent})

    def given(self, condition: ir.Expr) -> _Scope:
        return replace(self, conditions=(*self.conditions, condition))


@dataclass(slots=True)
class _Checker:
    func: str
    instructions: Mapping[str, Instruction]
    buffers: dict[str, ir.Param | ir.Alloc] = field(default_factory=dict)
    types: dict[str, DType] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    place: str | ir.Stmt = "name"

    def fail(self, what: str, hint: str = "") -> NoReturn:
        place = self.place
        text = place if isinstance(place, str) else print_stmt(place).partition("\n")[0]
        raise VerifyError(what, where=f"{self.func}: {text}", hint=hint)

    def name(self, name: str) -> None:
        if not name.isidentifier() or not name.isascii() or name in RESERVED:
            self.fail(f"{name!r} cannot be a name")
        if name in self.names:
            self.fail(f"the name {name!r} is used twice")
        self.names.add(name)

    def shape(self, shape: tuple[int, ...]) -> None:
        if any(n < 1 for n in shape):
            self.fail(f"the shape {shape} has a dimension below 1")

    def declare(self, name: str, buffer: ir.Param | ir.Alloc) -> None:
        self.buffers[name] = buffer
        self.types[name] = buffer.dtype

    def block(self, body: ir.Block, scope: _Scope) -> None:
        """Local buffers end with their block; their names stay taken."""
        outer = dict(self.buffers)
        for s in body:
            self.place = s
            self.stmt(s, scope)
        self.buffers = outer

    def stmt(self, s: ir.Stmt, scope: _Scope) -> None:
        self.exprs(own_exprs(s), scope)
        match s:
            case ir.Store(buffer, index, value):
                self.store(buffer, index, value, scope)
            case ir.Loop(var, extent, body):
                self.name(var)
                if extent < 0:
                    self.fail(f"the extent {extent} is negative")
                self.block(body, scope.loop(var, extent))
            case ir.Guard(cond, body, other):
                self.require(cond, DType.BOOL, "the condition")
                self.block(body, scope.given(cond))
                self.block(other, scope.given(_UNKNOWN))
            case ir.Alloc(buffer, _, shape):
                self.name(buffer)
                self.shape(shape)
                self.declare(buffer, s)
            case ir.Instr(name, args):
                self.instr(name, args, scope)
            case _:
                assert_never(s)

    def store(self, buffer: str, index: tuple[ir.Expr, ...], value: ir.Expr, scope: _Scope) -> None:
        target = self.buffer(buffer)
        self.writable(target)
        self.require(value, target.dtype, f"the value stored to {buffer}")
        self.access(buffer, index, (), scope)

    def writable(self, target: ir.Param | ir.Alloc) -> None:
        if isinstance(target, ir.Param) and target.mode in ("in", "const"):
            self.fail(f"{target.name} is written, but its mode is {target.mode!r}")

    def buffer(self, name: str) -> ir.Param | ir.Alloc:
        if name not in self.buffers:
            ended = name in self.names
            self.fail(f"{name} is used where it is not alive" if ended else f"unknown {name!r}")
        return self.buffers[name]

    def require(self, e: ir.Expr, dtype: DType, role: str) -> None:
        try:
            found = expr_type(e, self.types)
        except VerifyError as error:
            self.fail(f"{error.what} in {error.where}")
        if found is not dtype:
            self.fail(f"{role} is {found.value}, expected {dtype.value}")

    def instr(
        self, name: str, args: tuple[tuple[str, tuple[ir.Expr, ...]], ...], scope: _Scope
    ) -> None:
        if name not in self.instructions:
            self.fail(f"unknown instruction {name!r}", f"known: {', '.join(self.instructions)}")
        params = self.instructions[name].meaning.params
        if len(params) != len(args):
            self.fail(f"{name} takes {len(params)} windows, not {len(args)}")
        for p, (buffer, index) in zip(params, args, strict=True):
            target = self.buffer(buffer)
            if p.dtype is not target.dtype:
                self.fail(f"{p.name} of {name} is {p.dtype.value}, {buffer} {target.dtype.value}")
            if p.mode in ("out", "inout", "scratch"):
                self.writable(target)
            if len(p.shape) > len(target.shape):
                self.fail(f"{p.name} of {name} has more dimensions than {buffer}")
            self.access(buffer, index, p.shape, scope)

    def expr(self, e: ir.Expr, scope: _Scope) -> None:
        """Names, constants and the accesses in `e`; conditions inside it count for them."""
        match e:
            case ir.Const(value, dtype):
                self.const(value, dtype)
            case ir.Var(name):
                if name not in scope.extents:
                    self.fail(f"the variable {name!r} is not bound by a loop")
            case ir.Load(buffer, index):
                self.buffer(buffer)
                self.exprs(index, scope)
                self.access(buffer, index, (), scope)
            case ir.Bin(op, lhs, rhs):
                self.expr(lhs, scope)
                given = {"and": lhs, "or": _UNKNOWN}.get(op, _TRUE)
                self.expr(rhs, scope.given(given))
            case ir.Select(cond, then, other):
                self.expr(cond, scope)
                self.expr(then, scope.given(cond))
                self.expr(other, scope.given(_UNKNOWN))
            case ir.Cast(_, arg):
                self.expr(arg, scope)
            case ir.Call(_, args):
                self.exprs(args, scope)
            case _:
                assert_never(e)

    def exprs(self, es: tuple[ir.Expr, ...], scope: _Scope) -> None:
        for e in es:
            self.expr(e, scope)

    def const(self, value: float, dtype: DType) -> None:
        if dtype.is_float:
            with np.errstate(over="ignore"):
                exact = isinstance(value, float) and float(dtype.numpy.type(value)) == value
            valid = exact or (isinstance(value, float) and math.isnan(value))
        elif dtype is DType.BOOL:
            valid = value in (0, 1)
        else:
            valid = isinstance(value, int) and dtype.min <= value <= dtype.max
        if not valid:
            self.fail(f"the constant {value!r} is not a value of {dtype.value}")

    def access(
        self,
        buffer: str,
        index: tuple[ir.Expr, ...],
        window: tuple[int, ...],
        scope: _Scope,
    ) -> None:
        """Indices are i32, one per dimension; a window reaches over the last dimensions."""
        shape = self.buffer(buffer).shape
        if len(index) != len(shape):
            self.fail(f"{buffer} has {len(shape)} dimensions, not {len(index)}")
        sizes = (1,) * (len(shape) - len(window)) + window
        for dim, (e, extent, size) in enumerate(zip(index, shape, sizes, strict=True)):
            self.require(e, DType.I32, f"index {dim} of {buffer}")
            value = outside(e, extent - size + 1, scope.extents, scope.conditions)
            if value is not None:
                end = f"..{value + size - 1}" if size > 1 else ""
                self.fail(f"index {dim} of {buffer} reaches {value}{end}, outside 0..{extent - 1}")


_TRUE = ir.Const(True, DType.BOOL)
_UNKNOWN = ir.Load("", ())
"""Stands for a condition of which nothing is known."""
