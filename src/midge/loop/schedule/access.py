"""Which elements a block touches, and whether two accesses can touch the same one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import gcd
from typing import assert_never

from midge.core.types import DType
from midge.loop import ir
from midge.loop.affine import Bounds, Interval, Linear, linear, reads_nothing
from midge.loop.instruction import Instruction
from midge.loop.rewrite import variables
from midge.loop.schedule.base import Refused

Instructions = Mapping[str, Instruction]


@dataclass(frozen=True, slots=True)
class Access:
    """A load, a store or a window of an instruction.

    sizes: elements per dimension from `index` on. inner: the loops of the block around it.
    update: "+", "min" or "max" for the load and the store of an integer reduction, whose order
    does not matter. bounds: what holds there. certain: no condition inside the block guards it.
    """

    buffer: str
    index: tuple[ir.Expr, ...]
    sizes: tuple[int, ...]
    write: bool
    bounds: Bounds
    inner: frozenset[str] = frozenset()
    update: str | None = None
    certain: bool = True


@dataclass(frozen=True, slots=True)
class _Where:
    bounds: Bounds
    inner: frozenset[str] = frozenset()
    certain: bool = True

    def given(self, cond: ir.Expr) -> _Where:
        return replace(self, bounds=self.bounds.assuming(cond), certain=False)

    def loop(self, s: ir.Loop) -> _Where:
        return replace(self, bounds=self.bounds.loop(s.var, s.extent), inner=self.inner | {s.var})

    def access(self, buffer: str, index: tuple[ir.Expr, ...], *, write: bool) -> Access:
        sizes = (1,) * len(index)
        return Access(buffer, index, sizes, write, self.bounds, self.inner, None, self.certain)


def accesses(body: ir.Block, bounds: Bounds, instructions: Instructions) -> list[Access]:
    """Every access of a block, in the order of the text. Refused for an unknown instruction."""
    return list(_block(body, _Where(bounds), instructions))


def _block(body: ir.Block, where: _Where, instructions: Instructions) -> Iterator[Access]:
    for s in body:
        match s:
            case ir.Store():
                yield from _store(s, where)
            case ir.Loop():
                yield from _block(s.body, where.loop(s), instructions)
            case ir.Guard(cond, inner, other):
                yield from _expr(cond, where)
                yield from _block(inner, where.given(cond), instructions)
                yield from _block(other, replace(where, certain=False), instructions)
            case ir.Instr(name, args):
                yield from _instr(name, args, where, instructions)
            case ir.Alloc():
                pass
            case _:
                assert_never(s)


def _store(s: ir.Store, where: _Where) -> Iterator[Access]:
    for i in s.index:
        yield from _expr(i, where)
    op = reduction(s, where.bounds.buffers)
    own = ir.Load(s.buffer, s.index)
    for access in _expr(s.value, where):
        same = op is not None and (access.buffer, access.index) == (own.buffer, own.index)
        yield replace(access, update=op) if same else access
    yield replace(where.access(s.buffer, s.index, write=True), update=op)


def reduction(s: ir.Store, buffers: Mapping[str, DType]) -> str | None:
    """The operator of `b[i] = b[i] op ...` on integers, if the order of such updates is free."""
    own = ir.Load(s.buffer, s.index)
    match s.value:
        case ir.Bin("+" | "min" | "max" as op, _, _) if buffers.get(s.buffer, DType.F32).is_integer:
            operands = list(_operands(s.value, op))
            others = [e for e in operands if e != own]
            if len(others) + 1 == len(operands) and not any(_loads(e, s.buffer) for e in others):
                return op
    return None


def _operands(e: ir.Expr, op: str) -> Iterator[ir.Expr]:
    if isinstance(e, ir.Bin) and e.op == op:
        yield from _operands(e.lhs, op)
        yield from _operands(e.rhs, op)
    else:
        yield e


def _loads(e: ir.Expr, buffer: str) -> bool:
    return any(a.buffer == buffer for a in _expr(e, _Where(Bounds())))


def _expr(e: ir.Expr, where: _Where) -> Iterator[Access]:
    match e:
        case ir.Const() | ir.Var():
            return
        case ir.Load(buffer, index):
            for i in index:
                yield from _expr(i, where)
            yield where.access(buffer, index, write=False)
        case ir.Bin(op, lhs, rhs):
            yield from _expr(lhs, where)
            inner = where.given(lhs) if op == "and" else where
            yield from _expr(rhs, replace(inner, certain=where.certain and op not in ir.LOGIC))
        case ir.Cast(_, arg):
            yield from _expr(arg, where)
        case ir.Select(cond, then, other):
            yield from _expr(cond, where)
            yield from _expr(then, where.given(cond))
            yield from _expr(other, replace(where, certain=False))
        case ir.Call(_, args):
            for a in args:
                yield from _expr(a, where)
        case _:
            assert_never(e)


def _instr(
    name: str,
    args: tuple[tuple[str, tuple[ir.Expr, ...]], ...],
    where: _Where,
    instructions: Instructions,
) -> Iterator[Access]:
    if name not in instructions:
        raise Refused(f"unknown instruction {name!r}", "give its description to apply")
    for p, (buffer, index) in zip(instructions[name].meaning.params, args, strict=True):
        for i in index:
            yield from _expr(i, where)
        sizes = (1,) * (len(index) - len(p.shape)) + p.shape
        # what an instruction writes of its window, and when, is its own affair
        plain = replace(where.access(buffer, index, write=False), sizes=sizes)
        if p.mode not in ("out", "scratch"):
            yield plain
        if p.mode in ("out", "inout", "scratch"):
            yield replace(plain, write=True)


def conflict(a: Access, b: Access, gaps: Mapping[str, Interval]) -> bool:
    """Whether `a` in one iteration and `b` in another may matter to each other's order.

    gaps: loop variable -> how far b's iteration may be ahead of a's; loops that are neither in
    `gaps` nor inside the accesses' block are at the same iteration for both.
    """
    if a.buffer != b.buffer or not (a.write or b.write):
        return False
    if a.update is not None and a.update == b.update:
        return False
    dims = zip(a.index, b.index, a.sizes, b.sizes, strict=True)
    return not any(_apart(a, b, i, j, m, n, gaps) for i, j, m, n in dims)


def _apart(
    a: Access, b: Access, i: ir.Expr, j: ir.Expr, m: int, n: int, gaps: Mapping[str, Interval]
) -> bool:
    """Whether i..i+m-1 in a's iteration and j..j+n-1 in b's never meet."""
    first, second = linear(i), linear(j)
    shared, moving = Linear({}, first.const - second.const), []
    for atom in {**first.terms, **second.terms}:
        ca, cb = first.terms.get(atom, 0), second.terms.get(atom, 0)
        if isinstance(atom, ir.Var) and atom.name in gaps:
            moving += [(ca - cb, a.bounds.atom(atom)), (-cb, gaps[atom.name])]
        elif _is_common(atom, a, b, gaps):
            shared += Linear({atom: ca - cb} if ca != cb else {}, 0)
        else:
            moving += [(ca, a.bounds.atom(atom)), (-cb, b.bounds.atom(atom))]
    low, high = a.bounds.sum(shared)
    for c, (least, most) in moving:
        low += min(c * least, c * most)
        high += max(c * least, c * most)
    if low > n - 1 or high < -(m - 1):
        return True
    step = gcd(*(c for c, _ in moving), *shared.terms.values())
    return m == n == 1 and step > 1 and shared.const % step != 0


def _is_common(atom: ir.Expr, a: Access, b: Access, gaps: Mapping[str, Interval]) -> bool:
    """Whether an atom has one value in both iterations."""
    differing = a.inner | b.inner | gaps.keys()
    return reads_nothing(atom) and not variables(atom) & differing
