"""Shapes of inputs where the file leaves dimensions open: what the user says, and 1 for a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from midge.core.errors import ModelError, UsageError

Shapes = Mapping[str, tuple[int, ...]]
# Sizes; None for an open one, a name for one that is the same wherever it stands.
Declared = Sequence[int | str | None]

_FLAG = "--shape"


def resolved(declared: Mapping[str, Declared], shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The shape of every input: as `shapes` has it; else an open batch, the first dimension, is 1.
    UsageError for shapes of what is no input, or that the file rules out, ModelError for other
    dimensions that stay open."""
    for name in shapes:
        if name not in declared:
            known = ", ".join(declared)
            what = f"the model has no input {name!r}"
            raise UsageError(what, where=_FLAG, hint=f"its inputs: {known}")
    sizes: dict[str, int] = {}
    for name, given in shapes.items():
        _bind(name, declared[name], given, sizes)
    for dims in declared.values():
        if dims and isinstance(dims[0], str):
            sizes.setdefault(dims[0], 1)
    return {n: shapes[n] if n in shapes else _closed(n, d, sizes) for n, d in declared.items()}


def _bind(name: str, dims: Declared, given: tuple[int, ...], sizes: dict[str, int]) -> None:
    """Note what `given` says of the sizes that have names."""
    if len(given) != len(dims) or any(
        isinstance(own, int) and own != n for own, n in zip(dims, given, strict=False)
    ):
        raise UsageError(
            f"{_text(given)} is no shape of {name!r}, which is {_text(dims)}",
            where=_FLAG,
            hint="keep the sizes that the file states",
        )
    for own, n in zip(dims, given, strict=True):
        if isinstance(own, str) and sizes.setdefault(own, n) != n:
            raise UsageError(
                f"{own!r} of {name!r} is {sizes[own]} and {n}",
                where=_FLAG,
                hint="the model wants it to be the same everywhere",
            )


def _closed(name: str, dims: Declared, sizes: Mapping[str, int]) -> tuple[int, ...]:
    known: list[int | str | None] = [
        sizes.get(own, own) if isinstance(own, str) else own for own in dims
    ]
    if known and known[0] is None:
        known[0] = 1
    found = [n for n in known if isinstance(n, int)]
    if len(found) == len(known):
        return tuple(found)
    raise ModelError(
        f"has open dimensions: {_text(known)}",
        where=f"input {name!r}",
        hint=f"say how large they are: {_FLAG} {name}={_text(known)}, with numbers for names and ?",
    )


def _text(dims: Declared) -> str:
    return ",".join("?" if n is None else str(n) for n in dims) or "a scalar"
