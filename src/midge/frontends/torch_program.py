"""Modules and exported programs that PyTorch holds in memory, to graphs. Needs PyTorch."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable
from typing import Any

from midge.core.errors import ModelError
from midge.frontends.torch import read
from midge.frontends.torch_state import NO_STATE
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
            taken_apart = _decomposed(program, error)
            try:
                return read(_saved(taken_apart), name)
            except ModelError as second:
                raise second from error


def _exported(module: Any, example_inputs: tuple[Any, ...]) -> Any:
    import torch

    if isinstance(module, torch.export.ExportedProgram):
        return module
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            program = torch.export.export(module.eval(), example_inputs)
    except Exception as error:
        raise ModelError(
            f"torch.export refuses the module: {error}",
            where=type(module).__name__,
            hint="make torch.export.export(module, example_inputs) work first",
        ) from error
    _check_attributes(program, type(module).__name__, [str(w.message) for w in caught])
    return program


_ASSIGNED = re.compile(r"[Tt]ensor attributes? (.+?) (?:was|were) assigned during export")


def _check_attributes(program: Any, kind: str, warned: Iterable[str]) -> None:
    """ModelError for tensors that the module reads and assigns without having registered them: the
    export keeps what they were, and only warns. Which of those in lists it is remains unsaid."""
    constants = {
        str(s.target)
        for s in program.graph_signature.input_specs
        if s.kind.name == "CONSTANT_TENSOR"
    }
    unnamed = any(c.startswith("lifted_tensor") for c in constants)
    for text in warned:
        for names in _ASSIGNED.findall(text):
            for name in re.split(r",\s*", names):
                if name.removeprefix("self.") in constants or (unnamed and "[" in name):
                    raise ModelError(
                        f"keeps state in {name}",
                        where=kind,
                        hint=NO_STATE,
                    )


def _decomposed(program: Any, why: ModelError) -> Any:
    """Without changes in place, and with core operators for those that Midge does not know; `why`
    if PyTorch cannot do that."""
    import torch

    table = torch.export.default_decompositions()
    for operator in list(table):
        if ".".join(str(operator).split(".")[:2]) in IMPORTERS["torch"]:
            del table[operator]
    try:
        return program.run_decompositions(table)
    except Exception:  # noqa: BLE001 - it raises whatever it likes
        raise why from None


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
