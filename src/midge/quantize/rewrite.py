"""The quantised graph: the float one under a scheme."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from midge.core.types import Array, DType, Quant, TensorType
from midge.graph.fixed_point import accumulator
from midge.graph.ir import OPS, Graph, Node, fresh, same_array, verify
from midge.graph.quantizing import QUANTIZING
from midge.quantize.calibrate import Seen
from midge.quantize.correct import mean_errors
from midge.quantize.options import Options
from midge.quantize.ranges import quant_for
from midge.quantize.scheme import Scheme, computed_floats, is_float
from midge.quantize.weights import meaning, quantize_weights

_NAMES = {DType.I8: "int8", DType.I16: "int16", DType.F32: "float"}


@dataclass(frozen=True, slots=True)
class Rewritten:
    """graph: quantised.  values: float value -> the value of `graph` that stands for it, as its
    operator leaves it.  nodes: of `graph`, for every node of the float graph."""

    graph: Graph
    values: Mapping[str, str]
    nodes: tuple[Node, ...]


class Rewriter:
    """One rewriting. `made`: (float value, type) -> its name in the quantised graph."""

    def __init__(
        self, graph: Graph, scheme: Scheme, seen: Mapping[str, Seen], options: Options
    ) -> None:
        self.floats, self.scheme, self.seen, self.options = graph, scheme, seen, options
        self.types = {n: t for n, t in graph.types.items() if n in graph.consts or not _f32(t)}
        self.consts: dict[str, Array] = dict(graph.consts)
        self.nodes: list[Node] = []
        self.made: dict[tuple[str, TensorType], str] = {}
        self.values: dict[str, str] = {}
        # Float constants that float nodes read: their names are taken.
        self.taken = {
            n
            for node, dtype in zip(graph.nodes, scheme.dtypes, strict=True)
            for n in node.inputs
            if dtype is None
        }

    def rewrite(self) -> Rewritten:
        graph = self.floats
        for name in computed_floats(graph, graph.inputs):
            self.define(name, self.port_type(name), name)
        rewritten = []
        for i, node in enumerate(graph.nodes):
            rewritten.append(self.node(node, self.scheme.dtypes[i]))
            self.nodes.append(rewritten[-1])
        for name in computed_floats(graph, dict.fromkeys(graph.outputs)):
            self.output(name)
        result = replace(graph, types=self.types, consts=self.consts).with_nodes(self.nodes)
        verify(result)
        return Rewritten(result, self.values, tuple(rewritten))

    def port_type(self, name: str) -> TensorType:
        """The type of an input or output of the graph."""
        return self.floats.types[name] if self.options.float_io else self.scheme.types[name]

    def define(self, value: str, t: TensorType, name: str) -> str:
        """`name` is float value `value` in type `t`, as it was computed."""
        self.types[name] = t
        self.made[value, t] = name
        self.values[value] = name
        return name

    def output(self, name: str) -> None:
        """The graph's output in the type that the caller sees; it keeps its name."""
        wanted = self.port_type(name)
        have = self.values[name]
        if have != name and self.types[have] != wanted:
            self.types[name] = wanted
            self.nodes.append(self.conversion(self.types[have], have, wanted, name, "output"))

    def node(self, node: Node, dtype: DType | None) -> Node:
        rule = QUANTIZING.get(node.op) if dtype is not None else None
        inputs = list(node.inputs)
        for k, name in enumerate(node.inputs):
            if rule is not None and rule.weighted and k > 0:
                continue
            if is_float(self.floats, name) and name not in self.floats.consts:
                inputs[k] = self.read(name, self.read_type(node, dtype, name), node)
            elif is_float(self.floats, name) and dtype is not None:
                inputs[k] = self.constant(name, self.read_type(node, dtype, name))
        outputs = tuple(self.result(name, dtype) for name in node.outputs)
        attrs = node.attrs
        if rule is not None and dtype is not None:
            if rule.weighted:
                inputs[1:] = self.weighted(node, inputs[0])
            attrs = rule.attrs(node.attrs, self.types[outputs[0]])
        return replace(node, inputs=tuple(inputs), outputs=outputs, attrs=attrs)

    def result(self, name: str, dtype: DType | None) -> str:
        """Name and type of what a node computes. Outputs of the graph keep their name only if
        the caller gets them in this type."""
        if not is_float(self.floats, name):
            return name
        t = self.floats.types[name] if dtype is None else self.scheme.types[name]
        own = name
        if name in self.floats.outputs and t != self.port_type(name):
            own = self.fresh(f"{name}/{_NAMES[t.dtype]}")
        return self.define(name, t, own)

    def read_type(self, node: Node, dtype: DType | None, name: str) -> TensorType:
        """The type in which `node` reads float value `name`."""
        t = self.floats.types[name]
        if dtype is None:
            return t
        if QUANTIZING[node.op].scales == "same":
            (shared, *_) = computed_floats(self.floats, node.outputs)
            return TensorType(t.shape, dtype, self.scheme.types[shared].quant)
        if name not in self.floats.consts:
            own = self.scheme.types[name]
            if own.dtype is dtype:
                return own
            seen = self.seen[name]
            return TensorType(t.shape, dtype, quant_for((seen.least, seen.most), dtype))
        array = self.floats.consts[name]
        ends = (float(array.min(initial=0.0)), float(array.max(initial=0.0)))
        return TensorType(t.shape, dtype, quant_for(ends, dtype))

    def read(self, value: str, t: TensorType, node: Node) -> str:
        """Float value `value` in type `t`, converted before `node` if it has another."""
        if (value, t) not in self.made:
            have = self.values[value]
            name = self.fresh(f"{value}/{_NAMES[t.dtype]}")
            self.types[name] = t
            self.made[value, t] = name
            self.nodes.append(self.conversion(self.types[have], have, t, name, node.src))
        return self.made[value, t]

    def conversion(
        self, source: TensorType, value: str, target: TensorType, name: str, src: str
    ) -> Node:
        if target.quant is None:
            return Node("dequantize", (value,), (name,), {}, src, "DEQUANTIZE")
        return Node("quantize", (value,), (name,), {"dtype": target.dtype.value}, src, "QUANTIZE")

    def constant(self, name: str, t: TensorType) -> str:
        """A constant operand as integers."""
        assert t.quant is not None
        steps = np.round(self.floats.consts[name].astype(np.float64) / t.quant.scale[0])
        array = np.clip(steps + t.quant.zero_point[0], t.dtype.min, t.dtype.max)
        return self.add(name, array.astype(t.dtype.numpy), t.quant)

    def add(self, name: str, array: Array, quant: Quant) -> str:
        """A quantised constant under the name of the float one, unless another node has that."""
        t = TensorType(array.shape, DType.of(array), quant)
        own = name
        if name in self.taken:
            if self.types[name] == t and same_array(self.consts[name], array):
                return name
            own = self.fresh(f"{name}/{t.dtype.value}")
        self.taken.add(own)
        self.consts[own], self.types[own] = array, t
        return own

    def weighted(self, node: Node, x: str) -> list[str]:
        """Weights and bias of a layer as integers."""
        axis = OPS[node.op].channel_axis
        quant = self.types[x].quant
        assert axis is not None
        assert quant is not None
        weights = self.floats.consts[node.inputs[1]]
        bias: Array = np.zeros(weights.shape[axis])
        if len(node.inputs) > 2:
            bias = self.floats.consts[node.inputs[2]].reshape(-1).astype(np.float64)
        dtype = accumulator(self.types[x].dtype)
        made = quantize_weights(weights, bias, axis, quant, dtype)
        if self.options.bias_correction:
            error = mean_errors(node, self.mean(node), meaning(made, axis) - weights)
            made = quantize_weights(weights, bias, axis, quant, dtype, error)
        has_bias = len(node.inputs) > 2
        name = node.inputs[2] if has_bias else self.fresh(f"{node.outputs[0]}/bias")
        return [
            self.add(node.inputs[1], made.weights, made.weight_quant),
            self.add(name, made.bias, made.bias_quant),
        ]

    def mean(self, node: Node) -> Array:
        """The mean input of a layer, over all steps that have its weights: they keep one bias."""
        own = self.floats.types[node.inputs[0]].shape
        means = [
            self.seen[other.inputs[0]].mean
            for other in self.floats.nodes
            if (other.op, other.inputs[1:]) == (node.op, node.inputs[1:])
            and self.floats.types[other.inputs[0]].shape == own
        ]
        result: Array = np.mean([m for m in means if m is not None], axis=0)
        return result

    def fresh(self, name: str) -> str:
        return fresh(name, self.types, self.floats.types, self.consts)


def _f32(t: TensorType) -> bool:
    return t.dtype is DType.F32
