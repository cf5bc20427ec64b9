"""Groups whose output is made a band of rows at a time: which bands, and what each is asked for.

The kernel of a band is the ordinary kernel of a smaller graph (`graph.rows.cut`). A tensor between
two banded groups has no place as a whole: each of its bands lies where the planner puts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from midge.core.target import Target
from midge.core.types import TensorType
from midge.graph.ir import OPS, Graph, Node, Rows, fresh
from midge.graph.rows import SAME, Bandable, bandable, by_own_rows, cut
from midge.loop.program import Inside
from midge.lower.candidates import Request
from midge.lower.fuse import Group
from midge.lower.joined import by_channels, parts_of, places_of, with_parts
from midge.lower.layouts import CHANNELS_FIRST, WANTED, Layouts, choose_layouts
from midge.plan.rows import Span, bands_of


@dataclass(frozen=True, slots=True)
class Form:
    """most: rows that a call makes at most.  patient: it waits until it can make so many, where
    that is possible; otherwise it makes what the input allows each time that more of it is there.
    """

    most: int
    patient: bool = False


# Output of a group -> how it is computed by bands; groups that are not in it take one call.
Forms = Mapping[str, Form]


@dataclass(frozen=True, slots=True)
class Banded:
    """A group by bands. bands: rows of the output (of the input, where it accumulates)."""

    how: Bandable
    bands: tuple[Span, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """The different numbers of rows of a band, the most frequent first."""
        counts: dict[int, int] = {}
        for start, stop in self.bands:
            counts[stop - start] = counts.get(stop - start, 0) + 1
        return tuple(sorted(counts, key=lambda n: (-counts[n], -n)))


@dataclass(frozen=True, slots=True)
class Cascade:
    """groups: in the order of execution; some are split where sums end.  banded: by output.
    scattered: values whose bands lie anywhere, with these bands.  layouts, planes: as in
    `Request`.  inside: values that are written into others; the concatenations that make those
    are in no group."""

    groups: tuple[Group, ...]
    banded: Mapping[str, Banded]
    scattered: Mapping[str, tuple[Span, ...]]
    layouts: Layouts
    planes: Mapping[str, int]
    inside: Mapping[str, Inside] = field(default_factory=dict)

    @property
    def pitches(self) -> dict[str, int]:
        """As in `Request`."""
        return {value: inside.pitch for value, inside in self.inside.items() if inside.pitch}


def how_banded(graph: Graph, group: Group) -> Bandable | None:
    """`bandable` of a group, where the rows that it reads are rows in memory."""
    how = bandable(graph, group.nodes, group.anchor)
    return how if how is not None and by_own_rows(graph, how) else None


def split_sums(groups: Sequence[Group], only: frozenset[str] | None = None) -> tuple[Group, ...]:
    """Sums (those whose values are in `only`; None: all) apart from what is done with them, so that
    they can be added up row by row."""
    found: list[Group] = []
    for group in groups:
        anchor = group.anchor
        apart = anchor is not None and anchor.op == "sum" and group.nodes[0] is anchor
        wanted = anchor is not None and (only is None or anchor.outputs[0] in only)
        if anchor is None or not apart or not wanted or len(group.nodes) == 1:
            found.append(group)
            continue
        found += [Group((anchor,), anchor), Group(group.nodes[1:], None)]
    return tuple(found)


def cascade(
    graph: Graph,
    groups: Sequence[Group],
    target: Target,
    forms: Forms,
    arriving: frozenset[str] = frozenset(),
) -> Cascade:
    """The bands of all groups in `forms`. arriving: inputs of the model that come row by row."""
    groups = split_sums(groups, frozenset(forms))
    whole = _read_whole(graph, groups, forms, arriving)
    made = _Bands(graph, forms, whole)
    for value in arriving:
        height = graph.types[value].shape[1]
        made.ends[value] = tuple(range(1, height + 1))
        if value not in whole:
            made.scattered[value] = tuple((r, r + 1) for r in range(height))
    made.steady = {v for g in groups for v in parts_of(graph, g)}
    for group in groups:
        made.add(group)
    joined, banded, scattered = made.joined, made.banded, made.scattered
    laid = _layouts(graph, groups, target, banded, scattered, {g.output for g in joined})
    layouts = with_parts(graph, joined, laid)
    planes = {
        v: max(b - a for a, b in scattered[v]) * graph.types[v].shape[2]
        for v in layouts
        if v in scattered
    }
    inside: dict[str, Inside] = {}
    for group in joined:
        own = places_of(graph, group, layouts, planes)
        planes |= {v: planes[group.output] for v in own if group.output in planes}
        inside |= own
    left = tuple(g for g in groups if g not in joined)
    return Cascade(left, banded, scattered, layouts, planes, inside)


@dataclass(slots=True)
class _Bands:
    """The bands of group after group. whole: values that must lie in one piece.  ends: rows of
    values that are there after each of their bands.  steady: parts of concatenations."""

    graph: Graph
    forms: Forms
    whole: set[str]
    banded: dict[str, Banded] = field(default_factory=dict)
    ends: dict[str, tuple[int, ...]] = field(default_factory=dict)
    scattered: dict[str, tuple[Span, ...]] = field(default_factory=dict)
    joined: list[Group] = field(default_factory=list)
    steady: set[str] = field(default_factory=set)

    def add(self, group: Group) -> None:
        if _joins(self.graph, group, self.banded, self.whole):
            self.join(group)
            return
        how = how_banded(self.graph, group) if group.output in self.forms else None
        if how is None:
            return
        form, output = self.forms[group.output], group.output
        steps = _every(self.graph, how, form.most) if output in self.steady else self.ends
        bands = _bands(self.graph, output, how, form, steps, self.scattered)
        self.banded[output] = Banded(how, bands)
        if not how.accumulates:
            self.made(output, bands)

    def made(self, value: str, bands: tuple[Span, ...]) -> None:
        self.ends[value] = tuple(stop for _, stop in bands)
        if value not in self.whole:
            self.scattered[value] = bands

    def join(self, group: Group) -> None:
        """A concatenation whose parts are written into it."""
        self.joined.append(group)
        parts = parts_of(self.graph, group)
        common = _common(parts, self.banded)
        if common:
            self.made(group.output, common)
        for part in parts:
            self.scattered.pop(part, None)


def _joins(graph: Graph, group: Group, banded: Mapping[str, Banded], whole: set[str]) -> bool:
    """Whether the parts of a concatenation can be written into it: by the same bands, if the whole
    lies in pieces."""
    parts = parts_of(graph, group)
    if not parts:
        return False
    if not by_channels(graph, group):
        return group.output in whole and not any(_bands_of(v, banded) for v in parts)
    return group.output in whole or bool(_common(parts, banded))


def _common(parts: Sequence[str], banded: Mapping[str, Banded]) -> tuple[Span, ...]:
    """The bands in which all parts are made, () if they differ."""
    kinds = {_bands_of(v, banded) for v in parts}
    return kinds.pop() if len(kinds) == 1 else ()


def _bands_of(value: str, banded: Mapping[str, Banded]) -> tuple[Span, ...]:
    own = banded.get(value)
    return own.bands if own is not None and not own.how.accumulates else ()


def _every(graph: Graph, how: Bandable, most: int) -> dict[str, tuple[int, ...]]:
    """Rows of inputs from which `most` rows more of the output can be made each time: parts of a
    whole are made in the same bands, whatever their windows."""
    found = {}
    for value, rows in how.inputs.items():
        height = graph.types[value].shape[1]
        last = rows.taps - rows.top - rows.stride
        steps = range(most * rows.stride + last, height, most * rows.stride)
        found[value] = (*(s for s in steps if s > 0), height)
    return found


def _read_whole(
    graph: Graph, groups: Sequence[Group], forms: Forms, arriving: frozenset[str]
) -> set[str]:
    """Values that must lie in one piece: the model's own, views, what a call reads as a whole."""
    found = {v for v in graph.inputs if v not in arriving} | set(graph.outputs)
    for node in graph.nodes:
        if OPS[node.op].alias:
            found.update((*node.inputs, *node.outputs))
    for group in groups:
        how = how_banded(graph, group) if group.output in forms else None
        by_rows = how.inputs if how is not None else {}
        found.update(v for n in group.nodes for v in n.inputs if v not in by_rows)
    return found


def _bands(
    graph: Graph,
    output: str,
    how: Bandable,
    form: Form,
    ends: Mapping[str, tuple[int, ...]],
    scattered: Mapping[str, tuple[Span, ...]],
) -> tuple[Span, ...]:
    """As many rows at a time as the inputs allow: rows of a band are read in one piece."""
    height = graph.types[output].shape[1]
    if how.accumulates:
        (value,) = how.inputs
        height = graph.types[value].shape[1]
    ready, pieces = {height}, {height}
    for value, rows in how.inputs.items():
        own = graph.types[value].shape[1]
        steps = ends.get(value, (own,))
        window = (rows.stride, rows.taps, rows.top, own, height)
        ready.update(stop for _, stop in bands_of(steps, *window, height))
        if rows == SAME and value in scattered:
            pieces.update(stop for _, stop in scattered[value])
    if form.patient:
        ready = _patient(sorted(ready), form.most)
    cuts = sorted(ready | pieces)
    found: list[Span] = []
    for start, stop in zip([0, *cuts], cuts, strict=False):
        found += [(a, min(a + form.most, stop)) for a in range(start, stop, form.most)]
    return tuple(found)


def _patient(stops: Sequence[int], least: int) -> set[int]:
    """Those of `stops` with at least so many rows between them; the last one always."""
    kept, before = {stops[-1]}, 0
    for stop in stops:
        if stop - before >= least:
            kept.add(stop)
            before = stop
    return kept


def _layouts(
    graph: Graph,
    groups: Sequence[Group],
    target: Target,
    banded: Mapping[str, Banded],
    scattered: Mapping[str, tuple[Span, ...]],
    joined: set[str],
) -> Layouts:
    """Values that only whole groups know lie as without a cascade; scattered ones lie channels
    first if all their readers want that."""
    near: set[str] = {*banded, *(joined if banded else ())}
    wishes: dict[str, set[tuple[int, ...] | None]] = {}
    for group in groups:
        if group.output not in banded:
            continue
        own = banded[group.output]
        near.update(own.how.inputs)
        band = band_group(graph, group, own.how, own.sizes[0])
        rule = WANTED.get(band.group.anchor.op) if band.group.anchor is not None else None
        order = rule(band.graph, band.group, target) if rule is not None else None
        for value, rows in own.how.inputs.items():
            first = group.anchor is not None and group.anchor.inputs[0] == value and rows != SAME
            wishes.setdefault(value, set()).add(order if first else None)
    found = {
        v: order for v, order in choose_layouts(graph, groups, target).items() if v not in near
    }
    for value in scattered:
        if wishes.get(value) == {CHANNELS_FIRST} and value not in graph.inputs:
            found[value] = CHANNELS_FIRST
    return found


@dataclass(frozen=True, slots=True)
class BandGroup:
    """A group cut to a band. so_far: the value that stands for what an accumulating group has
    added up before, "" if there is none."""

    graph: Graph
    group: Group
    so_far: str = ""


def band_group(
    graph: Graph, group: Group, how: Bandable, count: int, first: bool = True
) -> BandGroup:
    """`group` for `count` rows. first: of an accumulating one, the band that begins."""
    band = cut(graph, group.nodes, how, count)
    anchor = None
    if group.anchor is not None:
        anchor = band.nodes[group.nodes.index(group.anchor)]
    if not how.accumulates or first:
        return BandGroup(band, Group(band.nodes, anchor))
    (adds,) = band.nodes
    total = adds.outputs[0]
    types: dict[str, TensorType] = dict(band.types)
    part, so_far = fresh(f"{total}/band", types), fresh(f"{total}/so far", types)
    types[part] = types[so_far] = types[total]
    nodes: tuple[Node, ...] = (
        replace(adds, outputs=(part,)),
        Node("add", (part, so_far), (total,), {}, adds.src, adds.kind),
    )
    if types[total].dtype.is_float:  # one by one, as at once: the order counts
        del types[part]
        nodes = (replace(adds, inputs=(*adds.inputs, so_far)),)
    whole = replace(band, types=types, inputs=(*band.inputs, so_far), nodes=nodes)
    return BandGroup(whole, Group(nodes, nodes[0]), so_far)


def pointers(how: Bandable, value: str, count: int) -> bool:
    """Whether the rows of an input come as an array of pointers for a band of `count` rows."""
    rows: Rows = how.inputs[value]
    return rows != SAME and (count - 1) * rows.stride + rows.taps > 1


def band_request(
    whole: Request, found: Cascade, own: Banded, count: int, first: bool
) -> tuple[Request, str]:
    """What is asked of the kernel of a band, and the name of its accumulator."""
    band = band_group(whole.graph, whole.group, own.how, count, first)
    rows = frozenset(v for v in own.how.inputs if pointers(own.how, v, count))
    request = replace(
        whole, graph=band.graph, group=band.group, layouts=found.layouts, rows=rows,
        planes=found.planes, small=True,
    )  # fmt: skip
    return request, band.so_far
