"""midge verify: the same answer from the framework, the reference and the C."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from midge.cli.arguments import (
    DEFAULT_TARGET,
    Accuracy,
    Inputs,
    Json,
    Model,
    QuantizeInputs,
    Seed,
    TargetName,
    Toolchain,
    check_count,
)
from midge.cli.building import compile_model, with_options
from midge.cli.commands import command
from midge.cli.output import console, note, number, print_json, shorten, table
from midge.core.errors import UsageError
from midge.core.options import CompileOptions
from midge.core.types import Array
from midge.verify import FLOAT_BOUND_ULP, Difference, Stage, Verdict


@command("verify")
@with_options
def verify_command(
    model: Model,
    options: CompileOptions,
    target: TargetName = DEFAULT_TARGET,
    on: Annotated[
        str, typer.Option("--on", help="Where the C runs, comma separated: host, emulator, qemu.")
    ] = "host,emulator",
    inputs: Inputs = None,
    quantize_inputs: QuantizeInputs = False,
    accuracy: Accuracy = None,
    count: Annotated[int, typer.Option("--count", "-n", help="Number of random inputs.")] = 5,
    seed: Seed = 0,
    layers: Annotated[
        bool, typer.Option("--layers", help="Compare every operator's output as well.")
    ] = False,
    require_framework: Annotated[
        bool, typer.Option("--require-framework", help="Fail if the framework is not installed.")
    ] = False,
    toolchain: Toolchain = None,
    as_json: Json = False,
) -> None:
    """Compare MODEL's C with its framework: exact for integers, bounded for floats."""
    from rich.markup import escape
    from rich.progress import Progress

    from midge.data import inputs_for, labels_for
    from midge.run import RUNNERS
    from midge.verify import verify

    runners = [r.strip() for r in on.split(",") if r.strip()]
    for runner in runners:
        RUNNERS[runner]
    compiled = compile_model(model, target, options)
    check_count(count)
    sets = inputs_for(compiled.model, inputs, count, seed, quantize=quantize_inputs, note=note)
    labels = labels_for(accuracy, inputs, len(sets))
    out = console()
    with Progress(console=out, transient=True, disable=as_json) as bar:
        tasks: dict[str, Any] = {}

        def progress(stage: str, done: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(escape(stage), total=len(sets))
            bar.update(tasks[stage], completed=done)

        verdict = verify(
            compiled,
            model,
            sets,
            runners=runners,
            toolchain=toolchain,
            layers=layers,
            progress=progress,
        )
    if require_framework and not verdict.judged:
        reason = verdict.stages[0].skipped
        raise UsageError(reason, where="--require-framework")
    if as_json:
        print_json(_as_json(compiled.package.name, verdict) | _accuracy(verdict, labels))
    else:
        _show(compiled.package.name, verdict, layers)
        for title, share in _accuracy(verdict, labels).get("accuracy", {}).items():
            console().print(f"Top-1: {100 * share:.2f} % by {title}")
    if not verdict.ok:
        raise typer.Exit(1)


def _accuracy(verdict: Verdict, labels: Array | None) -> dict[str, Any]:
    """The share of right answers by each stage that ran."""
    from midge.quantize.report import top_1

    if labels is None:
        return {}
    ran = [s for s in verdict.stages if not s.skipped]
    return {"accuracy": {s.title: top_1(s.answers, labels) for s in ran}}


def _as_json(name: str, verdict: Verdict) -> dict[str, Any]:
    return {
        "model": name,
        "ok": verdict.ok,
        "against": verdict.against,
        "self_check_only": not verdict.judged,
        "inputs": verdict.inputs,
        "float_bound_ulp": FLOAT_BOUND_ULP,
        "stages": [
            {
                "name": s.name,
                "title": s.title,
                "skipped": s.skipped or None,
                "notes": list(s.notes),
                "apart": dict(s.apart),
                "ok": s.ok,
                "first_difference": s.first_difference,
                "outputs": [_difference(d) for d in s.outputs.values()],
                "layers": [_difference(d) for d in s.layers.values()],
                "bounded": [
                    {"tensor": t, "elements": b.elements, "differing": b.differing, "steps": 1}
                    for t, b in s.steps.items()
                ],
            }
            for s in verdict.stages
        ],
    }


def _difference(d: Difference) -> dict[str, Any]:
    return {
        "tensor": d.tensor,
        "elements": d.elements,
        "differing": d.differing,
        "max_error": d.max_error,
        "ulp": d.ulp,
        "exact": d.exact,
        "ok": d.ok,
    }


def _show(name: str, verdict: Verdict, layers: bool) -> None:
    out = console()
    rows = []
    for stage in verdict.stages:
        rows.append((stage.title, *_cells(stage, verdict)))
    columns = ("stage", "elements", "differing", "max error", "ulp", "")
    out.print(table(columns, rows, title=f"{name}, {verdict.inputs} inputs", right=" rrrr"))
    if layers:
        for stage in verdict.stages:
            if stage.layers:
                out.print()
                out.print(_layers(stage))
    out.print()
    for stage in verdict.stages:
        if (bad := stage.first_difference) is not None:
            out.print(f"First difference on {stage.title}: {bad}", soft_wrap=True)
    _conclude(out, verdict)


def _conclude(out: Any, verdict: Verdict) -> None:
    framework = verdict.stages[0]
    exact = all(d.exact for s in verdict.stages for d in s.outputs.values())
    how = "byte for byte" if exact else f"within {FLOAT_BOUND_ULP:g} ulp"
    judge = "the framework" if verdict.judged else "Midge's own NumPy reference"
    if not verdict.ok:
        out.print("wrong", style="bold red", end="")
        out.print(f": differs from {judge}; --layers shows where it begins")
    elif verdict.judged:
        out.print("right", style="bold green", end="")
        out.print(f": agrees with {judge} {how}")
    else:
        out.print("self-check only", style="bold yellow", end="")
        out.print(f": agrees with {judge} {how}")
    if not verdict.judged:
        out.print(f"No framework has judged it: {framework.skipped}")
        return
    for text in framework.notes:
        out.print(text)
    for tensor, how in framework.apart.items():
        out.print(f"{tensor} is judged by the NumPy reference: {how}")
    for stage in verdict.stages:
        if stage.steps:
            differing = sum(b.differing for b in stage.steps.values())
            elements = sum(b.elements for b in stage.steps.values())
            out.print(
                f"Bounded by one step, as the framework's own floats decide them: "
                f"{number(differing)} of {number(elements)} elements differ so, of "
                f"{len(stage.steps)} tensors; all that follows is judged from the framework's."
            )


def _cells(stage: Stage, verdict: Verdict) -> tuple[str, str, str, str, str]:
    if stage.skipped:
        return "", "", "", "", f"skipped: {shorten(stage.skipped, 28)}"
    if stage.name == verdict.against:
        return "", "", "", "", "the judge"
    total = list(stage.outputs.values())
    merged = total[0]
    for d in total[1:]:
        merged = merged.merged(d)
    return (
        number(merged.elements),
        number(merged.differing),
        f"{merged.max_error:.3g}",
        "" if merged.exact else f"{merged.ulp:.1f}",
        "ok" if stage.ok else "DIFFERS",
    )


def _layers(stage: Stage) -> Any:
    rows = [
        (shorten(d.tensor, 44), number(d.elements), number(d.differing), f"{d.max_error:.3g}",
         "ok" if d.ok else "DIFFERS")
        for d in stage.layers.values()
    ]  # fmt: skip
    columns = ("tensor", "elements", "differing", "max error", "")
    return table(columns, rows, title=stage.title, right=" rrr")
