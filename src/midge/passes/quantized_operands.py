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
    """types, consts: of `graph`, and of what is made.  ints: real numbers -> the integers behind
    them."""

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

    def activations(self, value: str) -> str | None:
        """The integers behind an operand, if they have one scale."""
        found = self.ints.get(value)
        if found is None or self.types[found].dtype not in NARROW:
            return None
        quant = self.quant(found)
        return found if quant is not None and quant.axis is None else None

    def weights(self, value: str, axis: int, x: str) -> str | None:
        """Constant integers with zero point 0 behind `value`, with one scale or one for each index
        of `axis`; those that are then out of range are wider."""
        found = self.ints.get(value)
        if found is None or found not in self.consts:
            return None
        t = self.types[found]
        quant = t.quant
        if quant is None or quant.axis not in (None, axis) or t.dtype not in NARROW:
            return None
        if not any(quant.zero_point) and t.dtype is DType.I8:
            return found
        shape = [1] * len(t.shape)
        if quant.axis is not None:
            shape[axis] = -1
        centred = self.consts[found].astype(np.int64) - np.reshape(quant.zero_point, shape)
        narrow = np.abs(centred + 0.5).max(initial=0) <= 127.5 and self.types[x].dtype is DType.I8
        dtype = DType.I8 if narrow else DType.I16
        if np.abs(centred + 0.5).max(initial=0) > 32767.5:
            return None
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
        qx, qw = self.quant(x), self.quant(w)
        assert qx is not None
        assert qw is not None
        found = self.ints.get(node.inputs[2])
        if found is not None and found in self.consts and self.types[found].dtype is DType.I32:
            quant = self.quant(found)
            assert quant is not None
            units = [f32(qx.scale[0]) * f32(s) for s in qw.scale]
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
        found = self.ints.get(value)
        if found is None or found not in self.consts:
            return None
        quant = self.quant(found)
        assert quant is not None
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
        w = self.weights(node.inputs[1], axis, x) if x is not None else None
        if x is None or w is None:
            return None
        found = self.bias(node, x, w)
        if found is None:
            return None
        inputs, attrs = found
        return replace(node, inputs=(x, w, *inputs), attrs={**node.attrs, **attrs})
