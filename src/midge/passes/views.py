"""A tensor as another one whose axes stand in another order, split or merged.

Transpositions and reshapes are followed by what they do to axes, so that several become one, and
inverse ones nothing. Axes of length 1 take no part: they can stand anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from midge.core.types import Array

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class View:
    """value: what is looked at, read as an array of `shape` (a reshape of it costs nothing).
    groups: for each axis of the view the axes of `shape` that it is made of, the slowest first.
    """

    value: str
    shape: tuple[int, ...]
    groups: Groups

    @staticmethod
    def of(value: str, shape: tuple[int, ...]) -> View:
        """The tensor itself."""
        return View(value, shape, tuple((a,) if n != 1 else () for a, n in enumerate(shape)))

    @property
    def order(self) -> tuple[int, ...]:
        """The axes of `shape` in the order in which the view has them."""
        return tuple(a for group in self.groups for a in group)

    @property
    def in_order(self) -> bool:
        """Whether the view's elements lie in memory as they should: it is only a reshape."""
        return list(self.order) == sorted(self.order)

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """The lengths of the parts of each axis."""
        return tuple(tuple(self.shape[a] for a in group) for group in self.groups)

    @property
    def extents(self) -> tuple[int, ...]:
        return tuple(map(prod, self.sizes))

    def transposed(self, perm: Sequence[int]) -> View:
        return replace(self, groups=tuple(self.groups[p] for p in perm))

    def reshaped(self, wanted: Sequence[int]) -> View | None:
        """The view under another shape, None if that cuts through axes."""
        parts = [(a, self.shape[a]) for a in self.order]
        cuts: dict[int, list[int]] = {}
        groups: list[list[tuple[int, int]]] = []
        for extent in wanted:
            group: list[tuple[int, int]] = []
            while extent > 1:
                axis, size = parts.pop(0)
                if size > extent:
                    if size % extent:
                        return None
                    parts.insert(0, (axis, size // extent))
                    size = extent
                elif extent % size:
                    return None
                group.append((axis, len(cuts.setdefault(axis, []))))
                cuts[axis].append(size)
                extent //= size
            groups.append(group)
        return None if parts else self._cut(cuts, groups)

    def _cut(self, cuts: dict[int, list[int]], groups: list[list[tuple[int, int]]]) -> View:
        """Each axis of `shape` in parts; `groups` names axis and part."""
        shape: list[int] = []
        first: dict[int, int] = {}
        for axis, n in enumerate(self.shape):
            first[axis] = len(shape)
            shape += cuts.get(axis, [n])
        named = tuple(tuple(first[axis] + part for axis, part in group) for group in groups)
        return View(self.value, tuple(shape), named)

    def split_like(self, sizes: Sequence[tuple[int, ...]]) -> View | None:
        """The view whose axes have parts of `sizes`, or () where it has length 1; None if its
        parts do not allow that."""
        flat = [n for own, part in zip(self.groups, sizes, strict=True) if own for n in part]
        view = self.reshaped(flat)
        if view is None or any(len(g) != 1 for g in view.groups):
            return None
        axes = iter(view.groups)
        groups = tuple(
            tuple(next(axes)[0] for _ in part) if own else ()
            for own, part in zip(self.groups, sizes, strict=True)
        )
        return replace(view, groups=groups)

    def padded_to(self, rank: int) -> View:
        """With axes of length 1 in front."""
        return replace(self, groups=((),) * (rank - len(self.groups)) + self.groups)

    def permutation(self) -> tuple[int, ...] | None:
        """perm, where the view is one transposition of `shape`, else None."""
        spare = [a for a, n in enumerate(self.shape) if n == 1]
        if len(self.groups) != len(self.shape) or any(len(g) > 1 for g in self.groups):
            return None
        return tuple(g[0] if g else spare.pop(0) for g in self.groups)

    def computed(self, array: Array) -> Array:
        """The view of an array."""
        core = array.reshape([n for n in self.shape if n != 1])
        rank = {a: i for i, a in enumerate(sorted(self.order))}
        turned = core.transpose([rank[a] for a in self.order])
        return np.ascontiguousarray(turned).reshape(self.extents)


def frame(leader: View, operand: View, own: Sequence[int | None]) -> View | None:
    """The operand as it must be to be combined with what the leader looks at, element by element.

    Both are views of one rank; an axis of the operand is as the leader's or of length 1. own: the
    extent of the operand along axes where it may differ (concat), else None. None if the parts of
    its axes cannot be told apart.
    """
    sizes = tuple(
        part if n is None else ((n,) if n != 1 else ())
        for part, n in zip(leader.sizes, own, strict=True)
    )
    view = operand.split_like(sizes)
    if view is None:
        return None
    found = {
        at: axis
        for at_group, group in zip(leader.groups, view.groups, strict=True)
        for at, axis in zip(at_group, group, strict=False)
    }
    return replace(
        view, groups=tuple((found[a],) if a in found else () for a in range(len(leader.shape)))
    )
