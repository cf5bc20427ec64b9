"""The ways to compute a group: its loops under one schedule or another, or other loops.

Each is a point of a template's space; a family's folder has the templates for its instructions.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import islice
from typing import ClassVar, TypeAlias, overload
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
from midge.loop.schedule import Step, apply, pack_consts
from midge.loop.schedule.pack import Pack
from midge.lower.build import Built, build
from midge.lower.fuse import Group
from midge.lower.layouts import Layouts
from midge.lower.space import Goal, Point, Space, Value

Schedule: TypeAlias = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A loop function for a group, and the steps that make a kernel of it.

    args: what each parameter stands for: a value of the graph, a key of `consts`, or "" for
    scratch memory.  consts: constants of its own, e.g. weights in the order in which they are read.
    name: for a reader of measurements.  point: which of a template's it is, if it is one.
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
    point: Point | None = None

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


@dataclass(frozen=True)
class Request:
    """A group to compute. layouts: how values lie in memory.

    rows: images of several rows (axis 1) that come as arrays of pointers, one for each row.
    planes: of values that lie channels first, elements from channel to channel where these are
    more than a plane.  pitches: of values that lie inside others with more channels, elements from
    pixel to pixel.  small: scratch memory is dear: a few hundred bytes where that is possible.
    exact: the group's floats become integers: they must be rounded as its plain loops round them.
    name: of the kernel.
    """

    graph: Graph
    group: Group
    target: Target
    layouts: Layouts
    rows: frozenset[str] = frozenset()
    planes: Mapping[str, int] = field(default_factory=dict)
    small: bool = False
    pitches: Mapping[str, int] = field(default_factory=dict)
    exact: bool = False
    name: str = "kernel"

    def straight(self, steps: Iterable[Value], long: int = 1) -> tuple[int, ...]:
        """How many steps of its inner loop a micro-kernel may write out: `steps`, but no more than
        the target takes, where one of these is as `long` as so many."""
        most = self.target.straight // long
        return tuple(dict.fromkeys(min(int(n), most) for n in steps))

    @cached_property
    def plain(self) -> Built:
        """The loops of the group as they are written."""
        return build(
            self.graph, self.group, self.name, self.layouts, rows=self.rows, planes=self.planes,
            pitches=self.pitches,
        )  # fmt: skip

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


@dataclass(frozen=True, slots=True)
class Family:
    """An instruction family. features: what a target must have for its templates.  priority: its
    templates come before those of families with a higher number."""

    features: frozenset[str]
    priority: int


class Template(Space):
    """How a family computes operators of some kinds; an instance is the space of one request.

    name: "family.template".  ops: of the anchors.  priority: among those of its family, as of
    `Family`.
    """

    name: ClassVar[str]
    ops: ClassVar[tuple[str, ...]]
    priority: ClassVar[int] = 50

    @classmethod
    @abstractmethod
    def of(cls, request: Request) -> Space | None:
        """The space for a request; None where the template does not know how."""


FAMILIES: Registry[Family] = Registry("family")
TEMPLATES: Registry[type[Template]] = Registry("template")

PLAIN = "loops"  # the name of candidates that are the operator's own loops


def spaces(request: Request) -> Iterator[Space]:
    """Of every template for the request, by priority."""
    anchor = request.group.anchor
    op = anchor.op if anchor is not None else "elementwise"
    able: list[tuple[int, int, str]] = []
    for name in TEMPLATES:
        family, template = FAMILIES[name.partition(".")[0]], TEMPLATES[name]
        if op in template.ops and family.features <= request.target.features:
            able.append((family.priority, template.priority, name))
    for _, _, name in sorted(able):
        space = TEMPLATES[name].of(request)
        if space is not None:
            yield space


def candidates(request: Request, goal: Goal) -> Iterator[Candidate]:
    """What is worth a try for a goal, the preferred one first, the loops as they are written
    last."""
    for space in spaces(request):
        for point in space.usual(goal):
            yield replace(space.build(point), point=point)
    yield Candidate(PLAIN, request.plain.func, request.plain.args)


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


def plain_option(request: Request) -> Option:
    """The loops of the group as they are written: what every other option has to agree with."""
    candidate = Candidate(PLAIN, request.plain.func, request.plain.args)
    return Option(candidate, candidate.kernel(request.name), *candidate.constants(request.graph))


class Options(Sequence[Option]):
    """At most so many options of a kernel, of which there is one at least. Each is made when it is
    asked for: without a search most never are.

    without: kernels that are no option.
    """

    def __init__(self, request: Request, goal: Goal, most: int, without: Collection[ir.Func]):
        self.request, self.goal = request, goal
        able = (o for o in options(request, goal) if o.kernel.func not in without)
        self._coming = islice(able, most)
        self._made: list[Option] = []

    @cached_property
    def plain(self) -> Option:
        """The loops as they are written, which all options have to agree with."""
        return plain_option(self.request)

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


def option_of(request: Request, given: Candidate) -> Option | None:
    """The candidate as a kernel; None if a step cannot be applied, or its assembler cannot do
    without the target's reserved registers."""
    candidate = _allowed(given, request.target)
    if candidate is None:
        return None
    try:
        kernel = candidate.kernel(request.name)
    except ScheduleError:
        return None
    return Option(candidate, kernel, *candidate.constants(request.graph))


def options(request: Request, goal: Goal) -> Iterator[Option]:
    """The candidates whose steps can be applied, and whose assembler leaves the target's reserved
    registers alone. Beside loops of other forms, which are written for the target, the first
    schedule of the plain ones is enough, and none for a band."""
    special = False
    for given in candidates(request, goal):
        plain = given.name == PLAIN
        if plain and special and request.small:
            return
        option = option_of(request, given)
        if option is None:
            continue
        yield option
        if plain and special:
            return
        special |= not plain
