"""midge verify: the same answer from the framework, the reference and the C."""

from __future__ import annotations

from functools import reduce
from typing import Annotated, Any

import typer

from midge.cli.arguments import (
    DEFAULT_TARGET,
    Accuracy,
    Count,
    Inputs,
    Json,
    Model,
    QuantizeInputs,
    Seed,
    TargetName,
    Toolchain,
    count_of,
)
from midge.cli.building import check_given, compile_model, sets_and_labels, with_options
from midge.cli.commands import command
from midge.cli.output import console, note, number, print_json, shorten, table
from midge.core.errors import UsageError
from midge.core.options import CompileOptions
from midge.core.types import Array
from midge.oracle.steps import FEW, Steps
from midge.verify import FLOAT_BOUND_ULP, REFERENCE, Difference, Stage, Verdict

_SHOWN = 8  # bounded tensors at the most


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
    count: Count = None,
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

    from midge.verify import verify

    runners = _runners(on, toolchain)
    many = count_of(count, inputs, 5)
    check_given(model, options, inputs, accuracy, quantize=quantize_inputs)
    compiled = compile_model(model, target, options)
    sets, labels = sets_and_labels(
        compiled.model, inputs, accuracy, many, seed, quantize=quantize_inputs, note=note
    )
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
    if not (verdict.ok and verdict.ran):
        raise typer.Exit(1)


def _runners(on: str, toolchain: str | None) -> list[str]:
    """The names in `on`, once each; UsageError if one is unknown, or the toolchain is."""
    from midge.run import RUNNERS
    from midge.toolchain import TOOLCHAINS

    names = dict.fromkeys(r.strip() for r in on.split(",") if r.strip())
    if not names:
        raise UsageError("names no runner", where="--on", hint=f"known: {', '.join(RUNNERS)}")
    for name in names:
        RUNNERS[name]
    if toolchain is not None:
        TOOLCHAINS[toolchain]
    return list(names)


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
        "ok": verdict.ok and verdict.ran,
        "verdict": ": ".join(_sentence(verdict)),
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
                "end_to_end": [_distance(d) for d in (s.ends or s.outputs).values()],
                "layers": [_difference(d) for d in s.layers.values()],
                "bounded": [
                    {
                        "tensor": t,
                        "operator": b.operator,
                        "elements": b.elements,
                        "differing": b.differing,
                        "steps": 1,
                        "ok": b.ok,
                    }
                    for t, b in s.steps.items()
                ],
            }
            for s in verdict.stages
        ],
    }


def _difference(d: Difference) -> dict[str, Any]:
    return {**_distance(d), "ok": d.ok}


def _distance(d: Difference) -> dict[str, Any]:
    return {
        "tensor": d.tensor,
        "elements": d.elements,
        "differing": d.differing,
        "max_error": d.max_error,
        "ulp": d.ulp,
        "exact": d.exact,
    }


def _show(name: str, verdict: Verdict, layers: bool) -> None:
    out = console()
    rows = [(stage.title, *_cells(stage, verdict)) for stage in verdict.stages]
    columns = ("stage", "elements", "differing", "max error", "ulp", "")
    inputs = f"{verdict.inputs} input{'s' * (verdict.inputs != 1)}"
    out.print(table(columns, rows, title=f"{name}, {inputs}", right=" rrrr"))
    if layers:
        for stage in verdict.stages:
            if stage.layers or stage.steps:
                out.print()
                out.print(_layers(stage))
    out.print()
    for stage in verdict.stages:
        if (bad := stage.first_difference) is not None:
            out.print(f"First difference on {stage.title}: {bad}", soft_wrap=True)
    often = [f"{t}: {_too_many(found)}" for t, found in verdict.steps.items() if not found.ok]
    for text in often[:_SHOWN]:
        out.print(text, soft_wrap=True)
    if len(often) > _SHOWN:
        out.print(f"and {len(often) - _SHOWN} more such tensors")
    _conclude(out, verdict)


def _too_many(found: Steps) -> str:
    return (
        f"{number(found.differing)} of {number(found.elements)} differ by a step, "
        f"more than 1 in {FEW}"
    )


def _sentence(verdict: Verdict) -> tuple[str, str]:
    """The verdict in a word, and what it means."""
    exact = all(d.exact for s in verdict.stages for d in s.outputs.values())
    how = "byte for byte" if exact else f"within {FLOAT_BOUND_ULP:g} ulp"
    judge = "the framework" if verdict.judged else "Midge's own NumPy reference"
    if not verdict.ok:
        return "wrong", f"differs from {judge}; --layers shows where it begins"
    if not verdict.ran:
        return "not run", f"no C ran; Midge's NumPy reference agrees with {judge} {how}"
    if not verdict.judged:
        return "self-check only", f"agrees with {judge} {how}"
    if not verdict.apart:
        return "right", f"agrees with {judge} {how}"
    tensors = "1 tensor" if verdict.apart == 1 else f"{verdict.apart} tensors"
    start = "the framework's bytes" if exact else f"agrees with {judge} {how}"
    return "right", f"{start}, but for {tensors} that its floats decide within a step"


_STYLES = {
    "not run": "bold red",
    "right": "bold green",
    "self-check only": "bold yellow",
    "wrong": "bold red",
}


def _conclude(out: Any, verdict: Verdict) -> None:
    from rich.text import Text

    framework, *others = verdict.stages
    word, meaning = _sentence(verdict)
    out.print(Text.assemble((word, _STYLES[word]), f": {meaning}"))
    for stage in others:
        if stage.skipped:
            out.print(f"{stage.title} did not run:")
            out.print(stage.skipped, soft_wrap=True)
    if not verdict.judged:
        out.print("No framework has judged it:")
        out.print(framework.skipped, soft_wrap=True)
        return
    for text in framework.notes:
        out.print(text)
    for tensor, how in framework.apart.items():
        out.print(f"{tensor} is judged by the NumPy reference: {how}")
    if verdict.steps:
        _show_bounded(out, verdict)


def _show_bounded(out: Any, verdict: Verdict) -> None:
    """Which tensors these are, those that differ most first."""
    count = f"{len(verdict.steps)} tensor{'s' * (len(verdict.steps) > 1)}"
    if verdict.apart:
        if (ends := verdict.ends) is not None:
            out.print(f"Outputs in the end: {_in_the_end(ends)}")
        out.print()
        out.print(
            f"The framework rounds {count} from floats whose last digits are its own. Next to the "
            "middle between two integers it may take the other one: a step, in at most 1 of "
            f"{FEW} elements. Each is computed here from the framework's integers before it, so "
            "these are the differences that begin in it. NumPy judges the C."
        )
    else:
        out.print()
        out.print(
            f"The framework rounds {count} from floats whose last digits are its own. Next to the "
            "middle between two integers it may take the other one: none does here."
        )
    out.print()
    found = sorted(verdict.steps.items(), key=lambda item: (item[1].ok, -item[1].differing))
    rows = [
        (shorten(t, 32), shorten(s.operator, 23), number(s.elements), number(s.differing))
        for t, s in found[:_SHOWN]
    ]
    out.print(table(("tensor", "made by", "elements", "differing"), rows, right="  rr"))
    if len(found) > _SHOWN:
        out.print(f"and {len(found) - _SHOWN} more; --json lists all")


def _in_the_end(ends: Difference) -> str:
    if ends.differing == 0:
        return f"all {number(ends.elements)} elements are the framework's"
    return (
        f"{number(ends.differing)} of {number(ends.elements)} elements "
        f"are not the framework's, by at most {ends.max_error:.3g}"
    )


def _cells(stage: Stage, verdict: Verdict) -> tuple[str, str, str, str, str]:
    """Outputs as they come out, compared with the judge's."""
    if stage.skipped:
        return "", "", "", "", "skipped"
    if stage.name == verdict.against:
        return "", "", "", "", "the judge"
    ends = (stage.ends or stage.outputs).values()
    merged = reduce(Difference.merged, ends)
    said = "ok"
    if not stage.ok:
        said = "DIFFERS"
    elif not all(d.ok for d in ends):
        said = "bounded" if stage.name == REFERENCE else "as NumPy"
    return (
        number(merged.elements),
        number(merged.differing),
        f"{merged.max_error:.3g}",
        "" if merged.exact else f"{merged.ulp:.1f}",
        said,
    )


def _layers(stage: Stage) -> Any:
    """Every operator's outputs in the order of the model; bounded ones as they differ."""
    rows = []
    for tensor in stage.makers:
        if (steps := stage.steps.get(tensor)) is not None:
            said, error = "bounded" if steps.ok else "DIFFERS", float(steps.differing > 0)
            counts = (steps.elements, steps.differing)
        elif (d := stage.layers.get(tensor)) is not None:
            said, error = "ok" if d.ok else "DIFFERS", d.max_error
            counts = (d.elements, d.differing)
        else:
            continue
        rows.append((shorten(tensor, 44), *map(number, counts), f"{error:.3g}", said))
    columns = ("tensor", "elements", "differing", "max error", "")
    return table(columns, rows, title=stage.title, right=" rrr")
