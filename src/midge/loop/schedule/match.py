"""Unification of loops with the meaning of an instruction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from midge.core.types import DType
from midge.loop import ir
from midge.loop.affine import Bounds, Linear, linear, reads_nothing
from midge.loop.indices import is_index
from midge.loop.rewrite import allocs_in, substitute_expr, variables
from midge.loop.text import print_expr
from midge.loop.types import buffer_types

_COMMUTATIVE = frozenset({"+", "*", "&", "|", "^", "==", "!="})


class Mismatch(Exception):  # noqa: N818 (an answer, not an error)
    """Where loops and meaning part; the text says which part differs."""


@dataclass(slots=True)
class Match:
    """Binds names of `meaning` to those of the loops as they are compared; both are simplified.

    variables: loop variable -> loop variable. locals: local buffer -> local buffer.
    windows: parameter -> (buffer, index of its first element).
    """

    func: ir.Func
    meaning: ir.Func
    bounds: Bounds
    variables: dict[str, str] = field(default_factory=dict)
    locals: dict[str, str] = field(default_factory=dict)
    windows: dict[str, tuple[str, tuple[Linear, ...]]] = field(default_factory=dict)
    types: dict[str, DType] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.types = buffer_types(self.func)
        self.shapes = {p.name: p.shape for p in self.func.params}
        self.shapes |= {a.buffer: a.shape for a in allocs_in(self.func.body)}

    def block(self, meaning: ir.Block, target: ir.Block) -> None:
        if len(meaning) != len(target):
            raise Mismatch(f"{len(target)} statements where it has {len(meaning)}")
        for m, t in zip(meaning, target, strict=True):
            self.stmt(m, t)

    def stmt(self, m: ir.Stmt, t: ir.Stmt) -> None:
        match m, t:
            case ir.Store(), ir.Store():
                self.element(m.buffer, m.index, t.buffer, t.index)
                self.expr(m.value, t.value)
            case ir.Loop(), ir.Loop():
                if m.extent != t.extent:
                    raise Mismatch(f"{t.var} has the extent {t.extent}, its {m.var} {m.extent}")
                self.variables[m.var] = t.var
                self.block(m.body, t.body)
            case ir.Guard(), ir.Guard():
                self.expr(m.cond, t.cond)
                self.block(m.body, t.body)
                self.block(m.other, t.other)
            case ir.Alloc(), ir.Alloc():
                if (m.dtype, m.shape) != (t.dtype, t.shape):
                    raise Mismatch(f"{t.buffer} is not of the type of its {m.buffer}")
                self.locals[m.buffer] = t.buffer
            case ir.Instr(), ir.Instr() if m.name == t.name:
                for (mb, mi), (tb, ti) in zip(m.args, t.args, strict=True):
                    self.element(mb, mi, tb, ti)
            case _:
                raise Mismatch(f"{_kind(t)} where it has {_kind(m)}")

    def expr(self, m: ir.Expr, t: ir.Expr) -> None:
        if is_index(m) and is_index(t):
            if self.renamed(m) != linear(t):
                raise Mismatch(f"{print_expr(t)} where it has {print_expr(m)}")
            return
        match m, t:
            case ir.Load(), ir.Load():
                self.element(m.buffer, m.index, t.buffer, t.index)
            case ir.Bin(), ir.Bin() if m.op == t.op:
                self.operands(m, t)
            case ir.Cast(), ir.Cast() if m.dtype is t.dtype:
                self.expr(m.arg, t.arg)
            case ir.Select(), ir.Select():
                self.exprs((m.cond, m.then, m.other), (t.cond, t.then, t.other))
            case ir.Call(), ir.Call() if m.name == t.name:
                self.exprs(m.args, t.args)
            case ir.Const(), ir.Const() if m.dtype is t.dtype and repr(m.value) == repr(t.value):
                pass
            case _:
                raise Mismatch(f"{print_expr(t)} where it has {print_expr(m)}")

    def exprs(self, ms: Sequence[ir.Expr], ts: Sequence[ir.Expr]) -> None:
        for m, t in zip(ms, ts, strict=True):
            self.expr(m, t)

    def operands(self, m: ir.Bin, t: ir.Bin) -> None:
        """In the order they have, or else the other way round where that is the same."""
        known = dict(self.windows)
        try:
            self.exprs((m.lhs, m.rhs), (t.lhs, t.rhs))
        except Mismatch:
            if m.op not in _COMMUTATIVE:
                raise
            tried, self.windows = self.windows, known
            try:
                self.exprs((m.lhs, m.rhs), (t.rhs, t.lhs))
            except Mismatch:
                self.windows = tried
            else:
                return
            raise

    def renamed(self, m: ir.Expr) -> Linear:
        names = {v: ir.Var(self.variables[v]) for v in variables(m)}
        return linear(substitute_expr(m, names))

    def element(self, m: str, mi: tuple[ir.Expr, ...], t: str, ti: tuple[ir.Expr, ...]) -> None:
        """An element of a buffer of the meaning, and one of the loops."""
        param = next((p for p in self.meaning.params if p.name == m), None)
        if param is None:
            same = [self.renamed(i) for i in mi] == [linear(i) for i in ti]
            if self.locals.get(m) != t or not same:
                raise Mismatch(f"{print_expr(ir.Load(t, ti))} where it has its own {m}")
            return
        if t in self.locals.values():
            raise Mismatch(f"{t} is inside the loops, its {m} is an operand")
        self.operand(param, mi, t, ti)

    def operand(
        self, param: ir.Param, mi: tuple[ir.Expr, ...], t: str, ti: tuple[ir.Expr, ...]
    ) -> None:
        if self.types[t] is not param.dtype:
            raise Mismatch(f"{t} is {self.types[t].value}, its {param.name} {param.dtype.value}")
        leading = len(ti) - len(mi)
        if leading < 0:
            raise Mismatch(f"{t} has fewer dimensions than its {param.name}")
        inside = [Linear({}, 0)] * leading + [self.renamed(i) for i in mi]
        first = tuple(linear(i) - f for i, f in zip(ti, inside, strict=True))
        moving = frozenset(self.variables.values())
        for base, i in zip(first, ti, strict=True):
            if any(variables(a) & moving or not reads_nothing(a) for a in base.terms):
                raise Mismatch(f"index {print_expr(i)} of {t} moves unlike that of {param.name}")
        if self.windows.setdefault(param.name, (t, first)) != (t, first):
            raise Mismatch(f"{param.name} stands for two places")

    def window(self, param: ir.Param) -> tuple[str, tuple[ir.Expr, ...]]:
        """What an operand stands for, checked: in bounds, constant if it must be, apart from
        others that are written."""
        if param.mode == "scratch" and param.name not in self.windows:
            self.windows[param.name] = self.scratch(param)
        if param.name not in self.windows:
            raise Mismatch(f"nothing tells what its operand {param.name} is")
        buffer, first = self.windows[param.name]
        modes = {p.name: p.mode for p in self.func.params}
        if param.mode == "const" and modes.get(buffer) != "const":
            raise Mismatch(f"{buffer} is not a constant, its {param.name} is")
        self.check_alone(param, buffer)
        self.check_inside(param, buffer, first)
        return buffer, tuple(f.expr() for f in first)

    def scratch(self, param: ir.Param) -> tuple[str, tuple[Linear, ...]]:
        """Memory for an operand that no loop speaks of: a scratch parameter large enough."""
        for p in self.func.params:
            taken = any(b == p.name for b, _ in self.windows.values())
            fits = p.dtype is param.dtype and len(p.shape) == 1 and p.elements >= param.elements
            if p.mode == "scratch" and fits and not taken:
                return p.name, (Linear({}, 0),)
        raise Mismatch(f"there is no scratch memory for its operand {param.name}")

    def check_alone(self, param: ir.Param, buffer: str) -> None:
        for other in self.meaning.params:
            written = {param.mode, other.mode} & {"out", "inout"}
            same = other is not param and self.windows.get(other.name, ("",))[0] == buffer
            if same and written:
                raise Mismatch(f"{param.name} and {other.name} are both {buffer}")

    def check_inside(self, param: ir.Param, buffer: str, first: tuple[Linear, ...]) -> None:
        shape = self.shapes[buffer]
        sizes = (1,) * (len(shape) - len(param.shape)) + param.shape
        for base, size, extent in zip(first, sizes, shape, strict=True):
            low, high = self.bounds.sum(base)
            if low < 0 or high + size > extent:
                raise Mismatch(f"its {param.name} may reach outside {buffer}")


def _kind(s: ir.Stmt) -> str:
    words = {ir.Store: "a store", ir.Loop: "a loop", ir.Guard: "a condition"}
    return words.get(type(s), "an allocation" if isinstance(s, ir.Alloc) else "an instruction")
