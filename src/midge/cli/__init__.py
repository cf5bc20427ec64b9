"""The command line: one file a command, errors without tracebacks, `--json` everywhere.

Exit codes: 0 success; 1 `verify` found a difference; 2 a wrong option or input file; 3 the model
cannot be compiled as asked; 4 a compiler, an emulator or a process failed; 70 a bug in Midge;
130 interrupted.
"""

from __future__ import annotations

import sys

from midge.cli.app import run


def main() -> None:
    """The `midge` command."""
    sys.exit(run(sys.argv[1:]))
