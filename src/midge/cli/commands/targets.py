"""midge targets: what can be compiled for."""

from __future__ import annotations

from midge.cli.arguments import Json
from midge.cli.commands import command
from midge.cli.output import console, number, print_json, table
from midge.core.target import Target


@command("targets")
def targets_command(as_json: Json = False) -> None:
    """List the targets: CPU, memories, and where their code can run."""
    from midge.target import TARGETS

    targets = [TARGETS[name] for name in TARGETS]
    if as_json:
        print_json([_as_json(t) for t in targets])
        return
    rows = [
        (t.name, t.description, _size(t, "ram"), _size(t, "flash"), ", ".join(_places(t)))
        for t in targets
    ]
    out = console()
    out.print(table(("target", "", "RAM", "flash", "runs on"), rows, right="  rr"))
    out.print("\nA target of your own is a TOML file: midge compile --target board.toml")


def _size(target: Target, kind: str) -> str:
    memory = target.memory(kind)  # type: ignore[arg-type]
    return f"{number(memory.size // 1024)}K" if memory else ""


def _places(target: Target) -> list[str]:
    places = ["host"]
    if "model" in target.emulator:
        places.append("emulator")
    if target.qemu:
        places.append("qemu")
    return places


def _as_json(target: Target) -> dict[str, object]:
    return {
        "name": target.name,
        "description": target.description,
        "cpu": target.cpu,
        "features": sorted(target.features),
        "memories": [
            {"name": m.name, "kind": m.kind, "start": m.start, "size": m.size}
            for m in target.memories
        ],
        "toolchains": list(target.toolchains),
        "runs_on": _places(target),
    }
