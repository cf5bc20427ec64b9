"""Inputs for models: random ones, or from npy and npz files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from midge.core.errors import UsageError
from midge.core.types import Array, DType, TensorType
from midge.graph.index_ranges import Wanted, index_ranges
from midge.graph.ir import Graph


def random_inputs(graph: Graph, count: int, seed: int) -> list[dict[str, Array]]:
    """`count` sets of inputs: integers over their whole range, floats standard normal, indices
    into tables as far as these go.

    The first two sets of integer models are all least and all greatest values.
    """
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
        return rng.integers(*limits, endpoint=True).astype(t.dtype.numpy)
    if t.dtype.is_float:
        return rng.standard_normal(t.shape).astype(t.dtype.numpy)
    if t.dtype is DType.BOOL:
        return rng.integers(0, 2, t.shape).astype(np.bool_)
    return rng.integers(t.dtype.min, t.dtype.max, t.shape, t.dtype.numpy, endpoint=True)


def inputs_for(graph: Graph, path: Path | None, count: int, seed: int) -> list[dict[str, Array]]:
    """The sets of inputs in the file `path`, or `count` random ones without a file."""
    return random_inputs(graph, count, seed) if path is None else load_inputs(path, graph)


def load_inputs(path: Path, graph: Graph) -> list[dict[str, Array]]:
    """Sets of inputs from a file.

    .npy: one input, or a batch of them along a leading axis, for a model with one input.
    .npz: arrays named as the model's inputs (or input_0, input_1, ...), batches likewise.
    """
    return input_sets(_read(path, graph), graph, str(path))


def input_sets(arrays: Mapping[str, Array], graph: Graph, where: str) -> list[dict[str, Array]]:
    """Arrays by input name, each of one input or a batch of them, as sets of inputs. UsageError
    for shapes, types or counts that do not fit."""
    batches = {name: _batch(where, name, graph.types[name], arrays[name]) for name in graph.inputs}
    counts = {len(b) for b in batches.values()}
    if len(counts) != 1:
        raise UsageError(f"inputs have different counts: {sorted(counts)}", where=where)
    count = counts.pop()
    if count == 0:
        raise UsageError("holds an empty batch", where=where, hint="give one input or more")
    return [{n: b[i] for n, b in batches.items()} for i in range(count)]


def _read(path: Path, graph: Graph) -> Mapping[str, Array]:
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(
            f"cannot be read as npy or npz: {error}", where=str(path), hint="write it with np.save"
        ) from None
    if isinstance(loaded, np.ndarray):
        if len(graph.inputs) != 1:
            names = ", ".join(graph.inputs)
            raise UsageError(
                f"an npy file holds one input, the model has {len(graph.inputs)}",
                where=str(path),
                hint=f"give an npz with {names}",
            )
        return {graph.inputs[0]: loaded}
    return {n: _named(path, loaded, n, i) for i, n in enumerate(graph.inputs)}


def _named(path: Path, loaded: Mapping[str, Array], name: str, index: int) -> Array:
    for key in (name, f"input_{index}", "input" if index == 0 else ""):
        if key in loaded:
            return np.asarray(loaded[key])
    raise UsageError(f"has no array {name!r}", where=str(path), hint=f"it has {', '.join(loaded)}")


def _batch(where: str, name: str, t: TensorType, array: Array) -> list[Array]:
    if array.dtype != t.dtype.numpy:
        raise UsageError(
            f"{name!r} is {array.dtype}", where=where, hint=f"the model takes {t.dtype.numpy}"
        )
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
