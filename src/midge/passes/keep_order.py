"""Sums of floats that become integers are added as ONNX Runtime adds them."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import Attr, integers, text
from midge.graph.interpolation import neighbours, positions
from midge.graph.ir import Graph, Node, fresh
from midge.graph.islands import becoming_integers
from midge.passes.drop_dead import drop_dead

_INTEGERS = (DType.I8, DType.I16)


def keep_order(graph: Graph) -> Graph:
    """y = quantize(resize_bilinear(x) order=asymmetric)   ->   y = quantize(interpolate(x, tables))
    y = avg_pool2d(dequantize(x))   ->   y = avg_pool2d(x) scale=.. zero=..

    `order` comes from ONNX models and stays on averages of what is quantised afterwards, in
    whatever form. Pools read integers themselves: no float image lies in memory.
    """
    keeper = _Keeper(graph)
    nodes = [made for node in graph.nodes for made in keeper.kept(node)]
    made = replace(graph, types=keeper.types, consts=keeper.consts)
    return drop_dead(made.with_nodes(nodes))


class _Keeper:
    def __init__(self, graph: Graph) -> None:
        self.types: dict[str, TensorType] = dict(graph.types)
        self.consts: dict[str, Array] = dict(graph.consts)
        self.decisive = becoming_integers(graph)
        self.makers = {o: n for n in graph.nodes for o in n.outputs}

    def kept(self, node: Node) -> list[Node]:
        if node.op not in ("avg_pool2d", "resize_bilinear", "interpolate", "mean"):
            return [node]
        if "order" in node.attrs and node.outputs[0] not in self.decisive:
            attrs = {k: v for k, v in node.attrs.items() if k != "order"}
            return [replace(node, attrs=attrs)]
        if "order" in node.attrs and node.op == "mean":
            return self.averaged(node)
        if "order" in node.attrs and node.op == "resize_bilinear":
            node = self.interpolated(node)
        pools = node.op in ("avg_pool2d", "interpolate")
        return [self.reading_integers(node) if pools else node]

    def averaged(self, node: Node) -> list[Node]:
        """A mean over the last axes of channels-first images, or the middle ones of others, as a
        pool over one-channel images, or over those."""
        (x,), (y,) = node.inputs, node.outputs
        shape, axes = self.types[x].shape, integers(node.attrs, "axes")
        last = tuple(axes) == tuple(range(2, len(shape)))
        middle = len(shape) == 4 and tuple(axes) == (1, 2)
        if not (last or middle):
            return [replace(node, attrs={"axes": axes})]
        image = shape if middle else (prod(shape[:2]), prod(shape[2:3]), prod(shape[3:]), 1)
        attrs: dict[str, Attr] = {
            "window": image[1:3], "strides": (1, 1), "dilations": (1, 1),
            "padding": (0, 0, 0, 0), "order": "lanes",
        }  # fmt: skip
        pool = replace(node, op="avg_pool2d", attrs=attrs)
        if middle:
            return [self.reading_integers(pool)]
        maker = self.makers.get(x)
        source = self.integers_behind(maker)
        seen = self.viewed(source or x, image)
        pooled = self.value(f"{y}/pooled", TensorType((image[0], 1, 1, 1), DType.F32))
        pool = replace(pool, inputs=(seen,), outputs=(pooled,))
        if source is not None:
            pool = replace(pool, attrs={**attrs, **self.meaning(source)})
        views = {"shape": image}, {"shape": self.types[y].shape}
        return [
            replace(node, op="reshape", inputs=(source or x,), outputs=(seen,), attrs=views[0]),
            pool,
            replace(node, op="reshape", inputs=(pooled,), attrs=views[1]),
        ]

    def value(self, base: str, t: TensorType) -> str:
        name = fresh(base, self.types)
        self.types[name] = t
        return name

    def viewed(self, x: str, shape: tuple[int, ...]) -> str:
        return self.value(f"{x}/image", replace(self.types[x], shape=shape))

    def interpolated(self, node: Node) -> Node:
        """A resize_bilinear with ONNX Runtime's positions and order."""
        inputs = list(node.inputs)
        shape = self.types[node.inputs[0]].shape
        for n, m in zip(shape[1:3], integers(node.attrs, "size"), strict=True):
            scale = np.float32(m) / np.float32(n)
            places = positions(n, m, scale, text(node.attrs, "order"))
            inputs += [self.constant(node, table) for table in neighbours(n, places)]
        return replace(node, op="interpolate", inputs=tuple(inputs), attrs={})

    def constant(self, node: Node, value: Array) -> str:
        name = fresh(f"{node.outputs[0]}/table", self.types)
        self.consts[name], self.types[name] = value, TensorType(value.shape, DType.of(value))
        return name

    def reading_integers(self, node: Node) -> Node:
        """The node on the integers behind its input, if one scale says what they mean."""
        source = self.integers_behind(self.makers.get(node.inputs[0]))
        if source is None:
            return node
        inputs = (source, *node.inputs[1:])
        return replace(node, inputs=inputs, attrs={**node.attrs, **self.meaning(source)})

    def integers_behind(self, maker: Node | None) -> str | None:
        """What a dequantisation by one scale reads."""
        if maker is None or maker.op != "dequantize":
            return None
        x = self.types[maker.inputs[0]]
        known = x.dtype in _INTEGERS and x.quant is not None and x.quant.axis is None
        return maker.inputs[0] if known else None

    def meaning(self, x: str) -> dict[str, Attr]:
        quant = self.types[x].quant
        assert quant is not None
        return {"scale": quant.scale[0], "zero": quant.zero_point[0]}
