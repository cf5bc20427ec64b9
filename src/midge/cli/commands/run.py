"""midge run: compile a model, build it and run it somewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
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
    check_toolchain,
    count_of,
)
from midge.cli.building import check_given, compile_model, sets_and_labels, with_options
from midge.cli.commands import command
from midge.cli.output import console, counted, note, number, print_json, shorten, table, warn
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.core.runner import Run, Sizes
from midge.core.types import Array
from midge.limits import whose


@command("run", writes=("output",))
@with_options
def run_command(
    model: Model,
    options: CompileOptions,
    target: TargetName = DEFAULT_TARGET,
    on: Annotated[str, typer.Option("--on", help="emulator, host or qemu.")] = "emulator",
    inputs: Inputs = None,
    quantize_inputs: QuantizeInputs = False,
    accuracy: Accuracy = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the outputs to this .npz.")
    ] = None,
    count: Count = None,
    seed: Seed = 0,
    toolchain: Toolchain = None,
    operators: Annotated[
        bool, typer.Option("--operators/--no-operators", help="Show the cost of each operator.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Run MODEL on an emulated board, this host or QEMU: outputs, cost and memory."""
    from midge.run import RUNNERS

    runner = RUNNERS[on]
    check_toolchain(toolchain)
    many = count_of(count, inputs, 1)
    check_given(model, options, inputs, accuracy, quantize=quantize_inputs)
    compiled = compile_model(model, target, options)
    sets, labels = sets_and_labels(
        compiled.graph, inputs, accuracy, many, seed, quantize=quantize_inputs, note=note
    )
    out = console()
    with out.status("building and running"):
        session = runner.load(compiled.package, toolchain=toolchain)
        try:
            runs = [session.run(given) for given in sets]
            sizes = session.sizes
        finally:
            session.close()
    if output is not None:
        _write(output, compiled.package, runs)
    if as_json:
        right = {} if labels is None else {"accuracy": _right(compiled.package, runs, labels)}
        print_json(_as_json(compiled.package, on, runs, sizes) | right)
        return
    _show(compiled.package, on, runs, sizes, operators)
    if labels is not None:
        share = _right(compiled.package, runs, labels)
        out.print(f"Top-1: {100 * share:.2f} % of {len(labels)} labels")


def _right(package: Package, runs: list[Run], labels: Array) -> float:
    from midge.batch import accuracy

    return accuracy(package, runs, labels)


def _write(path: Path, package: Package, runs: list[Run]) -> None:
    """Outputs as an npz; several inferences are stacked along a leading axis."""
    from midge.core.files import is_npz_name, write_npz

    arrays: dict[str, Array] = {}
    names = {t.name for t in package.outputs}
    for i, tensor in enumerate(package.outputs):
        name = tensor.name
        if not is_npz_name(name):
            name = f"output_{i}"
            while name in names:
                name += "_"
            note(f"{path}: no file has room for the name of output {i}: it is {name} there")
        values = [run.outputs[tensor.name] for run in runs]
        arrays[name] = np.stack(values) if len(values) > 1 else values[0]
    write_npz(path, arrays)


def _as_json(package: Package, on: str, runs: list[Run], sizes: Sizes | None) -> dict[str, Any]:
    first = runs[0]
    return {
        "model": package.name,
        "target": package.target.name,
        "on": on,
        "instructions": first.instructions,
        "cycles": first.cycles,
        "stack": first.stack,
        "arena": package.ram,
        "constants": package.weights_size,
        "code": sizes.code if sizes else None,
        "flash": sizes.flash if sizes else None,
        "operators": [
            {"name": o.name, "instructions": r.instructions, "cycles": r.cycles, "macs": o.macs}
            for o, r in zip(package.operators, first.operators, strict=False)
        ],
        "outputs": [{n: a.tolist() for n, a in run.outputs.items()} for run in runs],
    }


def _show(package: Package, on: str, runs: list[Run], sizes: Sizes | None, operators: bool) -> None:
    out = console()
    first = runs[0]
    if operators and first.operators:
        out.print(_operators(package, first))
        out.print()
    of = "of the first inference"
    if package.pushes is not None:
        of = f"of a push of {counted(package.pushes.hop, 'frame')}, the last of the first input"
    rows = []
    if first.instructions is not None:
        rows.append(("instructions", number(first.instructions), f"exact, {of}"))
    if first.cycles is not None:
        rows.append(("cycles", number(first.cycles), "estimated, without flash wait states"))
    for name, _, size in package.pools or (("", 0, package.ram),):
        rows.append((f"arena in {name}" if name else "arena", number(size), "bytes of RAM"))
    if first.stack is not None:
        rows.append(("stack", number(first.stack), "bytes of RAM, the deepest seen"))
    rows.append(("constants", number(package.weights_size), "bytes of flash"))
    if sizes is not None:
        rows.append(("code", number(sizes.code), "bytes of flash"))
    title = f"{package.name} on {package.target.name if on != 'host' else 'this host'} ({on})"
    out.print(table(("", "", ""), rows, title=title, right=" r "))
    out.print()
    _warn(package, sizes, first.stack)
    for i, run in enumerate(runs[:8]):
        for name, values in run.outputs.items():
            out.print(f"{name}[{i}] = {preview(values)}", soft_wrap=True)
    if len(runs) > 8:
        out.print(f"... and {len(runs) - 8} more; --output FILE.npz writes them all")


def _warn(package: Package, sizes: Sizes | None, stack: int | None) -> None:
    """Of memories that are too small for all that was built."""
    needs: list[tuple[Literal["ram", "flash"], int, str]] = []
    if sizes is not None:
        needs.append(("flash", sizes.flash, "constants and code need {} bytes of flash"))
    if stack is not None and not package.pools:
        needs.append(("ram", package.ram + stack, "arena and stack need {} bytes of RAM"))
    for kind, need, what in needs:
        memory = package.target.memory(kind)
        if memory is not None and need > memory.size:
            warn(f"{what.format(number(need))}, {whose(memory, package)} {number(memory.size)}")


def _operators(package: Package, run: Run) -> Any:
    total = sum(r.cycles or 0 for r in run.operators) or sum(
        r.instructions or 0 for r in run.operators
    )
    rows = []
    for op, cost in zip(package.operators, run.operators, strict=True):
        spent = cost.cycles if cost.cycles is not None else cost.instructions
        rows.append(
            (
                op.name,
                shorten("+".join(op.kinds), 22),
                number(op.macs) if op.macs else "",
                number(cost.instructions),
                number(cost.cycles),
                f"{100 * (spent or 0) / max(total, 1):.1f}",
            )
        )
    columns = ("operator", "from", "MACs", "instructions", "cycles", "%")
    return table(columns, rows, right="  rrrr")


def preview(values: Array) -> str:
    """The first elements of an array on one line."""
    flat = values.reshape(-1)[:16]
    texts = [f"{v:.6g}" if values.dtype.kind == "f" else str(v) for v in flat.tolist()]
    return f"[{', '.join(texts)}{', ...' if values.size > 16 else ''}]"
