"""The Python interface. Heavy parts are imported when they are used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midge.core.package import Package
from midge.core.runner import Run
from midge.core.target import Target

if TYPE_CHECKING:
    from midge.core.types import Array
    from midge.graph.ir import Graph


def load(path: str | Path, *, name: str | None = None) -> Graph:
    """The graph of a model file.

    name: prefix of the C symbols; default: made of the file's name. `str(graph)` prints it.
    Raises ModelError if the file is malformed or uses something unsupported, UsageError if it
    cannot be read or the name is no C prefix.
    """
    from midge import driver

    return driver.load(Path(path), name)


def compile(
    model: str | Path | Graph,
    target: str | Path | Target = "cortex-m4",
    *,
    name: str | None = None,
    static_arena: bool = False,
    max_ram: int | None = None,
    max_flash: int | None = None,
    optimize: str = "speed",
    search: bool = True,
    bands: bool = True,
    stream_input: bool = False,
    stream_time: int | None = None,
    pools: Mapping[str, int] | None = None,
    hot_weights: bool = False,
) -> Package:
    """A model as a package of C.

    model: a file, or a graph of `load`.  target: a name of `midge targets`, the path of a TOML
    file, or a Target.  static_arena: the package brings its own arena.
    max_ram, max_flash: bytes that the arena and the constants may take, else PlanError; with
    max_ram the fastest plan that fits is taken.
    optimize: "speed", "balanced" or "size".  search: measure the ways to compute each operator in
    the emulator and take the best (remembered on disk); False: the first of each.
    bands: compute operators some rows at a time where that needs less RAM.  stream_input: the
    caller hands over the input row by row.  stream_time: frames of a sliding window that a call
    takes (0: as few as possible; None: a call takes a whole input).  pools: memories for the arena
    and their bytes, the fastest first.  hot_weights: copy constants that are read most there.
    Raises ModelError, TargetError, PlanError or UsageError.
    """
    from midge import driver
    from midge.target import load_target

    chosen = target if isinstance(target, Target) else load_target(target)
    limits = driver.Limits(max_ram, max_flash)
    memory = driver.Memory(
        bands, stream_input, stream_time, False, tuple((pools or {}).items()), hot_weights
    )
    settings: dict[str, Any] = {
        "static_arena": static_arena, "limits": limits, "optimize": optimize, "search": search,
        "memory": memory,
    }  # fmt: skip
    if isinstance(model, str | Path):
        return driver.compile_file(Path(model), chosen, name=name, **settings).package
    graph = driver.renamed(model, name) if name is not None else model
    return driver.compile_graph(graph, chosen, **settings).package


def run(
    package: Package,
    inputs: Mapping[str, Array] | Array,
    *,
    on: str = "emulator",
    toolchain: str | None = None,
    optimize: str | None = None,
) -> Run:
    """One inference of a package.

    inputs: arrays by tensor name, of exactly the model's shapes and types; or one array if the
    model has one input.  on: "emulator", "host" or "qemu".  toolchain: default: the target's
    first that is found.  optimize: "speed", "balanced", "size" or "debug"; default: what
    it was compiled for.
    The result has outputs by tensor name and, where the runner counts them, instructions,
    estimated cycles, stack bytes, and the same per operator.
    Raises RunError, ToolchainError or UsageError.
    """
    from midge.core.errors import UsageError
    from midge.run import RUNNERS

    if not isinstance(inputs, Mapping):
        if len(package.inputs) != 1:
            names = ", ".join(t.name for t in package.inputs)
            raise UsageError(
                f"one array for {len(package.inputs)} inputs",
                where="inputs",
                hint=f"name them: {names}",
            )
        inputs = {package.inputs[0].name: inputs}
    session = RUNNERS[on].load(package, toolchain=toolchain, optimize=optimize)
    try:
        return session.run(inputs)
    finally:
        session.close()
