"""The whole pipeline on one page: model file -> graph -> loops -> arena -> package."""

from __future__ import annotations

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from midge import kernels, ops
from midge.cascading import Chosen, Priced, beside_kernels, choose, price_first
from midge.codegen.arrange import layout_of
from midge.codegen.metadata import Measured, Origin
from midge.codegen.names import check_prefix, prefix_from
from midge.codegen.package import make_package
from midge.codegen.pools import check_pool_names
from midge.core.errors import KernelWarning, PlanError, ToolchainError, UsageError
from midge.core.options import CompileOptions, Shapes
from midge.core.package import Package
from midge.core.progress import Progress, silent
from midge.core.target import Target
from midge.core.version import version
from midge.frontends import parse, read_file
from midge.frontends.shapes import resolved
from midge.graph.ir import Graph
from midge.graph.rows import seen_rows
from midge.limits import check_limits, flash_limit, is_hopeless, is_near
from midge.loop import ir
from midge.loop.program import Program
from midge.lower.candidates import Option
from midge.lower.lower import Choice, Lowered
from midge.passes.drop_channels import Dropped
from midge.pipeline import Prepared, check_constants, narrowed_types, prepare, spell_out
from midge.plan.arena import Arena, Planner, place
from midge.plan.guards import guarded
from midge.plan.pooled import pooled
from midge.plan.pools import Pool
from midge.ranking import Wish
from midge.toolchain.build import build_image, compiler_of
from midge.trade_off import offered
from midge.tune.rank import (
    Ranked,
    UnfitKernels,
    prove,
    rank,
    reason_against,
    reason_unproven,
)
from midge.tune.trials import Match, Trial

USUAL = CompileOptions()
_LINKED = 4  # times that plans are linked to see whether they fit


@dataclass(frozen=True, slots=True)
class Compiled:
    """A package and every stage it came through, for whoever inspects or verifies.

    model: as read.  graph: the model level after its passes.  plain: spelled out.
    dropped: the channels that `graph` has and `plain` has no more.  turned: the inputs and outputs
    that have their channels last in `graph` and in C, and not in `model`.
    """

    model: Graph
    graph: Graph
    plain: Graph
    dropped: Dropped
    program: Program
    arena: Arena
    package: Package
    chosen: Chosen
    turned: frozenset[str] = frozenset()

    @property
    def package_outputs(self) -> tuple[str, ...]:
        """The names of the package's outputs, in the order of the model's."""
        return tuple(t.name for t in self.package.outputs)


def load_operators() -> None:
    """Register operators, their importers, loops and schedules; cheap after the first time."""
    ops.load()
    kernels.load()


def load(path: Path, name: str | None = None, shapes: Shapes = ()) -> Graph:
    """The graph of a model file; `name` defaults to the file's.  shapes: of open inputs."""
    return _parsed(read_file(path), path, name, shapes)


def _parsed(data: bytes, path: Path, name: str | None, shapes: Shapes) -> Graph:
    load_operators()
    prefix = prefix_from(path.stem) if name is None else check_prefix(name)
    return parse(data, path, prefix, dict(shapes))


def compile_graph(
    graph: Graph,
    target: Target,
    options: CompileOptions = USUAL,
    *,
    model_hash: str = "",
    progress: Progress = silent,
) -> Compiled:
    """Everything from the model level down. PlanError if the result exceeds the options' limits.

    The search measures the candidates of every operator in the emulator, where the target has one;
    otherwise the first of each is taken.  model_hash: of the file that `graph` came from.
    progress: told what is being done.
    """
    graph = _as_said(graph, options)
    target = target.reserving(options.reserve).unrolling(options.unroll)
    goal = options.goal
    progress("simplifying", 0, 0)
    prepared = prepare(graph, halves=goal == "size", channels_last=options.channels_last)
    model = prepared.graph
    plain, dropped = spell_out(model)
    check_constants(plain, graph)
    searches = options.search and (
        reason_against(target) is None and not is_hopeless(plain, target, options)
    )
    price = partial(_price, target, goal, progress) if searches else price_first
    arriving = _arriving(plain) if options.stream_input else frozenset()
    wish = Wish(
        options.max_ram, arriving, options.bands, options.stream_time,
        flash_limit(target, options, plain),
        small=goal == "size",
    )  # fmt: skip
    types = narrowed_types(model, plain)
    check_pool_names((n for n, _ in options.pools), len(plain.inputs), len(plain.outputs))
    planner = _pools(options, target)
    proves = options.prove and _can_prove(target)
    done = replace(options, search=searches, prove=proves, name=graph.name)
    origin = Origin(version(), model_hash or hash_graph(graph), classes=graph.classes)
    source = _Source(graph, prepared, plain, dropped, target, done, origin)

    def made(without: frozenset[ir.Func]) -> Compiled:
        def pick(wish: Wish) -> Chosen:
            return choose(plain, target, types, goal, price, wish, planner, without, progress)

        def within(flash: int | None) -> Compiled:
            chosen = _fitting(pick, replace(wish, max_flash=flash), target, options)
            progress("writing C", 0, 0)
            return source.compiled(chosen)

        compiled = _in_flash(within, wish.max_flash)
        check_limits(compiled.package, done)  # before the proof: what is too large is soon said
        if proves:
            _check_taken(compiled.chosen, target, goal, progress)
        return compiled

    return _without_unfit(made)


@dataclass(frozen=True, slots=True)
class _Source:
    """What is compiled, before anything is chosen."""

    model: Graph
    prepared: Prepared
    plain: Graph
    dropped: Dropped
    target: Target
    options: CompileOptions
    origin: Origin

    def compiled(self, chosen: Chosen) -> Compiled:
        """Its package, as chosen."""
        program, options = chosen.program, self.options
        arena = _apart(program, chosen.arena) if options.check_memory else chosen.arena
        hop = None if program.pushes is None else program.pushes.hop
        origin = self.origin
        if options.search:
            origin = replace(origin, measured=_measured(chosen, self.target, options.goal))
        package = make_package(
            program, arena, self.target, replace(options, stream_time=hop), origin,
            self.dropped.totals,
        )  # fmt: skip
        return Compiled(
            self.model, self.prepared.graph, self.plain, self.dropped, program, arena, package,
            chosen, self.prepared.turned,
        )  # fmt: skip


def _in_flash(made: Callable[[int | None], Compiled], limit: int | None) -> Compiled:
    """What is made for so many bytes of flash. Kernels and constants are chosen by what they are
    known to take, and what calls them is estimated; where that decides, all is linked, and chosen
    once more by what was estimated too low; at last the smallest there is."""
    compiled = made(limit)
    if limit is None:
        return compiled
    missed = 0
    for turn in range(_LINKED):
        package = _linked(compiled.package, limit)
        compiled = replace(compiled, package=package)
        if package.flash is None or package.flash <= limit or turn + 1 == _LINKED:
            break
        missed = max(missed + 1, package.flash - (compiled.chosen.trial.flash or limit))
        other = made(max(limit - missed, 0) if turn + 2 < _LINKED else 0)
        if other.package.files == package.files:
            break
        compiled = other
    return compiled


def _linked(package: Package, limit: int) -> Package:
    """With all its flash counted, where that decides whether it fits the limit."""
    if is_near(package, limit):
        with contextlib.suppress(ToolchainError):
            return replace(package, flash=build_image(package).sizes.flash)
    return package


def beside_others(
    compiled: Compiled, options: CompileOptions = USUAL, progress: Progress = silent
) -> Package:
    """Its package beside the other plans that it could have had with these options."""
    progress("looking at other plans", 0, 0)
    package = compiled.package
    return replace(package, trade_off=offered(compiled.chosen, package.target, options))


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


def _pools(options: CompileOptions, target: Target) -> Planner | None:
    """The planner for several memories; None for one."""
    if not options.pools:
        return None
    known = {m.name: m.cost for m in target.memories}
    for memory in target.memories:
        if memory.kind != "ram" and memory.name in dict(options.pools):
            hint = "name one that can be written"
            raise UsageError(f"{memory.name} is {memory.kind}", where="--pool", hint=hint)
        asked = dict(options.pools).get(memory.name, 0)
        if asked > memory.size and not memory.typical and not options.oversize:
            what = f"{asked} bytes of {memory.name}, which has {memory.size}"
            raise UsageError(what, where="--pool", hint=f"--pool {memory.name}={memory.size}")
    return pooled(
        [
            Pool(name, size, known.get(name, 1.0 + number))
            for number, (name, size) in enumerate(options.pools)
        ]
    )


def _price(
    target: Target,
    optimize: str,
    progress: Progress,
    found: Lowered,
    wish: Wish,
) -> Priced:
    """The option of every kernel that measures best, and what all of them cost."""
    matches = [_match(choice, choice.options) for choice in found.choices]
    flash = wish.max_flash
    flash = None if flash is None else max(0, flash - beside_kernels(found))
    try:
        ranked: Ranked = rank(matches, target, optimize, flash, every=True, progress=progress)
    except UnfitKernels as error:
        refused = [(found.choices[i].options[j], why) for i, j, why in error.found]
        raise _Refused(refused) from None
    cycles = tuple(tuple(c.cycles for c in own) for own in ranked.costs)
    return Priced(ranked.picks, cycles, ranked.flash.code)


def _check_taken(chosen: Chosen, target: Target, optimize: str, progress: Progress) -> None:
    """Every kernel of the program agrees with its plain loops on the weights that it has."""
    matches = [_match(choice, [option]) for choice, option in chosen.taken]
    try:
        prove(matches, target, optimize, progress)
    except UnfitKernels as error:
        raise _Refused([(chosen.taken[i][1], why) for i, _, why in error.found]) from None


def _measured(chosen: Chosen, target: Target, optimize: str) -> Measured | None:
    """What the search knows of the kernels that are taken."""
    code = chosen.trial.code
    return None if code is None else Measured(code, compiler_of(target, optimize))


def _can_prove(target: Target) -> bool:
    """Whether there is a compiler for it; the user is told if not."""
    reason = reason_unproven(target)
    if reason is not None:
        what = f"the kernels were not compared with their plain loops: {reason}"
        warnings.warn(what, KernelWarning, stacklevel=2)
    return reason is None


def _match(choice: Choice, options: Sequence[Option]) -> Match:
    return Match(tuple(map(_trial, options)), _trial(choice.plain), choice.calls, choice.value)


def _trial(option: Option) -> Trial:
    params = option.kernel.func.params
    values = zip(params, option.args, strict=True)
    consts = {p.name: option.consts[v] for p, v in values if v in option.consts}
    return Trial(option.kernel, consts, option.args)


class _Refused(Exception):  # noqa: N818  # not an error of a user's
    """Kernels that cannot be taken, and why."""

    def __init__(self, found: Sequence[tuple[Option, str]]) -> None:
        super().__init__()
        self.found = found


def _fitting(
    pick: Callable[[Wish], Chosen], wish: Wish, target: Target, options: CompileOptions
) -> Chosen:
    """What `pick` chooses for `wish`; where that exceeds the board's own RAM, what fits it, or
    needs least."""
    if options.pools:
        return _in_pools(pick, wish, sum(size for _, size in options.pools))
    board = target.limit("ram")
    if board is not None and wish.max_ram is not None:
        given = wish if options.oversize else replace(wish, max_ram=min(board, wish.max_ram))
        return pick(given)
    chosen = pick(wish)
    fits = board is None or chosen.arena.size <= board
    return chosen if fits else pick(replace(wish, max_ram=board))


def _in_pools(pick: Callable[[Wish], Chosen], wish: Wish, size: int) -> Chosen:
    """What `pick` chooses for `wish`; where the memories have no room, what may need less."""
    try:
        return pick(wish)
    except PlanError:
        if wish.max_ram is not None and wish.max_ram <= size:
            raise
    return pick(replace(wish, max_ram=size))


def _without_unfit(made: Callable[[frozenset[ir.Func]], Compiled]) -> Compiled:
    """What is made without the kernels that turn out not to be right: a kernel that does not
    build, run or agree is one that is not taken, and the user is told."""
    without: frozenset[ir.Func] = frozenset()
    while True:
        try:
            return made(without)
        except _Refused as error:
            more = {option.kernel.func for option, _ in error.found} - without
            if not more:
                raise AssertionError(f"taken without need: {error.found[0][1]}") from None
            for option, why in error.found:
                what = f"{option.candidate.name} for {option.kernel.func.name} is not taken: {why}"
                warnings.warn(f"{what}. Please report it", KernelWarning, stacklevel=2)
            without |= more


def compile_file(
    path: Path, target: Target, options: CompileOptions = USUAL, progress: Progress = silent
) -> Compiled:
    """From a model file to a package; as `compile_graph`."""
    data = read_file(path)
    graph = _parsed(data, path, options.name, options.shapes)
    digest = hashlib.sha256(data).hexdigest()
    return compile_graph(graph, target, options, model_hash=digest, progress=progress)


def _as_said(graph: Graph, options: CompileOptions) -> Graph:
    """Under the name, and UsageError unless of the shapes, that the options state."""
    resolved({n: graph.types[n].shape for n in graph.inputs}, dict(options.shapes))
    return graph if options.name is None else renamed(graph, options.name)


def hash_graph(graph: Graph) -> str:
    """A hash of a graph that came from no file."""
    digest = hashlib.sha256(str(graph).encode())
    for name, array in graph.consts.items():
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def renamed(graph: Graph, name: str) -> Graph:
    """The same graph under another C prefix."""
    return replace(graph, name=check_prefix(name))
