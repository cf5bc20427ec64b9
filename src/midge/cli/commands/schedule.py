"""midge schedule: the schedule of an operator, and what each of its steps makes of its loops."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from difflib import unified_diff
from typing import Annotated, Any

import typer

from midge.cascading import Chosen
from midge.cli.arguments import (
    DEFAULT_TARGET,
    Json,
    Model,
    TargetName,
)
from midge.cli.building import compile_model, with_options
from midge.cli.commands import command
from midge.cli.operators import find_operator
from midge.cli.output import console, counted, print_json, shorten, table
from midge.codegen.c import emit
from midge.core.errors import UsageError
from midge.core.options import CompileOptions
from midge.loop.program import Kernel, Operation, Program
from midge.loop.rewrite import loops_in
from midge.loop.schedule import apply
from midge.lower.candidates import spaces

AS_WRITTEN = "its loops as they are written"
_ONCE = "Steps may name loops that run once, which are shown here only."
_STYLES = {"+": "green", "-": "red", "@": "dim"}


@dataclass(frozen=True, slots=True)
class Stage:
    """step: text of the step that was applied last, "" before the first.  func: the loops then."""

    step: str
    func: str


@command("schedule")
@with_options
def schedule_command(
    model: Model,
    options: CompileOptions,
    operator: Annotated[
        str | None,
        typer.Argument(
            metavar="OP",
            help="Its name, its number, or @N (number N in the model file); default: list all.",
            show_default=False,
        ),
    ] = None,
    target: TargetName = DEFAULT_TARGET,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show what each step after the first changes.")
    ] = False,
    space: Annotated[
        bool, typer.Option("--space", help="Show what OP's kernel was chosen from instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show the loops of MODEL's operator OP before and after each step of its schedule, and its C.

    Without OP: every operator's schedule.
    """
    if space and operator is None:
        raise UsageError(
            "needs an operator", where="--space", hint="midge schedule MODEL OP --space"
        )
    compiled = compile_model(model, target, options)
    program = compiled.program
    if operator is None:
        print_json(list(map(_entry, _pairs(program)))) if as_json else _list(program)
        return
    op = program.operations[find_operator(program.operations, operator, "OP")]
    kernel = program.kernel(op.kernel)
    if space:
        found = spaces_of(compiled.chosen, op)
        print_json({**_entry((op, kernel)), "calls": found}) if as_json else _show_spaces(op, found)
        return
    if as_json:
        made = [{"step": s.step or None, "func": s.func} for s in stages(kernel)]
        print_json({**_entry((op, kernel)), "stages": made, "c": _c(program, kernel)})
    else:
        _show(program, op, kernel, diff)


def stages(kernel: Kernel) -> list[Stage]:
    """The loops of `kernel` as written, and after each step of its schedule."""
    plain = replace(kernel.plain, name=kernel.func.name)
    made = [Stage("", str(plain))]
    for i, step in enumerate(kernel.steps, 1):
        func = apply(plain, kernel.steps[:i], kernel.instructions)
        made.append(Stage(str(step), str(func)))
    return made


def spaces_of(chosen: Chosen, op: Operation) -> list[dict[str, Any]]:
    """Of each sort of call of an operator (whole, or bands of so many rows): what is taken, and the
    spaces that it was taken from."""
    found = []
    for choice, option in chosen.taken:
        if choice.value != op.output:
            continue
        request, goal = choice.options.request, choice.options.goal
        point = option.candidate.point
        rows = [
            {
                "template": own.template,
                "knobs": {name: list(values) for name, values in own.knobs.items()},
                "rules": [c.what for c in own.constraints],
                "points": sum(1 for _ in own),
                "usual": list(map(str, own.usual(goal))),
            }
            for own in spaces(request)
        ]
        taken = AS_WRITTEN if point is None else str(point)
        found.append({"rows": choice.count or None, "taken": taken, "spaces": rows})
    return found


def _show_spaces(op: Operation, found: list[dict[str, Any]]) -> None:
    out = console()
    for own in found:
        rows = f", {counted(own['rows'], 'row')} at a time" if own["rows"] else ""
        out.print(f"{op.name}{rows}: {own['taken']} is taken", style="bold", soft_wrap=True)
        for made in own["spaces"]:
            out.print(f"\n{made['template']}: {counted(made['points'], 'point')}")
            lines = [(name, " ".join(map(str, v))) for name, v in made["knobs"].items()]
            if lines:
                out.print(table(("knob", "values"), lines))
            for rule in made["rules"]:
                out.print(f"  {rule}")
            for text in made["usual"]:
                sign = "*" if text == own["taken"] else " "
                out.print(f"{sign} {text}", soft_wrap=True)
        out.print(f"\n{AS_WRITTEN}, too, and these say what is right.\n")


def changes(before: str, after: str) -> Iterator[str]:
    """The lines of a unified diff, without its head."""
    found = unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=2)
    return (line for line in found if not line.startswith(("--- ", "+++ ")))


def _c(program: Program, kernel: Kernel) -> str:
    return emit(kernel.func, f"{program.name}_{kernel.func.name}", kernel.instructions)


def _pairs(program: Program) -> Iterator[tuple[Operation, Kernel]]:
    return ((op, program.kernel(op.kernel)) for op in program.operations)


def _entry(pair: tuple[Operation, Kernel]) -> dict[str, Any]:
    op, kernel = pair
    return {
        "operator": op.name,
        "kernel": op.kernel,
        "kind": "+".join(op.kinds),
        "src": op.src,
        "schedule": list(map(str, kernel.steps)),
    }


def _list(program: Program) -> None:
    rows = []
    for op, kernel in _pairs(program):
        shared = [f"as {op.kernel}"] if op.kernel != op.name else []
        steps = shared or list(map(str, kernel.steps)) or ["as written"]
        rows.append((op.name, shorten("+".join(op.kinds), 22), steps[0]))
        rows.extend(("", "", step) for step in steps[1:])
    out = console()
    out.print(table(("operator", "kind", "schedule"), rows, title=program.name))
    out.print("\nNext: [bold]midge schedule MODEL OP[/] shows what each step does.", markup=True)


def _show(program: Program, op: Operation, kernel: Kernel, diff: bool) -> None:
    out = console()
    others = [o.name for o in program.operations if o.kernel == op.kernel and o is not op]
    shared = f", shared with {', '.join(others)}" if others else ""
    title = f"{op.name}: {'+'.join(op.kinds)} ({op.src}){shared}"
    out.print(title, style="bold", soft_wrap=True)
    before = ""
    for i, stage in enumerate(stages(kernel)):
        heading = f"{i}. {stage.step}" if stage.step else "As written"
        out.print(f"\n{heading}\n", style="bold", soft_wrap=True)
        whole = not diff or i < 2
        lines = stage.func.splitlines() if whole else list(changes(before, stage.func))
        for line in lines or ["nothing changes"]:
            style = None if whole else _STYLES.get(line[:1])
            out.print(line, style=style, soft_wrap=True)
        before = stage.func
        if not i and any(loop.extent == 1 for loop in loops_in(kernel.plain.body)):
            out.print(f"\n{_ONCE}", style="dim")
    out.print("\nIn C\n", style="bold")
    out.print(_c(program, kernel), soft_wrap=True, end="")
