"""Unrolled loops written out, and scalars in the place of arrays, as C compilers like them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.rewrite import (
    allocs_in,
    copy_of,
    expr_loads,
    fresh,
    loops_in,
    map_stmts,
    names,
    own_exprs,
    substitute,
    walk,
)
from midge.loop.simplify import simplify


def expand_unrolled(
    func: ir.Func, instructions: Mapping[str, Instruction] | None = None
) -> ir.Func:
    """Write out unrolled loops, and make scalars of local arrays that are then only used at
    constant indices, so that a C compiler can keep them in registers.

        alloc acc: i32[2]                        alloc acc_0: i32
        for j in 2 unrolled:                     alloc acc_1: i32
          acc[j] = 0                       ->    acc_0 = 0
                                                 acc_1 = 0

    An array handed to an instruction stays an array, unless `instructions` says that the operand
    is a scalar.
    """
    used = names(func)
    if any(s.kind == "unrolled" for s in loops_in(func.body)):
        func = simplify(replace(func, body=_unrolled(func.body, used)))
    return _with_scalars(func, instructions or {}, used)


def _unrolled(body: ir.Block, used: set[str]) -> ir.Block:
    def stmt(s: ir.Stmt) -> ir.Stmt | ir.Block:
        if not isinstance(s, ir.Loop) or s.kind != "unrolled":
            return s
        result: list[ir.Stmt] = []
        for value in range(s.extent):
            copy = copy_of(s.body, f"_{value}", used)
            result.extend(substitute(copy, {s.var: ir.i32(value)}))
        return tuple(result)

    return map_stmts(body, stmt)


def _with_scalars(
    func: ir.Func, instructions: Mapping[str, Instruction], used: set[str]
) -> ir.Func:
    elements = _constant_elements(func.body, instructions)
    scalars = {
        (buffer, at): fresh("_".join((buffer, *map(str, at))), used)
        for buffer, indices in elements.items()
        for at in sorted(indices)
    }

    def key(buffer: str, index: tuple[ir.Expr, ...]) -> tuple[str, tuple[int, ...]]:
        return buffer, tuple(int(i.value) for i in index if isinstance(i, ir.Const))

    def expr(e: ir.Expr) -> ir.Expr:
        if isinstance(e, ir.Load) and e.buffer in elements:
            return ir.Load(scalars[key(e.buffer, e.index)], ())
        return e

    def stmt(s: ir.Stmt) -> ir.Stmt | ir.Block:
        match s:
            case ir.Store(buffer, index, value) if buffer in elements:
                return ir.Store(scalars[key(buffer, index)], (), value)
            case ir.Alloc(buffer, dtype) if buffer in elements:
                own = (name for (b, _), name in scalars.items() if b == buffer)
                return tuple(ir.Alloc(name, dtype, ()) for name in own)
            case ir.Instr(name, args):
                return ir.Instr(name, tuple(
                    (scalars[key(b, i)], ()) if b in elements else (b, i) for b, i in args
                ))  # fmt: skip
        return s

    return replace(func, body=map_stmts(func.body, stmt, expr))


def _constant_elements(
    body: ir.Block, instructions: Mapping[str, Instruction]
) -> dict[str, set[tuple[int, ...]]]:
    """Local arrays that are only accessed at constant indices: those indices."""
    found: dict[str, set[tuple[int, ...]]] = {a.buffer: set() for a in allocs_in(body) if a.shape}
    for s in walk(body):
        for buffer, index in _element_accesses(s, instructions):
            values = [int(i.value) for i in index or () if isinstance(i, ir.Const)]
            if index is None or len(values) < len(index):
                found.pop(buffer, None)
            elif buffer in found:
                found[buffer].add(tuple(values))
    return found


def _element_accesses(
    s: ir.Stmt, instructions: Mapping[str, Instruction]
) -> Iterator[tuple[str, tuple[ir.Expr, ...] | None]]:
    """Buffer and index of every element that `s` itself touches; None for a whole window."""
    for e in own_exprs(s):
        for load in expr_loads(e):
            yield load.buffer, load.index
    if isinstance(s, ir.Store):
        yield s.buffer, s.index
    if isinstance(s, ir.Instr):
        known = instructions.get(s.name)
        for position, (buffer, index) in enumerate(s.args):
            scalar = known is not None and not known.meaning.params[position].shape
            yield buffer, index if scalar else None
