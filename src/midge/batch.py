"""Several inferences of a package at once: arrays with a batch axis in, arrays with one out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from midge.core.arrays import array_from
from midge.core.errors import UsageError
from midge.core.package import Package
from midge.core.runner import Run
from midge.core.types import Array
from midge.data import checked_labels, sets_of
from midge.quantize.report import as_real, check_labels, top_1

Axis = Literal["leading", "first", "none"]
_AXES: tuple[Axis, ...] = ("leading", "first", "none")


@dataclass(frozen=True, slots=True)
class Batch:
    """sets: inputs by name, one for each inference.  axis: what the inputs had: none, a leading
    axis more than the model, or several on the model's own first axis, which is 1."""

    sets: Sequence[Mapping[str, Array]]
    axis: Axis
    labels: Array | None


def as_batch(
    package: Package,
    inputs: Mapping[str, Array] | Array,
    quantize: bool = False,
    labels: Array | None = None,
) -> Batch:
    """Inputs of a package, in any of the forms that `midge.run` takes. UsageError if they do not
    fit it."""
    types = {t.name: t.type for t in package.inputs}
    arrays = _named(list(types), inputs)
    sets = sets_of(arrays, types, f"{package.name}: input", quantize=quantize)
    forms = {_axis(arrays[name].shape, t.shape) for name, t in types.items()}
    if labels is not None:
        labels = checked_labels(array_from(labels, "labels"), len(sets), "labels")
        check_labels(labels, package.outputs[0].type)
    return Batch(sets, next(a for a in _AXES if a in forms), labels)


def _named(names: list[str], inputs: Mapping[str, Array] | Array) -> dict[str, Array]:
    hint = f"name them: {', '.join(names)}"
    if not isinstance(inputs, Mapping):
        if len(names) != 1:
            raise UsageError(f"one array for {len(names)} inputs", where="inputs", hint=hint)
        return {names[0]: array_from(inputs, f"input {names[0]!r}")}
    for name in inputs:
        if name not in names:
            raise UsageError(f"no input {name!r}", where="inputs", hint=hint)
    for name in names:
        if name not in inputs:
            raise UsageError(f"no array for input {name!r}", where="inputs", hint=hint)
    return {name: array_from(inputs[name], f"input {name!r}") for name in names}


def _axis(have: tuple[int, ...], want: tuple[int, ...]) -> Axis:
    if have == want:
        return "none"
    return "leading" if len(have) > len(want) else "first"


def of_batch(package: Package, batch: Batch, runs: Sequence[Run]) -> Run:
    """The runs of a batch as one."""
    right = None if batch.labels is None else accuracy(package, runs, batch.labels)
    if batch.axis == "none":
        return replace(runs[0], accuracy=right)
    outputs = {
        t.name: _joined([r.outputs[t.name] for r in runs], batch.axis) for t in package.outputs
    }
    depths = [r.stack for r in runs if r.stack is not None]
    return replace(
        runs[0], outputs=outputs, stack=max(depths, default=None), each=tuple(runs),
        accuracy=right,
    )  # fmt: skip


def accuracy(package: Package, runs: Sequence[Run], labels: Array) -> float:
    """The share of the runs whose first output says what the label does."""
    first = package.outputs[0]
    return top_1([as_real(r.outputs[first.name], first.type) for r in runs], labels)


def _joined(arrays: Sequence[Array], axis: Axis) -> Array:
    if axis == "first" and arrays[0].shape[:1] == (1,):
        return np.concatenate(arrays)
    return np.stack(arrays)
