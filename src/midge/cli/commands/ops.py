"""midge ops: which operators of which model format are supported."""

from __future__ import annotations

from midge.cli.arguments import Json
from midge.cli.commands import command
from midge.cli.output import console, print_json


@command("ops")
def ops_command(as_json: Json = False) -> None:
    """List the supported operators of each model format."""
    from rich.columns import Columns

    from midge import ops
    from midge.graph.importers import IMPORTERS

    ops.load()
    if as_json:
        print_json({name: list(table) for name, table in IMPORTERS.items()})
        return
    out = console()
    for name, known in IMPORTERS.items():
        out.print(f"[bold]{name}[/], {len(known)} operators:", markup=True)
        out.print(Columns(known, padding=(0, 3), column_first=True))
    out.print("\ndocs/numerics.md says how each computes and which types it takes.")
