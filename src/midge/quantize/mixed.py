"""Mixed precision: the fewest layers on int16 with which the loss stays within a budget.

Each layer is tried alone on int16, and what that gains at the outputs, in dB, orders them. How
many of the most gainful ones must join is found by halving, as if each made the loss smaller:
with one layer less the loss is beyond the budget. Where not even all of them are enough (their
weights stay int8), nothing else is tried. A layer that only moves numbers follows the one before
it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from midge.core.progress import Progress, silent
from midge.core.types import DType
from midge.graph.quantizing import QUANTIZING
from midge.quantize.options import Options
from midge.quantize.quantizer import Calibrated, Quantized, build, layers, with_int16
from midge.quantize.report import Sample, float_answers, output_noise

Loss = Callable[[Quantized], float]
_TRIALS = 32  # samples with which single layers are tried


@dataclass(frozen=True, slots=True)
class Mixed:
    """quantized: the choice.  order: layers and what each alone on int16 gains in dB, the most
    gainful first; () if that was not asked.  losses: by the number of layers on int16, as far as
    was tried.  within: whether the choice is within the budget."""

    quantized: Quantized
    order: tuple[tuple[str, float], ...]
    losses: Mapping[int, float]
    within: bool


def choose_mixed(
    calibrated: Calibrated,
    options: Options,
    samples: Sequence[Sample],
    loss: Loss,
    budget: float,
    progress: Progress = silent,
) -> Mixed:
    """loss: of a quantised graph, e.g. points of top-1; budget: the greatest that is allowed."""
    names = _candidates(calibrated, options)
    none, every = (
        build(calibrated, with_int16(options, options.int16 | chosen))
        for chosen in (frozenset[str](), frozenset(names))
    )
    losses = {0: loss(none)}
    if losses[0] <= budget:
        return Mixed(none, (), losses, True)
    losses[len(names)] = loss(every)
    if losses[len(names)] > budget:
        return Mixed(every, (), losses, False)
    order = _by_gain(calibrated, options, none, names, samples[:_TRIALS], progress)
    too_few, enough, best = 0, len(names), every
    while enough - too_few > 1:
        count = (too_few + enough) // 2
        chosen = options.int16 | {name for name, _ in order[:count]}
        tried = build(calibrated, with_int16(options, chosen))
        losses[count] = loss(tried)
        if losses[count] <= budget:
            enough, best = count, tried
        else:
            too_few = count
    return Mixed(best, tuple(order), losses, True)


def _candidates(calibrated: Calibrated, options: Options) -> list[str]:
    """Layers that compute and have an int16 form."""
    return [
        o
        for n in layers(calibrated.graph)
        for o in n.outputs[:1]
        if (rule := QUANTIZING.get(n.op)) is not None
        and rule.scales == "free"
        and DType.I16 in rule.dtypes
        and o not in options.int16
    ]


def _by_gain(
    calibrated: Calibrated,
    options: Options,
    start: Quantized,
    names: Sequence[str],
    samples: Sequence[Sample],
    progress: Progress,
) -> list[tuple[str, float]]:
    real = float_answers(calibrated.graph, samples)
    before = output_noise(start, samples, real)
    gains = []
    for i, name in enumerate(names):
        tried = build(calibrated, with_int16(options, options.int16 | {name}))
        gains.append((name, output_noise(tried, samples, real) - before))
        progress("sensitivity", i + 1, len(names))
    return sorted(gains, key=lambda g: -g[1])
