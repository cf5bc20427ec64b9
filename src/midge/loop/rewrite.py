"""The traversals everything else is written with, and the small questions asked of a block.

Nodes that a rewrite leaves alone are kept, not copied, so an unchanged part costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from operator import is_
from typing import assert_never

from midge.loop import ir


def map_expr(e: ir.Expr, f: Callable[[ir.Expr], ir.Expr]) -> ir.Expr:
    """Rebuild `e` bottom-up, passing every node through `f`."""
    if isinstance(e, ir.Const | ir.Var):  # these two first, by far the most
        return f(e)
    if isinstance(e, ir.Bin):
        left, right = map_expr(e.lhs, f), map_expr(e.rhs, f)
        return f(e if left is e.lhs and right is e.rhs else ir.Bin(e.op, left, right))
    match e:
        case ir.Load(buffer, index):
            now = map_exprs(index, f)
            return f(e if now is index else ir.Load(buffer, now))
        case ir.Cast(dtype, arg):
            inner = map_expr(arg, f)
            return f(e if inner is arg else ir.Cast(dtype, inner))
        case ir.Select(cond, then, other):
            parts = (cond, then, other)
            now = map_exprs(parts, f)
            return f(e if now is parts else ir.Select(*now))
        case ir.Call(name, args):
            now = map_exprs(args, f)
            return f(e if now is args else ir.Call(name, now))
        case _:
            assert_never(e)


def map_exprs(es: tuple[ir.Expr, ...], f: Callable[[ir.Expr], ir.Expr]) -> tuple[ir.Expr, ...]:
    """`map_expr` over a tuple; the same tuple if nothing changed."""
    result = tuple([map_expr(e, f) for e in es])
    return es if all(map(is_, result, es)) else result


def map_stmts(
    body: ir.Block,
    stmt: Callable[[ir.Stmt], ir.Stmt | ir.Block] = lambda s: s,
    expr: Callable[[ir.Expr], ir.Expr] | None = None,
) -> ir.Block:
    """Rebuild a block bottom-up: `expr` on every expression node, `stmt` on every statement,
    which may give a block to put in its place."""

    def go(block: ir.Block) -> ir.Block:
        result: list[ir.Stmt] = []
        for s in block:
            now = stmt(_with_parts(s, expr, go))
            result.extend(now if isinstance(now, tuple) else (now,))
        same = len(result) == len(block) and all(map(is_, result, block))
        return block if same else tuple(result)

    return go(body)


def _with_parts(
    s: ir.Stmt, f: Callable[[ir.Expr], ir.Expr] | None, go: Callable[[ir.Block], ir.Block]
) -> ir.Stmt:
    match s:
        case ir.Loop(var, extent, body, kind):
            inner = go(body)
            return s if inner is body else ir.Loop(var, extent, inner, kind)
        case ir.Guard(cond, body, other):
            c, inner, outer = map_expr(cond, f) if f else cond, go(body), go(other)
            same = c is cond and inner is body and outer is other
            return s if same else ir.Guard(c, inner, outer)
        case ir.Store(buffer, index, value) if f:
            at, v = map_exprs(index, f), map_expr(value, f)
            return s if at is index and v is value else ir.Store(buffer, at, v)
        case ir.Instr(name, args) if f:
            windows = tuple((b, map_exprs(i, f)) for b, i in args)
            same = all(new[1] is old[1] for new, old in zip(windows, args, strict=True))
            return s if same else ir.Instr(name, windows)
        case ir.Store() | ir.Instr() | ir.Alloc():
            return s
        case _:
            assert_never(s)


def walk(body: ir.Block) -> Iterator[ir.Stmt]:
    """Every statement of a block, outer before inner."""
    waiting = [*reversed(body)]
    while waiting:
        s = waiting.pop()
        yield s
        if isinstance(s, ir.Guard):
            waiting += s.other[::-1]
        if isinstance(s, ir.Loop | ir.Guard):
            waiting += s.body[::-1]


def own_exprs(s: ir.Stmt) -> tuple[ir.Expr, ...]:
    """The expressions of a statement itself, not those of the statements inside it."""
    match s:
        case ir.Store(_, index, value):
            return (*index, value)
        case ir.Guard(cond):
            return (cond,)
        case ir.Instr(_, args):
            return tuple(e for _, index in args for e in index)
        case ir.Loop() | ir.Alloc():
            return ()
        case _:
            assert_never(s)


def subexprs(e: ir.Expr) -> Iterator[ir.Expr]:
    """`e` and every expression in it, from left to right."""
    waiting = [e]
    while waiting:
        now = waiting.pop()
        yield now
        if isinstance(now, ir.Bin):
            waiting += (now.rhs, now.lhs)
        elif isinstance(now, ir.Load):
            waiting += now.index[::-1]
        elif isinstance(now, ir.Cast):
            waiting.append(now.arg)
        elif isinstance(now, ir.Call):
            waiting += now.args[::-1]
        elif isinstance(now, ir.Select):
            waiting += (now.other, now.then, now.cond)


def conjuncts(cond: ir.Expr) -> Iterator[ir.Expr]:
    """The conditions that must all hold for `cond` to hold."""
    match cond:
        case ir.Bin("and", lhs, rhs):
            yield from conjuncts(lhs)
            yield from conjuncts(rhs)
        case _:
            yield cond


def variables(e: ir.Expr) -> frozenset[str]:
    """The loop variables in an expression."""
    return frozenset(x.name for x in subexprs(e) if isinstance(x, ir.Var))


@lru_cache(1 << 13)  # a schedule's steps leave most expressions as they are, and ask again
def expr_loads(e: ir.Expr) -> tuple[ir.Load, ...]:
    """The loads in an expression."""
    return tuple([x for x in subexprs(e) if isinstance(x, ir.Load)])


def loads(body: ir.Block) -> list[ir.Load]:
    """Every load in a block; windows of instructions are not loads."""
    return [x for s in walk(body) for e in own_exprs(s) for x in expr_loads(e)]


def stores(body: ir.Block) -> list[ir.Store]:
    """Every store in a block; windows of instructions are not stores."""
    return [s for s in walk(body) if isinstance(s, ir.Store)]


def loops_in(body: ir.Block) -> list[ir.Loop]:
    return [s for s in walk(body) if isinstance(s, ir.Loop)]


def allocs_in(body: ir.Block) -> list[ir.Alloc]:
    return [s for s in walk(body) if isinstance(s, ir.Alloc)]


def touched(body: ir.Block) -> frozenset[str]:
    """The buffers that a block loads, stores or hands to an instruction."""
    windows = (b for s in walk(body) if isinstance(s, ir.Instr) for b, _ in s.args)
    stored = (s.buffer for s in stores(body))
    return frozenset([*stored, *windows, *(x.buffer for x in loads(body))])


def substitute(body: ir.Block, values: Mapping[str, ir.Expr]) -> ir.Block:
    """Replace loop variables by expressions."""
    return map_stmts(body, expr=replacing(values))


def substitute_expr(e: ir.Expr, values: Mapping[str, ir.Expr]) -> ir.Expr:
    """Replace loop variables in one expression."""
    return map_expr(e, replacing(values))


def replacing(values: Mapping[str, ir.Expr]) -> Callable[[ir.Expr], ir.Expr]:
    return lambda e: values.get(e.name, e) if isinstance(e, ir.Var) else e


def names(func: ir.Func) -> set[str]:
    """Every name in use: the function's, its buffers' and its loop variables'."""
    used = {func.name, *(p.name for p in func.params)}
    used.update(x.var for x in loops_in(func.body))
    used.update(x.buffer for x in allocs_in(func.body))
    return used


def fresh(wish: str, used: set[str]) -> str:
    """`wish`, or `wish_2`, `wish_3`, ... if taken; the result is added to `used`."""
    name, number = wish, 2
    while name in used:
        name, number = f"{wish}_{number}", number + 1
    used.add(name)
    return name


def rename(body: ir.Block, new: Mapping[str, str]) -> ir.Block:
    """Rename loop variables and buffers."""

    def expr(e: ir.Expr) -> ir.Expr:
        match e:
            case ir.Var(name) if name in new:
                return ir.Var(new[name])
            case ir.Load(buffer, index) if buffer in new:
                return ir.Load(new[buffer], index)
        return e

    def stmt(s: ir.Stmt) -> ir.Stmt:
        match s:
            case ir.Store(buffer) | ir.Alloc(buffer) if buffer in new:
                return replace(s, buffer=new[buffer])
            case ir.Loop(var) if var in new:
                return replace(s, var=new[var])
            case ir.Instr(name, args):
                return ir.Instr(name, tuple((new.get(b, b), i) for b, i in args))
        return s

    return map_stmts(body, stmt, expr) if new else body


def copy_of(body: ir.Block, suffix: str, used: set[str]) -> ir.Block:
    """A copy of a block whose own loops and buffers have fresh names, `name + suffix`."""
    own: Iterable[str] = [
        *(x.var for x in loops_in(body)),
        *(x.buffer for x in allocs_in(body)),
    ]
    return rename(body, {name: fresh(name + suffix, used) for name in own})
