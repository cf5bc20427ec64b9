"""The whole graph as a program: groups, their kernels, equal kernels shared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from midge.core.target import Target
from midge.core.types import Array, DType, TensorType
from midge.graph.ir import OPS, Graph
from midge.graph.islands import becoming_integers
from midge.graph.rows import SAME, seen_rows
from midge.loop import ir
from midge.loop.program import (
    BandCall,
    BandRows,
    Bands,
    Kernel,
    Operation,
    Program,
    resolve,
)
from midge.loop.rewrite import expr_loads, own_exprs
from midge.lower.bands import Banded, Cascade, Forms, band_request, cascade, pointers
from midge.lower.candidates import Option, Options, Request
from midge.lower.fuse import Group, fuse
from midge.lower.space import Goal
from midge.plan.order import Task, best_order

_MOST_OPTIONS = 20

# What is computed how -> its options.
Known = dict[object, Options]


@dataclass(frozen=True, slots=True)
class Choice:
    """A kernel to choose: the options for all calls of a kind of an operation.

    value: the output of the operation.  count: rows of the band, 0 for a call that computes the
    operation at once.  calls: how many there are in one inference.
    """

    value: str
    count: int
    calls: int
    options: Options
    first: bool = False  # of an accumulating operation: the band that begins
    so_far: str = ""

    @property
    def plain(self) -> Option:
        """The loops as they are written, which all options have to agree with."""
        return self.options.plain


@dataclass(frozen=True, slots=True)
class Lowered:
    """A graph with the options of all kernels, of which `program` takes some.

    exact: as of `Program`.
    """

    graph: Graph
    found: Cascade
    names: tuple[str, ...]
    choices: tuple[Choice, ...]
    types: Mapping[str, TensorType]
    arriving: frozenset[str] = frozenset()
    exact: bool = False

    def program(self, picks: Sequence[int]) -> Program:
        """The program with option picks[i] for choices[i]."""
        return _Writer(self, picks).program()


def find_options(
    graph: Graph,
    target: Target,
    types: Mapping[str, TensorType],
    optimize: str = "speed",
    forms: Forms | None = None,
    *,
    most: int = _MOST_OPTIONS,
    arriving: frozenset[str] = frozenset(),
    known: Known | None = None,
    bands: Cascade | None = None,
    without: frozenset[ir.Func] = frozenset(),
) -> Lowered:
    """The plain `graph` as loops for `target`; `types` are the model's, with quantisation.

    optimize: as of `Goal`.  forms: which groups are computed by bands.  most: options of each
    kernel.  arriving: inputs that come row by row.  known: options that were found for this
    graph, target and goal before; grows.  bands: the groups with their bands, instead of those that
    `forms` makes.  without: kernels that are no option.
    """
    finder = _Finder(Goal(optimize), most, known if known is not None else {}, without)
    found = bands or cascade(graph, fuse(graph), target, forms or {}, arriving)
    names = tuple(f"{_kind(group)}_{number}" for number, group in enumerate(found.groups))
    choices: list[Choice] = []
    decisive = becoming_integers(graph)
    for group, name in zip(found.groups, names, strict=True):
        exact = any(o in decisive for n in group.nodes for o in n.outputs)
        whole = Request(
            graph, group, target, found.layouts, pitches=found.pitches, exact=exact, name=name
        )
        own = found.banded.get(group.output)
        if own is None:
            choices.append(Choice(group.output, 0, 1, finder.options(whole, 0)))
            continue
        choices += _band_choices(whole, found, own, finder)
    return Lowered(graph, found, names, tuple(choices), types, arriving, bool(decisive))


@dataclass(frozen=True, slots=True)
class _Finder:
    """Looks for at most so many options of each kernel, for equal ones once."""

    goal: Goal
    most: int
    known: Known
    without: frozenset[ir.Func]

    def options(self, request: Request, count: int, first: bool = False) -> Options:
        values = {v for n in request.group.nodes for v in (*n.inputs, *n.outputs)}
        lies = sorted(
            (v, request.layouts[v], request.planes.get(v, 0))
            for v in values
            if v in request.layouts
        )
        lies.append(("", (), request.pitches.get(request.group.output, 0)))
        key = (
            request.group.output,
            request.name,
            self.most,
            count,
            first,
            request.rows,
            tuple(lies),
        )
        if key not in self.known:
            self.known[key] = Options(request, self.goal, self.most, self.without)
        return self.known[key]


def _band_choices(whole: Request, found: Cascade, own: Banded, finder: _Finder) -> list[Choice]:
    """One for each size of a band; one more for the band with which an accumulation begins."""
    kinds = [(count, False) for count in own.sizes]
    if own.how.accumulates:
        start, stop = own.bands[0]
        kinds.append((stop - start, True))
    choices = []
    for count, first in kinds:
        request, so_far = band_request(whole, found, own, count, first)
        calls = sum(b - a == count for a, b in own.bands)
        calls = 1 if first else calls - (own.how.accumulates and (own.bands[0][1] == count))
        if calls:
            made = finder.options(request, count, first)
            choices.append(Choice(whole.group.output, count, calls, made, first, so_far))
    return choices


@dataclass(slots=True)
class _Writer:
    """Makes the program of one pick."""

    found: Lowered
    picks: Sequence[int]
    consts: dict[str, Array] = field(default_factory=dict)
    kernels: dict[ir.Func, Kernel] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    outside: dict[tuple[DType, float], str] = field(default_factory=dict)
    equal: dict[tuple[str, bytes], str] = field(default_factory=dict)  # contents -> constant
    same: dict[str, str] = field(default_factory=dict)  # constant -> one of the same contents

    def program(self) -> Program:
        found, graph = self.found, self.found.graph
        aliases = {n.outputs[0]: n.inputs[0] for n in graph.nodes if OPS[n.op].alias}
        self.types = {n: found.types.get(n, t) for n, t in graph.types.items()}
        by_value: dict[str, list[tuple[Choice, Option]]] = {}
        for choice, pick in zip(found.choices, self.picks, strict=True):
            by_value.setdefault(choice.value, []).append((choice, choice.options[pick]))
        operations = []
        for group, name in zip(found.found.groups, found.names, strict=True):
            own = by_value[group.output]
            banded = found.found.banded.get(group.output)
            if banded is None:
                ((_, option),) = own
                operations.append(_resolve(self.whole(group, name, option), aliases))
            else:
                operations.append(_resolve(self.banded(group, name, banded, own), aliases))
        return Program(
            graph.name,
            graph.inputs,
            graph.outputs,
            self.types,
            self.consts,
            aliases,
            tuple(self.kernels.values()),
            self.ordered(operations, aliases),
            found.found.layouts,
            found.found.scattered,
            found.found.planes,
            found.arriving,
            inside=found.found.inside,
            seen=seen_rows(graph),
            exact=found.exact,
        )

    def ordered(
        self, operations: Sequence[Operation], aliases: Mapping[str, str]
    ) -> tuple[Operation, ...]:
        """The operations in the order that needs least memory."""
        graph = self.found.graph
        inside = self.found.found.inside

        def home(value: str) -> str:
            return resolve(aliases, inside[value].whole) if value in inside else value

        tasks = []
        for op in operations:
            reads = tuple(a for a in op.args[:-1] if a not in self.consts and a not in op.scratch)
            scratch = sum(self.types[a].size for a in op.scratch)
            used = tuple(a for a in reads if a in graph.types and a != op.output)
            tasks.append(Task(used, home(op.output), scratch, op.inplace))
        inputs = [resolve(aliases, v) for v in graph.inputs]
        outputs = [resolve(aliases, v) for v in graph.outputs]
        sizes = {v: self.types[v].size for v in (*inputs, *(task.writes for task in tasks))}
        return tuple(operations[i] for i in best_order(tasks, sizes, inputs, outputs))

    def kernel(self, option: Option, name: str) -> Kernel:
        """The kernel, or one that is equal to it."""
        for value, array in option.consts.items():
            first = self.equal.setdefault((str(array.dtype), array.tobytes()), value)
            self.same[value] = first
            if first == value:
                self.consts[value] = array
        func = option.kernel.func
        named = replace(option.kernel, func=replace(func, name=name))
        return self.kernels.setdefault(replace(func, name=""), named)

    def whole(self, group: Group, name: str, option: Option) -> Operation:
        kernel = self.kernel(option, name)
        args, inplace, scratch = self.arguments(name, option, kernel.func)
        operation = _operation(self.found.graph, group, name, kernel.func.name, args)
        return replace(operation, inplace=inplace, scratch=scratch, order=option.candidate.order)

    def banded(
        self,
        group: Group,
        name: str,
        own: Banded,
        choices: Sequence[tuple[Choice, Option]],
    ) -> Operation:
        calls = []
        for number, (choice, option) in enumerate(choices):
            label = name if number == 0 else f"{name}_{number + 1}"
            kernel = self.kernel(option, label)
            suffix = "" if number == 0 else f".{number + 1}"
            args, inplace, scratch = self.arguments(name, option, kernel.func, suffix)
            rows = tuple(self.rows(group, own, choice, value) for value in args)
            args = tuple(group.output if a == choice.so_far else a for a in args)
            order = option.candidate.order if choice.count == 1 else ()
            calls.append(
                BandCall(choice.count, kernel.func.name, args, rows, inplace, scratch, order)
            )
        kinds = {(c.count, c.first): i for i, (c, _) in enumerate(choices)}
        spans = []
        for start, stop in own.bands:
            begins = own.how.accumulates and start == 0
            spans.append((kinds[stop - start, begins], start, stop))
        bands = Bands(tuple(calls), tuple(spans), own.how.accumulates)
        operation = _operation(self.found.graph, group, name, calls[0].kernel, calls[0].args)
        return replace(operation, bands=bands)

    def rows(self, group: Group, own: Banded, choice: Choice, value: str) -> BandRows | None:
        """How the rows of an argument are found."""
        if value == group.output:
            return None if own.how.accumulates else BandRows(1, 0, choice.count)
        how = own.how.inputs.get(value)
        if how is None:
            return None
        if how == SAME:
            return BandRows(1, 0, choice.count)
        count = (choice.count - 1) * how.stride + how.taps
        outside = self.border(value, how.outside) if how.top > 0 or self.below(own, value) else ""
        scattered = pointers(own.how, value, choice.count)
        return BandRows(how.stride, how.top, count, scattered, outside)

    def below(self, own: Banded, value: str) -> bool:
        """Whether bands reach beyond the last row of an input."""
        how = own.how.inputs[value]
        last = (own.bands[-1][1] - 1) * how.stride - how.top + how.taps
        return last > self.found.graph.types[value].shape[1]

    def border(self, value: str, fill: float) -> str:
        """The constant row that stands for rows beyond the image, as long as the longest."""
        t = self.found.graph.types[value]
        _, _, width, channels = t.shape
        size = width * channels
        if value in self.found.found.planes:
            size = (channels - 1) * self.found.found.planes[value] + width
        name = self.outside.setdefault((t.dtype, fill), f"rows of {fill:g}")
        known = self.consts.get(name)
        if known is None or known.size < size:
            self.consts[name] = np.full(size, fill, t.dtype.numpy)
        return name

    def arguments(
        self, name: str, option: Option, func: ir.Func, suffix: str = ""
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """The arguments of a call, those that the output may overwrite, and scratch memory."""
        args = tuple(
            self.same.get(v, v) or f"{name}/{p.name}{suffix}"
            for v, p in zip(option.args, func.params, strict=True)
        )
        inplace = tuple(
            value
            for value, param in zip(args[:-1], func.params[:-1], strict=True)
            if param.mode == "in" and can_overwrite(func, param)
        )
        scratch = []
        for value, p in zip(args, func.params, strict=True):
            if p.mode == "scratch":
                self.types[value] = TensorType(p.shape, p.dtype)
                scratch.append(value)
        return args, inplace, tuple(scratch)


def _kind(group: Group) -> str:
    """What to call a group: its anchor, or what the model calls the first of its operators."""
    if group.anchor is not None:
        return group.anchor.op
    first = group.nodes[0]
    return first.kind.partition("+")[0].rpartition(".")[2].lower() or first.op


def _operation(
    graph: Graph, group: Group, name: str, kernel: str, args: tuple[str, ...]
) -> Operation:
    """The operation `name` that computes `group`."""
    kinds = tuple(dict.fromkeys(n.kind or n.op for n in group.nodes))
    srcs = tuple(dict.fromkeys(n.src for n in group.nodes))
    macs = 0
    if group.anchor is not None and (count := OPS[group.anchor.op].macs) is not None:
        types = graph.types
        macs = count(
            [types[v] for v in group.anchor.inputs], [types[v] for v in group.anchor.outputs]
        )
    return Operation(name, kernel, args, group.output, kinds, ", ".join(srcs), macs)


def can_overwrite(func: ir.Func, param: ir.Param) -> bool:
    """Whether output `y` may lie over input `param`: each element is read only where, and before,
    the same element is written."""
    y = func.params[-1]
    if param.rows or param.shape != y.shape or param.dtype.size != y.dtype.size:
        return False
    return _reads_before_writing(func.body, param.name)


def _reads_before_writing(block: ir.Block, buffer: str) -> bool:
    """Every load of `buffer` is followed, in its own block, by the store to y at its index."""
    for i, s in enumerate(block):
        if isinstance(s, ir.Instr) and any(b in (buffer, "y") for b, _ in s.args):
            return False
        if isinstance(s, ir.Loop | ir.Guard) and not _reads_before_writing(s.body, buffer):
            return False
        if isinstance(s, ir.Guard) and not _reads_before_writing(s.other, buffer):
            return False
        later = {t.index for t in block[i:] if isinstance(t, ir.Store) and t.buffer == "y"}
        own = (e for own in own_exprs(s) for e in expr_loads(own))
        if not all(e.index in later for e in own if e.buffer == buffer):
            return False
    return True


def _resolve(op: Operation, aliases: Mapping[str, str]) -> Operation:
    """Arguments as the buffers behind them. A buffer that comes in twice, under whatever name,
    cannot be overwritten: the other argument may read elsewhere."""
    base = partial(resolve, aliases)

    def inplace(args: tuple[str, ...], found: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(b for b in map(base, found) if args.count(b) == 1)

    args = tuple(map(base, op.args))
    bands = op.bands
    if bands is not None:
        calls = []
        for call in bands.calls:
            own = tuple(map(base, call.args))
            calls.append(replace(call, args=own, inplace=inplace(own, call.inplace)))
        bands = replace(bands, calls=tuple(calls))
    found = inplace(args, op.inplace)
    return replace(op, args=args, output=base(op.output), inplace=found, bands=bands)
