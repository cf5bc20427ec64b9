"""The application: commands are found in `cli/commands/`, errors are turned into exit codes."""

from __future__ import annotations

import json
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

import typer

from midge.cli import INTERRUPTED, commands
from midge.cli.arguments import check_words, with_optional_values
from midge.cli.output import error_console, plain_streams, warn
from midge.core.errors import MidgeError, MidgeWarning, RunError, UsageError
from midge.core.version import version as midge_version

BUG = 70
# What parsing a command line raises: click's UsageError, of which typer may have its own copy.
_WrongUsage: Any = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="midge",
    help="Compile trained neural networks to small, fast, exact C for microcontrollers.",
    epilog="Exit codes: 0 ok, 1 a difference was found, 2 wrong usage, 3 the model cannot be "
    "compiled, 4 a compiler or runner failed.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"midge {midge_version()}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
    debug: bool = typer.Option(
        False, "--debug", help="Show the traceback of an error; may stand anywhere."
    ),
) -> None:
    """Options of every command."""


def run(args: Sequence[str]) -> int:
    """Run a command line; returns the exit code, also where nothing can be said."""
    try:
        return _run(args)
    except OSError:  # of the stream that an error is told on
        return RunError.exit_code


def _run(args: Sequence[str]) -> int:
    plain_streams()
    debug = "--debug" in args
    words = [a for a in args if a != "--debug"]
    commands.load(words)
    app.registered_commands.clear()
    for name, function in sorted(commands.COMMANDS.items()):
        app.command(name)(function)
    rest = with_optional_values(words)
    try:
        check_words(words)
        code = app(rest, standalone_mode="--json" not in rest)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except MidgeError as error:
        return _report(error, rest, debug)
    except _WrongUsage as error:
        wrong = UsageError(error.format_message(), where="command line", hint="midge --help")
        return _report(wrong, rest, debug)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except OSError as error:
        return _report(_refused(error), rest if error.filename else (), debug)
    except MemoryError:
        return _report(_too_large(), rest, debug)
    except Exception as error:  # noqa: BLE001  # the last line of defence
        return _bug(error, debug)
    return code if isinstance(code, int) else 0


def flushed(code: int) -> int:
    """The exit code of a run, once its output is out."""
    try:
        if sys.stdout is not None:  # closed before the start
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is left
        if not isinstance(error, BrokenPipeError):
            refused = _report(_refused(error), (), False)
            return code or refused
    return code


def show_warnings() -> None:
    """Midge's warnings look as its errors do."""
    usual = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not issubclass(category, MidgeWarning):
            usual(message, category, filename, lineno, file, line)
            return
        warn(str(message))

    warnings.showwarning = show


def _refused(error: OSError) -> RunError:
    """What the system refuses, and nobody expected it to."""
    where = error.filename or "standard output"
    what = f"the system refuses: {error.strerror or error}"
    return RunError(what, where=str(where), hint="see whether there is space, and permission")


def _too_large() -> RunError:
    what = "this takes more memory than the system gives"
    return RunError(what, where="memory", hint="give fewer inputs at once, or a smaller model")


def _report(error: MidgeError, args: Sequence[str], debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    if "--json" in args:
        text = {"error": {"what": error.what, "where": error.where, "hint": error.hint}}
        try:
            print(json.dumps(text, indent=2))
        except BrokenPipeError:
            pass
        except OSError as refusal:
            _report(_refused(refusal), (), False)
        return error.exit_code
    console = error_console()
    console.print("error: ", end="", style="bold red")
    console.print(f"{error.where}: {error.what}")
    if error.hint:
        console.print(" hint: ", end="", style="bold")
        console.print(error.hint)
    return error.exit_code


def _bug(error: Exception, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"midge: internal error ({type(error).__name__}: {error})", file=sys.stderr)
    print("This is a bug in Midge. Run again with --debug and report it.", file=sys.stderr)
    return BUG
