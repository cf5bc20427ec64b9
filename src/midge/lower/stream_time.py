"""Which groups of a model that looks at a sliding window of frames can be computed for the frames
that have come since the last time, and in what portions.

Time is axis 1 of the input, [1, T, ...]. A tensor whose row r depends on the rows from r * stride
on of another one, wherever the window lies, moves with the window: when `hop` more frames have
come, all but its last hop / rate rows are rows of before. Such a tensor is a flow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import lcm

from midge.core.errors import ModelError, UsageError
from midge.core.target import Target
from midge.core.types import TensorType
from midge.graph.attrs import Attrs, integers
from midge.graph.ir import OPS, Graph, Node, Rows
from midge.graph.rows import Bandable, bandable
from midge.lower.bands import Banded, Cascade, how_banded, split_sums
from midge.lower.fuse import Group, fuse
from midge.lower.layouts import choose_layouts

_MOST_NAMED = 8  # numbers of frames that an error lists


@dataclass(frozen=True, slots=True)
class Flow:
    """A tensor that moves with the window. height: its rows in a window.  rate: frames from one of
    its rows to the next."""

    height: int
    rate: int


@dataclass(frozen=True, slots=True)
class Flowing:
    """hop: frames that come at a time.  flows: by value; views have the flow of what they view.
    cascade: the groups; those that make a flow are computed for its last hop / rate rows, others
    that read flows through windows for all their rows at once.  unordered: outputs of groups that
    add up all rows, and exactly: in any order."""

    hop: int
    flows: Mapping[str, Flow]
    cascade: Cascade
    unordered: frozenset[str]


def flow(graph: Graph, target: Target, hop: int = 0) -> Flowing:
    """How `graph` is computed `hop` frames at a time; 0: as few as possible.

    UsageError for a `hop` that does not fit the model's strides, ModelError for a model of which
    nothing can be computed frame by frame, or one that pads in time.
    """
    groups = split_sums(fuse(graph))
    rates = _Walk(graph, groups, 0)
    least = lcm(*(f.rate for f in rates.flows.values()))
    frames = rates.frames
    if least >= frames:
        raise ModelError(
            f"takes at least {least} frames at a time, and its window has {frames}",
            where=graph.name,
            hint="compile it without --stream-time",
        )
    if hop % least or not 0 <= hop < frames:
        known = [str(n) for n in range(least, frames, least)]
        more = ", ..." if len(known) > _MOST_NAMED else ""
        what = f"{hop} frames at a time do not fit the strides in time"
        if hop >= frames:
            what = f"{hop} frames at a time are the whole window, which has {frames}"
        raise UsageError(
            what,
            where=f"stream time of {graph.name}",
            hint=f"give {', '.join(known[:_MOST_NAMED])}{more}",
        )
    walk = _Walk(graph, groups, hop or least)
    _check_any(graph, groups, walk)
    unordered = frozenset(g.output for g in groups if _adds_exactly(graph, g))
    cascade = _cascade(graph, groups, target, walk)
    return Flowing(hop or least, walk.flows, cascade, unordered)


@dataclass(slots=True)
class _Walk:
    """Goes through the groups in their order. hop: 0 if it is not known yet.  banded: how many of
    the last rows of their outputs groups make, all where that are not more."""

    graph: Graph
    groups: Sequence[Group]
    hop: int
    flows: dict[str, Flow] = field(default_factory=dict)
    banded: dict[str, Banded] = field(default_factory=dict)
    frames: int = 0

    def __post_init__(self) -> None:
        self._begin()
        makers = {group.output: group for group in self.groups}
        inner = {n.outputs[0] for g in self.groups for n in g.nodes} - set(makers)
        for node in self.graph.nodes:
            value = node.outputs[0]
            if OPS[node.op].alias:
                self._view(node)
            elif value not in inner:
                self._visit(makers[value])

    def _begin(self) -> None:
        graph = self.graph
        shapes = [graph.types[v].shape for v in graph.inputs]
        if len(shapes) != 1 or len(shapes[0]) < 3 or shapes[0][0] != 1 or shapes[0][1] < 2:
            raise ModelError(
                f"has inputs {', '.join(str(list(s)) for s in shapes)}: not one window of frames",
                where=graph.name,
                hint="--stream-time takes models with one input [1, T, W, C], of which axis 1 is "
                "time",
            )
        self.frames = shapes[0][1]
        self.flows[graph.inputs[0]] = Flow(self.frames, 1)

    def _view(self, node: Node) -> None:
        """A view that leaves the rows as they are flows like what it views."""
        (value,), (output,) = node.inputs[:1], node.outputs
        known = self.flows.get(value)
        if known is not None and self.graph.types[output].shape[:2] == (1, known.height):
            self.flows[output] = known

    def _visit(self, group: Group) -> None:
        how, reads = stream_rows(self.graph, group), _reads(self.graph, group)
        if reads & set(self.flows) and _pads_rows(self.graph, group):
            raise _padding(group)
        if how is None or how.accumulates or set(how.inputs) != reads:
            return
        if not reads <= set(self.flows):
            return
        height = self.graph.types[group.output].shape[1]
        rates = {self.flows[v].rate * rows.stride for v, rows in how.inputs.items()}
        if any(self._beyond(v, rows, height) for v, rows in how.inputs.items()):
            return
        if len(rates) > 1 and height > 1:
            return
        rate = min(rates)
        rows = self.hop // rate if self.hop else 1
        if height > 1 and height > rows:
            self.flows[group.output] = Flow(height, rate)
        count = min(rows, height) if height > 1 else 1
        self.banded[group.output] = Banded(how, ((0, count),))

    def _beyond(self, value: str, rows: Rows, height: int) -> bool:
        """Whether windows reach beyond the rows of `value`."""
        last = (height - 1) * rows.stride - rows.top + rows.taps
        return rows.top > 0 or last > self.flows[value].height


def stream_rows(graph: Graph, group: Group) -> Bandable | None:
    """`how_banded`, and how a part in time is taken of a tensor."""
    return bandable(graph, group.nodes, group.anchor, {"slice": _slice_rows})


def _slice_rows(attrs: Attrs, inputs: Sequence[TensorType]) -> Rows | None:
    if len(inputs[0].shape) != 4:
        return None
    begin, size, strides = (integers(attrs, n) for n in ("begin", "size", "strides"))
    if strides[1] < 1 and size[1] > 1:
        return None
    return Rows(strides[1] if size[1] > 1 else 1, 1, -begin[1])


def _reads(graph: Graph, group: Group) -> set[str]:
    made = {n.outputs[0] for n in group.nodes}
    return {v for n in group.nodes for v in n.inputs if v not in made and v not in graph.consts}


def _pads_rows(graph: Graph, group: Group) -> bool:
    """Whether several rows are made of which some see a border."""
    anchor = group.anchor
    if anchor is None or len(graph.types[anchor.outputs[0]].shape) != 4:
        return False
    if graph.types[anchor.outputs[0]].shape[1] < 2:
        return False
    if anchor.op == "pad":
        return any(integers(anchor.attrs, "paddings")[2:4])
    return "padding" in anchor.attrs and any(integers(anchor.attrs, "padding")[:2])


def _name(group: Group) -> str:
    return (group.anchor or group.nodes[0]).where


def _padding(group: Group) -> ModelError:
    return ModelError(
        "pads its input in time: the first or last rows of every window are others than those of "
        "the windows before",
        where=_name(group),
        hint="train it with VALID convolutions in time (and more frames); or --stream-input",
    )


def _check_any(graph: Graph, groups: Sequence[Group], walk: _Walk) -> None:
    if walk.banded:
        return
    first = next((g for g in groups if _reads(graph, g) & set(walk.flows)), None)
    raise ModelError(
        "reads its input as a whole: nothing can be computed frame by frame",
        where=_name(first) if first is not None else graph.name,
        hint="--stream-time takes models that begin with convolutions, pools or elementwise "
        "operators along axis 1",
    )


def _adds_exactly(graph: Graph, group: Group) -> bool:
    how = how_banded(graph, group)
    return how is not None and how.accumulates and not graph.types[group.output].dtype.is_float


def _cascade(graph: Graph, groups: Sequence[Group], target: Target, walk: _Walk) -> Cascade:
    """Rows lie one behind the other wherever bands read or write them."""
    near = {*walk.flows, *walk.banded}
    layouts = choose_layouts(graph, groups, target)
    kept = {v: order for v, order in layouts.items() if v not in near}
    return Cascade(tuple(groups), walk.banded, {}, kept, {})
