"""Reorder: change which loop is inside which, through imperfect nests as well."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from midge.loop import ir
from midge.loop.affine import reads_nothing
from midge.loop.rewrite import (
    allocs_in,
    conjuncts,
    fresh,
    map_stmts,
    names,
    substitute,
    touched,
    variables,
)
from midge.loop.schedule.access import Access, Instructions, accesses, conflict
from midge.loop.schedule.base import Place, Refused, StepText, find, put


@dataclass(frozen=True, slots=True)
class Reorder(StepText):
    """Nest loops in the given order, outermost first; loops between them stay where they are.

    for a in n: for b in m: S   ->   for b in m: for a in n: S

    Statements that stand between two loops to be exchanged go before or after the inner one, in
    copies `{loop}_pre` and `{loop}_post` of the outer one; local buffers grow by its extent:

        for p in 4:                        alloc acc: i32[4]
          alloc acc: i32                   for p_pre in 4:
          acc = 0                            acc[p_pre] = 0
          for k in 9:               ->     for k in 9:
            acc = acc + x[p, k]              for p in 4:
          y[p] = acc                           acc[p] = acc[p] + x[p, k]
                                           for p_post in 4:
                                             y[p_post] = acc[p_post]

    Refused where an element could then be touched in another order, unless all that happens to it
    is one kind of integer reduction (+, min or max).
    """

    loops: tuple[str, ...]


def reorder_loops(func: ir.Func, step: Reorder, instructions: Instructions) -> ir.Func:
    if len(set(step.loops)) != len(step.loops) or len(step.loops) < 2:
        raise Refused("give two or more different loops")
    places = sorted((find(func, name) for name in step.loops), key=lambda p: len(p.outer))
    chain = _chain(places)
    wanted = iter(step.loops)
    order = [next(wanted) if name in step.loops else name for name in chain]
    for position, name in enumerate(order):
        for above in reversed(chain[position : chain.index(name)]):
            func = _exchange(func, above, name, instructions)
        chain.remove(name)
        chain.insert(position, name)
    return func


def _chain(places: list[Place]) -> list[str]:
    """The loops from the outermost of `places` to the innermost, each inside the one before."""
    for outer, inner in pairwise(places):
        if not any(s is outer.loop for s in inner.outer):
            raise Refused(f"{inner.loop.var} is not inside {outer.loop.var}")
    path = (*places[-1].outer, places[-1].loop)
    start = next(i for i, s in enumerate(path) if s is places[0].loop)
    return [s.var for s in path[start:] if isinstance(s, ir.Loop)]


@dataclass(frozen=True, slots=True)
class _Parts:
    """A loop's body around the loop inside it, which stands under `conditions`."""

    before: ir.Block
    conditions: tuple[ir.Expr, ...]
    after: ir.Block


def _exchange(func: ir.Func, outer: str, inner: str, instructions: Instructions) -> ir.Func:
    """Put `inner`, the next loop inside `outer`, around it."""
    place, q = find(func, outer), find(func, inner).loop
    p = place.loop
    parts = _parts_around(p.body, q)
    fixed = [c for c in parts.conditions if p.var not in variables(c)]
    core = _guarded([c for c in parts.conditions if p.var in variables(c)], q.body)
    allocs = {s.buffer: s for s in (*parts.before, *parts.after) if isinstance(s, ir.Alloc)}
    bounds = place.bounds(func)
    found = [
        accesses((replace(p, body=body),), bounds, instructions)
        for body in (parts.before, (replace(q, body=core),), parts.after)
    ]
    _check_distribution(p, found, allocs)
    _check_exchange(p, q, core, found[1], allocs)
    used = names(func)
    grown = _shared(allocs, parts, core)
    kept = [a for b, a in allocs.items() if b not in grown]
    return put(func, p, (
        *(replace(a, shape=(p.extent, *a.shape)) for a in grown.values()),
        *_copied(p, _with_own(parts.before, kept), "_pre", used, grown),
        *_guarded(fixed, (replace(q, body=(_indexed(replace(p, body=core), grown),)),)),
        *_copied(p, _with_own(parts.after, kept), "_post", used, grown),
    ))  # fmt: skip


def _shared(allocs: dict[str, ir.Alloc], parts: _Parts, core: ir.Block) -> dict[str, ir.Alloc]:
    """The buffers that one part leaves to another."""
    uses = [touched(body) for body in (parts.before, core, parts.after)]
    return {b: a for b, a in allocs.items() if sum(b in u for u in uses) > 1 or b in uses[1]}


def _with_own(part: ir.Block, kept: list[ir.Alloc]) -> ir.Block:
    """A part with the buffers that it alone uses, and no other allocations."""
    own = tuple(a for a in kept if a.buffer in touched(part))
    return (*own, *(s for s in part if not isinstance(s, ir.Alloc)))


def _parts_around(body: ir.Block, q: ir.Loop) -> _Parts:
    """Take `q` out of a body, and out of the conditions around it; allocations come first."""
    for position, s in enumerate(body):
        before, after = body[:position], body[position + 1 :]
        if s is q:
            return _Parts(before, (), after)
        if isinstance(s, ir.Guard) and any(x is q for x in _below(s)):
            if s.other or not reads_nothing(s.cond):
                raise Refused(f"a condition around {q.var} depends on data or has an else")
            inner = _parts_around(s.body, q)
            allocs = tuple(x for x in inner.before if isinstance(x, ir.Alloc))
            rest = tuple(x for x in inner.before if not isinstance(x, ir.Alloc))
            return _Parts(
                (*before, *allocs, *_guarded([s.cond], rest)),
                (*conjuncts(s.cond), *inner.conditions),
                (*_guarded([s.cond], inner.after), *after),
            )
    raise AssertionError(f"{q.var} is not next inside")


def _below(s: ir.Guard) -> Iterator[ir.Stmt]:
    """The statements under a condition and the conditions directly in it."""
    for x in s.body:
        yield x
        if isinstance(x, ir.Guard):
            yield from _below(x)


def _guarded(conditions: Sequence[ir.Expr], body: ir.Block) -> ir.Block:
    cond = ir.conjunction(conditions)
    return (ir.Guard(cond, body),) if body and cond is not None else body


def _check_distribution(
    p: ir.Loop, parts: list[list[Access]], private: dict[str, ir.Alloc]
) -> None:
    """No later part may touch an element before an earlier part of a later iteration does."""
    ahead = {p.var: (1, p.extent - 1)}
    for position, earlier in enumerate(parts):
        for later in parts[position + 1 :]:
            for a in later:
                for b in earlier:
                    if a.buffer not in private and p.extent > 1 and conflict(a, b, ahead):
                        raise Refused(
                            f"iterations of {p.var} depend on each other through {a.buffer}"
                        )


def _check_exchange(
    p: ir.Loop,
    q: ir.Loop,
    core: ir.Block,
    found: list[Access],
    private: dict[str, ir.Alloc],
) -> None:
    """No element may be touched at (p, q) and at (p + some, q - some)."""
    own = {s.buffer for s in allocs_in(core)}
    if min(p.extent, q.extent) < 2:
        return
    gaps = {p.var: (1, p.extent - 1), q.var: (1 - q.extent, -1)}
    for a in found:
        for b in found:
            if a.buffer not in private and a.buffer not in own and conflict(a, b, gaps):
                raise Refused(
                    f"{p.var} and {q.var} cannot change places: "
                    f"{a.buffer} would be touched in another order"
                )


def _indexed(loop: ir.Loop, grown: dict[str, ir.Alloc]) -> ir.Loop:
    """The loop with its variable as first index of the buffers that have grown."""
    var = ir.Var(loop.var)

    def expr(e: ir.Expr) -> ir.Expr:
        if isinstance(e, ir.Load) and e.buffer in grown:
            return ir.Load(e.buffer, (var, *e.index))
        return e

    def stmt(s: ir.Stmt) -> ir.Stmt:
        match s:
            case ir.Store(buffer, index, _) if buffer in grown:
                return replace(s, index=(var, *index))
            case ir.Instr(name, args):
                return ir.Instr(name, tuple((b, (var, *i) if b in grown else i) for b, i in args))
        return s

    return replace(loop, body=map_stmts(loop.body, stmt, expr))


def _copied(
    p: ir.Loop, part: ir.Block, suffix: str, used: set[str], grown: dict[str, ir.Alloc]
) -> ir.Block:
    """A loop like `p` around one part of its body; none if nothing happens there."""
    if not part:
        return ()
    var = fresh(p.var + suffix, used)
    renamed = substitute(part, {p.var: ir.Var(var)})
    return (_indexed(ir.Loop(var, p.extent, renamed, p.kind), grown),)
