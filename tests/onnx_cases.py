"""The official test cases of the package `onnx`, and their run through Midge.

A case is passed if the graph's evaluation and the generated C both give its outputs, refused if
Midge says so by a ModelError.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from conftest import NO_SEARCH
from midge.core.errors import ModelError
from midge.core.package import Package
from midge.core.types import Array
from midge.driver import Compiled, compile_graph, load_operators
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.onnx_backend import bound_graph
from midge.run.tensors import (
    ARENA_ALIGNMENT,
    CONTEXT_SIZE,
    FILL,
    arena_start,
    decode,
    encode_inputs,
)
from midge.target import load_target
from midge.toolchain.build import build_library

# Cases whose outputs are not ONNX Runtime's, which Midge follows (docs/numerics.md).
OTHERWISE = frozenset({
    "test_resize_downsample_scales_cubic_align_corners",
    "test_resize_downsample_scales_linear_align_corners",
})  # fmt: skip
KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted")


@dataclass(frozen=True, slots=True)
class Case:
    """A model with inputs and wanted outputs; rtol, atol: how far results may be off."""

    name: str
    data: bytes
    sets: tuple[tuple[dict[str, Any], list[Any]], ...]
    rtol: float
    atol: float


@dataclass(frozen=True, slots=True)
class Readied:
    """A case that Midge reads: a graph for each set of its data."""

    case: Case
    graphs: tuple[Graph, ...]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What became of cases: those that Midge reads, those of them whose outputs it departs from,
    and the reasons of the others by name."""

    ready: list[Readied] = field(default_factory=list)
    otherwise: list[Readied] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)


@cache
def cases() -> tuple[Case, ...]:
    """All cases, by name."""
    found = [c for kind in KINDS for c in _loaded(kind)]
    return tuple(sorted(found, key=lambda c: c.name))


@cache
def node_names() -> set[str]:
    """The names of the cases of single operators."""
    return {c.name for c in _loaded("node")}


def _loaded(kind: str) -> Iterator[Case]:
    for test in load_model_tests(kind=kind):
        model, sets = test.model, test.data_sets
        if model is None:
            model, sets = _from_files(test.model_dir)
        names = [v.name for v in model.graph.input]
        constant = {t.name for t in model.graph.initializer}
        free = [n for n in names if n not in constant or len(names) == len(sets[0][0])]
        yield Case(
            test.name,
            model.SerializeToString(),
            tuple(
                (dict(zip(free, map(_array, ins), strict=False)), [*map(_array, outs)])
                for ins, outs in sets
            ),
            test.rtol,
            test.atol,
        )


def _from_files(folder: Any) -> tuple[Any, Any]:
    model = onnx.load(Path(folder) / "model.onnx")
    sets = []
    for path in sorted(Path(folder).glob("test_data_set_*")):
        pair = []
        for side in ("input", "output"):
            count = len(list(path.glob(f"{side}_*.pb")))
            files = [path / f"{side}_{i}.pb" for i in range(count)]
            pair.append([onnx.TensorProto.FromString(f.read_bytes()) for f in files])
        sets.append(tuple(pair))
    return model, sets


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value


def read(chosen: Sequence[Case]) -> Outcomes:
    """Reads the cases."""
    load_operators()
    result = Outcomes()
    for case in chosen:
        if case.name not in _READ:
            _READ[case.name] = _read(case)
        found = _READ[case.name]
        if isinstance(found, str):
            result.refused[case.name] = found
        elif case.name in OTHERWISE:
            result.otherwise.append(found)
        else:
            result.ready.append(found)
    return result


_READ: dict[str, Readied | str] = {}  # by the names of cases


def _read(case: Case) -> Readied | str:
    """The case with its graphs, or why it is refused."""
    try:
        return Readied(case, tuple(_graph(case, inputs) for inputs, _ in case.sets))
    except ModelError as error:
        return _reason(error)


def _graph(case: Case, inputs: dict[str, Any]) -> Graph:
    if not all(isinstance(a, np.ndarray | np.generic) for a in inputs.values()):
        raise ModelError("inputs are sequences or options", where=case.name)
    given = {n: np.asarray(a) for n, a in inputs.items()}
    return bound_graph(case.data, "model", given)


def _reason(error: ModelError) -> str:
    """What is wrong, without the names of values."""
    return re.sub(r"'[^']*'", "'...'", error.what)


def agree(case: Case, wanted: Sequence[Any], have: Sequence[Array], what: str) -> None:
    try:
        Runner.assert_similar_outputs(wanted, have, case.rtol, case.atol)
    except AssertionError as error:
        raise AssertionError(f"{case.name}, {what}: {error}") from None


def by_onnxruntime(ready: Readied) -> Readied:
    """The case with ONNX Runtime's outputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(ready.case.data, options)
    sets = tuple((inputs, session.run(None, inputs)) for inputs, _ in ready.case.sets)
    return replace(ready, case=replace(ready.case, sets=sets))


def check_evaluation(ready: Readied) -> None:
    for graph, (inputs, wanted) in zip(ready.graphs, ready.case.sets, strict=True):
        given = {n: np.asarray(inputs[n]) for n in graph.inputs}
        with np.errstate(all="ignore"):
            results = evaluate(graph, given)
        agree(ready.case, wanted, [results[n] for n in graph.outputs], "evaluated")


def check_c(chosen: Sequence[Readied], name: str) -> None:
    """Compiles all to one library and runs it. Equal graphs (many operators have a case with their
    function's body in their place) are compiled once."""
    compiled: dict[str, Compiled] = {}
    runs = []
    for ready in chosen:
        for graph, data in zip(ready.graphs, ready.case.sets, strict=True):
            key = canonical(graph)
            if key not in compiled:
                named = replace(graph, name=f"m{len(compiled)}")
                compiled[key] = compile_graph(named, load_target("host"), NO_SEARCH)
            runs.append((ready.case, graph, compiled[key], *data))
    library = Library([c.package for c in compiled.values()], name)
    for case, graph, built, inputs, wanted in runs:
        ports = zip(graph.inputs, built.model.inputs, strict=True)
        given = {port: np.asarray(inputs[own]) for own, port in ports}
        with np.errstate(all="ignore"):
            results = library.run(built.package, given)
        agree(case, wanted, [results[n] for n in built.package_outputs], "generated C")


def canonical(graph: Graph) -> str:
    """A text that is equal for graphs that differ in names only."""
    names: dict[str, str] = {}

    def name(value: str) -> str:
        if value not in names:
            array = graph.consts.get(value)
            data = "" if array is None else sha256(array.tobytes()).hexdigest()
            names[value] = f"v{len(names)}:{graph.types[value]}{graph.types[value].quant}{data}"
        return names[value]

    lines = [*map(name, graph.inputs)]
    for node in graph.nodes:
        values = [*map(name, (*node.inputs, *node.outputs))]
        lines.append(f"{node.op} {values} {sorted(node.attrs.items())}")
    return "\n".join([*lines, *map(name, graph.outputs)])


class Library:
    """Many packages in one shared library, from one C file that includes theirs."""

    def __init__(self, packages: Sequence[Package], name: str) -> None:
        files: dict[str, str] = {}
        for package in packages:
            files |= {n: t for n, t in package.files.items() if n.endswith((".c", ".h"))}
        files["all.c"] = "".join(f'#include "{s}"\n' for p in packages for s in p.sources)
        # What is compared is what the C means, to a case's tolerance.
        path = build_library(name, files, ["all.c"], optimize="debug", flags=["-O0", "-g0"])
        self._library = ctypes.CDLL(str(path))

    def run(self, package: Package, inputs: dict[str, Array]) -> dict[str, Array]:
        size = package.arena_size
        memory = (ctypes.c_uint8 * (CONTEXT_SIZE + size + 4 * ARENA_ALIGNMENT))()
        ctypes.memset(memory, FILL, len(memory))
        context = ctypes.addressof(memory)
        arena = arena_start(context + CONTEXT_SIZE)
        init, run = (getattr(self._library, f"{package.name}_{n}") for n in ("init", "run"))
        init.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        run.argtypes = (ctypes.c_void_p,)
        assert init(context, arena, size) == 0, package.name
        for tensor, data in encode_inputs(package, inputs):
            ctypes.memmove(arena + tensor.offset, data, len(data))
        assert run(context) == 0, package.name
        return {
            t.name: decode(t, ctypes.string_at(arena + t.offset, t.type.size))
            for t in package.outputs
        }
