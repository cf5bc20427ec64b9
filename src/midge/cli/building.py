"""What the commands that need a compiled model share."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from midge.cli.output import error_console, number
from midge.core.errors import MidgeWarning
from midge.core.options import CompileOptions, Flag, flags
from midge.core.types import Array
from midge.data import Note, check_arrays, inputs_for, labels_for
from midge.driver import Compiled, load
from midge.graph.ir import Graph
from midge.quantize.report import check_labels

_PANEL = "How MODEL is compiled"


def compile_model(
    model: Path, target: str, options: CompileOptions, *, beside: bool = False
) -> Compiled:
    """The model for the target named `target`, as `midge compile` makes it. beside: with the other
    plans that it could have had."""
    from midge.driver import beside_others, compile_file
    from midge.target import load_target

    chosen = load_target(target)
    with error_console().status("compiling") as status:

        def progress(what: str, done: int, total: int) -> None:
            share = f", {number(done)} of {number(total)}" if total else ""
            status.update(f"compiling: {what}{share}")

        compiled = compile_file(model, chosen, options, progress)
        if not beside:
            return compiled
        return replace(compiled, package=beside_others(compiled, options, progress))


_READ_AT_ONCE = (".tflite", ".onnx", ".pt2", ".midge")


def check_given(
    model: Path,
    options: CompileOptions,
    inputs: Path | None,
    accuracy: Path | None,
    *,
    quantize: bool,
) -> None:
    """UsageError for inputs and labels that a model does not take, before it is compiled. What
    has to be converted, or is turned, is looked at afterwards."""
    check_arrays(inputs, accuracy)
    at_once = model.suffix.lower() in _READ_AT_ONCE and not options.channels_last
    if inputs is None or not at_once:
        return
    graph = load(model, options.name, options.shapes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MidgeWarning)  # of values that are cut: told afterwards
        sets_and_labels(graph, inputs, accuracy, quantize=quantize, note=lambda _: None)


def sets_and_labels(
    graph: Graph,
    inputs: Path | None,
    accuracy: Path | None,
    count: int = 1,
    seed: int = 0,
    *,
    quantize: bool,
    note: Note,
) -> tuple[list[dict[str, Array]], Array | None]:
    """The inputs in a file, or `count` random ones, and the labels that belong to them. UsageError
    for what `graph` does not take, or cannot answer."""
    sets = inputs_for(graph, inputs, count, seed, quantize=quantize, note=note)
    labels = labels_for(accuracy, inputs, len(sets))
    if labels is not None:
        check_labels(labels, graph.types[graph.outputs[0]])
    return sets, labels


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """command(..., options: CompileOptions, ...)  ->  the same with all flags of the options in
    the place of `options`, as typer reads them."""
    known = flags()

    def run(**words: Any) -> None:
        values = {n: _parsed(known[n], words.pop(n)) for n in known}
        given = {n: v for n, v in values.items() if v is not None}
        command(**words, options=CompileOptions(**given))

    hints = get_type_hints(command, include_extras=True)
    parameters: list[inspect.Parameter] = []
    for p in inspect.signature(command).parameters.values():
        if p.name == "options":
            parameters.extend(_parameters())
        else:
            kind = inspect.Parameter.KEYWORD_ONLY
            parameters.append(p.replace(annotation=hints[p.name], kind=kind))
    run.__name__, run.__doc__, run.__module__ = command.__name__, command.__doc__, __name__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run


def _parameters() -> list[inspect.Parameter]:
    found = []
    for f in fields(CompileOptions):
        flag: Flag = f.metadata["flag"]
        kind: Any = bool if isinstance(f.default, bool) else str
        if flag.many:
            kind = list[str]
        elif flag.parse is None and f.name == "stream_time":
            kind = int
        default = None if flag.many else f.default
        option = typer.Option(
            *flag.words,
            help=flag.help,
            metavar=flag.metavar,
            show_default=bool(default) and kind is str,
            rich_help_panel=_PANEL,
        )
        hint: Any = kind if isinstance(default, bool | str) else kind | None
        annotation: Any = Annotated[hint, option]
        keyword = inspect.Parameter.KEYWORD_ONLY
        found.append(inspect.Parameter(f.name, keyword, default=default, annotation=annotation))
    return found


def _parsed(flag: Flag, word: Any) -> Any:
    return word if word is None or flag.parse is None else flag.parse(word, flag.word)
