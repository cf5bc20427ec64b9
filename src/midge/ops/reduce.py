"""reduce_max, reduce_min, reduce_prod over axes, which stay as 1; and the importers of every
reduction, which are made of these, of `sum` and `mean`, and of elementwise operators.

Greatest and least values keep their type and scale; products wrap like multiplications do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import Attr, integers, number
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import OPS, Attrs, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, SAME
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, arithmetic, nest
from midge.ops import _onnx
from midge.ops._common import arity, expect_same_scale, fail
from midge.ops.arithmetic import narrowed, widened
from midge.ops.mean import kept_shape, left_shape


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    axes = integers(attrs, "axes")
    if not all(0 <= a < len(x.shape) for a in axes) or len(set(axes)) != len(axes):
        raise fail(f"axes {axes} of {x}")
    if x.elements == 0:
        raise fail(f"a reduction of {x}")
    return (TensorType(kept_shape(x.shape, axes), x.dtype),)


# Of floats: NaN is passed over. Attribute start: another one, a number.
_EXTREMES: Mapping[str, tuple[np.ufunc, float]] = {
    "max": (np.fmax, -np.inf), "min": (np.fmin, np.inf),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Reduction:
    """start: of the accumulator; None for the first element."""

    name: str
    function: Callable[..., Array]
    op: ir.BinOp
    start: int | None
    dtypes: tuple[DType, ...]

    def infer(self, inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
        if inputs and inputs[0].dtype not in self.dtypes:
            raise fail(f"{self.name} of {inputs[0]}")
        return infer(inputs, attrs)

    def reference(self, inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        (x,) = inputs
        axes = integers(attrs, "axes")
        with np.errstate(all="ignore"):
            if x.dtype == np.float32 and self.op in _EXTREMES:
                function, start = _EXTREMES[self.op]
                start = number(attrs, "start", start)
                return (function.reduce(x, axis=axes, keepdims=True, initial=start),)
            return (self.function(x, axis=axes, keepdims=True).astype(x.dtype),)

    def loops(self, site: Site) -> ir.Block:
        (x,) = site.inputs
        axes = integers(site.attrs, "axes")
        shape, dtype = x.type.shape, site.output.dtype
        wide = arithmetic(dtype)
        outer = site.axes(" ".join(f"i{d}" for d in range(len(shape))))
        inner = site.axes(" ".join(f"r{d}" for d in axes)) if axes else ()
        index: list[ir.Expr] = list(outer)
        first: list[ir.Expr] = list(outer)
        for d, axis in zip(axes, inner, strict=True):
            index[d], first[d] = axis, ir.i32(0)
        acc = site.local("acc", wide)
        start = x.wide(*first) if self.start is None else ir.const(self.start, wide)
        if wide.is_float and self.op in _EXTREMES:
            start = ir.const(number(site.attrs, "start", _EXTREMES[self.op][1]), wide)
        body = (
            acc.alloc,
            acc.set(start),
            *nest(inner, [shape[d] for d in axes], (acc.update(self.op, x.wide(*index)),)),
            *site.store(outer, ir.cast(dtype, acc(), wide)),
        )
        return nest(outer, site.output.shape, body)

    def samples(self) -> tuple[Sample, ...]:
        cases = (((1, 3, 4, 2), (1, 2)), ((2, 5), (1,)), ((3, 2), (0, 1)), ((1, 1), (0,)))
        wide = None if self.start is None else 3
        return tuple(
            Sample((TensorType(shape, d),), {"axes": axes}, low=wide and -wide, high=wide)
            for d in self.dtypes
            for shape, axes in (*cases, ((3,), ()))
        )

    def register(self) -> None:
        OPS.add(self.name, OpDef(self.name, self.infer, self.reference, samples=self.samples()))
        LOOP_RULES.add(self.name, LoopRule(("x",), self.loops))


_WIDE = (DType.F32, DType.I32, DType.I64)
_ANY = (*_WIDE, DType.I8, DType.U8, DType.I16, DType.BOOL)
for _r in (
    _Reduction("reduce_max", np.max, "max", None, _ANY),
    _Reduction("reduce_min", np.min, "min", None, _ANY),
    _Reduction("reduce_prod", np.prod, "*", 1, _WIDE),
):
    _r.register()


# ONNX.


@dataclass(frozen=True, slots=True)
class _Reduce:
    """before, after: elementwise operators; op: what reduces.  empty: the result of no elements."""

    op: str
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    empty: float | None = 0.0

    def __call__(self, op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(1, 2)
        x = op.type(0)
        bools = (DType.BOOL,) if self.op in ("reduce_max", "reduce_min") else ()
        op.expect_dtype(0, *_onnx.NUMBERS, *bools)
        given = _onnx.reduced_axes(op, len(x.shape))
        noop = _onnx.integer(op, "noop_with_empty_axes", 0)
        axes = given or (() if noop else tuple(range(len(x.shape))))
        shape = kept_shape(x.shape, axes)
        if not _onnx.integer(op, "keepdims", 1):
            shape = tuple(n for d, n in enumerate(x.shape) if d not in axes)
        steps = Steps(op)
        if x.elements == 0:
            return steps.finish("copy", [steps.const(self.nothing(op, shape), "empty")])
        value = self.reduced(steps, axes)
        if steps.type(value).shape != shape:
            value = steps.emit("reshape", [value], {"shape": shape})
        return narrowed(steps, value)

    def nothing(self, op: Foreign, shape: tuple[int, ...]) -> Array:
        if self.empty is None:
            raise op.error("a reduction of no elements is infinite", "remove it from the model")
        return np.full(shape, self.empty, op.type(0).dtype.numpy)

    def reduced(self, steps: Steps, axes: tuple[int, ...]) -> str:
        value = steps.op.inputs[0]
        if self.op not in ("reduce_max", "reduce_min"):
            value = widened(steps, value)
        for name in self.before:
            if name == "mul":
                value = self.summable(steps, value)
            value = steps.emit(name, [value, value] if name == "mul" else [value])
        value = self.summable(steps, value)
        if self.op == "log_sum_exp":
            return log_sum_exp(steps, value, axes)
        value = reduced(steps, self.op, value, axes)
        for name in self.after:
            if not steps.type(value).dtype.is_float:
                raise steps.op.error(f"{steps.op.kind} of {steps.op.type(0)} is not supported")
            value = steps.emit(name, [value])
        return value

    def summable(self, steps: Steps, value: str) -> str:
        """Integers in 64 bits, whose sums do not overflow."""
        if self.op not in ("sum", "mean") or steps.type(value).dtype is not DType.I32:
            return value
        return steps.emit("cast", [value], {"dtype": "i64"})


def reduced(steps: Steps, name: str, value: str, axes: tuple[int, ...]) -> str:
    """A reduction, if there is anything to reduce."""
    if not axes:
        return value
    t = steps.type(value)
    if name == "mean" and not t.dtype.is_float:
        count = np.array(prod(t.shape[a] for a in axes), t.dtype.numpy)
        total = steps.emit("sum", [value], {"axes": axes})
        return steps.emit("div", [total, steps.const(count, "count")])
    return steps.emit(name, [value], {"axes": axes})


def log_sum_exp(steps: Steps, value: str, axes: tuple[int, ...]) -> str:
    """log(sum(exp(x))), by the differences to the greatest element."""
    if not steps.type(value).dtype.is_float:
        raise steps.op.error(f"{steps.op.kind} of {steps.op.type(0)} is not supported")
    if not axes:
        return value
    top = steps.emit("reduce_max", [value], {"axes": axes})
    powers = steps.emit("exp", [steps.emit("sub", [value, top])])
    total = steps.emit("sum", [powers], {"axes": axes})
    return steps.emit("add", [steps.emit("log", [total]), top])


for _kind, _reduce in {
    "ReduceMax": _Reduce("reduce_max", empty=None),
    "ReduceMin": _Reduce("reduce_min", empty=None),
    "ReduceProd": _Reduce("reduce_prod", empty=1.0),
    "ReduceSum": _Reduce("sum"),
    "ReduceMean": _Reduce("mean", empty=None),
    "ReduceSumSquare": _Reduce("sum", ("mul",)),
    "ReduceL1": _Reduce("sum", ("abs",)),
    "ReduceL2": _Reduce("sum", ("mul",), ("sqrt",)),
    "ReduceLogSum": _Reduce("sum", (), ("log",), None),
    "ReduceLogSumExp": _Reduce("log_sum_exp", empty=None),
}.items():
    IMPORTERS["onnx"].add(_kind, _reduce)


# TFLite.


def tflite_axes(op: Foreign) -> tuple[int, ...]:
    rank = len(op.type(0).shape)
    given = op.const(1, "axes").reshape(-1)
    if not all(-rank <= int(a) < rank for a in given):
        raise op.error(f"axes {given.tolist()} do not exist in {op.type(0)}")
    axes = tuple(sorted({int(a) % rank for a in given}))
    if op.type(0).elements == 0:
        raise op.error(f"a reduction of {op.type(0)} is not supported")
    return axes


# LiteRT's extremes begin with the least and the greatest number, those of all axes with infinities.
_LARGEST = float(np.finfo(np.float32).max)
_STARTS = {"reduce_max": -_LARGEST, "reduce_min": _LARGEST}


def _tflite(name: str, *dtypes: DType) -> Callable[[Foreign], tuple[Node, ...]]:
    """Axes that are dropped are reshaped away."""

    def importer(op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(2)
        op.expect_dtype(0, *dtypes)
        if name != "sum":
            expect_same_scale(op, op.inputs[:1])
        axes = tflite_axes(op)
        attrs: dict[str, Attr] = {"axes": axes}
        if name in _STARTS and op.type(0).dtype.is_float and len(axes) < len(op.type(0).shape):
            attrs["start"] = _STARTS[name]
        kept = f"{op.outputs[0]}/kept"
        if op.attrs.get("keep_dims"):
            return (op.node(name, attrs, inputs=op.inputs[:1]),)
        left = left_shape(op.type(0).shape, axes)
        return (
            op.node(name, attrs, inputs=op.inputs[:1], outputs=[kept]),
            op.node("reshape", {"shape": left}, inputs=[kept]),
        )

    return importer


_TFLITE = (DType.F32, DType.I8, DType.I16, DType.I32, DType.I64)
IMPORTERS["tflite"].add("SUM", _tflite("sum", *_TFLITE))
IMPORTERS["tflite"].add("REDUCE_MAX", _tflite("reduce_max", *_TFLITE))
IMPORTERS["tflite"].add("REDUCE_MIN", _tflite("reduce_min", *_TFLITE))
IMPORTERS["tflite"].add("REDUCE_PROD", _tflite("reduce_prod", DType.F32, DType.I32, DType.I64))


def to_tflite(op: Exporting) -> None:
    kind = {"reduce_max": "REDUCE_MAX", "reduce_min": "REDUCE_MIN", "sum": "SUM"}[op.node.op]
    axes = op.const(np.array(integers(op.attrs, "axes"), np.int32), "axes")
    version = op.version(i8=2, i16=3)
    op.emit(kind, [op.inputs[0], axes], options="ReducerOptions", version=version, keep_dims=True)


for _name in ("reduce_max", "reduce_min", "sum"):
    EXPORTERS["tflite"].add(_name, to_tflite)
for _name in ("reduce_max", "reduce_min"):
    QUANTIZING.add(_name, SAME)
