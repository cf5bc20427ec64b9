"""Inputs for models: random ones, or from npy and npz files; labels for their outputs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from midge.core.arrays import is_npz, npz_names, read_npy, read_npz
from midge.core.errors import MidgeWarning, UsageError
from midge.core.types import Array, DType, TensorType
from midge.graph.index_ranges import Wanted, index_ranges
from midge.graph.ir import Graph
from midge.quantize.report import as_integers

Note = Callable[[str], None]
"""Told what was done to make inputs fit. The command line writes it to the error stream."""


def told(text: str) -> None:
    """A warning, in the Python interface."""
    warnings.warn(text, UserWarning, stacklevel=2)


def random_inputs(graph: Graph, count: int, seed: int) -> list[dict[str, Array]]:
    """`count` sets of inputs: integers over their whole range, floats standard normal, indices
    into tables as far as these go.

    The first two sets of integer models are all least and all greatest values. UsageError for a
    seed below 0, and for more than memory is meant for.
    """
    if seed < 0:
        raise UsageError(f"{seed} is not a seed", where="--seed", hint="give 0 or more")
    if (size := count * sum(graph.types[n].size for n in graph.inputs)) > _MOST_RANDOM:
        raise UsageError(
            f"{count} inputs are {size} bytes", where="--count", hint=f"at most {_MOST_RANDOM}"
        )
    rng = np.random.default_rng(seed)
    wanted = index_ranges(graph)
    ranges = {n: _limits(graph.types[n], w) for n, w in wanted.items()}
    sets = [
        {n: _random(graph.types[n], ranges.get(n), rng) for n in graph.inputs} for _ in range(count)
    ]
    for i in range(2 if count > 2 else 0):
        for name in graph.inputs:
            t = graph.types[name]
            ends = ranges.get(name, (t.dtype.min, t.dtype.max) if t.dtype.is_integer else None)
            if ends is not None:
                sets[i][name] = np.full(t.shape, ends[i], t.dtype.numpy)
    return sets


_MOST_RANDOM = 1 << 33  # bytes
Limits = tuple[Array, Array]


def _limits(t: TensorType, wanted: Wanted) -> Limits:
    """The indices that an input of this type may be."""
    if t.dtype.is_float:
        low, high = -_FLOAT_INDEX, _FLOAT_INDEX
    else:
        low, high = max(t.dtype.min, -_MOST_INDEX), min(t.dtype.max, _MOST_INDEX)
    return (
        np.clip(wanted.low, low, high).astype(np.int64),
        np.clip(wanted.high, low, high).astype(np.int64),
    )


_FLOAT_INDEX = 1 << 24  # binary32 has all integers up to it
_MOST_INDEX = 1 << 62


def _random(t: TensorType, limits: Limits | None, rng: np.random.Generator) -> Array:
    if limits is not None:
        return np.asarray(rng.integers(*limits, endpoint=True), t.dtype.numpy)
    if t.dtype.is_float:
        return np.asarray(rng.standard_normal(t.shape), t.dtype.numpy)
    if t.dtype is DType.BOOL:
        return np.asarray(rng.integers(0, 2, t.shape), np.bool_)
    made = rng.integers(t.dtype.min, t.dtype.max, t.shape, t.dtype.numpy, endpoint=True)
    return np.asarray(made)  # a scalar, too


def inputs_for(
    graph: Graph,
    path: Path | None,
    count: int,
    seed: int,
    *,
    quantize: bool = False,
    note: Note = told,
) -> list[dict[str, Array]]:
    """The sets of inputs in the file `path`, or `count` random ones without a file."""
    if path is None:
        return random_inputs(graph, count, seed)
    return load_inputs(path, graph, quantize=quantize, note=note)


def check_arrays(*paths: Path | None) -> None:
    """UsageError for what begins as no file of arrays: before a model is compiled for them."""
    for path in paths:
        if path is not None:
            is_npz(path)


def load_inputs(
    path: Path, graph: Graph, *, quantize: bool = False, note: Note = told
) -> list[dict[str, Array]]:
    """Sets of inputs from a file.

    .npy: one input, or a batch of them along a leading axis, for a model with one input.
    .npz: arrays named as the model's inputs (or input_0, input_1, ...), batches likewise.
    quantize, note: as for `fitted`.
    """
    arrays = _read(path, list(graph.inputs))
    return input_sets(arrays, graph, str(path), quantize=quantize, note=note)


def input_sets(
    arrays: Mapping[str, Array],
    graph: Graph,
    where: str,
    *,
    quantize: bool = False,
    note: Note = told,
) -> list[dict[str, Array]]:
    """Arrays by input name, each of one input or a batch of them, as sets of inputs. UsageError
    for shapes, types or counts that do not fit."""
    types = {n: graph.types[n] for n in graph.inputs}
    for name in arrays:
        if name not in types:
            hint = f"name them: {', '.join(types)}"
            raise UsageError(f"no input {name!r}", where=where, hint=hint)
    return sets_of(arrays, types, where, quantize=quantize, note=note)


def sets_of(
    arrays: Mapping[str, Array],
    types: Mapping[str, TensorType],
    where: str,
    *,
    quantize: bool = False,
    note: Note = told,
) -> list[dict[str, Array]]:
    """The same for inputs of some types."""
    batches = {
        name: batch_of(
            fitted(arrays[name], t, f"{where}: {name!r}", quantize, note), t, where, name
        )
        for name, t in types.items()
    }
    counts = {len(b) for b in batches.values()}
    if len(counts) != 1:
        raise UsageError(f"inputs have different counts: {sorted(counts)}", where=where)
    count = counts.pop()
    if count == 0:
        raise UsageError("holds an empty batch", where=where, hint="give one input or more")
    return [{n: b[i] for n, b in batches.items()} for i in range(count)]


def labels_for(path: Path | None, inputs: Path | None, count: int) -> Array | None:
    """The labels of `--accuracy`, if it is given. UsageError for those of random inputs."""
    if path is None:
        return None
    if inputs is None:
        raise UsageError("random inputs have no labels", where="--accuracy", hint="give --input")
    return load_labels(path, count)


def load_labels(path: Path, count: int) -> Array:
    """Class numbers from an .npy file, one for each of `count` inputs. UsageError otherwise."""
    return checked_labels(read_npy(path), count, str(path))


def checked_labels(labels: Array, count: int, where: str) -> Array:
    """Class numbers, one for each of `count` inputs. UsageError for anything else."""
    if not np.issubdtype(labels.dtype, np.integer):
        what = f"labels are not integers, but {labels.dtype}"
        raise UsageError(what, where=where, hint="give class numbers")
    if labels.size != count:
        raise UsageError(
            f"{labels.size} labels for {count} inputs", where=where, hint="one for each input"
        )
    return labels.reshape(-1)


def _read(path: Path, names: list[str]) -> Mapping[str, Array]:
    if not is_npz(path):
        if len(names) != 1:
            raise UsageError(
                f"an npy file holds one input, the model has {len(names)}",
                where=str(path),
                hint=f"give an npz with {', '.join(names)}",
            )
        return {names[0]: read_npy(path)}
    there = npz_names(path)
    keys = {name: _key(path, there, name, i) for i, name in enumerate(names)}
    found = read_npz(path, list(keys.values()))
    return {name: found[key] for name, key in keys.items()}


def _key(path: Path, there: list[str], name: str, index: int) -> str:
    for key in (name, f"input_{index}", "input" if index == 0 else ""):
        if key in there:
            return key
    raise UsageError(f"has no array {name!r}", where=str(path), hint=f"it has {', '.join(there)}")


def fitted(array: Array, t: TensorType, where: str, quantize: bool, note: Note = told) -> Array:
    """An array as elements of type t. UsageError if that would be another number.

    Floats of other widths become binary32, which `note` is told. quantize: floats for a quantised
    input become its integers, as QUANTIZE makes them: round(x / scale) + zero point, saturated.
    """
    if array.dtype == t.dtype.numpy:
        return array
    real = array.dtype.kind == "f"
    if real and t.quant is not None and quantize:
        if not np.isfinite(array).all():
            raise UsageError("has values that are not finite", where=where, hint="mend the data")
        _warn_of_cut(array, t, where)
        return as_integers(_binary32(array, where), t)
    if real and t.dtype is DType.F32:
        narrow = _binary32(array, where)
        note(f"{where}: {array.dtype} becomes float32, which the model takes")
        return narrow
    hint = f"the model takes {t.dtype.numpy}{list(t.shape)}, or a batch of them"
    if real and t.quant is not None:
        hint += "; --quantize-inputs (quantize_inputs=True) makes them of floats"
    raise UsageError(f"is {array.dtype}", where=where, hint=hint)


def _warn_of_cut(array: Array, t: TensorType, where: str) -> None:
    """MidgeWarning if there are real numbers that no element of a quantised type comes near."""
    assert t.quant is not None
    scale, zero = float(t.quant.scale[0]), int(t.quant.zero_point[0])
    low, high = ((end - zero) * scale for end in (t.dtype.min, t.dtype.max))
    outside = (array < low - scale / 2) | (array > high + scale / 2)
    if outside.any():
        percent = 100 * float(outside.mean())
        share = f"{round(percent) if percent >= 1 else f'{percent:.2g}'} % of the values are"
        warnings.warn(
            f"{where}: {share} outside {low:.6g} to {high:.6g}, which the input can hold, and cut",
            MidgeWarning,
            stacklevel=2,
        )


def _binary32(array: Array, where: str) -> Array:
    with np.errstate(over="ignore"):
        narrow: Array = array.astype(np.float32)
    if (np.isinf(narrow) & np.isfinite(array)).any():
        raise UsageError("has values beyond float32", where=where, hint="scale them")
    return narrow


def batch_of(array: Array, t: TensorType, where: str, name: str) -> list[Array]:
    """One input, or the inputs of a batch."""
    if array.shape == t.shape:
        return [array]
    if array.shape[1:] == t.shape:
        return list(array)
    if t.shape[:1] == (1,) and array.shape[1:] == t.shape[1:]:
        return list(array.reshape(-1, *t.shape))
    raise UsageError(
        f"{name!r} has shape {list(array.shape)}",
        where=where,
        hint=f"the model takes {list(t.shape)}, or a batch of them",
    )
