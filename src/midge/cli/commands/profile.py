"""midge profile: what each operator costs, and the machine code that it spends it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from midge.cli.arguments import (
    DEFAULT_TARGET,
    Json,
    Model,
    TargetName,
    Toolchain,
    check_toolchain,
)
from midge.cli.building import compile_model, with_options
from midge.cli.commands import command
from midge.cli.listing import listing, listing_as_json
from midge.cli.operators import find_operator
from midge.cli.output import console, number, print_json, shorten, table
from midge.core.errors import UsageError
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.core.runner import Run
from midge.run.profile import Profile

_LEAST_BAR, _MOST_BAR = 6, 24


@dataclass(frozen=True, slots=True)
class Row:
    """An operator and what it spent: cycles, or instructions where nothing estimates cycles."""

    name: str
    kind: str
    src: str
    macs: int
    instructions: int | None
    cycles: int | None
    spent: int
    share: float

    @property
    def per_mac(self) -> float | None:
        return self.spent / self.macs if self.macs else None


@command("profile")
@with_options
def profile_command(
    model: Model,
    options: CompileOptions,
    target: TargetName = DEFAULT_TARGET,
    on: Annotated[str, typer.Option("--on", help="emulator, or qemu (no cycles).")] = "emulator",
    asm: Annotated[
        str | None,
        typer.Option(
            "--asm",
            metavar="OP",
            help="Show the machine code in which this operator spends most: its name, its number, "
            "@N (number N in the model file) or hottest.",
        ),
    ] = None,
    toolchain: Toolchain = None,
    as_json: Json = False,
) -> None:
    """Show what each operator of MODEL costs; with --asm, the machine code it spends that in."""
    from midge.data import random_inputs
    from midge.run import RUNNERS
    from midge.run.emulator import EmulatorSession

    runner = RUNNERS[on]
    check_toolchain(toolchain)
    if asm is not None and on != "emulator":
        raise UsageError(
            f"machine code is counted in the emulator only, not on {on}",
            where="--asm",
            hint="leave out --on, or --asm",
        )
    compiled = compile_model(model, target, options)
    package = compiled.package
    if asm not in (None, "hottest"):
        find_operator(package.operators, asm, "--asm")
    inputs = random_inputs(compiled.graph, 1, 0)[0]
    with console().status("building and running"):
        session = runner.load(package, toolchain=toolchain)
        try:
            profile = session.profile(inputs) if isinstance(session, EmulatorSession) else None
            run = profile.run if profile is not None else session.run(inputs)
        finally:
            session.close()
    rows = _rows(package, run, on)
    chosen = _chosen(package, rows, asm) if asm is not None else None
    if as_json:
        print_json(_as_json(package, on, run, rows, profile, chosen))
    elif profile is not None and chosen is not None:
        _show_code(package, rows[chosen], profile, chosen)
    else:
        _show(package, on, run, rows)


def _chosen(package: Package, rows: list[Row], asm: str) -> int:
    if asm == "hottest" and rows:
        return max(range(len(rows)), key=lambda i: rows[i].spent)
    return find_operator(package.operators, asm, "--asm")


def _rows(package: Package, run: Run, on: str) -> list[Row]:
    """UsageError if the runner counts nothing per operator."""
    if len(run.operators) != len(package.operators):
        raise UsageError(
            f"{on} does not count what an operator costs", where="--on", hint="use --on emulator"
        )
    spent = [(r.instructions or 0) if r.cycles is None else r.cycles for r in run.operators]
    total = max(sum(spent), 1)
    return [
        Row(
            op.name, "+".join(op.kinds), op.src, op.macs, cost.instructions, cost.cycles, n,
            n / total,
        )
        for op, cost, n in zip(package.operators, run.operators, spent, strict=True)
    ]  # fmt: skip


def _show(package: Package, on: str, run: Run, rows: list[Row]) -> None:
    out = console()
    unit, short = ("instructions", "instr") if run.cycles is None else ("cycles", "cyc")
    macs, spent = sum(row.macs for row in rows), sum(row.spent for row in rows)
    cells = [_cells(row) for row in rows]
    cells.append(("total", "", number(macs), number(spent), f"{spent / max(macs, 1):.2f}", "100.0"))
    columns = ("operator", "kind", "MACs", unit, f"{short}/MAC", "%")
    width = out.width - sum(
        2 + max(map(len, column)) for column in zip(columns, *cells, strict=True)
    )
    title = f"{package.name} on {package.target.name} ({on})"
    if width >= _LEAST_BAR:
        most = max((row.spent for row in rows), default=1)
        scale = min(width, _MOST_BAR) / max(most, 1)
        bars = [*("\u2588" * round(row.spent * scale) for row in rows), ""]
        shown = [(*c, bar) for c, bar in zip(cells, bars, strict=True)]
        out.print(table((*columns, ""), shown, title=title, right="  rrrr"))
    else:
        out.print(table(columns, cells, title=title, right="  rrrr"))
    out.print()
    out.print(f"{number(run.instructions)} instructions, exact; ", end="")
    if run.cycles is None:
        why = "QEMU counts no cycles" if on == "qemu" else "there is no model of this CPU's cycles"
        out.print(f"{why}.")
    else:
        out.print("cycles are estimated, without flash wait states.")
    if on == "emulator":
        out.print(
            "Next: [bold]--asm hottest[/] shows the machine code of the costliest.", markup=True
        )


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        shorten(row.kind, 22),
        number(row.macs) if row.macs else "",
        number(row.spent),
        "" if row.per_mac is None else f"{row.per_mac:.2f}",
        f"{100 * row.share:.1f}",
    )


def _show_code(package: Package, row: Row, profile: Profile, index: int) -> None:
    out = console()
    unit = "instructions" if row.cycles is None else "cycles"
    title = (
        f"{row.name}: {row.kind} ({row.src}), {number(row.spent)} {unit}, "
        f"{100 * row.share:.1f} % of {package.name}"
    )
    out.print(title, style="bold", soft_wrap=True)
    for line in listing(profile, index, unit):
        out.print(line, soft_wrap=True)


def _as_json(
    package: Package,
    on: str,
    run: Run,
    rows: list[Row],
    profile: Profile | None,
    chosen: int | None,
) -> dict[str, Any]:
    code = {}
    if profile is not None and chosen is not None:
        stretches = listing_as_json(profile, chosen)
        code = {"asm": {"operator": rows[chosen].name, "stretches": stretches}}
    return {
        "model": package.name,
        "target": package.target.name,
        "on": on,
        "instructions": run.instructions,
        "cycles": run.cycles,
        "operators": [
            {
                "name": row.name,
                "kind": row.kind,
                "src": row.src,
                "macs": row.macs,
                "instructions": row.instructions,
                "cycles": row.cycles,
                "share": round(row.share, 6),
            }
            for row in rows
        ],
        **code,
    }
