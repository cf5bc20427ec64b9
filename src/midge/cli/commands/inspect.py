"""midge inspect: what is in a model, what it becomes, and where its memory goes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from midge.cli import curve
from midge.cli.arguments import (
    DEFAULT_TARGET,
    NO_FILE,
    Json,
    Model,
    TargetName,
)
from midge.cli.building import compile_model, with_options
from midge.cli.commands import command
from midge.cli.memory import draw
from midge.cli.output import clean, console, number, print_json, shorten, table
from midge.codegen.picture import timeline
from midge.core.errors import UsageError
from midge.core.options import CompileOptions
from midge.driver import Compiled
from midge.graph.ir import OPS
from midge.trade_off import offered
from midge.tune.rank import reason_against

_WIDEST = 120  # columns; longer lines are hard to follow
_VIEWS = ("model", "graph", "plain", "loops", "c")


@command("inspect", writes=("memory", "trade_off"))
@with_options
def inspect_command(
    model: Model,
    options: CompileOptions,
    target: TargetName = DEFAULT_TARGET,
    show: Annotated[
        str | None,
        typer.Option(
            "--show",
            help="Print one stage as text: model (as read), graph (after passes), plain (integer "
            "arithmetic spelled out), loops, c.",
        ),
    ] = None,
    memory: Annotated[
        Path | None,
        typer.Option("--memory", help="Draw the arena over time to this .svg or .png."),
    ] = None,
    trade_off: Annotated[
        Path | None,
        typer.Option(
            "--trade-off",
            metavar="[FILE]",
            help="Draw RAM against cycles: the plans that there are, and the limit that gives "
            "each; with a FILE as an .svg or .png too.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show MODEL: operators, multiply-accumulates, parameters, and the arena over time."""
    if trade_off is not None:
        _check_trade_off(options, show)
    compiled = compile_model(model, target, options)
    if memory is not None:
        draw(compiled, memory)
    if trade_off is not None:
        _show_trade_off(compiled, options, trade_off, as_json)
    elif show is not None:
        text = _stage(compiled, show)
        print_json({"stage": show, "text": text}) if as_json else print(clean(text))
    elif as_json:
        print_json(_as_json(compiled))
    else:
        _show(compiled, memory)


def _check_trade_off(options: CompileOptions, show: str | None) -> None:
    """UsageError beside what leaves nothing to choose from."""
    said = {
        "--show": show is not None,
        "--max-ram": options.max_ram is not None,
        "--no-search": not options.search,
        "--whole-tensors": not options.bands,
        "--pool": bool(options.pools),
        "--stream-time": options.stream_time is not None,
        "--check-memory": options.check_memory,
    }
    for flag, given in said.items():
        if given:
            raise UsageError(
                "shows what every limit gives, and what that costs",
                where="--trade-off",
                hint=f"without {flag}",
            )


def _show_trade_off(
    compiled: Compiled, options: CompileOptions, picture: Path, as_json: bool
) -> None:
    package = compiled.package
    if (reason := reason_against(package.target)) is not None:
        raise UsageError(
            f"cycles are not known: {reason}", where="--trade-off", hint="another --target"
        )
    traded = offered(compiled.chosen, package.target, options, every=True)
    title = f"{package.name} on {package.target.name}"
    if traded is not None and picture != NO_FILE:
        curve.draw(traded, picture, title)
    if as_json:
        found = None if traded is None else traded.described()
        print_json({"name": package.name, "target": package.target.name, "trade_off": found})
        return
    out = console()
    if traded is None or len(traded.offers) == 1:
        size = number(compiled.arena.size)
        what = "so few that no other is tried" if traded is None else "no other is as good"
        out.print(f"{title}: nothing to trade\n\nThe plan takes {size} bytes, {what}.")
    else:
        out.print(f"{title}\n\n{traded.title()}\n")
        out.print(curve.curve(traded, min(out.width, _WIDEST)))
        columns = ("bytes", traded.unit, "", "plan", "option")
        out.print()
        out.print(table(columns, curve.rows_of(traded), right="rrr"))
        if traded.bound():
            out.print(f"\n{traded.bound()}")
    if traded is not None and picture != NO_FILE:
        out.print(f"\nDrew the curve to {picture}")


def _stage(compiled: Compiled, view: str) -> str:
    match view:
        case "model":
            return str(compiled.model)
        case "graph":
            return str(compiled.graph)
        case "plain":
            return str(compiled.plain)
        case "loops":
            return "\n".join(str(k.func) for k in compiled.program.kernels)
        case "c":
            return compiled.package.files[f"{compiled.package.name}.c"]
    raise UsageError(f"{view!r} is not a stage", where="--show", hint=f"one of {', '.join(_VIEWS)}")


def _parameters(compiled: Compiled) -> int:
    """Elements of the model's floating or quantised constants (not shapes and paddings)."""
    used = {n for node in compiled.graph.nodes for n in node.inputs}
    consts = compiled.graph.consts
    return sum(a.size for n, a in consts.items() if n in used)


def _macs(compiled: Compiled) -> int:
    return sum(op.macs for op in compiled.package.operators)


def _as_json(compiled: Compiled) -> dict[str, Any]:
    return {
        "model": compiled.model.name,
        "parameters": _parameters(compiled),
        "macs": _macs(compiled),
        "nodes": [
            {
                "op": n.op,
                "kind": n.kind,
                "src": n.src,
                "inputs": list(n.inputs),
                "outputs": list(n.outputs),
                "type": str(compiled.graph.types[n.outputs[0]]),
            }
            for n in compiled.graph.nodes
        ],
        **compiled.package.metadata,
    }


def _show(compiled: Compiled, picture: Path | None) -> None:
    out = console()
    graph, dropped = compiled.graph, compiled.dropped
    rows = []
    for node in graph.nodes:
        types = [graph.types[v] for v in node.inputs]
        outputs = [graph.types[v] for v in node.outputs]
        count = OPS[node.op].macs
        params = sum(graph.types[v].elements for v in node.inputs if v in graph.consts)
        kept = dropped.kept.get(node.outputs[0])
        rows.append(
            (
                node.src.removeprefix("operator "),
                shorten(node.kind or node.op, 30),
                ", ".join(map(str, outputs)) + (f", {len(kept)} kept" if kept else ""),
                number(params) if params else "",
                number(count(types, outputs)) if count else "",
            )
        )
    columns = ("#", "operator", "output", "parameters", "MACs")
    inputs = ", ".join(str(graph.types[n]) for n in graph.inputs)
    out.print(table(columns, rows, title=f"{graph.name}({inputs})", right="r  rr"))
    out.print(
        f"\n{number(_parameters(compiled))} parameters, {number(_macs(compiled))} "
        f"multiply-accumulates, {number(compiled.package.weights_size)} bytes of constants"
    )
    if dropped.gone:
        out.print(str(dropped))
    out.print(f"\n{_memory(compiled)}\n")
    text = timeline(compiled.program, compiled.arena, min(out.width, _WIDEST))
    out.print(text)
    if picture is not None:
        out.print(f"\nDrew the arena to {picture}")


def _memory(compiled: Compiled) -> str:
    """What the timeline below it shows."""
    arena = compiled.arena
    banded = any(op.bands is not None for op in compiled.program.operations)
    bound = "smaller"
    if arena.plan.lower_bound < arena.size:
        bound = f"below {number(arena.plan.lower_bound)}"
    how = "band by band, interleaved" if banded else "one after the other"
    pushes = compiled.program.pushes
    if pushes is not None:
        how = f"for {pushes.hop} of {pushes.frames} frames at a time; the rows of before are kept"
    pools, size = compiled.package.pools, number(compiled.package.ram)
    where = f" in {len(pools)} memories; in one," if pools else ";"
    return (
        f"Arena: {size} bytes{where} no plan for the same calls is {bound}.\n"
        f"Operators run {how}.\n"
        "Bytes alive over time (most: at once, at most; size: of the whole tensor):"
    )
