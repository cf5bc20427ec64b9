"""The command line: one file a command, errors without tracebacks, `--json` everywhere.

Exit codes: 0 success; 1 `verify` found a difference; 2 a wrong option or input file; 3 the model
cannot be compiled as asked; 4 a compiler, an emulator or a process failed; 70 a bug in Midge;
130 interrupted, 143 terminated.
"""

from __future__ import annotations

import os
import signal
import sys

INTERRUPTED = 130


def main() -> None:
    """The `midge` command."""
    # Until more is imported, Ctrl-C has nothing to end but this process.
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda number, _: os._exit(128 + number))
    from midge.core.leaving import leave_on_signals

    leave_on_signals()
    from midge.cli.app import flushed, run, show_warnings
    from midge.cli.pipes import let_readers_leave

    let_readers_leave()
    show_warnings()
    sys.exit(flushed(run(sys.argv[1:])))
