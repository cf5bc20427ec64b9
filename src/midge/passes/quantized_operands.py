"""The integers behind the operands of float operators: what `dequantize` reads."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from midge.core.types import Array, DType, Quant, TensorType
from midge.graph.attrs import Attr
from midge.graph.fixed_point import f32
from midge.graph.ir import OPS, Graph, Node, fresh

NARROW = (DType.I8, DType.I16)


@dataclass(slots=True)
class Operands:
    """types, consts: of `graph`, and of what is made.  ints: real numbers -> the quantised integers
    behind them."""

    graph: Graph
    types: dict[str, TensorType]
    consts: dict[str, Array]
    ints: dict[str, str] = field(default_factory=dict)

    def value(self, base: str, t: TensorType) -> str:
        name = fresh(base, self.types)
        self.types[name] = t
        return name

    def quant(self, value: str) -> Quant | None:
        return self.types[value].quant

    def scales(self, value: str) -> Quant:
        """Of what must have them, such as those of `ints`."""
        quant = self.types[value].quant
        assert quant is not None
        return quant

    def note(self, node: Node) -> None:
        """Remember what a dequantisation reads."""
        if node.op == "dequantize" and self.quant(node.inputs[0]) is not None:
            self.ints[node.outputs[0]] = node.inputs[0]

    def constant(self, value: str) -> str | None:
        """The constant integers behind an operand."""
        found = self.ints.get(value)
        return found if found in self.consts else None

    def activations(self, value: str) -> str | None:
        """The integers behind an operand, if they have one scale."""
        found = self.ints.get(value)
        if found is None or self.types[found].dtype not in NARROW:
            return None
        return found if self.scales(found).axis is None else None

    def weights(self, value: str, axis: int, x: str) -> str | None:
        """Constant integers with zero point 0 behind `value`, with one scale or one for each index
        of `axis`; those that are then out of range are wider."""
        found = self.constant(value)
        if found is None:
            return None
        t, quant = self.types[found], self.scales(found)
        if quant.axis not in (None, axis) or t.dtype not in NARROW:
            return None
        if not any(quant.zero_point) and t.dtype is DType.I8:
            return found
        shape = [1] * len(t.shape)
        shape[axis] = -1
        centred = self.consts[found].astype(np.int64) - np.reshape(quant.zero_point, shape)
        most = np.abs(centred + 0.5).max()
        if most > 32767.5:
            return None
        narrow = most <= 127.5 and self.types[x].dtype is DType.I8
        dtype = DType.I8 if narrow else DType.I16
        own = Quant(quant.scale, (0,) * len(quant.zero_point), quant.axis)
        return self.const(found, centred, TensorType(t.shape, dtype, own))

    def const(self, base: str, value: Array, t: TensorType) -> str:
        name = self.value(f"{base}/centred", t)
        self.consts[name] = np.ascontiguousarray(value.astype(t.dtype.numpy).reshape(t.shape))
        return name

    def bias(self, node: Node, x: str, w: str) -> tuple[list[str], dict[str, Attr]] | None:
        """The bias as an input of integers in units of the products, or as an attribute of real
        numbers; None if it is not constant."""
        if len(node.inputs) < 3:
            return [], {}
        found = self.constant(node.inputs[2])
        if found is not None and self.types[found].dtype is DType.I32:
            quant, unit = self.scales(found), f32(self.scales(x).scale[0])
            units = [unit * f32(s) for s in self.scales(w).scale]
            if not any(quant.zero_point) and np.allclose(quant.scale, units, rtol=1e-5, atol=0):
                array = self.consts[found].reshape(-1)
                return [self.const(found, array, TensorType(array.shape, DType.I32))], {}
        value = self.real(node.inputs[2])
        if value is None:
            return None
        reals: tuple[float, ...] = tuple(map(float, value.reshape(-1).tolist()))
        return [], {"bias": reals}

    def real(self, value: str) -> Array | None:
        """A constant of real numbers."""
        if value in self.consts:
            return self.consts[value]
        found = self.constant(value)
        if found is None:
            return None
        quant = self.scales(found)
        shape = [1] * self.consts[found].ndim
        if quant.axis is not None:
            shape[quant.axis] = -1
        zero, scale = (np.reshape(v, shape) for v in (quant.zero_point, quant.scale))
        result: Array = ((self.consts[found] - zero) * scale.astype(np.float32)).astype(np.float32)
        return result

    def products(self, node: Node) -> Node | None:
        """conv2d, depthwise_conv2d or dense with constant weights, on integers; None if an operand
        has none."""
        axis = OPS[node.op].channel_axis
        assert axis is not None
        x = self.activations(node.inputs[0])
        if x is None:
            return None
        w = self.weights(node.inputs[1], axis, x)
        if w is None:
            return None
        found = self.bias(node, x, w)
        if found is None:
            return None
        inputs, attrs = found
        return replace(node, inputs=(x, w, *inputs), attrs={**node.attrs, **attrs})
