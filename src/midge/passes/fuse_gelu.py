"""Recognise GELU where a framework has spelled it out: as one operator it fuses with what makes its
input, and quantisation knows it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from midge.graph.attrs import Attrs
from midge.graph.ir import Graph, Node

_CLOSE = 1e-4


def fuse_gelu(graph: Graph) -> Graph:
    """y = x * 0.5 * (1 + erf(x / sqrt(2)))   ->   y = gelu(x)

    Also with tanh(sqrt(2 / pi) * (x + 0.044715 * x^3)) in place of erf; the factors in any order.
    What lies between must be read by nobody else.
    """
    if not any(n.op in ("erf", "tanh") for n in graph.nodes):
        return graph
    finder = _Finder(graph)
    found = {n.outputs[0]: f for n in graph.nodes if n.op == "mul" and (f := finder.gelu(n))}
    return graph.with_nodes(
        replace(n, op="gelu", inputs=(f.value,), attrs=f.attrs)
        if (f := found.get(n.outputs[0])) is not None
        else n
        for n in graph.nodes
    )


@dataclass(frozen=True, slots=True)
class _Gelu:
    value: str
    attrs: Attrs


@dataclass(frozen=True, slots=True)
class _Product:
    """factor times the values, each as often as it stands there."""

    factor: float
    values: tuple[str, ...]


class _Finder:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.makers: Mapping[str, Node] = {o: n for n in graph.nodes for o in n.outputs}
        readers = graph.consumers()
        self.uses = {n: len(nodes) for n, nodes in readers.items()}

    def scalar(self, name: str) -> float | None:
        array = self.graph.consts.get(name)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def product(self, name: str, uses: int = 1) -> _Product:
        """The factors of a value that is used `uses` times. What GELU is of is used more often, so
        it is not taken apart."""
        node = self.makers.get(name)
        if (c := self.scalar(name)) is not None:
            return _Product(c, ())
        own = self.uses[name] <= uses and name not in self.graph.outputs
        if node is None or not own or "activation" in node.attrs:
            return _Product(1.0, (name,))
        if node.op == "div" and (c := self.scalar(node.inputs[1])):
            part = self.product(node.inputs[0])
            return replace(part, factor=part.factor / c)
        if node.op == "pow" and self.scalar(node.inputs[1]) in (2.0, 3.0):
            count = int(self.scalar(node.inputs[1]) or 0)
            part = self.product(node.inputs[0])
            return _Product(part.factor**count, part.values * count)
        if node.op == "mul":
            a, b = node.inputs
            parts = [self.product(n, 2 if a == b else 1) for n in (a, b)]
            return _Product(parts[0].factor * parts[1].factor, parts[0].values + parts[1].values)
        return _Product(1.0, (name,))

    def gelu(self, node: Node) -> _Gelu | None:
        """The GELU that a multiplication finishes: of floats, as quantised factors are integers."""
        if "activation" in node.attrs:
            return None
        for inner in self.inner(node.inputs):
            x, attrs = inner.value, inner.attrs
            parts = [self.product(n) for n in node.inputs]
            factor = parts[0].factor * parts[1].factor
            values = sorted(parts[0].values + parts[1].values)
            sums = [v for v in values if v != x]
            shape = self.graph.types[x].shape == self.graph.types[node.outputs[0]].shape
            if len(values) == 2 and len(sums) == 1 and _near(factor, 0.5) and shape:
                (total,) = sums
                if self.plus_one(total) == inner:
                    return _Gelu(x, attrs)
        return None

    def inner(self, names: tuple[str, ...], depth: int = 0) -> list[_Gelu]:
        """What 1 + erf(..) or 1 + tanh(..) among the factors is of."""
        found: list[_Gelu] = []
        for name in names:
            node = self.makers.get(name)
            if node is None:
                continue
            if node.op == "mul" and depth < 2:
                found += self.inner(node.inputs, depth + 1)
            elif (g := self.plus_one(name)) is not None:
                found.append(g)
        return found

    def plus_one(self, name: str) -> _Gelu | None:
        for value in self.plus(name, 1.0):
            node = self.makers.get(value)
            if node is None or self.uses[value] != 1:
                continue
            if node.op == "erf":
                return self.scaled(node.inputs[0])
            if node.op == "tanh":
                return self.cubic(node.inputs[0])
        return None

    def plus(self, name: str, constant: float) -> list[str]:
        """v of a value constant + v that is used once."""
        node = self.makers[name]
        if node.op != "add" or self.uses[name] != 1 or node.attrs:
            return []
        a, b = node.inputs
        return [v for v, c in ((a, b), (b, a)) if _near(self.scalar(c), constant)]

    def scaled(self, name: str) -> _Gelu | None:
        """x of x / sqrt(2)."""
        node = self.makers.get(name)
        if node is None or node.op not in ("mul", "div") or node.attrs or self.uses[name] != 1:
            return None
        a, b = node.inputs
        if node.op == "div":
            return _Gelu(a, {}) if _near(self.scalar(b), math.sqrt(2)) else None
        for x, c in ((a, b), (b, a)):
            if _near(self.scalar(c), math.sqrt(0.5)):
                return _Gelu(x, {})
        return None

    def cubic(self, name: str) -> _Gelu | None:
        """x of sqrt(2 / pi) * (x + 0.044715 * x^3)."""
        node = self.makers.get(name)
        if node is None or node.op != "mul" or node.attrs or self.uses[name] != 1:
            return None
        a, b = node.inputs
        for value, c in ((a, b), (b, a)):
            total = self.makers.get(value)
            good = _near(self.scalar(c), math.sqrt(2 / math.pi)) and self.uses[value] == 1
            if not good or total is None or total.op != "add" or total.attrs:
                continue
            for x, cube in (total.inputs, total.inputs[::-1]):
                part = self.product(cube)
                if part.values == (x,) * 3 and _near(part.factor, 0.044715):
                    return _Gelu(x, {"tanh": 1})
        return None


def _near(value: float | None, wanted: float) -> bool:
    return value is not None and math.isclose(value, wanted, rel_tol=_CLOSE)
