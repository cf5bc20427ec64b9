"""Float operators between dequantisation and quantisation become quantised operators.

ONNX's QDQ form and PyTorch's export state a quantised network so: real numbers in between, which
nobody needs to compute with. What is left of them (a softmax, say) stays float.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import prod

import numpy as np

from midge.core.types import Quant, TensorType
from midge.graph.attrs import Attr, integer, integers, number, text
from midge.graph.fixed_point import ACTIVATIONS, f32
from midge.graph.ir import OPS, Graph, Node
from midge.passes.drop_dead import drop_dead
from midge.passes.quantized_operands import NARROW, Operands

# Operators that move or choose elements: of integers as of the numbers they stand for.
_MOVES = frozenset({
    "concat", "copy", "max_pool2d", "pad", "reshape", "resize_nearest", "reduce_max", "reduce_min",
    "slice", "tile", "transpose",
})  # fmt: skip
_VIEWS = ("reshape", "transpose")  # which may stand between an operator and its quantisation


def fuse_quantized(graph: Graph) -> Graph:
    """y = quantize(relu(conv2d(dequantize(x), dequantize(w))))   ->   y = conv2d(x, w) scaling=..

    The result is clamp(rint(sum (x - zx) * w * f32(sx * sw / sy)) + zy): what ONNX Runtime's
    integer kernels compute. Data movement goes from between the two to the integers.
    """
    if not any(n.op == "dequantize" for n in graph.nodes):
        return graph
    fuser = _Fuser(graph, dict(graph.types), dict(graph.consts))
    for node in graph.nodes:
        fuser.node(replace(node, inputs=tuple(fuser.alias.get(v, v) for v in node.inputs)))
    fused = replace(graph, types=fuser.types, consts=fuser.consts)
    return drop_dead(fused.with_nodes(fuser.nodes))


@dataclass(frozen=True, slots=True)
class _Step:
    """An operator before a quantisation, what is done in between, and what it is limited to."""

    node: Node
    views: tuple[Node, ...]
    low: float
    high: float


@dataclass(slots=True)
class _Fuser(Operands):
    nodes: list[Node] = field(default_factory=list)
    alias: dict[str, str] = field(default_factory=dict)
    meanings: dict[str, str] = field(default_factory=dict)  # named integers -> those named so
    makers: dict[str, Node] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.uses = {name: len(nodes) for name, nodes in self.graph.consumers().items()}
        for name in self.graph.outputs:
            self.uses[name] = self.uses.get(name, 0) + 2

    def node(self, node: Node) -> None:
        if node.op in ("copy", "flip_sign") and self.named(node):
            return
        self.note(node)
        done = (node.op in _MOVES and self.moved(node)) or (
            node.op == "quantize" and self.quantized(node)
        )
        if not done:
            self.keep(node)

    def keep(self, node: Node) -> None:
        self.nodes.append(node)
        self.makers.update(dict.fromkeys(node.outputs, node))

    def named(self, node: Node) -> bool:
        """Drop a copy (or a change of sign) that only says what the integers of an input, of a
        constant, or of what was quantised before, mean."""
        (x,), (y,) = node.inputs, node.outputs
        wanted = self.quant(y)
        self.meanings[y] = x
        if wanted is None or y in self.graph.outputs:
            return False
        base = self.meanings.get(x, "")
        if base and self.types[base] == self.types[y]:
            self.alias[y] = base
            return True
        if x in self.consts:
            (self.consts[y],) = OPS[node.op].reference([self.consts[x]], node.attrs)
            return True
        if node.op != "copy" or x not in self.graph.inputs:
            return False
        if self.quant(x) != wanted and not self.nameless(x):
            return False
        self.types[x] = replace(self.types[x], quant=wanted)
        self.alias[y] = x
        return True

    def nameless(self, x: str) -> bool:
        """Whether nothing is said of what an input's integers mean, nor minds if it is."""
        readers = [n for n in self.graph.nodes if x in n.inputs]
        return self.quant(x) is None and all(
            n.op in _MOVES or OPS[n.op].expand is None for n in readers
        )

    # Data movement.

    def moved(self, node: Node) -> bool:
        """The same on integers, and the real numbers from its result."""
        if not all(v in self.ints for v in node.inputs):
            return False
        inputs = [self.ints[v] for v in node.inputs]
        if len({(self.types[v].dtype, self.scales(v)) for v in inputs}) != 1:
            return False
        quant, y = self.scales(inputs[0]), node.outputs[0]
        axis = quant.axis if quant.axis is None else self.channel_axis(node, inputs[0], quant.axis)
        if quant.axis is not None and axis is None:
            return False
        limits = ACTIVATIONS[text(node.attrs, "activation", "")]
        if not all(_is_stored(limit, self.types[inputs[0]]) for limit in limits):
            return False  # the integers would be limited to another number
        attrs = node.attrs
        if node.op == "pad":
            value = _stored(number(attrs, "value"), self.types[inputs[0]])
            if value is None:
                return False
            attrs = {**attrs, "value": value}
        t = TensorType(self.types[y].shape, self.types[inputs[0]].dtype, replace(quant, axis=axis))
        result = self.value(f"{y}/quantized", t)
        self.emit(replace(node, inputs=tuple(inputs), outputs=(result,), attrs=attrs))
        self.ints[y] = result
        self.keep(replace(node, op="dequantize", inputs=(result,), attrs={}))
        return True

    def emit(self, node: Node) -> None:
        """Append a node that moves integers; of constants, compute it."""
        if all(v in self.consts for v in node.inputs):
            (value,) = OPS[node.op].reference([self.consts[v] for v in node.inputs], node.attrs)
            name = node.outputs[0]
            self.consts[name] = np.ascontiguousarray(value).reshape(self.types[name].shape)
            return
        self.keep(node)

    def channel_axis(self, node: Node, x: str, axis: int) -> int | None:
        """Where the axis with scales of its own is afterwards."""
        if node.op == "copy":
            return axis
        if node.op == "transpose":
            return integers(node.attrs, "perm").index(axis)
        if node.op != "reshape":
            return None
        before, after = self.types[x].shape, self.types[node.outputs[0]].shape
        same = (
            d
            for d, n in enumerate(after)
            if n == before[axis] and prod(after[:d]) == prod(before[:axis])
        )
        return next(same, None)

    # Quantisation.

    def quantized(self, node: Node) -> bool:
        """Whether the operator before a quantisation has become one on integers."""
        (x,), (y,) = node.inputs, node.outputs
        quant = self.quant(y)
        even = text(node.attrs, "rounding", "away") == "even"
        if quant is None or quant.axis is not None or not even:
            return False
        if self.types[y].dtype not in NARROW:
            return False
        if x in self.ints and self.types[self.ints[x]] == self.types[y]:
            self.alias[y] = self.ints[x]
            self.keep(replace(node, op="copy", inputs=(self.ints[x],), attrs={}))  # for outputs
            return True
        step = self.before(x)
        if step is None:
            return False
        rule = _RULES.get(step.node.op)
        if rule is None or self.undecided(step.node, quant):
            return False
        made = rule(self, step.node)
        # Operators on integers keep their type.
        if made is None or self.types[made.inputs[0]].dtype is not self.types[y].dtype:
            return False
        self.finish(step, made, node)
        return True

    def undecided(self, node: Node, quant: Quant) -> bool:
        """Whether results of a mean can be ties, which the last digits of a known order of floats
        decide: then floats are added up."""
        x = (
            self.activations(node.inputs[0])
            if node.op == "mean" and "order" in node.attrs
            else None
        )
        if x is None:
            return False
        count = self.types[x].elements // self.types[node.outputs[0]].elements
        return _ties(self.scales(x), quant, count)

    def before(self, value: str) -> _Step | None:
        """The operator that makes `value` for nobody else."""
        views: list[Node] = []
        low, high = -np.inf, np.inf
        while self.uses.get(value, 0) == 1 and value in self.makers:
            maker = self.makers[value]
            if maker.op == "clip":
                low = max(low, number(maker.attrs, "low"))
                high = min(high, number(maker.attrs, "high"))
            elif maker.op in _VIEWS:
                views.append(maker)
            else:
                least, most = ACTIVATIONS[text(maker.attrs, "activation", "")]
                return _Step(maker, tuple(views), max(low, least), min(high, most))
            value = maker.inputs[0]
        return None

    def finish(self, step: _Step, made: Node, last: Node) -> None:
        """The operator on integers, then the views, which give the quantisation's result."""
        (y,) = last.outputs
        t = self.types[y]
        assert t.quant is not None
        value = made.outputs[0]
        result = y if not step.views else self.value(f"{y}/computed", t)
        self.types[result] = replace(t, shape=self.types[value].shape)
        limits: dict[str, Attr] = {
            "scaling": "binary32",
            "low": _limited(step.low, t, t.dtype.min),
            "high": _limited(step.high, t, t.dtype.max),
        }
        kinds = dict.fromkeys((step.node.kind, *(n.kind for n in step.views), last.kind))
        kind = "+".join(filter(None, kinds))
        attrs = {k: v for k, v in made.attrs.items() if k != "activation"} | limits
        self.keep(replace(made, outputs=(result,), attrs=attrs, kind=kind))
        for view in reversed(step.views):
            following = y
            if view is not step.views[0]:
                following = self.value(f"{view.outputs[0]}/quantized", t)
                self.types[following] = replace(t, shape=self.types[view.outputs[0]].shape)
            self.keep(replace(view, inputs=(result,), outputs=(following,)))
            result = following


def _stored(x: float, t: TensorType) -> int | None:
    """The integer that stands for exactly `x`, if there is one."""
    assert t.quant is not None
    scale, zero = f32(t.quant.scale[0]), t.quant.zero_point[0]
    with np.errstate(all="ignore"):
        steps = np.rint(f32(x) / scale)
    if not t.dtype.min - zero <= steps <= t.dtype.max - zero or f32(steps) * scale != f32(x):
        return None
    return int(steps) + zero


def _is_stored(limit: float, t: TensorType) -> bool:
    """Whether integers are limited as the numbers are that they stand for: to one that each scale
    has, or to no purpose."""
    assert t.quant is not None
    if limit == 0.0:
        return all(t.dtype.min <= zero <= t.dtype.max for zero in t.quant.zero_point)
    if t.quant.axis is not None:
        return not np.isfinite(limit)
    scale, zero = f32(t.quant.scale[0]), t.quant.zero_point[0]
    inside = (t.dtype.min - zero) * scale < f32(limit) < (t.dtype.max - zero) * scale
    return not inside or _stored(limit, t) is not None


def _limited(x: float, t: TensorType, end: int) -> int:
    """The integer of `x`, or the end of the type."""
    assert t.quant is not None
    if not np.isfinite(x):
        return end
    value = int(np.rint(f32(x) / f32(t.quant.scale[0]))) + t.quant.zero_point[0]
    return min(max(value, t.dtype.min), t.dtype.max)


def _matmul(fuser: _Fuser, node: Node) -> Node | None:
    """Of two activations; constant weights make it dense."""
    a, b = (fuser.activations(v) for v in node.inputs)
    if a is not None and integer(node.attrs, "transpose_a", 0) == 0:
        made = _dense(fuser, node, a)
        if made is not None:
            return made
    if a is None or b is None or fuser.types[a].dtype is not fuser.types[b].dtype:
        return None
    return replace(node, inputs=(a, b))


def _dense(fuser: _Fuser, node: Node, a: str) -> Node | None:
    """Rows of activations by a constant matrix."""
    t = fuser.types[a]
    value = node.inputs[1]
    found = fuser.constant(value)
    if found is None or len(fuser.types[value].shape) != 2 or len(t.shape) != 2:
        return None
    quant = fuser.scales(found)
    turned = integer(node.attrs, "transpose_b", 0)
    if quant.axis not in (None, 0 if turned else 1):
        return None
    w = found
    if not turned:
        own = TensorType(
            fuser.types[found].shape[::-1], fuser.types[found].dtype,
            replace(quant, axis=None if quant.axis is None else 0),
        )  # fmt: skip
        w = fuser.const(found, fuser.consts[found].T, own)
    fuser.ints[f"{value}/rows"] = w
    weights = fuser.weights(f"{value}/rows", 0, a)
    return None if weights is None else replace(node, op="dense", inputs=(a, weights), attrs={})


def _mean(fuser: _Fuser, node: Node) -> Node | None:
    x = fuser.activations(node.inputs[0])
    if x is None:
        return None
    return replace(node, inputs=(x,), attrs={k: v for k, v in node.attrs.items() if k != "order"})


def _ties(x: Quant, y: Quant, count: int) -> bool:
    """Whether the average of `count` bytes can be exactly between two steps of y.

    Of sums s of integers, s * p / q is half an odd number, p / q being the ratio of the scales over
    the count in lowest terms, only for odd multiples of q / 2.
    """
    ratio = Fraction(x.scale[0]) / (Fraction(y.scale[0]) * count)
    return ratio.denominator % 2 == 0 and ratio.denominator // 2 <= 255 * count


_RULES: dict[str, Callable[[_Fuser, Node], Node | None]] = {
    "conv2d": _Fuser.products,
    "dense": _Fuser.products,
    "depthwise_conv2d": _Fuser.products,
    "matmul": _matmul,
    "mean": _mean,
}
