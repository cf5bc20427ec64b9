"""Shapes as TFLite files state them.

`shape_signature` has -1 for what is open; `shape` then holds some number in its place, mostly 1,
which says nothing. Tensors that are computed get the shapes that follow from the inputs'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from midge.core.errors import ModelError
from midge.core.types import TensorType
from midge.graph.untrusted import checked_shape

_AGAIN = "get the file again or convert again"


@dataclass(frozen=True, slots=True)
class Declared:
    """dims: None for an open one.  ranked: False where not even their number is known."""

    dims: tuple[int | None, ...]
    ranked: bool = True

    @property
    def static(self) -> bool:
        return self.ranked and None not in self.dims

    def allows(self, shape: tuple[int, ...]) -> bool:
        if not self.ranked:
            return True
        same = len(shape) == len(self.dims)
        return same and all(d in (None, n) for d, n in zip(self.dims, shape, strict=True))

    def __str__(self) -> str:
        return f"[{'x'.join('?' if d is None else str(d) for d in self.dims)}]"


def declared(tensor: Any, length: Callable[[int, str], int], where: str) -> Declared:
    """What the file says of a tensor's shape; `length` checks those of vectors."""
    rank = length(tensor.ShapeLength(), "dimensions")
    shape = tuple(int(d) for d in tensor.ShapeAsNumpy()) if rank else ()
    checked_shape(shape, where)
    if not length(tensor.ShapeSignatureLength(), "dimensions"):
        return Declared(shape, ranked=bool(shape) or bool(tensor.HasRank()))
    signature = tuple(int(d) for d in tensor.ShapeSignatureAsNumpy())
    fits = len(signature) == len(shape) and all(
        s in (-1, n) for s, n in zip(signature, shape, strict=True)
    )
    if not fits:
        what = f"shape {list(shape)} and its signature {list(signature)} disagree"
        raise ModelError(what, where=where, hint=_AGAIN)
    return Declared(tuple(None if s == -1 else s for s in signature))


def check(name: str, stated: Declared, have: TensorType, want: TensorType, where: str) -> None:
    """ModelError unless a tensor that the file says is `stated` may be `want`, as inferred."""
    if have.dtype is want.dtype and stated.allows(want.shape):
        return
    shown = str(have) if stated.static else f"{have.dtype.value}{stated}"
    raise ModelError(f"{name!r} is {shown}, inferred {want}", where=where)
