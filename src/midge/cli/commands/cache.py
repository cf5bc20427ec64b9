"""midge cache: how much is kept on this machine, and removing it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from midge.cli.arguments import Json
from midge.cli.commands import command
from midge.cli.output import console, number, print_json, table
from midge.core.cache import ENVIRONMENT_VARIABLE, cache_dir
from midge.core.cache_upkeep import LIMIT_VARIABLE, cache_limit, clear, items, size_of, unfinished
from midge.core.errors import UsageError

_KINDS = {
    "build": "images and libraries",
    "trials": "costs of kernels",
    "proofs": "kernels that agree with their plain loops",
    "zig": "runtime libraries of zig",
}


@command("cache")
def cache_command(
    action: Annotated[str, typer.Argument(help="info or clear.")] = "info",
    as_json: Json = False,
) -> None:
    """Show what Midge keeps on this machine because it can be made again, or remove it."""
    actions = {"info": _info, "clear": _clear}
    if action not in actions:
        raise UsageError(f"{action!r} is not known", where="cache", hint="info or clear")
    actions[action](as_json)


def _folder() -> Path:
    try:
        return cache_dir()
    except FileNotFoundError as error:
        raise UsageError(
            f"there is none: {error.strerror}",
            where="cache",
            hint=f"let {ENVIRONMENT_VARIABLE} name a folder that can be written",
        ) from None


def _info(as_json: bool) -> None:
    root, kinds = _folder(), dict[str, dict[str, int]]()
    for item in items(root):
        kind = kinds.setdefault(item.kind, {"entries": 0, "size": 0})
        kind["entries"] += 1
        kind["size"] += item.size
    left = unfinished(root)
    found: dict[str, Any] = {
        "folder": str(root),
        "limit": cache_limit(),
        "size": sum(kind["size"] for kind in kinds.values()),
        "kinds": kinds,
        "unfinished": {"entries": len(left), "size": sum(map(size_of, left))},
    }
    print_json(found) if as_json else _show(found)


def _show(found: dict[str, Any]) -> None:
    rows = [
        (name, _KINDS.get(name, ""), number(kind["entries"]), number(kind["size"]))
        for name, kind in sorted(found["kinds"].items())
    ]
    left = found["unfinished"]
    if left["entries"]:
        rows.append(("", "not finished", number(left["entries"]), number(left["size"])))
    out = console()
    out.print(found["folder"], markup=False, soft_wrap=True)
    out.print(table(("kept", "", "entries", "bytes"), rows, right="  rr"))
    out.print(f"\n{number(found['size'])} of {number(found['limit'])} bytes ({LIMIT_VARIABLE})")


def _clear(as_json: bool) -> None:
    root = _folder()
    try:
        entries, size = clear(root)
    except OSError as error:
        raise UsageError(
            f"cannot be cleared: {error.strerror or error}",
            where=str(root),
            hint=f"see to its permissions, or let {ENVIRONMENT_VARIABLE} name another folder",
        ) from None
    if as_json:
        print_json({"folder": str(root), "entries": entries, "size": size})
        return
    console().print(f"Removed {number(entries)} entries of {number(size)} bytes from {root}")
