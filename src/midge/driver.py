"""The whole pipeline on one page: model file -> graph -> loops -> arena -> package."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from midge import kernels, ops
from midge.codegen.names import check_prefix, prefix_from
from midge.codegen.package import Options, align_of, make_package
from midge.core.errors import ModelError, PlanError
from midge.core.package import Package
from midge.core.target import Target
from midge.frontends import parse, read_file
from midge.graph.ir import Graph
from midge.loop.program import Program
from midge.lower.lower import lower
from midge.passes import run
from midge.passes.copy_outputs import copy_outputs
from midge.passes.dequantize_weights import dequantize_weights
from midge.passes.drop_dead import drop_dead
from midge.passes.fold_constants import fold_constants
from midge.passes.fold_padding import fold_padding
from midge.passes.fold_scale_and_bias import fold_scale_and_bias
from midge.passes.fold_zero_points import fold_zero_points
from midge.passes.fuse_activations import fuse_activations
from midge.passes.legalize import legalize
from midge.plan.arena import Arena, Use, plan_arena

# Model level: nodes mean what the framework means, tensors are quantised.
MODEL_PASSES = (
    dequantize_weights,
    fold_constants,
    drop_dead,
    fold_padding,
    fold_scale_and_bias,
    fuse_activations,
    drop_dead,
    copy_outputs,
)
# To the plain level: integer arithmetic is spelled out.
PLAIN_PASSES = (legalize, fold_constants, fold_zero_points, drop_dead)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes that the package may need: ram for its arena, flash for its constants."""

    ram: int | None = None
    flash: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Compiled:
    """A package and every stage it came through, for whoever inspects or verifies.

    model: as read.  graph: the model level after its passes.  plain: spelled out.
    """

    model: Graph
    graph: Graph
    plain: Graph
    program: Program
    arena: Arena
    package: Package

    @property
    def package_outputs(self) -> tuple[str, ...]:
        """The names of the package's outputs, in the order of the model's."""
        return tuple(t.name for t in self.package.outputs)


def load_operators() -> None:
    """Register operators, their importers, loops and schedules; cheap after the first time."""
    ops.load()
    kernels.load()


def load(path: Path, name: str | None = None) -> Graph:
    """The graph of a model file; `name` defaults to the file's."""
    return _parsed(read_file(path), path, name)


def _parsed(data: bytes, path: Path, name: str | None) -> Graph:
    load_operators()
    return parse(data, path, prefix_from(path.stem) if name is None else check_prefix(name))


def compile_graph(
    graph: Graph,
    target: Target,
    *,
    model_hash: str = "",
    static_arena: bool = False,
    limits: Limits = NO_LIMITS,
) -> Compiled:
    """Everything from the model level down. PlanError if the result exceeds `limits`."""
    model = run(MODEL_PASSES, graph)
    plain = run(PLAIN_PASSES, model)
    check_constants(plain)
    program = lower(plain, target, model.types)
    arena = arrange(program)
    flags = {"static_arena": static_arena}
    digest = model_hash or hash_graph(graph)
    options = Options(version("midge"), digest, static_arena, flags)
    package = make_package(program, arena, target, options)
    check_limits(package, limits)
    return Compiled(graph, model, plain, program, arena, package)


def check_limits(package: Package, limits: Limits) -> None:
    """PlanError that says what is needed and which operator takes most of it."""
    if limits.ram is not None and package.arena_size > limits.ram:
        raise _too_large(package, package.arena_size, "RAM for the arena", limits.ram, "live")
    if limits.flash is not None and package.weights_size > limits.flash:
        what = "flash for constants alone"
        raise _too_large(package, package.weights_size, what, limits.flash, "constants")


def _too_large(package: Package, need: int, what: str, limit: int, column: str) -> PlanError:
    rows: list[dict[str, Any]] = package.metadata["operators"]
    most = max(rows, key=lambda row: int(row[column]))
    return PlanError(
        f"needs {need} bytes of {what}, {limit} are allowed",
        where=package.name,
        hint=f"the most is at {most['name']} ({most['src']}): {most[column]} bytes; a smaller "
        "model, or int8 instead of float, would help",
    )


def check_constants(graph: Graph) -> None:
    """ModelError if a constant has become infinite, or no number, on its way through the passes."""
    for name, array in graph.consts.items():
        if graph.types[name].dtype.is_float and not np.isfinite(array).all():
            raise ModelError(
                "is not finite once computed",
                where=f"constant {name!r}",
                hint="weights or scales of the model are too large for binary32",
            )


def compile_file(
    path: Path,
    target: Target,
    *,
    name: str | None = None,
    static_arena: bool = False,
    limits: Limits = NO_LIMITS,
) -> Compiled:
    """From a model file to a package."""
    data = read_file(path)
    graph = _parsed(data, path, name)
    digest = hashlib.sha256(data).hexdigest()
    return compile_graph(graph, target, model_hash=digest, static_arena=static_arena, limits=limits)


def hash_graph(graph: Graph) -> str:
    """A hash of a graph that came from no file."""
    digest = hashlib.sha256(str(graph).encode())
    for name, array in graph.consts.items():
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def arrange(program: Program) -> Arena:
    """Offsets of every tensor of `program` in one arena."""
    uses = [
        Use(tuple(a for a in op.args[:-1] if a not in program.consts), op.output, op.inplace)
        for op in program.operations
    ]
    names = {*map(program.buffer, program.inputs), *(u.writes for u in uses)}
    sizes = {n: program.types[n].size for n in names}
    aligns = {n: align_of(program.types[n].dtype) for n in names}
    inputs = [program.buffer(n) for n in program.inputs]
    outputs = [program.buffer(n) for n in program.outputs]
    return plan_arena(uses, inputs, outputs, sizes, aligns)


def renamed(graph: Graph, name: str) -> Graph:
    """The same graph under another C prefix."""
    return replace(graph, name=check_prefix(name))
