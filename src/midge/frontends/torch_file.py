"""A .pt2 file: its program, its signature and its tensors, without PyTorch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from midge.core.types import Array
from midge.frontends.shapes import Declared
from midge.frontends.torch_archive import Archive
from midge.frontends.torch_calls import Call, call_of
from midge.frontends.torch_sizes import check_ranges, declared, is_of_sizes
from midge.frontends.torch_state import MUTATIONS, check, reached
from midge.frontends.torch_views import Views

_MOST_NODES = 1 << 16
# What a program asserts of its inputs, whose shapes are fixed here.
_CHECKS = ("aten._assert", "aten.sym_constrain_range", "_guards")
# Kinds of inputs that are stored: where, and what names them.
STORED = {
    "parameter": ("weights", "parameter_name"),
    "buffer": ("weights", "buffer_name"),
    "tensor_constant": ("constants", "tensor_constant_name"),
}


class File:
    """program: its graph as JSON.  signature: what its inputs and outputs are."""

    def __init__(self, data: bytes, name: str) -> None:
        self.name = name
        self.archive = Archive(data, name)
        module = self.archive.model["graph_module"]
        self.program: Mapping[str, Any] = module["graph"]
        self.signature: Mapping[str, Any] = module["signature"]

    def stored(self, kind: str, own: Mapping[str, Any]) -> Array:
        """The values of an input of the program that the file holds. ModelError without them."""
        folder, key = STORED[kind]
        if own[key] not in self.archive.files[folder]:
            folder = "constants"  # of buffers that are not kept with the weights
        return self.archive.tensor(folder, own[key])

    def declared(self) -> dict[str, Declared]:
        """The shapes of the inputs, as far as they are stated."""
        given = (
            spec.get("user_input", {}).get("arg", {}) for spec in self.signature["input_specs"]
        )
        found = [arg["as_tensor"]["name"] for arg in given if "as_tensor" in arg]
        return {name: declared(self.program["tensor_values"][name]["sizes"]) for name in found}

    def check_ranges(self, shapes: Mapping[str, Sequence[int]]) -> None:
        """ModelError for shapes of inputs that the program was not exported for."""
        ranges = self.archive.model.get("range_constraints") or {}
        for name in self.declared():
            check_ranges(name, self.program["tensor_values"][name]["sizes"], shapes[name], ranges)

    def results(self) -> list[Mapping[str, Any]]:
        """The values that are outputs. ModelError for other kinds of outputs."""
        specs = self.signature["output_specs"]
        return [self.result(s) for s in specs if not MUTATIONS.keys() & s.keys()]

    def result(self, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        """The value that is an output."""
        ((kind, own),) = spec.items()
        if kind != "user_output":
            raise self.archive.error(
                f"outputs of kind {kind} are not supported",
                "export a model in eval mode that changes none of its buffers",
            )
        if "as_tensor" not in own["arg"]:
            raise self.archive.error("an output is no tensor", "return tensors only")
        value: Mapping[str, Any] = own["arg"]["as_tensor"]
        return value

    def calls(self, outputs: Sequence[str]) -> list[tuple[Mapping[str, Any], Call]]:
        """The operators on which `outputs` depend, or of which Midge does not know all that they
        do. ModelError if the program does more than compute its outputs."""
        nodes = self.program["nodes"]
        if len(nodes) > _MOST_NODES:
            raise self.archive.error(f"more than {_MOST_NODES} operators")
        calls, views = [], Views(self.program["tensor_values"])
        for number, node in enumerate(nodes):
            kind = re.sub(r"^torch\.ops\.", "", str(node["target"]))
            if not kind.startswith(_CHECKS):
                call = call_of(kind, node, f"node {number} {self.place(node)!r}")
                call.check()
                views.operator(call)
                calls.append((node, call))
        views.read(outputs, "output")
        every = [call for _, call in calls]
        check(self.name, self.signature, every, outputs, views)
        measured = [value for node, call in calls if is_of_sizes(node) for value in call.values]
        live = reached(every, [*outputs, *measured], lambda call: call.values)
        return [
            (node, call)
            for node, call in calls
            if not call.known or is_of_sizes(node) or live.intersection(call.outputs)
        ]

    def place(self, node: Mapping[str, Any]) -> str:
        """The module that an operator is in, or its own name."""
        stack = str(node.get("metadata", {}).get("nn_module_stack", ""))
        path = stack.rpartition(";")[2].split(",")
        return path[1] if len(path) > 2 and path[1] else str(node.get("name") or "?")
