"""The quantiser on one page: prepare, calibrate, choose types, rewrite, try."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from midge.core.errors import MidgeWarning, ModelError, UsageError
from midge.core.progress import Progress, silent
from midge.core.texts import words_of
from midge.core.types import Array, DType
from midge.graph.ir import Graph, Node, expand
from midge.graph.quantizing import QUANTIZING
from midge.quantize.calibrate import Seen, calibrate
from midge.quantize.equalize import equalize
from midge.quantize.masks import bound_masks
from midge.quantize.options import Options
from midge.quantize.prepare import prepare
from midge.quantize.rewrite import Rewriter, Rewritten
from midge.quantize.scheme import Left, computed_floats, make_scheme


@dataclass(frozen=True, slots=True)
class Calibrated:
    """A float graph that is ready to be quantised, and what its values are like."""

    graph: Graph
    seen: Mapping[str, Seen]


@dataclass(frozen=True, slots=True)
class Quantized:
    """A quantised graph and the float one that it stands for.

    values: float value -> the value of `graph` that stands for it.  left: nodes that stay float.
    dtypes: per node of the float graph, the type that it computes in, None for as it is.
    """

    graph: Graph
    floats: Graph
    values: Mapping[str, str]
    dtypes: tuple[DType | None, ...]
    left: tuple[Left, ...]
    options: Options


def quantize(
    graph: Graph,
    samples: Sequence[Mapping[str, Array]],
    options: Options | None = None,
    progress: Progress = silent,
) -> Quantized:
    """Quantise a float graph by what its values are like on `samples` (inputs by name).

    ModelError for a graph that is quantised already; UsageError for options or samples that do
    not fit it.
    """
    options = options or Options()
    return build(learn(graph, samples, options, progress), options)


def _check_numbers(samples: Sequence[Mapping[str, Array]]) -> None:
    """UsageError for data that no range holds."""
    for i, sample in enumerate(samples):
        for name, array in sample.items():
            if array.dtype.kind != "f" or np.isfinite(array).all():
                continue
            nan = np.isnan(array).any()
            raise UsageError(
                f"has {'values that are not numbers (NaN)' if nan else 'infinite values'}",
                where=f"sample {i} of input {name!r}",
                hint="mend the calibration data",
            )


def _check_varied(samples: Sequence[Mapping[str, Array]]) -> None:
    """UsageError for data of which all is one number, MidgeWarning for an input that is: that says
    nothing of a range."""
    floats = [n for n, array in samples[0].items() if array.dtype.kind == "f"] if samples else []
    constant = {n: value for n in floats if (value := _only_value(samples, n)) is not None}
    for name, value in constant.items():
        what, hint = f"is {value:g} everywhere", "give inputs that the model will really see"
        where = f"calibration data of input {name!r}"
        if len(constant) == len(floats):
            raise UsageError(f"{what}: no range can be learned", where=where, hint=hint)
        warnings.warn(f"{where}: {what}; {hint}", MidgeWarning, stacklevel=3)


def _only_value(samples: Sequence[Mapping[str, Array]], name: str) -> float | None:
    """The number that all elements of an input are."""
    arrays = [s[name] for s in samples if s[name].size]
    if not arrays:
        return None
    first = float(arrays[0].flat[0])
    return first if all((a == first).all() for a in arrays) else None


def learn(
    graph: Graph,
    samples: Sequence[Mapping[str, Array]],
    options: Options,
    progress: Progress = silent,
) -> Calibrated:
    """The part that runs the float graph: `build` can follow several times."""
    _check_numbers(samples)
    floats = prepare(graph)
    if any(n.op in QUANTIZING for n in floats.nodes):
        _check_varied(samples)
    floats = bound_masks(floats, samples, options.activations)
    if options.equalize:
        floats = equalize(floats)
    histograms = options.method != "minmax"
    return Calibrated(floats, calibrate(floats, samples, histograms=histograms, progress=progress))


def build(calibrated: Calibrated, options: Options) -> Quantized:
    """The quantised graph. A node whose integer kernel refuses its scales stays float."""
    floats = calibrated.graph
    options = replace(options, int16=_layers(floats, options.int16))
    refused: dict[int, str] = {}
    while True:
        scheme = make_scheme(floats, calibrated.seen, options, refused)
        rewritten = Rewriter(floats, scheme, calibrated.seen, options).rewrite()
        found = _refusals(rewritten, scheme.dtypes)
        if not found:
            break
        refused |= found
    return Quantized(rewritten.graph, floats, rewritten.values, scheme.dtypes, scheme.left, options)


def check_some(quantized: Quantized) -> None:
    """ModelError if everything stays float, as trees do."""
    if any(quantized.dtypes):
        return
    names = ", ".join(sorted({n.op for n in quantized.floats.nodes}))
    raise ModelError(
        f"has nothing that can be quantised: its operators are {names}",
        where=quantized.floats.name,
        hint="midge compile takes the model as it is",
    )


def _refusals(rewritten: Rewritten, dtypes: Sequence[DType | None]) -> dict[int, str]:
    """Nodes that cannot be spelled out in integers, and why."""
    graph = rewritten.graph
    found: dict[int, str] = {}
    for i, node in enumerate(rewritten.nodes):
        if dtypes[i] is None:
            continue
        try:
            expand(node, graph.types, graph.consts)
        except ModelError as error:
            found[i] = error.what
    return found


def layers(graph: Graph) -> list[Node]:
    """The nodes that compute on floats: what `Options.int16` can name."""
    return [n for n in graph.nodes if computed_floats(graph, n.outputs)]


def _layers(graph: Graph, names: frozenset[str]) -> frozenset[str]:
    """Layers by their outputs' names; "@4" is what operator 4 of the model file became, and so is
    the name that it has there."""
    known: dict[str, set[str]] = {}
    for node in layers(graph):
        for word in (*node.outputs, *words_of(node.src)):
            known.setdefault(word, set()).update(node.outputs)
    for name in sorted(names):
        if name not in known:
            raise UsageError(
                f"the model has no layer {name!r}",
                where="--int16",
                hint="name layers as --report does, or @4 for operator 4",
            )
    return frozenset(o for n in names for o in known[n])


def with_int16(options: Options, names: frozenset[str]) -> Options:
    """The same with other layers on int16."""
    return replace(options, int16=names)
