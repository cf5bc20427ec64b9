"""The ways to compute a group: its loops under one schedule or another, or other loops."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from itertools import islice
from typing import overload
from weakref import WeakValueDictionary

from midge.core.errors import ScheduleError
from midge.core.registry import Registry
from midge.core.target import Target
from midge.core.types import Array
from midge.graph.ir import Graph, Node
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.program import Kernel
from midge.loop.registers import without
from midge.loop.schedule import apply, pack_consts
from midge.loop.schedule.pack import Pack
from midge.lower.build import build
from midge.lower.fuse import Group
from midge.lower.layouts import Layouts
from midge.lower.schedules import SCHEDULES, Schedule


@dataclass(frozen=True, slots=True)
class Candidate:
    """A loop function for a group, and the steps that make a kernel of it.

    args: what each parameter stands for: a value of the graph, a key of `consts`, or "" for
    scratch memory.  consts: constants of its own, e.g. weights in the order in which they are read.
    name: for a reader of measurements.
    order: (columns of the input's rows that are no more read, columns of the output's row that
    are written) after each part of the work, for a band of one row; () if nothing is known.
    """

    name: str
    func: ir.Func
    args: tuple[str, ...]
    steps: Schedule = ()
    consts: Mapping[str, Array] = field(default_factory=dict)
    instructions: Mapping[str, Instruction] = field(default_factory=dict)
    order: tuple[tuple[int, int], ...] = ()

    def kernel(self, name: str) -> Kernel:
        """The kernel, called `name`; ScheduleError if a step cannot be applied."""
        steps = tuple(self.steps)
        func = _applied(replace(self.func, name="kernel"), steps, _Table(self.instructions))
        plain = replace(self.func, name=name)
        return Kernel(replace(func, name=name), plain, steps, self.instructions)

    def constants(self, graph: Graph) -> tuple[tuple[str, ...], dict[str, Array]]:
        """The arguments and the constants among them, packed as the steps say; packed ones have
        names of their own: others may read them as they were."""
        values = {**graph.consts, **self.consts}
        packed = pack_consts(self.func, self.steps, self.args, values)
        layout = "; ".join(str(s) for s in self.steps if isinstance(s, Pack))
        found: dict[str, Array] = {}
        args = []
        for value in self.args:
            name = f"{value} {layout}" if value in packed else value
            if value in values:
                found[name] = _shared(packed.get(value, values[value]))
            args.append(name)
        return tuple(args), found


_SHARED: WeakValueDictionary[object, Array] = WeakValueDictionary()


def _shared(array: Array) -> Array:
    """The array, or an equal one that somebody has: most candidates of a layer, for whatever band,
    pack its weights alike."""
    digest = hashlib.blake2b(array.tobytes()).digest()
    return _SHARED.setdefault((array.dtype.str, array.shape, digest), array)


class _Table(dict[str, Instruction]):
    """Instructions by name, as a key of a cache: their names say what they are."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self))


# Layers of one shape are scheduled once, in this model and in the next.
@lru_cache(maxsize=1024)
def _applied(func: ir.Func, steps: Schedule, instructions: _Table) -> ir.Func:
    return apply(func, steps, instructions)


@dataclass(frozen=True, slots=True)
class Request:
    """A group to compute. layouts: how values lie in memory.  optimize: "speed", "balanced" or
    "size": which candidates are worth a try, and which of them comes first.

    rows: images of several rows (axis 1) that come as arrays of pointers, one for each row.
    planes: of values that lie channels first, elements from channel to channel where these are
    more than a plane.  pitches: of values that lie inside others with more channels, elements from
    pixel to pixel.  small: scratch memory is dear: a few hundred bytes where that is possible.
    exact: the group's floats become integers: they must be rounded as its plain loops round them.
    """

    graph: Graph
    group: Group
    target: Target
    layouts: Layouts
    optimize: str = "speed"
    rows: frozenset[str] = frozenset()
    planes: Mapping[str, int] = field(default_factory=dict)
    small: bool = False
    pitches: Mapping[str, int] = field(default_factory=dict)
    exact: bool = False

    def straight(
        self, speed: Sequence[int], balanced: Sequence[int], size: Sequence[int], long: int = 1
    ) -> tuple[int, ...]:
        """How many steps of its inner loop a micro-kernel may write out, by the goal, the best
        first; no more than the target takes, where one of these is as `long` as so many."""
        found = {"speed": speed, "balanced": balanced}.get(self.optimize, size)
        most = self.target.straight // long
        return tuple(dict.fromkeys(min(n, most) for n in found))

    @property
    def in_sequence(self) -> bool:
        """Whether the elements of the output follow each other, pixel after pixel."""
        return self.group.output not in self.layouts and self.group.output not in self.pitches

    @property
    def anchor(self) -> Node | None:
        """The group's anchor, if it is the first of the group and alone reads its first input: a
        kernel may then see that input in a shape of its own."""
        node, *others = self.group.nodes
        alone = not any(node.inputs[0] in n.inputs for n in others)
        return node if node is self.group.anchor and alone else None


Lowering = Callable[[Request], Iterable[Candidate]]

# "operator/family" -> other forms of the loops of a group with that anchor, the preferred one
# first; none where the rule does not know how, or the target lacks what it takes.
LOWERINGS: Registry[Lowering] = Registry("lowering")


PLAIN = "loops"  # the name of candidates that are the operator's own loops


def candidates(request: Request, name: str) -> Iterator[Candidate]:
    """Every way to compute the group, the preferred one first, the plain loops last."""
    group = request.group
    op = group.anchor.op if group.anchor is not None else "elementwise"
    for key in LOWERINGS:
        if key.partition("/")[0] == op:
            yield from LOWERINGS[key](request)
    built = build(
        request.graph, group, name, request.layouts, rows=request.rows, planes=request.planes,
        pitches=request.pitches,
    )  # fmt: skip
    rule = SCHEDULES.get(op)
    schedules = rule(built.func, request) if rule is not None else ()
    for steps in (*schedules, ()):
        yield Candidate(PLAIN, built.func, built.args, steps)


@dataclass(frozen=True, slots=True)
class Option:
    """A candidate that can be used, as a kernel. args, consts: of `Candidate.constants`."""

    candidate: Candidate
    kernel: Kernel
    args: tuple[str, ...]
    consts: Mapping[str, Array]


def _allowed(candidate: Candidate, target: Target) -> Candidate | None:
    """The candidate without the reserved registers; None if it cannot do without one."""
    for register in target.reserved:
        found = {n: without(i, register) for n, i in candidate.instructions.items()}
        able = {n: i for n, i in found.items() if i is not None}
        if len(able) < len(found):
            return None
        candidate = replace(candidate, instructions=able)
    return candidate


def plain_option(request: Request, name: str) -> Option:
    """The loops of the group as they are written: what every other option has to agree with."""
    built = build(
        request.graph, request.group, name, request.layouts, rows=request.rows,
        planes=request.planes, pitches=request.pitches,
    )  # fmt: skip
    candidate = Candidate(PLAIN, built.func, built.args)
    return Option(candidate, candidate.kernel(name), *candidate.constants(request.graph))


class Options(Sequence[Option]):
    """At most so many options of a kernel, called `name`, of which there is one at least. Each is
    made when it is asked for: without a search most never are.

    without: kernels that are no option.
    """

    def __init__(self, request: Request, name: str, most: int, without: Collection[ir.Func]):
        able = (o for o in options(request, name) if o.kernel.func not in without)
        self._coming = islice(able, most)
        self._made: list[Option] = []
        self._plain = partial(plain_option, request, name)

    @cached_property
    def plain(self) -> Option:
        """The loops as they are written, which all options have to agree with."""
        return self._plain()

    @overload
    def __getitem__(self, index: int) -> Option: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Option]: ...
    def __getitem__(self, index: int | slice) -> Option | Sequence[Option]:
        if isinstance(index, slice) or index < 0:
            self._make(None)
        else:
            self._make(index + 1)
        return self._made[index]

    def __len__(self) -> int:
        self._make(None)
        return len(self._made)

    def _make(self, count: int | None) -> None:
        """Up to `count` of them, None: all."""
        missing = None if count is None else max(count - len(self._made), 0)
        self._made += islice(self._coming, missing)
        if not self._made:
            self._made.append(self.plain)


def options(request: Request, name: str) -> Iterator[Option]:
    """The candidates whose steps can be applied, and whose assembler leaves the target's reserved
    registers alone. Beside loops of other forms, which are written for the target, the first
    schedule of the plain ones is enough, and none for a band."""
    special = False
    for given in candidates(request, name):
        candidate = _allowed(given, request.target)
        if candidate is None:
            continue
        if special and request.small and candidate.name == PLAIN:
            return
        try:
            kernel = candidate.kernel(name)
        except ScheduleError:
            continue
        args, consts = candidate.constants(request.graph)
        yield Option(candidate, kernel, args, consts)
        plain = candidate.name == PLAIN
        if plain and special:
            return
        special |= not plain
