"""Whether an index certainly leaves its buffer at some iteration.

Intervals settle nearly every access at once. What they leave open is tried out: every value of
the loop variables that matter, as far as these are few.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from midge.loop import ir
from midge.loop.affine import Bounds
from midge.loop.indices import is_index
from midge.loop.rewrite import conjuncts, variables

_POINTS = 1 << 14

Values = NDArray[np.int64]


def outside(
    e: ir.Expr, extent: int, extents: Mapping[str, int], conditions: Sequence[ir.Expr]
) -> int | None:
    """A value that the index `e` certainly takes and that is not in [0, extent).

    extents: of the enclosing loops. conditions: what holds where the index is used.
    None if there is no such value, and also where that is not known.
    """
    if not is_index(e) or 0 in extents.values():
        return None
    bounds = Bounds()
    for var in extents:
        bounds = bounds.loop(var, extents[var])
    for c in conditions:
        bounds = bounds.assuming(c)
    low, high = bounds.of(e)
    if low >= 0 and high < extent:
        return None
    leaves = [leaf for c in conditions for leaf in conjuncts(c)]
    if not all(map(_is_known, leaves)):
        return None
    return _tried(e, extent, extents, leaves)


def _is_known(c: ir.Expr) -> bool:
    match c:
        case ir.Const():
            return True
        case ir.Bin("and" | "or", lhs, rhs):
            return _is_known(lhs) and _is_known(rhs)
        case ir.Bin("<" | "<=" | "==" | "!=", lhs, rhs):
            return is_index(lhs) and is_index(rhs)
    return False


def _tried(
    e: ir.Expr, extent: int, extents: Mapping[str, int], leaves: Sequence[ir.Expr]
) -> int | None:
    """The first bad value among those of iterations at which every condition holds."""
    found: int | None = None
    for names, members in _groups([e, *leaves]):
        if prod(extents[n] for n in names) > _POINTS:
            return None
        env = _grid(sorted(names), extents)
        holds = np.ones(np.broadcast_shapes(*(v.shape for v in env.values())), bool)
        for c in members:
            if c is not e:
                holds &= _value(c, env).astype(bool)
        if not holds.any():
            return None
        if any(c is e for c in members):
            values = np.broadcast_to(_value(e, env), holds.shape)[holds]
            bad = values[(values < 0) | (values >= extent)]
            found = int(bad[0]) if bad.size else None
    return found


def _groups(exprs: Sequence[ir.Expr]) -> list[tuple[frozenset[str], list[ir.Expr]]]:
    """Expressions that share variables, directly or through others, with their variables."""
    groups: list[tuple[frozenset[str], list[ir.Expr]]] = []
    for e in exprs:
        names, members, apart = variables(e), [e], []
        for group in groups:
            if group[0] & names:
                names, members = names | group[0], [*group[1], *members]
            else:
                apart.append(group)
        groups = [*apart, (names, members)]
    return groups


def _grid(names: Sequence[str], extents: Mapping[str, int]) -> dict[str, Values]:
    axes = np.meshgrid(*(np.arange(extents[n]) for n in names), indexing="ij", sparse=True)
    return {n: a.astype(np.int64) for n, a in zip(names, axes, strict=True)}


def _value(e: ir.Expr, env: Mapping[str, Values]) -> Values:
    match e:
        case ir.Const(value):
            return np.asarray(value, np.int64)
        case ir.Var(name):
            return env[name]
        case ir.Bin(op, lhs, rhs):
            return _OPS[op](_value(lhs, env), _value(rhs, env)).astype(np.int64)
    raise AssertionError(f"not an index expression: {e}")


def _truncated(a: Values, b: Values) -> Values:
    result: Values = np.sign(a) * np.sign(b) * (np.abs(a) // np.maximum(np.abs(b), 1))
    return result


_OPS: dict[str, Callable[[Values, Values], Values]] = {
    "+": np.add,
    "-": np.subtract,
    "*": np.multiply,
    "/": _truncated,
    "%": lambda a, b: a - b * _truncated(a, b),
    "min": np.minimum,
    "max": np.maximum,
    "<": np.less,
    "<=": np.less_equal,
    "==": np.equal,
    "!=": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
}
