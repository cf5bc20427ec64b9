"""How near a quantised graph is to its float graph: per layer in decibels, and by its answers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from midge.core.errors import UsageError
from midge.core.progress import Progress, silent
from midge.core.types import Array, DType, TensorType
from midge.graph.evaluate import evaluate_all
from midge.graph.fixed_point import dequantize
from midge.graph.ir import Graph
from midge.quantize.calibrate import runnable
from midge.quantize.quantizer import Quantized
from midge.quantize.scheme import computed_floats

Sample = Mapping[str, Array]


@dataclass(frozen=True, slots=True)
class Layer:
    """signal_to_noise: of the node's output against the float graph's, in dB, with the errors of
    all layers before it; infinite where there is none.  largest: of the absolute errors."""

    name: str
    op: str
    where: str
    dtype: DType | None
    signal_to_noise: float
    largest: float


def decibels(signal: float, noise: float) -> float:
    """10 log10 of a ratio of energies."""
    if noise == 0.0:
        return math.inf
    return 10.0 * math.log10(signal / noise) if signal > 0.0 else -math.inf


def layer_report(
    quantized: Quantized, samples: Sequence[Sample], progress: Progress = silent
) -> list[Layer]:
    """One entry for each node that computes on floats, in the graph's order."""
    floats = quantized.floats
    dtypes = dict(zip((n.outputs for n in floats.nodes), quantized.dtypes, strict=True))
    nodes = {o: n for n in floats.nodes for o in computed_floats(floats, n.outputs)}
    sums = {o: np.zeros(2) for o in nodes}
    largest = dict.fromkeys(nodes, 0.0)
    pairs = _both(quantized, samples)
    for i, (real, integers) in enumerate(pairs):
        for name in nodes:
            own = quantized.values[name]
            have = as_real(integers[own], quantized.graph.types[own])
            signal = real[name].astype(np.float64)
            noise = have.astype(np.float64) - signal
            sums[name] += np.array([(signal**2).sum(), (noise**2).sum()])
            largest[name] = max(largest[name], float(np.abs(noise).max(initial=0.0)))
        progress("report", i + 1, len(samples))
    return [
        Layer(o, n.kind or n.op, n.src, dtypes[n.outputs], decibels(*sums[o]), largest[o])
        for o, n in nodes.items()
    ]


def _both(
    quantized: Quantized, samples: Sequence[Sample]
) -> Iterator[tuple[Mapping[str, Array], Mapping[str, Array]]]:
    floats, integers = runnable(quantized.floats), runnable(quantized.graph)
    for sample in samples:
        given = as_inputs(quantized.graph, sample)
        yield evaluate_all(floats, sample), evaluate_all(integers, given)


def float_answers(floats: Graph, samples: Sequence[Sample]) -> list[list[Array]]:
    """Outputs of a float graph per sample: what many quantised ones can be compared with."""
    plain = runnable(floats)
    return [
        [values[n] for n in floats.outputs] for values in (evaluate_all(plain, s) for s in samples)
    ]


def answers(quantized: Quantized, samples: Sequence[Sample]) -> list[list[Array]]:
    """Outputs of the quantised graph, as real numbers, per sample."""
    graph = quantized.graph
    plain = runnable(graph)
    found = []
    for sample in samples:
        values = evaluate_all(plain, as_inputs(graph, sample))
        found.append([as_real(values[n], graph.types[n]) for n in graph.outputs])
    return found


def output_noise(
    quantized: Quantized, samples: Sequence[Sample], real: Sequence[Sequence[Array]] | None = None
) -> float:
    """Signal to noise of all outputs together, in dB. real: `float_answers`, if at hand."""
    wanted = float_answers(quantized.floats, samples) if real is None else real
    signal = noise = 0.0
    for outputs, have in zip(wanted, answers(quantized, samples), strict=True):
        for a, b in zip(outputs, have, strict=True):
            signal += float((a.astype(np.float64) ** 2).sum())
            noise += float(((a.astype(np.float64) - b) ** 2).sum())
    return decibels(signal, noise)


def top_1(outputs: Sequence[Array], labels: Array) -> float:
    """The share of outputs whose greatest element is at the label's place; of one element: on the
    label's side of one half, or the label itself where it is a number of 32 or 64 bits.
    UsageError as of `check_classes`."""
    least = min(outputs, key=lambda o: o.size)
    check_classes(labels, least.size, _is_label(least.dtype))
    found = [int(np.argmax(o)) if o.size > 1 else _alone(o.reshape(-1)[0]) for o in outputs]
    return float((np.array(found) == labels).mean())


def check_classes(labels: Array, elements: int, label: bool) -> None:
    """UsageError for labels that no output of so many elements can have. label: one alone is the
    label itself, and may be any."""
    if elements == 1 and label:
        return
    classes = max(elements, 2)
    wrong = labels[(labels < 0) | (labels >= classes)]
    if wrong.size:
        has = f"{elements} elements" if elements > 1 else "1 element, which is over one half or not"
        raise UsageError(
            f"label {wrong[0]}, but the output has {has}",
            where="labels",
            hint=f"give class numbers from 0 to {classes - 1}",
        )


def check_labels(labels: Array, output: TensorType) -> None:
    """UsageError for labels that a model's first output cannot have."""
    dtype = np.dtype(output.dtype.numpy)
    check_classes(labels, output.elements, output.quant is None and _is_label(dtype))


def _is_label(dtype: np.dtype[Any]) -> bool:
    """Whether an element alone is the number of a class."""
    return dtype.kind == "i" and dtype.itemsize >= 4


def _alone(value: np.generic) -> int:
    return int(value.item()) if _is_label(value.dtype) else int(value.item() > 0.5)


def as_inputs(graph: Graph, sample: Sample) -> dict[str, Array]:
    """Real inputs as the quantised graph takes them: round(x / scale) + zero point, saturated."""
    return {n: as_integers(sample[n], graph.types[n]) for n in graph.inputs}


def as_integers(values: Array, t: TensorType) -> Array:
    """What QUANTIZE makes of real numbers; values of another kind stay as they are."""
    if t.quant is None or values.dtype != np.float32:
        return values
    with np.errstate(over="ignore"):  # an infinity is cut as any large number is
        scaled = (values / np.float32(t.quant.scale[0])).astype(np.float64)
    rounded = np.trunc(scaled + np.copysign(0.5, scaled)) + t.quant.zero_point[0]
    result: Array = np.clip(rounded, t.dtype.min, t.dtype.max).astype(t.dtype.numpy)
    return result


def as_real(values: Array, t: TensorType) -> Array:
    """The real numbers that a tensor's elements stand for."""
    return values if t.quant is None else dequantize(values, t)
