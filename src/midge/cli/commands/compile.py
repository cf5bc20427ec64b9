"""midge compile: a model file becomes a folder of C."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from midge.cli.arguments import (
    DEFAULT_TARGET,
    Json,
    Model,
    TargetName,
)
from midge.cli.building import compile_model, with_options
from midge.cli.commands import command, files_of
from midge.cli.output import console, number, print_json, table
from midge.codegen.names import prefix_from
from midge.core.files import check_apart
from midge.core.folder import Changes, changes_of
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.driver import Compiled
from midge.limits import calls_of, exceeded, flash_of, kernels_of, whose


@command("compile")
@with_options
def compile_command(
    model: Model,
    options: CompileOptions,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write; default: the model's name."),
    ] = None,
    target: TargetName = DEFAULT_TARGET,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Overwrite files that were edited or are not Midge's; never others."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing; say what would be written.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Compile MODEL to a folder of C11 that any toolchain builds."""
    folder = output if output is not None else Path(options.name or prefix_from(model.stem))
    given = files_of(model=model, target=target)
    check_apart(folder, "--output", given)
    compiled = compile_model(model, target, options, beside=True)
    package = compiled.package
    for name in package.files:
        check_apart(folder / name, "--output", given)
    changes = changes_of(folder, package.files, force=force) if dry_run else None
    if changes is None:
        package.save(folder, force=force)
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "files": sorted(package.files),
                **({"dry_run": asdict(changes)} if changes is not None else {}),
                "warnings": misfits(package),
                "trade_off": package.trade_off.described() if package.trade_off else None,
                **package.metadata,
            }
        )
        return
    usual = replace(options, name=None) == CompileOptions() and target == DEFAULT_TARGET
    _show(compiled, folder, changes, usual)


def _show(compiled: Compiled, folder: Path, changes: Changes | None, usual: bool) -> None:
    """usual: whether no option says how it is compiled."""
    out, package = console(), compiled.package
    arena = package.metadata["arena"]
    macs = sum(op.macs for op in package.operators)
    ram = share(package, "ram", arena["size"])
    places = arena.get("pools", {}).items()
    rows = [
        *((f"arena in {name}", number(size), "bytes of RAM") for name, size in places),
        *([("arena", number(arena["size"]), f"bytes of RAM{ram}")] if not places else []),
        *(
            (name, number(size), f"bytes of flash{share(package, 'flash', size)}")
            for name, size in (
                ("constants", package.weights_size),
                ("kernels", kernels_of(package)),
            )
            if size is not None
        ),
        ("operators", number(len(package.operators)), ""),
        ("multiply-accumulates", number(macs), "per push" if package.pushes else "per inference"),
    ]
    out.print(
        table(("", "", ""), rows, title=f"{package.name} for {package.target.name}", right=" r ")
    )
    if package.trade_off is not None and (lines := package.trade_off.told()):
        out.print("\n" + "\n".join(lines))
    if compiled.dropped.gone:
        out.print(f"\n{compiled.dropped}")
    for warning in misfits(package):
        out.print("warning: ", style="bold yellow", end="")
        out.print(warning)
    place = f"{folder}{'/' if folder.name else ''}"
    if changes is not None:
        _show_changes(package, place, changes)
        return
    out.print(f"\nWrote {len(package.files)} files to {place}")
    following = "[bold]midge verify[/] shows that it is right, [bold]midge run[/] how fast."
    out.print(f"Next{'' if usual else ' (same options)'}: {following}", markup=True)


def _show_changes(package: Package, place: str, changes: Changes) -> None:
    """What would have been written."""
    out = console()
    rows = [
        (name, number(len(package.files[name].encode())) if name in package.files else "", word)
        for word, names in (
            ("new", changes.new),
            ("replaced", changes.replaced),
            ("as it is", changes.same),
            ("removed", changes.removed),
        )
        for name in names
    ]
    out.print()
    out.print(table(("file", "bytes", ""), sorted(rows), right=" r "))
    out.print(f"\nDry run: nothing was written to {place}")


def share(package: Package, kind: Literal["ram", "flash"], size: int) -> str:
    """How much of the target's memory that is, for people."""
    memory = package.target.memory(kind)
    return f", {100 * size / memory.size:.0f} % of {package.target.name}'s" if memory else ""


_FEW = 256  # bytes of RAM with which hardly a program does


def misfits(package: Package) -> list[str]:
    """What does not fit the target's memories, before stack and code are counted."""
    found = []
    for memory, size in exceeded(package):
        what, advice = f"the {flash_of(package)[1].removeprefix('flash for ')} need", ""
        if memory.kind == "ram" and "pools" in package.metadata["arena"]:
            what = f"what is placed in {memory.name} needs"
        elif memory.kind == "ram":
            what, advice = "the arena needs", "try --max-ram, which looks for slower plans, "
        advice += "choose a larger target or describe your board in a .toml"
        told = f"{what} {number(size)} bytes, {whose(memory, package)} {number(memory.size)}"
        found.append(f"{told}; {advice}" if memory.typical else told)
    ram = package.target.memory("ram")
    if ram is not None and not package.pools and 0 <= ram.size - package.ram < _FEW:
        left = number(ram.size - package.ram)
        found.append(f"the arena leaves {left} bytes of {ram.name} for the stack and all else")
    flash, need = package.target.memory("flash"), flash_of(package)[0]
    if kernels_of(package) is not None and flash is not None and need <= flash.size:
        need += calls_of(package)
        if need > flash.size:
            told = f"constants, kernels and calls need about {number(need)} bytes"
            found.append(f"{told}, {flash.name} has {number(flash.size)}; midge run measures them")
    return found
