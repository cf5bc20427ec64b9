"""The whole pipeline on one page: model file -> graph -> loops -> arena -> package."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from midge import kernels, ops
from midge.cascading import Chosen, Priced, Wish, choose, price_first
from midge.codegen.arrange import layout_of
from midge.codegen.names import check_prefix, prefix_from
from midge.codegen.package import Options, make_package
from midge.core.errors import PlanError, UsageError
from midge.core.package import Package
from midge.core.target import Target
from midge.frontends import parse, read_file
from midge.graph.ir import Graph
from midge.graph.rows import seen_rows
from midge.loop.program import Program
from midge.lower.candidates import Option
from midge.lower.lower import Choice
from midge.passes.drop_channels import Dropped
from midge.pipeline import check_constants, narrowed_types, prepare, spell_out
from midge.plan.arena import Arena, Planner, place
from midge.plan.guards import guarded
from midge.plan.pooled import pooled
from midge.plan.pools import Pool
from midge.tune.rank import Ranked, rank, reason_against
from midge.tune.trials import Trial


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes that the package may need: ram for its arena, flash for its constants."""

    ram: int | None = None
    flash: int | None = None


NO_LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Memory:
    """How RAM is used. bands: compute operators band by band where that needs less; False: whole
    tensors only.  stream_input: the caller hands over the input row by row.  stream_time: frames
    (rows of a sliding window) that a call takes and computes what they change; 0: as few as
    possible, None: a call takes a whole input.  check: place tensors with room between them, for
    runs that check every access to the arena; limits do not count.  pools: (name, bytes) of the
    memories in which tensors may lie, the fastest first.  hot_weights: copy constants that are
    read most to what is left of the first of them."""

    bands: bool = True
    stream_input: bool = False
    stream_time: int | None = None
    check: bool = False
    pools: tuple[tuple[str, int], ...] = ()
    hot_weights: bool = False


USUAL = Memory()
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
    chosen: Chosen

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
    memory: Memory = USUAL,
    channels_last: bool = False,
) -> Compiled:
    """Everything from the model level down. PlanError if the result exceeds `limits`.

    optimize: "speed", "balanced" or "size".  search: measure the candidates of every operator in
    the emulator, where the target has one; otherwise take the first of each.  channels_last: as of
    `pipeline.prepare`.
    """
    if optimize not in GOALS:
        raise UsageError(
            "unknown goal", where=f"optimize {optimize!r}", hint=f"one of {', '.join(GOALS)}"
        )
    _check_memory(memory, graph.name)
    model = prepare(graph, halves=optimize == "size", channels_last=channels_last)
    plain, dropped = spell_out(model)
    check_constants(plain, graph)
    searches = search and reason_against(target) is None
    price = partial(_price, target, optimize, _flash(target, limits)) if searches else price_first
    arriving = _arriving(plain) if memory.stream_input else frozenset()
    wish = Wish(limits.ram, arriving, memory.bands, memory.stream_time)
    planner = _pools(memory, target, static_arena)
    types = narrowed_types(model, plain)
    chosen = choose(plain, target, types, optimize, price, wish, planner)
    program, arena = chosen.program, chosen.arena
    if memory.check:
        arena = _apart(program, arena)
        limits = replace(limits, ram=None)
    digest = model_hash or hash_graph(graph)
    flags: dict[str, bool | int | str] = {
        "static_arena": static_arena, "optimize": optimize, "search": searches,
        **_flags(memory, program, channels_last),
    }  # fmt: skip
    room = memory.pools[0][1] if memory.hot_weights else 0
    options = Options(version("midge"), digest, static_arena, optimize, flags, memory.check, room)
    package = make_package(program, arena, target, options, dropped.totals)
    check_limits(package, limits, memory)
    return Compiled(graph, model, plain, dropped, program, arena, package, chosen)


def _flags(memory: Memory, program: Program, channels_last: bool) -> dict[str, bool | int | str]:
    """How the package was made, for its description."""
    flags: dict[str, bool | int | str] = {
        "bands": memory.bands,
        "stream_input": memory.stream_input,
    }
    if channels_last:
        flags["channels_last"] = True
    if program.pushes is not None:
        flags["stream_time"] = program.pushes.hop
    if memory.pools:
        flags["pools"] = " ".join(f"{name}={size}" for name, size in memory.pools)
        flags["hot_weights"] = memory.hot_weights
    return flags


def _check_memory(memory: Memory, name: str) -> None:
    """UsageError for what does not go together."""
    if memory.stream_input and memory.stream_time is not None:
        raise UsageError(
            "the input is streamed row by row or frame by frame, not both",
            where=f"memory of {name}",
            hint="one of --stream-input and --stream-time",
        )
    if memory.check and memory.stream_time is not None:
        raise UsageError(
            "rows that stay from push to push are not checked",
            where=f"memory of {name}",
            hint="one of --check-memory and --stream-time",
        )


def _arriving(plain: Graph) -> frozenset[str]:
    """The inputs, row by row; UsageError if their rows are not those that the model reads."""
    if seen_rows(plain):
        raise UsageError(
            "the model reads the input as an image of another shape: its rows are no rows of that",
            where="--stream-input",
            hint="with its channels last the input is that image",
        )
    return frozenset(plain.inputs)


def _apart(program: Program, arena: Arena) -> Arena:
    """The same calls with guards between all buffers."""
    return place(layout_of(program), arena.calls, guarded())


_POOL_NAME = re.compile(r"[a-z][a-z0-9_]*")


def _pools(memory: Memory, target: Target, static_arena: bool) -> Planner | None:
    """The planner for several memories; None for one. UsageError for what does not go together."""
    if not memory.pools:
        if memory.hot_weights:
            raise UsageError(
                "needs a memory to put them", where="--hot-weights", hint="--pool dtcm=16K"
            )
        return None
    names = [name for name, _ in memory.pools]
    if len({*names}) < len(names) or not all(map(_POOL_NAME.fullmatch, names)) or "arena" in names:
        raise UsageError(
            f"{', '.join(names)} cannot be their names",
            where="--pool",
            hint="different ones of small letters, digits and underscores, e.g. --pool dtcm=16K",
        )
    if memory.stream_time is not None or memory.check or static_arena:
        raise UsageError(
            "goes with one memory only",
            where="--pool",
            hint="without --stream-time, --check-memory and --static-arena",
        )
    known = {m.name: m.cost for m in target.memories}
    pools = [
        Pool(name, size, known.get(name, 1.0 + number))
        for number, (name, size) in enumerate(memory.pools)
    ]
    return pooled(pools)


def _flash(target: Target, limits: Limits) -> int | None:
    """Bytes of flash that kernels and constants may take."""
    memory = target.memory("flash")
    return limits.flash if limits.flash is not None or memory is None else memory.size


def _price(target: Target, optimize: str, flash: int | None, choices: Sequence[Choice]) -> Priced:
    """The option of every kernel that measures best, and what all of them cost."""
    trials = [[_trial(option) for option in choice.options] for choice in choices]
    ranked: Ranked = rank(trials, target, optimize, flash, every=True)
    return Priced(ranked.picks, tuple(tuple(c.cycles for c in own) for own in ranked.costs))


def _trial(option: Option) -> Trial:
    params = option.kernel.func.params
    values = zip(params, option.args, strict=True)
    return Trial(option.kernel, {p.name: option.consts[v] for p, v in values if v in option.consts})


def check_limits(package: Package, limits: Limits, memory: Memory = USUAL) -> None:
    """PlanError that says what is needed, which operator takes most of it and what would help."""
    rows: list[dict[str, Any]] = package.metadata["operators"]
    if limits.ram is not None and package.arena_size > limits.ram:
        most = max(rows, key=lambda row: int(row["live"]))
        helps = " or ".join(_for_less_ram(package, memory))
        raise _too_large(
            package, package.arena_size, "RAM for the arena", limits.ram,
            f"the peak is at {_place(most)}: {most['live']} bytes alive; {helps} would help",
        )  # fmt: skip
    if limits.flash is not None and package.weights_size > limits.flash:
        most = max(rows, key=lambda row: int(row["constants"]))
        helps = "a smaller model" if package.optimize == "size" else "--optimize size"
        raise _too_large(
            package, package.weights_size, "flash for constants alone", limits.flash,
            f"the most is at {_place(most)}: {most['constants']} bytes; {helps} would help",
        )  # fmt: skip


def _place(row: Mapping[str, Any]) -> str:
    return f"{row['name']} ({row['src']})"


def _for_less_ram(package: Package, memory: Memory) -> list[str]:
    """Options and changes of the model that could make the arena smaller."""
    found = [] if memory.bands else ["--bands"]
    sizes = [t.type.size for t in package.inputs]
    image = len(sizes) == 1 and len(package.inputs[0].type.shape) == 4
    turns = any(o.name.startswith("transpose") for o in package.operators)
    if image and turns and "channels_last" not in package.metadata["options"]:
        found.append("--channels-last (an image that is not transposed)")
    streams = memory.stream_input or memory.stream_time is not None
    if not streams and image and 4 * sizes[0] >= package.arena_size:
        found.append(f"--stream-input (the input takes {sizes[0]} bytes)")
    if any(t.type.dtype.is_float for o in package.operators for t in o.outputs):
        found.append("int8 instead of float")
    return found or ["a smaller model"]


def _too_large(package: Package, need: int, what: str, limit: int, hint: str) -> PlanError:
    return PlanError(
        f"needs {need} bytes of {what}, {limit} are allowed", where=package.name, hint=hint
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
    memory: Memory = USUAL,
    channels_last: bool = False,
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
        memory=memory,
        channels_last=channels_last,
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
