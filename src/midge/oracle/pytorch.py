"""PyTorch as the judge of .pt2 files: its operators, called one after the other by their names.

The program and its tensors are read as Midge's frontend reads them. PyTorch's own loader would
unpickle what the file holds beside them, and so run code of whoever made it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from midge.core.errors import RunError
from midge.core.extras import how_to_get
from midge.core.types import Array
from midge.frontends.torch_calls import names
from midge.frontends.torch_file import STORED, File
from midge.frontends.torch_sizes import RESULTS, arithmetic, is_of_sizes
from midge.graph.importers import IMPORTERS
from midge.graph.ir import Graph
from midge.oracle.base import ORACLES

_OWN = ("aten", "quantized_decomposed", "torchao")  # namespaces of operators of PyTorch's makers
# As torch.export writes them (torch._export.serde.schema): ScalarType, MemoryFormat.
_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32",
    8: "float64", 12: "bool", 13: "bfloat16",
}  # fmt: skip
_FORMATS = {
    1: "contiguous_format", 2: "channels_last", 3: "channels_last_3d", 4: "preserve_format"
}  # fmt: skip
_PLAIN = (
    "as_int", "as_bool", "as_string", "as_ints", "as_floats", "as_bools", "as_strings",
)  # fmt: skip


class PyTorch:
    title = "PyTorch"
    suffixes = (".pt2",)

    def available(self) -> str | None:
        if find_spec("torch") is None:
            return f"not installed: {how_to_get('torch')}"
        return None

    def load(self, path: Path, graph: Graph) -> PyTorchSession:
        """RunError if the program uses something that PyTorch does not have here."""
        return PyTorchSession(File(path.read_bytes(), graph.name), graph)


class PyTorchSession:
    """A program, its values by their names in the file, which the graph has as well."""

    notes: Sequence[str] = ()
    apart: Mapping[str, str] = {}

    def __init__(self, file: File, graph: Graph) -> None:
        import torch

        self._torch, self._graph = torch, graph
        self._results = [str(v["name"]) for v in file.results()]
        self._calls = file.calls(self._results)
        self._functions = [
            self._of_sizes(call.kind) if is_of_sizes(node) else self._function(call.kind)
            for node, call in self._calls
        ]
        self._stored: dict[str, Any] = {}
        for spec in file.signature["input_specs"]:
            ((kind, own),) = spec.items()
            if kind in STORED:
                self._keep(file, kind, own)

    def _keep(self, file: File, kind: str, own: Mapping[str, Any]) -> None:
        """The tensor of an input that the file holds, if an operator reads it."""
        name = own["arg"]["name"]
        if any(name in call.values for _, call in self._calls) or name in self._results:
            self._stored[name] = self._torch.from_numpy(file.stored(kind, own).copy())

    def _of_sizes(self, kind: str) -> Any:
        """What computes a size: of PyTorch's tensors, or of sizes. RunError for anything else."""
        if kind in ("aten.sym_size.int", "aten.sym_numel.default"):
            _, name, overload = kind.split(".")
            return getattr(getattr(self._torch.ops.aten, name), overload)
        rule = arithmetic(kind)
        if rule is None:
            raise RunError(f"a size is computed by {kind}, which is not known", where="PyTorch")
        return rule

    def _function(self, kind: str) -> Any:
        """An operator of PyTorch's that Midge knows. RunError for any other."""
        space, name, overload = (*kind.split("."), "", "")[:3]
        known = IMPORTERS["torch"].get(kind) or IMPORTERS["torch"].get(
            f"{space}.{name.removesuffix('_')}"
        )
        if space not in _OWN or known is None:
            raise RunError(f"{kind} is no operator that is called here", where="PyTorch")
        if space == "quantized_decomposed":
            _register_decomposed()
        try:
            return getattr(getattr(getattr(self._torch.ops, space), name), overload)
        except AttributeError as error:
            raise RunError(f"this PyTorch has no operator {kind}", where="PyTorch") from error

    def run(self, inputs: Mapping[str, Array]) -> Mapping[str, Array]:
        """Every value as it is when its operator has made it."""
        env = {**self._stored}
        for name, array in inputs.items():
            env[name] = self._torch.from_numpy(np.array(array))
        shown: dict[str, Array] = {}
        with self._torch.no_grad():
            for (node, _), function in zip(self._calls, self._functions, strict=True):
                for name, value in self._called(node, function, env):
                    env[name] = value
                    if name in self._graph.types:
                        shown[name] = np.array(value.numpy())
        for name, own in zip(self._graph.outputs, self._results, strict=True):
            shown[name] = np.array(env[own].numpy())
        return shown

    def _called(
        self, node: Mapping[str, Any], function: Any, env: Mapping[str, Any]
    ) -> list[tuple[str, Any]]:
        """The names and values of an operator's results."""
        given = {a["name"]: self._argument(a["arg"], env) for a in node["inputs"]}
        try:
            result = function(*given.values()) if is_of_sizes(node) else function(**given)
        # Its errors have no common class below Exception.
        except Exception as error:
            what = f"PyTorch refuses {node['target']}: {error}"
            raise RunError(what, where="PyTorch") from error
        values = list(result) if isinstance(result, list | tuple) else [result]
        wanted: list[str | None] = []
        for output in node["outputs"]:
            ((form, value),) = output.items()
            own = [value["as_name"]] if form in RESULTS else names(form, value)
            wanted += own or [None]
        return [(n, v) for n, v in zip(wanted, values, strict=False) if n is not None]

    def _argument(self, arg: Mapping[str, Any], env: Mapping[str, Any]) -> Any:
        ((form, value),) = arg.items()
        match form:
            case "as_tensor":
                return env[value["name"]]
            case "as_tensors":
                return [env[v["name"]] for v in value]
            case "as_optional_tensor":
                return None if "as_none" in value else env[value["as_tensor"]["name"]]
            case "as_optional_tensors":
                return [env[v["as_tensor"]["name"]] if "as_tensor" in v else None for v in value]
            case "as_float":
                return float(value)  # infinities are words
            case "as_scalar_type":
                return getattr(self._torch, _TYPES[value])
            case "as_memory_format":
                return getattr(self._torch, _FORMATS[value])
            case "as_sym_int" | "as_sym_bool" | "as_sym_float":
                return _size(value, env)
            case "as_sym_ints":
                return [_size(v, env) for v in value]
        return value if form in _PLAIN else None


def _size(value: Mapping[str, Any], env: Mapping[str, Any]) -> Any:
    """A size that the program states, or has computed."""
    ((form, own),) = value.items()
    return env[own] if form == "as_name" else own


def _register_decomposed() -> None:
    """The operators of pt2e are there once their module has been imported."""
    import contextlib
    import importlib

    for name in ("torchao.quantization.pt2e", "torch.ao.quantization.fx._decomposed"):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


ORACLES.add("torch", PyTorch())
