"""midge quantize: a float model becomes an integer one, and what that costs is shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from midge.cli.arguments import InputShapes, Json, Model
from midge.cli.commands import command, files_of
from midge.cli.output import console, counted, note, number, print_json, shorten, warn
from midge.cli.quality import check_picture, decibels, draw, layers_table, type_name
from midge.core.errors import UsageError
from midge.core.files import check_apart
from midge.core.options import input_shapes
from midge.core.progress import Progress
from midge.core.types import Array, DType
from midge.graph.ir import Graph
from midge.quantize.mixed import Mixed, choose_mixed
from midge.quantize.options import Options, check_choice
from midge.quantize.prepare import check_float
from midge.quantize.quantizer import Quantized, build, check_some, learn
from midge.quantize.report import (
    Layer,
    Sample,
    answers,
    check_labels,
    float_answers,
    layer_report,
    output_noise,
    top_1,
)

_TYPES = {"int8": DType.I8, "int16": DType.I16}
Answers = list[list[Array]]  # outputs of every sample

Data = Annotated[
    Path | None,
    typer.Option(
        "--data", "-d", help="Calibration inputs: .npy or .npz with a leading axis of samples."
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="File to write: .midge or .tflite; default: NAME.midge."),
]
Method = Annotated[
    str,
    typer.Option("--method", help="Ranges of activations: minmax, percentile, entropy or mse."),
]
Int16 = Annotated[
    list[str] | None,
    typer.Option("--int16", help="A layer to keep on int16: its output, or @4 for operator 4."),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--mixed",
        metavar="BUDGET",
        help="Keep the most sensitive layers on int16 until the loss is within BUDGET: points of "
        "top-1 with --accuracy, else dB of signal to noise that the outputs reach.",
    ),
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the quantiser has to tell."""

    quantized: Quantized
    mixed: Mixed | None
    noise: float
    before: float | None
    after: float | None
    layers: list[Layer]
    samples: int
    size: int
    path: Path


@command("quantize", writes=("picture",))
def quantize_command(
    model: Model,
    data: Data = None,
    output: Output = None,
    method: Method = "percentile",
    percentile: Annotated[
        float, typer.Option("--percentile", help="Percent of the values inside the range.")
    ] = 99.99,
    activations: Annotated[
        str, typer.Option("--activations", help="Type of activations: int8 or int16.")
    ] = "int8",
    io: Annotated[
        str, typer.Option("--io", help="Inputs and outputs of the model: int or float.")
    ] = "int",
    int16: Int16 = None,
    mixed: Budget = None,
    shape: InputShapes = None,
    bias_correction: Annotated[
        bool, typer.Option("--bias-correction/--no-bias-correction", help="Correct mean errors.")
    ] = True,
    equalize: Annotated[
        bool, typer.Option("--equalize/--no-equalize", help="Balance successive layers' weights.")
    ] = False,
    float16: Annotated[
        bool,
        typer.Option("--float16-weights", help="Stay float, with weights of half the size."),
    ] = False,
    accuracy: Annotated[
        Path | None,
        typer.Option("--accuracy", help="Labels (.npy): show top-1 before and after."),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option("--test", help="Inputs of --accuracy and --report; default: --data."),
    ] = None,
    report: Annotated[
        bool, typer.Option("--report", help="Show each layer's signal to noise.")
    ] = False,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="Draw that report to this .svg or .png.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Quantise the float MODEL by TFLite's rules: int8 weights, int8 or int16 activations."""
    from midge.driver import load
    from midge.export import writer_for

    path = output if output is not None else Path(f"{model.stem}.midge")
    writer_for(path)
    check_apart(path, "--output", files_of(model=model, data=data, test=test, labels=accuracy))
    if mixed is not None and not (mixed >= 0 and np.isfinite(mixed)):
        raise UsageError(f"{mixed:g} is no budget", where="--mixed", hint="0 or more: points or dB")
    graph = load(model, shapes=input_shapes(shape or [], "--shape"))
    if float16:
        _halve(graph, path, as_json)
        return
    check_float(graph)
    if data is None:
        raise UsageError(
            "needs samples of what the model will see", where="--data", hint="--data calib.npz"
        )
    if picture is not None:
        check_picture(picture)
    options = Options(
        method=method,
        percentile=percentile,
        activations=_activations(activations),
        int16=frozenset(int16 or ()),
        float_io=_is_float_io(io),
        bias_correction=bias_correction,
        equalize=equalize,
    )
    wants_layers = report or picture is not None
    outcome = _run(graph, path, options, data, test, accuracy, mixed, wants_layers, as_json)
    if picture is not None:
        draw(outcome.layers, picture, f"{graph.name}, {outcome.samples} samples")
    if as_json:
        print_json(_as_json(outcome, graph))
    else:
        _show(outcome, graph, report, mixed)


def _activations(name: str) -> DType:
    check_choice(name, tuple(_TYPES), "--activations")
    return _TYPES[name]


def _is_float_io(name: str) -> bool:
    """int8 and int16 are other words for int: the type of the activations decides."""
    check_choice(name, ("int", "int8", "int16", "float"), "--io")
    return name == "float"


def _run(
    graph: Graph,
    path: Path,
    options: Options,
    data: Path,
    test: Path | None,
    accuracy: Path | None,
    budget: float | None,
    wants_layers: bool,
    quiet: bool,
) -> Outcome:
    from rich.progress import Progress as Bars

    from midge.data import load_inputs, load_labels
    from midge.export import save

    samples: list[Sample] = [*load_inputs(data, graph, note=note)]
    judged: list[Sample] = samples if test is None else [*load_inputs(test, graph, note=note)]
    labels = None if accuracy is None else load_labels(accuracy, len(judged))
    if labels is not None:
        check_labels(labels, graph.types[graph.outputs[0]])
    with Bars(console=console(), transient=True, disable=quiet) as bars:
        progress = _progress(bars)
        calibrated = learn(graph, samples, options, progress)
        real = float_answers(calibrated.graph, judged)
        mixed = None
        if budget is not None:
            loss, most = _loss(judged, real, labels, budget)
            mixed = choose_mixed(calibrated, options, judged, loss, most, progress)
        quantized = mixed.quantized if mixed is not None else build(calibrated, options)
        check_some(quantized)
        layers = layer_report(quantized, judged, progress) if wants_layers else []
    before = after = None
    if labels is not None:
        before, after = (_top_1(found, labels) for found in (real, answers(quantized, judged)))
    noise = output_noise(quantized, judged, real)
    size = save(quantized.graph, path)
    return Outcome(quantized, mixed, noise, before, after, layers, len(samples), size, path)


def _progress(bars: Any) -> Progress:
    from rich.markup import escape

    tasks: dict[str, Any] = {}

    def tell(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(escape(stage), total=total)
        bars.update(tasks[stage], completed=done)

    return tell


def _top_1(outputs: Answers, labels: Array) -> float:
    """Of the first output, in percent."""
    return 100 * top_1([found[0] for found in outputs], labels)


def _loss(
    samples: list[Sample], real: Answers, labels: Array | None, budget: float
) -> tuple[Callable[[Quantized], float], float]:
    """Points of top-1 that are lost, or the outputs' noise in dB."""
    if labels is None:
        return lambda q: -output_noise(q, samples, real), -budget
    before = _top_1(real, labels)
    return lambda q: before - _top_1(answers(q, samples), labels), budget


def _halve(graph: Graph, path: Path, as_json: bool) -> None:
    from midge.export import save
    from midge.quantize.halves import float16_weights

    size = save(float16_weights(graph), path)
    if as_json:
        print_json({"model": graph.name, "output": str(path), "size": size, "weights": "float16"})
    else:
        console().print(f"Wrote {path}: {number(size)} bytes, weights in float16", soft_wrap=True)


def _as_json(outcome: Outcome, graph: Graph) -> dict[str, Any]:
    quantized = outcome.quantized
    return {
        "model": graph.name,
        "output": str(outcome.path),
        "size": outcome.size,
        "samples": outcome.samples,
        "method": quantized.options.method,
        "int16": sorted(quantized.options.int16),
        "float": [{"where": x.where, "op": x.op, "reason": x.reason} for x in quantized.left],
        "output_snr_db": _finite(outcome.noise),
        "top_1_before": outcome.before,
        "top_1_after": outcome.after,
        "within_budget": outcome.mixed.within if outcome.mixed is not None else None,
        "layers": [
            {
                "name": x.name,
                "op": x.op,
                "where": x.where,
                "type": type_name(x.dtype),
                "snr_db": _finite(x.signal_to_noise),
                "max_error": x.largest,
            }
            for x in sorted(outcome.layers, key=lambda x: x.signal_to_noise)
        ],
    }


def _finite(value: float) -> float | None:
    """JSON has no infinity: null is an exact result."""
    return value if np.isfinite(value) else None


def _show(outcome: Outcome, graph: Graph, report: bool, budget: float | None) -> None:
    out, quantized = console(), outcome.quantized
    if report:
        out.print(layers_table(outcome.layers))
        out.print()
    counts = [
        (type_name(d), sum(1 for x in quantized.dtypes if x is d)) for d in (DType.I8, DType.I16)
    ]
    operators = ", ".join(f"{counted(n, 'operator')} on {name}" for name, n in counts if n)
    out.print(f"{graph.name}: {operators}; calibrated on {counted(outcome.samples, 'sample')}")
    out.print(f"Outputs: {decibels(outcome.noise)} dB of signal to noise against the float model")
    if outcome.before is not None and outcome.after is not None:
        out.print(f"Top-1: {outcome.before:.2f} % in float, {outcome.after:.2f} % quantised")
    if outcome.mixed is not None:
        _show_mixed(outcome.mixed, out)
    out.print(f"Wrote {outcome.path}: {number(outcome.size)} bytes", soft_wrap=True)
    for left in quantized.left:
        warn(f"{left.where} stays float: {left.reason}")
    if outcome.mixed is not None and not outcome.mixed.within:
        warn(f"the budget of {budget:g} is not reached with every layer on int16")


def _show_mixed(mixed: Mixed, out: Any) -> None:
    chosen = [(n, gain) for n, gain in mixed.order if n in mixed.quantized.options.int16]
    if mixed.within and not chosen:
        out.print("Mixed: within the budget with no layer on int16")
    for name, gain in chosen:
        out.print(f"On int16: {shorten(name, 52)} (alone {gain:+.1f} dB)")
