"""The window of a buffer that a block touches, as a base that moves with the loops outside and a
constant size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midge.loop import ir
from midge.loop.affine import Linear, linear, reads_nothing
from midge.loop.rewrite import map_stmts, variables
from midge.loop.schedule.access import Access
from midge.loop.schedule.base import Refused


@dataclass(frozen=True, slots=True)
class Window:
    """`sizes` elements per dimension from `first` on."""

    first: tuple[Linear, ...]
    sizes: tuple[int, ...]

    def inside(self, index: tuple[ir.Expr, ...]) -> tuple[ir.Expr, ...]:
        """An index into the buffer as one into the window."""
        return tuple((linear(i) - f).expr() for i, f in zip(index, self.first, strict=True))

    def outside(self, index: Sequence[ir.Expr]) -> tuple[ir.Expr, ...]:
        """An index into the window as one into the buffer."""
        return tuple((f + linear(i)).expr() for i, f in zip(index, self.first, strict=True))


def window_of(found: Sequence[Access], shape: tuple[int, ...]) -> Window:
    """The least window that holds every access of `found`, at least one, all to one buffer.

    Where it does not move it is clipped to the buffer. Refused if accesses move differently or
    depend on data.
    """
    first, sizes = [], []
    for d, extent in enumerate(shape):
        bases, low, high = [], [], []
        for a in found:
            base, least, most = _reach(a, d)
            bases.append(base)
            low.append(least)
            high.append(most + a.sizes[d] - 1)
        if any(b != bases[0] for b in bases):
            raise Refused(f"accesses to {found[0].buffer} do not move alike in dimension {d}")
        start, stop = min(low), max(high) + 1
        if not bases[0].terms:
            start, stop = max(start, 0), min(stop, extent)
        if stop <= start:
            raise Refused(f"the accesses to {found[0].buffer} are never in bounds")
        first.append(bases[0] + Linear({}, start))
        sizes.append(stop - start)
    return Window(tuple(first), tuple(sizes))


def _reach(a: Access, d: int) -> tuple[Linear, int, int]:
    """What of index `d` is fixed inside the block, and the range of the rest."""
    index = linear(a.index[d])
    fixed: dict[ir.Expr, int] = {}
    rest: dict[ir.Expr, int] = {}
    for atom, c in index.terms.items():
        if not reads_nothing(atom):
            raise Refused(f"an index of {a.buffer} depends on data")
        (rest if variables(atom) & a.inner else fixed)[atom] = c
    low, high = a.bounds.sum(Linear(rest, index.const))
    return Linear(fixed, 0), low, high


def covers(a: Access, window: Window) -> bool:
    """Whether `a` certainly touches every element of the window."""
    if not a.certain:
        return False
    seen: set[ir.Expr] = set()
    for d, size in enumerate(window.sizes):
        gap = linear(a.index[d]) - window.first[d]
        fresh = gap.terms.keys() - seen
        if len(fresh) < len(gap.terms) or not _fills(gap, a, d, size):
            return False
        seen |= fresh
    return True


def _fills(gap: Linear, a: Access, d: int, size: int) -> bool:
    """Whether a sum takes every value from 0 to `size` - 1: a number in mixed radix, each digit a
    loop that starts at 0, the lowest as wide as the access itself."""
    width = a.sizes[d]
    for atom, c in sorted(gap.terms.items(), key=lambda t: t[1]):
        low, high = a.bounds.atom(atom)
        if not isinstance(atom, ir.Var) or atom.name not in a.inner or (low, c) != (0, width):
            return False
        width *= high + 1
    return gap.const == 0 and width == size


def in_bounds(index: Sequence[ir.Expr], shape: Sequence[int]) -> ir.Expr | None:
    """The condition that an index is in a buffer; None for a scalar."""
    return ir.conjunction([ir.in_range(i, n) for i, n in zip(index, shape, strict=True)])


def loops_over(names: Sequence[str], sizes: Sequence[int], body: ir.Block) -> ir.Block:
    """A nest over a box."""
    for name, size in reversed(list(zip(names, sizes, strict=True))):
        body = (ir.Loop(name, size, body),)
    return body


def redirect(body: ir.Block, buffer: str, now: str, window: Window) -> ir.Block:
    """Let accesses to `buffer` go to `now`, which holds its window."""

    def expr(e: ir.Expr) -> ir.Expr:
        match e:
            case ir.Load(name, index) if name == buffer:
                return ir.Load(now, window.inside(index))
        return e

    def stmt(s: ir.Stmt) -> ir.Stmt:
        match s:
            case ir.Store(name, index, value) if name == buffer:
                return ir.Store(now, window.inside(index), value)
            case ir.Instr(name, args):
                return ir.Instr(name, tuple(
                    (now, window.inside(i)) if b == buffer else (b, i) for b, i in args
                ))  # fmt: skip
        return s

    return map_stmts(body, stmt, expr)
