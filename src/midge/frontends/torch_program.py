"""Modules and exported programs that PyTorch holds in memory, to graphs. Needs PyTorch."""

from __future__ import annotations

import io
import warnings
from typing import Any

from midge.core.errors import ModelError
from midge.frontends.torch import read
from midge.graph.importers import IMPORTERS
from midge.graph.ir import Graph


def graph_of(module: Any, example_inputs: tuple[Any, ...], name: str) -> Graph:
    """The graph of a module in eval mode, or of a torch.export.ExportedProgram.

    What the program uses and Midge does not know, is taken apart into PyTorch's core operators.
    ModelError if the module cannot be exported or uses something unsupported.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch about itself
        program = _exported(module, example_inputs)
        try:
            return read(_saved(program), name)
        except ModelError as error:
            try:
                return read(_saved(_decomposed(program)), name)
            except ModelError as second:
                raise second from error


def _exported(module: Any, example_inputs: tuple[Any, ...]) -> Any:
    import torch

    if isinstance(module, torch.export.ExportedProgram):
        return module
    try:
        return torch.export.export(module.eval(), example_inputs)
    except Exception as error:
        raise ModelError(
            f"torch.export refuses the module: {error}",
            where=type(module).__name__,
            hint="make torch.export.export(module, example_inputs) work first",
        ) from error


def _decomposed(program: Any) -> Any:
    """Without changes in place, and with core operators for those that Midge does not know."""
    import torch

    table = torch.export.default_decompositions()
    for operator in list(table):
        if ".".join(str(operator).split(".")[:2]) in IMPORTERS["torch"]:
            del table[operator]
    return program.run_decompositions(table)


def _saved(program: Any) -> bytes:
    import torch

    out = io.BytesIO()
    try:
        torch.export.save(program, out)
    # Of values that its format has no words for: named tuples among the outputs, say.
    except Exception as error:
        raise ModelError(
            f"torch.export.save refuses the program: {error}",
            where=type(program).__name__,
            hint="return plain tensors and tuples of them",
        ) from error
    return out.getvalue()
