"""Steps on the iterations of single loops: Split, Fuse, Unroll, Peel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from midge.loop import ir
from midge.loop.rewrite import copy_of, fresh, names, substitute
from midge.loop.schedule.base import Refused, StepText, find, put, sum_of


@dataclass(frozen=True, slots=True)
class Split(StepText):
    """Iterate in blocks of `factor`.

        for i in n: S(i)   ->   for i_o in n / f:
                                  for i_i in f: S(i_o * f + i_i)

    tail says what becomes of the iterations that do not fill a block: "exact" refuses them,
    "guard" puts `if i_o * f + i_i < n` around S, "peel" gives them a loop of their own:

        for i_o in n / f: for i_i in f: S(i_o * f + i_i)
        for i_r in n % f: S(n / f * f + i_r)
    """

    loop: str
    factor: int
    tail: Literal["exact", "guard", "peel"] = "exact"


@dataclass(frozen=True, slots=True)
class Fuse(StepText):
    """Make one loop of two.

    for a in n: for b in m: S(a, b)   ->   for a_b in n * m: S(a_b / m, a_b % m)
    """

    outer: str
    inner: str


@dataclass(frozen=True, slots=True)
class Unroll(StepText):
    """Write the iterations out when the function is emitted.

    for i in n: S(i)   ->   for i in n unrolled: S(i)
    """

    loop: str


@dataclass(frozen=True, slots=True)
class Peel(StepText):
    """Give iterations at the ends loops of their own, so that conditions settle in the middle.

    for i in n: S(i)   ->   for i_first in a: S(i_first)
                            for i in n - a - b: S(i + a)
                            for i_last in b: S(i_last + n - b)
    """

    loop: str
    first: int = 0
    last: int = 0


def split_loop(func: ir.Func, step: Split) -> ir.Func:
    loop, factor = find(func, step.loop).loop, step.factor
    if factor < 1:
        raise Refused(f"the factor {factor} is below 1")
    blocks, left = divmod(loop.extent, factor)
    if left and step.tail == "exact":
        raise Refused(f"{factor} does not divide the extent {loop.extent}", 'use tail="guard"')
    if left and step.tail == "peel" and not blocks:
        raise Refused(f"the extent {loop.extent} does not fill one block of {factor}")
    used = names(func)
    outer, inner = fresh(f"{loop.var}_o", used), fresh(f"{loop.var}_i", used)
    index = sum_of(outer, factor, ir.Var(inner))
    body = substitute(loop.body, {loop.var: index})
    if left and step.tail == "guard":
        blocks += 1
        body = (ir.Guard(ir.Bin("<", index, ir.i32(loop.extent)), body),)
    result: ir.Block = (ir.Loop(outer, blocks, (ir.Loop(inner, factor, body, loop.kind),)),)
    if left and step.tail == "peel":
        result += (_part(loop, "_r", loop.extent - left, left, used),)
    return put(func, loop, result)


def _part(loop: ir.Loop, suffix: str, start: int, extent: int, used: set[str]) -> ir.Loop:
    """A copy of `loop` over `extent` iterations from `start` on."""
    var = fresh(loop.var + suffix, used)
    body = copy_of(loop.body, suffix, used)
    shifted = substitute(body, {loop.var: ir.add(ir.Var(var), ir.i32(start))})
    return ir.Loop(var, extent, shifted, loop.kind)


def fuse_loops(func: ir.Func, step: Fuse) -> ir.Func:
    outer, inner = find(func, step.outer).loop, find(func, step.inner).loop
    if len(outer.body) != 1 or outer.body[0] is not inner:
        raise Refused(f"{step.inner} is not all that {step.outer} contains")
    var = fresh(f"{outer.var}_{inner.var}", names(func))
    width = ir.i32(inner.extent)
    body = substitute(inner.body, {
        outer.var: ir.Bin("/", ir.Var(var), width), inner.var: ir.Bin("%", ir.Var(var), width),
    })  # fmt: skip
    return put(func, outer, ir.Loop(var, outer.extent * inner.extent, body))


def unroll_loop(func: ir.Func, step: Unroll) -> ir.Func:
    loop = find(func, step.loop).loop
    return put(func, loop, replace(loop, kind="unrolled"))


def peel_loop(func: ir.Func, step: Peel) -> ir.Func:
    loop = find(func, step.loop).loop
    first, last = step.first, step.last
    if min(first, last) < 0 or first + last == 0:
        raise Refused(f"cannot peel {first} and {last} iterations")
    middle = loop.extent - first - last
    if middle < 1:
        raise Refused(f"{first} + {last} iterations leave none of {loop.extent} in the middle")
    used = names(func)
    shifted = {loop.var: ir.add(ir.Var(loop.var), ir.i32(first))}
    result: list[ir.Stmt] = []
    if first:
        result.append(_part(loop, "_first", 0, first, used))
    result.append(replace(loop, extent=middle, body=substitute(loop.body, shifted)))
    if last:
        result.append(_part(loop, "_last", first + middle, last, used))
    return put(func, loop, tuple(result))
