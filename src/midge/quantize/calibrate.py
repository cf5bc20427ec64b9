"""What the values of a float graph are like on samples: ranges, histograms, means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from midge.core.errors import ModelError, UsageError
from midge.core.progress import Progress, silent
from midge.core.types import Array, DType
from midge.graph.evaluate import evaluate_all
from midge.graph.ir import OPS, Graph
from midge.passes import run
from midge.passes.legalize import legalize

BINS = 2048


@dataclass(frozen=True, slots=True)
class Seen:
    """The values of one tensor over all samples.

    least, most: limits.  histogram: counts of BINS equal intervals between them, where it was
    asked for.  mean: over the samples, in the tensor's shape, where it was asked for.
    """

    least: float
    most: float
    histogram: Array | None = None
    mean: Array | None = None


@dataclass(slots=True)
class _Counter:
    least: float = np.inf
    most: float = -np.inf
    total: Array | None = None
    counts: Array = field(default_factory=lambda: np.zeros(BINS, np.int64))


def runnable(graph: Graph) -> Graph:
    """A graph at the plain level, which evaluates without expanding every node again. Values of
    the model level keep their names."""
    return run((legalize,), graph)


def calibrate(
    graph: Graph,
    samples: Sequence[Mapping[str, Array]],
    *,
    histograms: bool,
    progress: Progress = silent,
) -> dict[str, Seen]:
    """Every float value of `graph`, as `samples` (inputs by name) make it.

    UsageError without samples; ModelError if a value is not finite.
    """
    if not samples:
        raise UsageError("there are no samples", where="--data", hint="give one or more")
    names = [n for n, t in graph.types.items() if t.dtype is DType.F32 and n not in graph.consts]
    averaged = {n.inputs[0] for n in graph.nodes if OPS[n.op].channel_axis is not None}
    counters = {n: _Counter() for n in names}
    plain = runnable(graph)
    for i, sample in enumerate(samples):
        values = evaluate_all(plain, sample)
        for name, counter in counters.items():
            _limits(counter, values[name], f"value {name!r}, sample {i}", name in averaged)
        progress("ranges", i + 1, len(samples))
    if histograms:
        for i, sample in enumerate(samples):
            values = evaluate_all(plain, sample)
            for name, counter in counters.items():
                _count(counter, values[name])
            progress("histograms", i + 1, len(samples))
    return {n: _seen(c, len(samples), histograms) for n, c in counters.items()}


def _limits(counter: _Counter, values: Array, where: str, averaged: bool) -> None:
    if values.size == 0:
        counter.least = counter.most = 0.0
        return
    least, most = float(values.min()), float(values.max())
    if not np.isfinite(least) or not np.isfinite(most):
        raise ModelError(
            "is not finite on the calibration data",
            where=where,
            hint="check the data's scale, and the model",
        )
    counter.least, counter.most = min(counter.least, least), max(counter.most, most)
    if averaged:
        wide = values.astype(np.float64)
        counter.total = wide if counter.total is None else counter.total + wide


def _count(counter: _Counter, values: Array) -> None:
    if counter.most > counter.least:
        # binary64 tells apart the edges of intervals that binary32 does not, far from zero.
        found, _ = np.histogram(values.astype(np.float64), BINS, (counter.least, counter.most))
        counter.counts += found


def _seen(counter: _Counter, count: int, histograms: bool) -> Seen:
    mean = None if counter.total is None else counter.total / count
    histogram = counter.counts if histograms and counter.most > counter.least else None
    return Seen(counter.least, counter.most, histogram, mean)
