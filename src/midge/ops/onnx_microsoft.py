"""Float operators that ONNX Runtime's optimiser writes (domain com.microsoft), as ONNX's own.

Source: onnxruntime's docs/ContribOperators.md. Its quantised ones are in `onnx_quantize`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import Node
from midge.ops._compose import Composer
from midge.ops._onnx import number, word

_DOMAIN = "com.microsoft."
_QUICK = 1.702
_EPSILON = 1e-12  # of SkipLayerNormalization
_ACTIVATIONS: dict[str, tuple[str, ...]] = {
    "": (), "Relu": (), "Sigmoid": (), "Tanh": (), "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max"),
}  # fmt: skip


class _Written(Composer):
    """An operator and the ones of ONNX that are written for it."""

    def __init__(self, op: Foreign, least: int, most: int) -> None:
        super().__init__(op)
        op.expect_inputs(least, most)
        for i in range(len(op.inputs)):
            if op.has(i):
                op.expect_dtype(i, DType.F32)
        self.inputs = [*op.inputs, *[""] * (most - len(op.inputs))]
        self.count = 0

    def onnx(self, kind: str, *inputs: str, output: int | None = None, **attrs: Any) -> str:
        """One operator; `output`: which of the operator's own outputs it writes."""
        self.count += 1
        name = f"{self.op.outputs[0]}/{self.count}"
        return self.call(kind, inputs, attrs, name if output is None else self.op.outputs[output])

    def number(self, value: float, name: str) -> str:
        return self.const(np.array(value, np.float32), name)


def _biased(w: _Written) -> str:
    """The first input, plus the second if there is one."""
    x, bias = w.inputs[:2]
    return w.onnx("Add", x, bias) if bias else x


def gelu(approximate: str, least: int, most: int) -> Callable[[Foreign], tuple[Node, ...]]:
    """Gelu, BiasGelu, FastGelu: of the sum of their inputs."""

    def from_onnx(op: Foreign) -> tuple[Node, ...]:
        w = _Written(op, least, most)
        w.inputs += [""]
        w.onnx("Gelu", _biased(w), output=0, approximate=approximate)
        return tuple(w.nodes)

    return from_onnx


def quick_gelu(op: Foreign) -> tuple[Node, ...]:
    """x * sigmoid(alpha * x)."""
    w = _Written(op, 1, 1)
    (x,) = w.inputs
    scaled = w.onnx("Mul", x, w.number(number(op, "alpha", _QUICK), "alpha"))
    w.onnx("Mul", x, w.onnx("Sigmoid", scaled), output=0)
    return tuple(w.nodes)


def matmul(op: Foreign) -> tuple[Node, ...]:
    """FusedMatMul: alpha * A * B, where either may be transposed, also in its batches."""
    w = _Written(op, 2, 2)
    a, b = (_turned(w, value, side) for value, side in zip(w.inputs, "AB", strict=True))
    alpha = number(op, "alpha", 1.0)
    if alpha != 1.0:
        product = w.onnx("MatMul", a, b)
        w.onnx("Mul", product, w.number(alpha, "alpha"), output=0)
    else:
        w.onnx("MatMul", a, b, output=0)
    return tuple(w.nodes)


def _turned(w: _Written, value: str, side: str) -> str:
    """An operand with its rows and columns where MatMul has them. One dimension has no order."""
    rank = len(w.types[value].shape)
    if rank < 2:
        return value
    perm = [*range(rank)]
    if w.op.attrs.get(f"transBatch{side}", 0):
        perm = [*perm[1:-1], 0, rank - 1]
    if w.op.attrs.get(f"trans{side}", 0):
        perm[-2:] = perm[:-3:-1]
    return value if perm == [*range(rank)] else w.onnx("Transpose", value, perm=tuple(perm))


def skip_norm(op: Foreign) -> tuple[Node, ...]:
    """SkipLayerNormalization: of input + skip + bias; its fourth output is that sum."""
    w = _Written(op, 3, 5)
    x, skip, gamma, beta, bias = w.inputs
    total = _summed(w, x, skip, bias)
    inputs = [total, gamma, *([beta] if beta else [])]
    attrs = {"axis": -1, "epsilon": number(op, "epsilon", _EPSILON)}
    w.call("LayerNormalization", inputs, attrs, *op.outputs[:3])
    return tuple(w.nodes)


def _summed(w: _Written, x: str, skip: str, bias: str) -> str:
    """input + skip + bias, as an output too where that is wanted."""
    wanted = 3 if len(w.op.outputs) > 3 else None
    if bias:
        return w.onnx("Add", w.onnx("Add", x, skip), bias, output=wanted)
    return w.onnx("Add", x, skip, output=wanted)


def skip_rms(op: Foreign) -> tuple[Node, ...]:
    """SkipSimplifiedLayerNormalization: divided by the root of the mean square. What else it can
    give is not there."""
    w = _Written(op, 3, 4)
    x, skip, gamma, bias = w.inputs
    _rms(w, _summed(w, x, skip, bias), gamma, number(op, "epsilon", _EPSILON))
    return tuple(w.nodes)


def rms(op: Foreign) -> tuple[Node, ...]:
    """SimplifiedLayerNormalization over the last dimension."""
    w = _Written(op, 2, 2)
    x, gamma = w.inputs
    rank = len(op.type(0).shape)
    if op.attrs.get("axis", -1) not in (-1, rank - 1):
        raise op.error("normalises several dimensions, which is not supported")
    _rms(w, x, gamma, number(op, "epsilon", 1e-5))
    return tuple(w.nodes)


def _rms(w: _Written, x: str, gamma: str, epsilon: float) -> None:
    axis = w.const(np.array([-1], np.int64), "axis")
    mean = w.onnx("ReduceMean", w.onnx("Mul", x, x), axis, keepdims=1)
    root = w.onnx("Sqrt", w.onnx("Add", mean, w.number(epsilon, "epsilon")))
    w.onnx("Mul", w.onnx("Div", x, root), gamma, output=0)


def fused(kind: str, most: int, parameters: str) -> Callable[[Foreign], tuple[Node, ...]]:
    """FusedConv and FusedGemm: with an activation behind. The fourth input of the first is added
    before."""

    def from_onnx(op: Foreign) -> tuple[Node, ...]:
        w = _Written(op, 2, most)
        activation = word(op, "activation", "", tuple(_ACTIVATIONS))
        own = {k: v for k, v in op.attrs.items() if not k.startswith("activation")}
        inputs = [i for i in w.inputs[:3] if i]
        w.count += 1
        y = w.call(kind, inputs, own, f"{op.outputs[0]}/{w.count}")
        if len(w.inputs) > 3 and w.inputs[3]:
            y = w.onnx("Add", y, w.inputs[3])
        _activated(w, y, activation, _given(op, activation, parameters))
        return tuple(w.nodes)

    return from_onnx


def _given(op: Foreign, activation: str, parameters: str) -> dict[str, float]:
    """An activation's parameters: a list of them, or one attribute each."""
    names = _ACTIVATIONS[activation]
    if parameters:
        values = op.attrs.get(parameters, ())
        if not isinstance(values, tuple) or len(values) != len(names):
            raise op.error(f"attribute {parameters} is {values!r}, expected {len(names)} numbers")
        return dict(zip(names, map(float, values), strict=True))
    given = ((n, f"activation_{n}") for n in names)
    return {n: number(op, attr, 0.0) for n, attr in given if attr in op.attrs}


def _activated(w: _Written, y: str, activation: str, given: dict[str, float]) -> None:
    if not activation:
        w.nodes.append(w.op.node("copy", inputs=[y], outputs=[w.op.outputs[0]]))
    elif activation == "Clip":
        limits = [w.number(given[n], n) for n in ("min", "max")]
        w.onnx("Clip", y, *limits, output=0)
    else:
        w.onnx(activation, y, output=0, **given)


for _name, _importer in {
    "Gelu": gelu("none", 1, 1),
    "BiasGelu": gelu("none", 2, 2),
    "FastGelu": gelu("tanh", 1, 2),
    "QuickGelu": quick_gelu,
    "FusedMatMul": matmul,
    "SkipLayerNormalization": skip_norm,
    "SkipSimplifiedLayerNormalization": skip_rms,
    "FusedConv": fused("Conv", 4, "activation_params"),
    "FusedGemm": fused("Gemm", 3, ""),
}.items():
    IMPORTERS["onnx"].add(_DOMAIN + _name, _importer)
IMPORTERS["onnx"].add("SimplifiedLayerNormalization", rms)
