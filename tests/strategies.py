"""Hypothesis strategies: loop functions, and schedule steps that may or may not apply to them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hypothesis import strategies as st

from midge.core.types import DType
from midge.loop import ir
from midge.loop.rewrite import allocs_in, loops_in, map_stmts
from midge.loop.schedule import (
    ComputeAt,
    Fuse,
    Pack,
    Peel,
    Reorder,
    Split,
    Stage,
    Step,
    Tensorize,
    Unroll,
)
from midge.loop.text import parse_func
from programs import (
    conv,
    depthwise,
    dot,
    elementwise,
    float_sum,
    matmul,
    pool,
    recurrence,
    skewed,
    softmax,
    stages,
)

sizes = st.integers(1, 6)


def programs() -> st.SearchStrategy[ir.Func]:
    """The shared programs in small random sizes."""
    small = st.integers(1, 3)
    return st.one_of(
        st.builds(dot, sizes),
        st.builds(matmul, small, sizes, small),
        st.builds(conv, small, small, small, sizes, st.integers(1, 2)),
        st.builds(depthwise, small, small, st.integers(1, 2)),
        st.builds(elementwise, small, sizes),
        st.builds(pool, sizes, small),
        st.builds(stages, sizes, small, small),
        st.builds(float_sum, small, sizes),
        st.builds(softmax, small, sizes),
        st.builds(recurrence, small, st.integers(2, 6)),
        st.builds(skewed, sizes),
    )


@st.composite
def nests(draw: st.DrawFn) -> ir.Func:
    """Random loops over one buffer `y` that is read and written in ways that may depend on each
    other, an input `x` and sometimes a local buffer `t`."""
    writer = _Writer(draw)
    body = writer.block((), depth=0)
    local = (ir.Alloc("t", DType.I32, (8,)),) if draw(st.booleans()) else ()
    fill = (ir.Loop("f", 8, (ir.Store("t", (ir.Var("f"),), ir.Var("f")),)),) if local else ()
    if not local:
        body = _without_local(body)
    params = (
        ir.Param("x", DType.I8, (16,), "in"),
        ir.Param("y", DType.I32, (16, 8), "inout"),
    )
    return ir.Func("nest", params, (*local, *fill, *body))


def _without_local(body: ir.Block) -> ir.Block:
    """The first column of `y` in place of `t`."""

    def expr(e: ir.Expr) -> ir.Expr:
        match e:
            case ir.Load("t", (index,)):
                return ir.Load("y", (index, ir.i32(0)))
        return e

    def stmt(s: ir.Stmt) -> ir.Stmt:
        match s:
            case ir.Store("t", (index,), value):
                return ir.Store("y", (index, ir.i32(0)), value)
        return s

    return map_stmts(body, stmt, expr)


class _Writer:
    """Statements whose indices stay in bounds: at most 3 loops of at most 3 iterations."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.loops = 0
        self.scalars: list[str] = []

    def block(self, scope: tuple[str, ...], depth: int) -> ir.Block:
        count = self.draw(st.integers(1, 2 if depth else 1))
        body = [self.stmt(scope, depth) for _ in range(count)]
        if depth and self.draw(st.integers(0, 2)) == 0:
            return self.with_scalar(tuple(body), scope, depth)
        return tuple(body)

    def with_scalar(self, body: ir.Block, scope: tuple[str, ...], depth: int) -> ir.Block:
        """A local scalar around some statements, set somewhere before it is used."""
        self.loops += 1
        name = f"s{self.loops}"
        start = ir.Store(name, (), ir.Cast(DType.I32, ir.Load("x", (self.index(scope, 16),))))
        self.scalars.append(name)
        using = tuple(self.stmt(scope, depth) for _ in range(self.draw(st.integers(1, 3))))
        self.scalars.pop()
        place = self.draw(st.integers(0, len(body)))
        parts = (ir.Alloc(name, DType.I32, ()), *body[:place], start, *using, *body[place:])
        return parts

    def stmt(self, scope: tuple[str, ...], depth: int) -> ir.Stmt:
        kind = self.draw(st.sampled_from(["loop", "loop", "store", "guard"]))
        if (kind == "loop" and depth < 3) or not scope:
            self.loops += 1
            var = f"l{self.loops}"
            extent = self.draw(st.integers(1, 3))
            return ir.Loop(var, extent, self.block((*scope, var), depth + 1))
        if kind == "guard" and depth < 3:
            on_data = self.draw(st.integers(0, 4)) == 0
            left = self.element(scope) if on_data else self.index(scope, 4)
            cond = ir.Bin("<", left, ir.i32(self.draw(st.integers(0, 3))))
            other = self.block(scope, depth + 1) if self.draw(st.booleans()) else ()
            return ir.Guard(cond, self.block(scope, depth + 1), other)
        return self.store(scope)

    def index(self, scope: tuple[str, ...], room: int) -> ir.Expr:
        """A sum below `room`, a power of 2: each loop variable at most 2."""
        terms: list[ir.Expr] = [ir.i32(self.draw(st.integers(0, 1)))]
        left = (room - 2) // 2
        for var in self.draw(st.permutations(scope)):
            c = self.draw(st.integers(0, min(left, 2)))
            left -= c
            terms.append(ir.mul(ir.Var(var), ir.i32(c)))
        return ir.total(terms)

    def store(self, scope: tuple[str, ...]) -> ir.Store:
        target = self.element(scope)
        x = ir.Cast(DType.I32, ir.Load("x", (self.index(scope, 16),)))
        update = self.draw(st.sampled_from(["+", "max", "shift", "set"]))
        match update:
            case "+" | "max":
                value: ir.Expr = ir.Bin("+" if update == "+" else "max", target, x)
            case "shift":
                mixed = ir.Bin("*", ir.Bin("%", self.element(scope), ir.i32(991)), ir.i32(3))
                value = ir.Bin("+", mixed, x)
            case _:
                value = x
        return ir.Store(target.buffer, target.index, value)

    def element(self, scope: tuple[str, ...]) -> ir.Load:
        scalar: bool = self.draw(st.booleans())
        if self.scalars and scalar:
            names: st.SearchStrategy[str] = st.sampled_from(self.scalars)
            return ir.Load(self.draw(names), ())
        if self.draw(st.integers(0, 3)) == 0:
            return ir.Load("t", (self.index(scope, 8),))
        return ir.Load("y", (self.index(scope, 16), self.index(scope, 8)))


def steps(func: ir.Func) -> st.SearchStrategy[Step]:
    """A step that names loops and buffers of `func`."""
    loops = [x.var for x in loops_in(func.body)] or ["none"]
    params = [p.name for p in func.params]
    locals_ = [a.buffer for a in allocs_in(func.body)]
    consts = {p.name: len(p.shape) for p in func.params if p.mode == "const"}
    loop, buffer = st.sampled_from(loops), st.sampled_from(params + locals_)
    paths = [p for p in _paths(func.body, ()) if len(p) > 1] or [("none", "other")]
    order = st.sampled_from(paths).flatmap(
        lambda p: st.lists(st.sampled_from(p), min_size=2, max_size=4, unique=True).map(tuple)
    )
    instructions = st.sampled_from(["dot_i8_i8_2", "dot_i16_i16_2", "dot_i8_i16_2", "dot_i8_i8_3"])
    choices: list[st.SearchStrategy[Step]] = [
        st.builds(Split, loop, st.integers(1, 4), st.sampled_from(["exact", "guard", "peel"])),
        st.builds(Reorder, order),
        st.sampled_from(paths).map(lambda p: Fuse(*p[-2:])),
        st.builds(Unroll, loop),
        st.builds(Peel, loop, st.integers(0, 2), st.integers(0, 2)),
        st.builds(Stage, buffer, loop, st.sampled_from([None, None, DType.I16, DType.I32])),
        st.builds(Tensorize, loop, instructions),
    ]
    if locals_:
        choices.append(st.builds(ComputeAt, st.sampled_from(locals_), loop))
    if consts:
        choices.append(st.sampled_from(sorted(consts)).flatmap(lambda c: packs(c, consts[c])))
    return st.one_of(choices)


def _paths(body: ir.Block, outer: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """For every loop, its name after those of the loops around it."""
    for s in body:
        match s:
            case ir.Loop(var, _, inner):
                yield (*outer, var)
                yield from _paths(inner, (*outer, var))
            case ir.Guard(_, inner):
                yield from _paths(inner, outer)


def pipelines() -> st.SearchStrategy[ir.Func]:
    """A local buffer with two dimensions, filled in one or two nests, read by a third one through
    windows with strides, offsets and sometimes a condition."""

    def build(
        rows: int, cols: int, stride: int, taps: int, limit: int, shift: int, twice: bool
    ) -> ir.Func:
        height, width = rows * stride + taps, cols + shift + 1
        fill = "t[i, j] = 1" if twice else "t[i, j] = i32(x[i, j]) - 3"
        second = (
            f"""
  for g in {height}:
    for h in {width}:
      t[g, h] = t[g, h] + i32(x[g, h]) * 2"""
            if twice
            else ""
        )
        return parse_func(f"""
func pipeline(x: i8[{height}x{width}] in, y: i32[{rows}x{cols}] out):
  alloc t: i32[{height}x{width}]
  for i in {height}:
    for j in {width}:
      {fill}{second}
  for r in {rows}:
    for c in {cols}:
      alloc acc: i32
      acc = 0
      for k in {taps}:
        if r * {stride} + k < {limit}:
          acc = acc + t[r * {stride} + k, c + {shift}]
      y[r, c] = acc
""")

    small = st.integers(1, 3)
    return st.builds(build, small, small, small, small, st.integers(1, 12), small, st.booleans())


def packs(buffer: str, rank: int) -> st.SearchStrategy[Step]:
    """A re-layout of a constant of `rank` dimensions."""

    def build(blocks: dict[int, int]) -> st.SearchStrategy[Step]:
        split = tuple(sorted(blocks.items()))
        return st.permutations(range(rank + len(blocks))).map(
            lambda order: Pack(buffer, split, tuple(order))
        )

    return st.dictionaries(st.integers(0, rank - 1), st.integers(1, 4)).flatmap(build)


_FLOATS = st.one_of(
    st.floats(width=32, allow_nan=False), st.sampled_from([math.inf, -math.inf, math.nan, -0.0])
)


def consts() -> st.SearchStrategy[ir.Const]:
    """A constant of any type."""
    integers = [d for d in DType if d.is_integer]
    return st.one_of(
        *(st.builds(ir.Const, st.integers(d.min, d.max), st.just(d)) for d in integers),
        _FLOATS.map(lambda v: ir.Const(v, DType.F32)),
        st.floats(width=16, allow_nan=False).map(lambda v: ir.Const(v, DType.F16)),
        st.booleans().map(lambda v: ir.Const(v, DType.BOOL)),
    )


_OPS = (
    "+", "-", "*", "/", "%", "<<", ">>", "&", "|", "^", "min", "max", "<", "<=", "==", "!=",
    "and", "or",
)  # fmt: skip


def exprs() -> st.SearchStrategy[ir.Expr]:
    """Any expression, well typed or not, over loops `i`, `j`, buffers `x[2]` and scalar `s`."""
    names: tuple[ir.Expr, ...] = (ir.Var("i"), ir.Var("j"), ir.Load("s", ()))
    leaves: st.SearchStrategy[ir.Expr] = st.one_of(consts(), st.sampled_from(names))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(ir.Bin, st.sampled_from(_OPS), inner, inner),
            st.builds(ir.Cast, st.sampled_from(list(DType)), inner),
            st.builds(ir.Select, inner, inner, inner),
            st.builds(lambda a, b: ir.Load("x", (a, b)), inner, inner),
            st.builds(lambda a, b: ir.Call("high_mul", (a, b)), inner, inner),
        ),
        max_leaves=12,
    )


def index_exprs(names: tuple[str, ...]) -> st.SearchStrategy[ir.Expr]:
    """Index arithmetic over loop variables, divisors above 0."""
    small = st.integers(-9, 9).map(ir.i32)
    leaves = st.one_of(small, st.sampled_from([ir.Var(n) for n in names]))
    divisors = st.integers(1, 7).map(ir.i32)
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(ir.Bin, st.sampled_from(["+", "-", "min", "max"]), inner, inner),
            st.builds(ir.Bin, st.just("*"), inner, small),
            st.builds(ir.Bin, st.sampled_from(["/", "%"]), inner, divisors),
        ),
        max_leaves=10,
    )


def conditions(names: tuple[str, ...]) -> st.SearchStrategy[ir.Expr]:
    """Comparisons of index expressions, and their combinations."""
    leaves = st.builds(
        ir.Bin, st.sampled_from(["<", "<=", "==", "!="]), index_exprs(names), index_exprs(names)
    )
    return st.recursive(
        leaves,
        lambda inner: st.builds(ir.Bin, st.sampled_from(["and", "or"]), inner, inner),
        max_leaves=3,
    )
