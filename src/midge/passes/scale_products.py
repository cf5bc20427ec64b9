"""Products of quantised operands whose result is not quantised: summed as integers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from midge.core.types import DType, TensorType
from midge.graph.attrs import Attr
from midge.graph.fixed_point import f32
from midge.graph.ir import Graph, Node
from midge.passes.drop_dead import drop_dead
from midge.passes.quantized_operands import Operands

_WEIGHTED = ("conv2d", "dense", "depthwise_conv2d")


def scale_products(graph: Graph) -> Graph:
    """y = conv2d(dequantize(x), dequantize(w), b)   ->   y = cast(conv2d(x, w)) * (sx * sw) + b

    The weights stay int8, and no product is a float one.
    """
    scaler = _Scaler(graph, dict(graph.types), dict(graph.consts))
    nodes: list[Node] = []
    for node in graph.nodes:
        scaler.note(node)
        nodes += scaler.scaled(node)
    made = replace(graph, types=scaler.types, consts=scaler.consts)
    return drop_dead(made.with_nodes(nodes))


@dataclass(slots=True)
class _Scaler(Operands):
    def scaled(self, node: Node) -> list[Node]:
        """The node, or what computes its products on integers."""
        made = self.products(node) if node.op in _WEIGHTED else None
        if made is None or self.types[made.inputs[0]].dtype is not DType.I8:
            return [node]
        x, w, *bias = made.inputs
        if self.types[w].dtype is not DType.I8:
            return [node]
        qx, qw = self.scales(x), self.scales(w)
        attrs: dict[str, Attr] = {k: v for k, v in node.attrs.items() if k != "activation"}
        attrs |= {"x_zero": qx.zero_point[0]}
        if "padding" in attrs:
            attrs["pad_value"] = qx.zero_point[0]
        scale = (f32(qx.scale[0]) * np.array(qw.scale, np.float32)).astype(np.float32)
        y, dtype = self.types[node.outputs[0]], TensorType
        plain = self.value(f"{x}/plain", self.types[x].plain)
        sums = self.value(f"{node.outputs[0]}/sums", dtype(y.shape, DType.I32))
        reals = self.value(f"{node.outputs[0]}/reals", y.plain)
        weights = self.const(w, self.consts[w], self.types[w].plain)
        scales = self.const(w, scale, dtype(scale.shape, DType.F32))
        steps = [
            replace(
                node,
                op="reshape",
                inputs=(x,),
                outputs=(plain,),
                attrs={"shape": self.types[x].shape},
            ),
            replace(node, inputs=(plain, weights, *bias), outputs=(sums,), attrs=attrs),
            replace(node, op="cast", inputs=(sums,), outputs=(reals,), attrs={"dtype": "f32"}),
        ]
        last = [("mul", scales)]
        if "bias" in made.attrs:
            real = np.array(made.attrs["bias"], np.float32)
            last.append(("add", self.const(w, real, dtype(real.shape, DType.F32))))
        value = reals
        for place, (op, const) in enumerate(last, 1):
            ends = place == len(last)
            result = node.outputs[0] if ends else self.value(f"{value}/scaled", y.plain)
            own = (
                {"activation": node.attrs["activation"]}
                if ends and "activation" in node.attrs
                else {}
            )
            steps.append(replace(node, op=op, inputs=(value, const), outputs=(result,), attrs=own))
            value = result
        return steps
