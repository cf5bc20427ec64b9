"""Activations of one float beyond ReLU and the sigmoid, element by element, one operator each so
that they fuse into whatever makes their input. Quantised they are tables.

elu: x > 0 ? gamma x : gamma alpha expm1(beta x), which is also Selu and Celu. gelu, softplus,
softsign, mish, hard_sigmoid, swish, thresholded_relu, shrink: as ONNX defines them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from midge.core import reals
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import FLOAT, integer, number
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import f32
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, QuantRule
from midge.loop import ir
from midge.lower import SCALAR_RULES, ScalarRule
from midge.ops import _onnx
from midge.ops.elementary import by_function, infer

Build = Callable[[ir.Expr, Attrs], ir.Expr]
Meaning = Callable[[Array, Attrs], Array]


def c(value: float) -> ir.Const:
    """A binary32 constant."""
    return ir.f32(float(f32(value)))


def scaled(x: ir.Expr, factor: float) -> ir.Expr:
    return x if f32(factor) == 1 else ir.Bin("*", x, c(factor))


def times(x: Array, factor: float) -> Array:
    """What `scaled` computes."""
    result: Array = x if f32(factor) == 1 else x * f32(factor)
    return result


def positive(x: ir.Expr, yes: ir.Expr, no: ir.Expr) -> ir.Expr:
    return ir.Select(ir.Bin("<", c(0), x), yes, no)


def magnitude(x: ir.Expr) -> ir.Expr:
    return ir.Select(ir.Bin("<", x, c(0)), ir.Bin("-", c(0), x), x)


def elu(x: ir.Expr, attrs: Attrs) -> ir.Expr:
    alpha, beta, gamma = (number(attrs, n, 1.0) for n in ("alpha", "beta", "gamma"))
    below = scaled(ir.Call("expm1", (scaled(x, beta),)), alpha * gamma)
    return positive(x, scaled(x, gamma), below)


def elu_meaning(x: Array, attrs: Attrs) -> Array:
    alpha, beta, gamma = (number(attrs, n, 1.0) for n in ("alpha", "beta", "gamma"))
    below = times(reals.expm1(times(x, beta)), alpha * gamma)
    return np.where(x > 0, times(x, gamma), below)


def elu_rounded(x: np.float32, attrs: Attrs) -> np.float32:
    """The int8 kernel's table; TFLite's ELU has no factors."""
    return x if x > 0 else f32(np.expm1(np.float64(x)))


_SLOPE = math.sqrt(2 / math.pi)


def gelu(x: ir.Expr, attrs: Attrs) -> ir.Expr:
    if integer(attrs, "tanh", 0):
        cube = ir.Bin("*", ir.Bin("*", ir.Bin("*", c(0.044715), x), x), x)
        inner: ir.Expr = ir.Call("tanh", (scaled(ir.Bin("+", x, cube), _SLOPE),))
    else:
        inner = ir.Call("erf", (scaled(x, math.sqrt(0.5)),))
    return ir.Bin("*", scaled(x, 0.5), ir.Bin("+", c(1), inner))


_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def gelu_meaning(x: Array, attrs: Attrs) -> Array:
    if integer(attrs, "tanh", 0):
        inner = reals.tanh(times(x + f32(0.044715) * x * x * x, _SLOPE))
    else:
        inner = reals.erf(times(x, math.sqrt(0.5)))
    result: Array = times(x, 0.5) * (f32(1) + inner)
    return result


def gelu_rounded(x: np.float32, attrs: Attrs) -> np.float32:
    """GeluTransform and its approximation in lite/kernels/internal/reference/gelu.h."""
    if integer(attrs, "tanh", 0):
        inner = f32(_SLOPE) * (x + f32(0.044715) * x * x * x)
        return f32(0.5) * x * (f32(1) + f32(np.tanh(np.float64(inner))))
    root = f32(-math.sqrt(0.5))
    return f32(0.5) * x * f32(_erfc(np.float64(x * root)))


def softplus(x: ir.Expr, attrs: Attrs) -> ir.Expr:
    """max(x, 0) + log1p(exp(-|x|)), which overflows nowhere."""
    small = ir.Call("exp", (ir.Bin("-", c(0), magnitude(x)),))
    return ir.Bin("+", ir.Bin("max", x, c(0)), ir.Call("log1p", (small,)))


def softplus_meaning(x: Array, attrs: Attrs) -> Array:
    result: Array = reals.larger(x, f32(0)) + reals.log1p(reals.exp(-np.abs(x)))
    return result


def mish(x: ir.Expr, attrs: Attrs) -> ir.Expr:
    return ir.Bin("*", x, ir.Call("tanh", (softplus(x, attrs),)))


def softsign(x: ir.Expr, attrs: Attrs) -> ir.Expr:
    return ir.Bin("/", x, ir.Bin("+", c(1), magnitude(x)))


def hard_sigmoid(x: ir.Expr, attrs: Attrs) -> ir.Expr:
    line = ir.Bin("+", scaled(x, number(attrs, "alpha")), c(number(attrs, "beta")))
    return ir.Bin("max", ir.Bin("min", line, c(1)), c(0))


def hard_sigmoid_meaning(x: Array, attrs: Attrs) -> Array:
    line = times(x, number(attrs, "alpha")) + f32(number(attrs, "beta"))
    return reals.larger(reals.smaller(line, f32(1)), f32(0))


def swish(x: ir.Expr, attrs: Attrs) -> ir.Expr:
    return ir.Bin("*", x, ir.Call("logistic", (scaled(x, number(attrs, "alpha")),)))


def swish_meaning(x: Array, attrs: Attrs) -> Array:
    result: Array = x * reals.logistic(times(x, number(attrs, "alpha")))
    return result


def thresholded(x: ir.Expr, attrs: Attrs) -> ir.Expr:
    return ir.Select(ir.Bin("<", c(number(attrs, "alpha")), x), x, c(0))


def shrink(x: ir.Expr, attrs: Attrs) -> ir.Expr:
    edge, bias = number(attrs, "lambd"), c(number(attrs, "bias"))
    above = ir.Select(ir.Bin("<", c(edge), x), ir.Bin("-", x, bias), c(0))
    return ir.Select(ir.Bin("<", x, c(-edge)), ir.Bin("+", x, bias), above)


def shrink_meaning(x: Array, attrs: Attrs) -> Array:
    edge, bias = f32(number(attrs, "lambd")), f32(number(attrs, "bias"))
    return np.where(x < -edge, x + bias, np.where(x > edge, x - bias, 0))


_LIMITS = dict.fromkeys(("alpha", "beta", "gamma", "lambd", "bias"), FLOAT)


@dataclass(frozen=True, slots=True)
class _Activation:
    """meaning: on binary32 arrays, as `build` computes it.  onnx: operator -> attributes of ours
    as it has them.  table: steps of the framework's int8 kernel, where they are not `meaning`'s."""

    name: str
    build: Build
    meaning: Meaning
    samples: tuple[Attrs, ...] = ({},)
    onnx: Mapping[str, Callable[[Foreign], Attrs]] = field(default_factory=dict)
    table: Callable[[np.float32, Attrs], np.float32] | None = None

    def reference(self, inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (self.meaning(inputs[0], attrs).astype(np.float32),)

    def expand(self, node: Node, ctx: Expansion) -> None:
        if self.table is not None:
            table = self.table
            by_function(ctx, lambda x: table(x, node.attrs))
            return
        by_function(ctx, lambda x: f32(self.meaning(np.asarray(x), node.attrs)))

    def register(self) -> None:
        every = tuple(
            Sample((TensorType(s, DType.F32),), attrs, low=-6, high=6)
            for attrs in self.samples
            for s in ((2, 3), (), (40,))
        )
        op = OpDef(
            self.name,
            infer,
            self.reference,
            self.expand,
            elementwise=True,
            limits=_LIMITS,
            samples=every,
        )
        OPS.add(self.name, op)
        SCALAR_RULES.add(self.name, ScalarRule(("x",), lambda e: self.build(e.args[0], e.attrs)))
        for kind, attrs in self.onnx.items():
            IMPORTERS["onnx"].add(kind, self.from_onnx(attrs))

    def from_onnx(self, attrs: Callable[[Foreign], Attrs]) -> Callable[[Foreign], tuple[Node, ...]]:
        def importer(op: Foreign) -> tuple[Node, ...]:
            op.expect_inputs(1)
            op.expect_dtype(0, DType.F32)
            return (op.node(self.name, attrs(op)),)

        return importer


def _numbers(**defaults: float) -> Callable[[Foreign], Attrs]:
    return lambda op: {n: _onnx.number(op, n, d) for n, d in defaults.items()}


def _celu(op: Foreign) -> Attrs:
    alpha = _onnx.number(op, "alpha", 1.0)
    if alpha == 0:
        raise op.error("attribute alpha is 0")
    return {"alpha": alpha, "beta": 1 / alpha}


def _gelu(op: Foreign) -> Attrs:
    form = _onnx.word(op, "approximate", "none", ("none", "tanh"))
    return {"tanh": 1} if form == "tanh" else {}


_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}
for _a in (
    _Activation(
        "elu",
        elu,
        elu_meaning,
        ({}, {"alpha": 1.5, "beta": 0.7, "gamma": 1.25}),
        {"Elu": _numbers(alpha=1.0), "Selu": _numbers(**_SELU), "Celu": _celu},
        elu_rounded,
    ),
    _Activation("gelu", gelu, gelu_meaning, ({}, {"tanh": 1}), {"Gelu": _gelu}, gelu_rounded),
    _Activation("softplus", softplus, softplus_meaning, onnx={"Softplus": _numbers()}),
    _Activation(
        "mish",
        mish,
        lambda x, attrs: x * reals.tanh(softplus_meaning(x, attrs)),
        onnx={"Mish": _numbers()},
    ),
    _Activation(
        "softsign", softsign, lambda x, _: x / (f32(1) + np.abs(x)), onnx={"Softsign": _numbers()}
    ),
    _Activation(
        "hard_sigmoid",
        hard_sigmoid,
        hard_sigmoid_meaning,
        ({"alpha": 0.2, "beta": 0.5},),
        {"HardSigmoid": _numbers(alpha=0.2, beta=0.5)},
    ),
    _Activation(
        "swish",
        swish,
        swish_meaning,
        ({"alpha": 1.0}, {"alpha": -0.7}),
        {"Swish": _numbers(alpha=1.0)},
    ),
    _Activation(
        "thresholded_relu",
        thresholded,
        lambda x, attrs: np.where(x > f32(number(attrs, "alpha")), x, 0),
        ({"alpha": 1.0},),
        {"ThresholdedRelu": _numbers(alpha=1.0)},
    ),
    _Activation(
        "shrink",
        shrink,
        shrink_meaning,
        ({"lambd": 1.5, "bias": 0.5},),
        {"Shrink": _numbers(lambd=0.5, bias=0.0)},
    ),
):
    _a.register()


def elu_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I8)
    return (op.node("elu"),)


def gelu_from_tflite(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I8)
    return (op.node("gelu", {"tanh": 1} if op.attrs.get("approximate") else {}),)


IMPORTERS["tflite"].add("ELU", elu_from_tflite)
IMPORTERS["tflite"].add("GELU", gelu_from_tflite)


def elu_to_tflite(op: Exporting) -> None:
    if any(number(op.attrs, n, 1.0) != 1 for n in ("alpha", "beta", "gamma")):
        raise op.error("TFLite's ELU has no factors", "use ELU with alpha 1")
    op.emit("ELU")


def gelu_to_tflite(op: Exporting) -> None:
    form = bool(integer(op.attrs, "tanh", 0))
    op.emit("GELU", options="GeluOptions", version=op.version(i8=2), approximate=form)


EXPORTERS["tflite"].add("elu", elu_to_tflite)
EXPORTERS["tflite"].add("gelu", gelu_to_tflite)
for _name in ("elu", "gelu"):
    QUANTIZING.add(_name, QuantRule(dtypes=(DType.I8,)))
