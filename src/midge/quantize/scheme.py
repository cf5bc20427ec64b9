"""Which type every value gets: int8, int16 or float, and with which scale.

A value has one quantised type. Operators that only move numbers (`QuantRule.scales` "same") share
it among their inputs and outputs: such values form groups. Where an operator reads a value in
another type than it has, QUANTIZE or DEQUANTIZE stands between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from midge.core.types import Array, DType, Quant, TensorType
from midge.graph.ir import Graph, Node
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.quantize.calibrate import Seen
from midge.quantize.options import Options
from midge.quantize.ranges import Range, chosen_range, quant_for, with_zero
from midge.quantize.recurrent import join_steps


@dataclass(frozen=True, slots=True)
class Left:
    """A node that stays float, and why."""

    where: str
    op: str
    reason: str


@dataclass(frozen=True, slots=True)
class Scheme:
    """dtypes: of each node's quantised values, None of nodes that stay as they are.
    types: of every float value, quantised.  left: nodes that stay float though they compute."""

    dtypes: tuple[DType | None, ...]
    types: Mapping[str, TensorType]
    left: tuple[Left, ...]


def is_float(graph: Graph, name: str) -> bool:
    return graph.types[name].dtype is DType.F32


def computed_floats(graph: Graph, names: Iterable[str]) -> list[str]:
    """Those of `names` that are float and no constants."""
    return [n for n in names if is_float(graph, n) and n not in graph.consts]


def make_scheme(
    graph: Graph, seen: Mapping[str, Seen], options: Options, refused: Mapping[int, str]
) -> Scheme:
    """refused: node -> why it must stay float, found by trying."""
    dtypes, left = _dtypes(graph, options, refused)
    ranges = {n: _range(graph, n, s, options) for n, s in seen.items()}
    types = _Typing(graph, options, dtypes, seen, ranges).types()
    return Scheme(tuple(dtypes), types, tuple(left))


def _range(graph: Graph, name: str, seen: Seen, options: Options) -> Range:
    """Inputs keep all that was seen: what they cut off is lost for the caller."""
    if name in graph.inputs:
        return with_zero((seen.least, seen.most))
    return chosen_range(seen, options)


def _dtypes(
    graph: Graph, options: Options, refused: Mapping[int, str]
) -> tuple[list[DType | None], list[Left]]:
    """Per node, in order: an operator that moves numbers takes the type that they have."""
    made: dict[str, DType | None] = dict.fromkeys(graph.inputs, options.activations)
    dtypes: list[DType | None] = []
    left: list[Left] = []
    integers = _read_as_integers(graph, options)
    for i, node in enumerate(graph.nodes):
        dtype: DType | None = None
        if computed_floats(graph, (*node.inputs, *node.outputs)):
            dtype = _wanted(graph, node, options, made)
            if dtype is None and integers.intersection(node.outputs):
                dtype = options.activations
            reason = refused.get(i) or _against(graph, node, dtype)
            if reason and dtype is not None:
                left.append(Left(node.where, node.op, reason))
                dtype = None
        dtypes.append(dtype)
        made.update(dict.fromkeys(node.outputs, dtype))
    return dtypes, left


def _read_as_integers(graph: Graph, options: Options) -> set[str]:
    """Values that an operator on integers reads, or one that moves numbers to such a reader."""
    found = set() if options.float_io else {*graph.outputs}
    for node in reversed(graph.nodes):
        rule = QUANTIZING.get(node.op)
        if rule is not None and (rule.scales == "free" or found.intersection(node.outputs)):
            found.update(node.inputs)
    return found


def _wanted(
    graph: Graph, node: Node, options: Options, made: Mapping[str, DType | None]
) -> DType | None:
    """The type a node computes in; None where it moves what is float."""
    if options.int16.intersection(node.outputs):
        return DType.I16
    rule = QUANTIZING.get(node.op)
    if rule is None or rule.scales == "free":
        return options.activations
    found = {made[n] for n in computed_floats(graph, node.inputs)}
    return DType.I16 if DType.I16 in found else DType.I8 if DType.I8 in found else None


def _against(graph: Graph, node: Node, dtype: DType | None) -> str:
    """Why a node cannot be quantised; "" if it can."""
    rule = QUANTIZING.get(node.op)
    if rule is None:
        return "TFLite has no quantised form of it"
    if dtype is not None and dtype not in rule.dtypes:
        return f"it has no {'int16' if dtype is DType.I16 else 'int8'} form"
    if rule.weighted and not all(n in graph.consts for n in node.inputs[1:]):
        return "its weights are computed at run time"
    return ""


class _Typing:
    """Groups of values that share a scale, and the scale of each."""

    def __init__(
        self,
        graph: Graph,
        options: Options,
        dtypes: list[DType | None],
        seen: Mapping[str, Seen],
        ranges: Mapping[str, Range],
    ) -> None:
        self.graph, self.options = graph, options
        self.dtypes, self.seen, self.ranges = dtypes, seen, ranges
        self.makers = {o: i for i, n in enumerate(graph.nodes) for o in n.outputs}
        self.parents: dict[str, str] = {n: n for n in seen}
        self.extra: dict[str, list[float]] = {}
        self.joined: set[int] = set()
        for i, node in enumerate(graph.nodes):
            dtype = dtypes[i]
            if dtype is not None and _rule(node).scales == "same":
                self.join(i, node, dtype)
        join_steps(graph, self.find, self.unite)

    def dtype(self, name: str) -> DType:
        """Of the value's quantised form."""
        maker = self.makers.get(name)
        found = self.options.activations if maker is None else self.dtypes[maker]
        return found or self.options.activations

    def find(self, name: str) -> str:
        while self.parents[name] != name:
            name = self.parents[name]
        return name

    def unite(self, a: str, b: str) -> bool:
        """One group of the groups of two values, if both have the same type and, if their operators
        fix scales, the same; whether there were two."""
        first, second = self.find(a), self.find(b)
        fits = self.dtype(a) is self.dtype(b) and self.fixed(a) == self.fixed(b)
        if first == second or not fits:
            return False
        self.parents[second] = first
        return True

    def join(self, i: int, node: Node, dtype: DType) -> None:
        """One group of all operands of a node that moves numbers."""
        self.joined.add(i)
        (first, *others) = computed_floats(self.graph, node.outputs)
        for name in (*others, *computed_floats(self.graph, node.inputs)):
            if self.dtype(name) is dtype:
                self.parents[self.find(name)] = self.find(first)
        consts = [n for n in node.inputs if n in self.graph.consts and is_float(self.graph, n)]
        covered = self.extra.setdefault(first, [])
        covered += [float(v) for n in consts for v in _ends(self.graph.consts[n])]
        covered += _rule(node).covers(node.attrs)

    def types(self) -> dict[str, TensorType]:
        members: dict[str, list[str]] = {}
        for name in self.seen:
            members.setdefault(self.find(name), []).append(name)
        result: dict[str, TensorType] = {}
        for group in members.values():
            quant = self.shared_quant(group)
            for name in group:
                t = self.graph.types[name]
                own = self.fixed(name) or quant
                result[name] = TensorType(t.shape, self.dtype(name), own)
        return result

    def fixed(self, name: str) -> Quant | None:
        """The scale that its operator gives a value whatever the data."""
        maker = self.makers.get(name)
        if maker is None or self.dtypes[maker] is None:
            return None
        return _rule(self.graph.nodes[maker]).fixed_quant(self.dtype(name))

    def shared_quant(self, group: list[str]) -> Quant:
        """A group whose only sources have one fixed scale has that; others cover all members."""
        sources = [n for n in group if self.makers.get(n) not in self.joined]
        fixed = {self.fixed(n) for n in sources}
        extra = [v for n in group for v in self.extra.get(n, ())]
        (only,) = fixed if len(fixed) == 1 else (None,)
        if only is not None and not extra:
            return only
        ends = [v for n in group for v in self.ranges[n]] + extra
        return quant_for((min(ends), max(ends)), self.dtype(group[0]))


def _rule(node: Node) -> QuantRule:
    return QUANTIZING[node.op]


def _ends(array: Array) -> tuple[float, ...]:
    return (float(array.min()), float(array.max())) if array.size else ()
