"""The whole pipeline on one page: model file -> graph -> loops -> arena -> package."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from midge import kernels, ops
from midge.codegen.arrange import arrange
from midge.codegen.names import check_prefix, prefix_from
from midge.codegen.package import Options, make_package
from midge.core.errors import ModelError, PlanError, UsageError
from midge.core.package import Package
from midge.core.target import Target
from midge.core.types import TensorType
from midge.frontends import parse, read_file
from midge.graph.ir import Graph
from midge.loop.program import Program
from midge.lower.candidates import Option
from midge.lower.lower import lower
from midge.passes import run
from midge.passes.copy_outputs import copy_outputs
from midge.passes.dequantize_weights import dequantize_weights
from midge.passes.drop_channels import Dropped, drop_and_report
from midge.passes.drop_dead import drop_dead
from midge.passes.fit_elementwise import fit_elementwise
from midge.passes.fit_requantize import fit_requantize
from midge.passes.fold_constants import fold_constants
from midge.passes.fold_padding import fold_padding
from midge.passes.fold_scale_and_bias import fold_scale_and_bias
from midge.passes.fold_zero_points import fold_zero_points
from midge.passes.fuse_activations import fuse_activations
from midge.passes.fuse_tables import fuse_tables
from midge.passes.legalize import legalize
from midge.plan.arena import Arena
from midge.tune.rank import Ranked, rank, reason_against
from midge.tune.trials import Trial

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
# At the plain level, once no channel is left that nobody needs: the same bytes in less work.
CHEAPER_PASSES = (fit_requantize, fuse_tables, fit_elementwise)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes that the package may need: ram for its arena, flash for its constants."""

    ram: int | None = None
    flash: int | None = None


NO_LIMITS = Limits()
GOALS = ("speed", "balanced", "size")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A package and every stage it came through, for whoever inspects or verifies.

    model: as read.  graph: the model level after its passes.  plain: spelled out.
    dropped: the channels that `graph` has and `plain` has no more.
    """

    model: Graph
    graph: Graph
    plain: Graph
    dropped: Dropped
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
    optimize: str = "speed",
    search: bool = False,
) -> Compiled:
    """Everything from the model level down. PlanError if the result exceeds `limits`.

    optimize: "speed", "balanced" or "size".  search: measure the candidates of every operator in
    the emulator, where the target has one; otherwise take the first of each.
    """
    model = run(MODEL_PASSES, graph)
    plain, dropped = spell_out(model)
    check_constants(plain)
    if optimize not in GOALS:
        raise UsageError(
            "unknown goal", where=f"optimize {optimize!r}", hint=f"one of {', '.join(GOALS)}"
        )
    searches = search and reason_against(target) is None
    choose = partial(_choose, target, optimize, _flash(target, limits)) if searches else None
    program = lower(plain, target, narrowed_types(model, plain), optimize, choose)
    arena = arrange(program)
    flags: dict[str, bool | int | str] = {
        "static_arena": static_arena,
        "optimize": optimize,
        "search": searches,
    }
    digest = model_hash or hash_graph(graph)
    options = Options(version("midge"), digest, static_arena, optimize, flags)
    package = make_package(program, arena, target, options, dropped.totals)
    check_limits(package, limits)
    return Compiled(graph, model, plain, dropped, program, arena, package)


def _flash(target: Target, limits: Limits) -> int | None:
    """Bytes of flash that kernels and constants may take."""
    memory = target.memory("flash")
    return limits.flash if limits.flash is not None or memory is None else memory.size


def _choose(
    target: Target, optimize: str, flash: int | None, found: Sequence[tuple[Option, ...]]
) -> Sequence[int]:
    """The option of every operation that measures best."""
    trials = [[_trial(option) for option in own] for own in found]
    ranked: Ranked = rank(trials, target, optimize, flash)
    return ranked.picks


def _trial(option: Option) -> Trial:
    params = option.kernel.func.params
    values = zip(params, option.args, strict=True)
    return Trial(option.kernel, {p.name: option.consts[v] for p, v in values if v in option.consts})


def spell_out(model: Graph) -> tuple[Graph, Dropped]:
    """The plain graph without the channels that nobody needs, and which those are."""
    plain, dropped = drop_and_report(run(PLAIN_PASSES, model))
    return run(CHEAPER_PASSES, plain), dropped


def narrowed_types(model: Graph, plain: Graph) -> dict[str, TensorType]:
    """The model's types, with the channels that are left in `plain`."""
    shapes = {n: t.shape for n, t in plain.types.items() if n not in plain.consts}
    return {n: replace(t, shape=shapes.get(n, t.shape)) for n, t in model.types.items()}


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
    optimize: str = "speed",
    search: bool = False,
) -> Compiled:
    """From a model file to a package; arguments as of `compile_graph`."""
    data = read_file(path)
    graph = _parsed(data, path, name)
    digest = hashlib.sha256(data).hexdigest()
    return compile_graph(
        graph,
        target,
        model_hash=digest,
        static_arena=static_arena,
        limits=limits,
        optimize=optimize,
        search=search,
    )


def hash_graph(graph: Graph) -> str:
    """A hash of a graph that came from no file."""
    digest = hashlib.sha256(str(graph).encode())
    for name, array in graph.consts.items():
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def renamed(graph: Graph, name: str) -> Graph:
    """The same graph under another C prefix."""
    return replace(graph, name=check_prefix(name))
