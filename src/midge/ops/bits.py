"""logical_and, _or, _xor, _not on bool; bitwise_and, _or, _xor, _not and shifts on integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.exporters import EXPORTERS
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attrs, Node, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule, arithmetic
from midge.ops import _onnx
from midge.ops._common import arity, broadcast, fail
from midge.ops._export import plain

_BOOL = (DType.BOOL,)
_INTEGERS = tuple(d for d in DType if d.is_integer)


def _shift(left: bool) -> Callable[[Array, Array], Array]:
    """By less than 0 or by the type's width or more: 0, or -1 for a negative value to the right."""

    def function(a: Array, b: Array) -> Array:
        bits = 8 * a.itemsize
        by = b.astype(np.int64)
        inside = (by >= 0) & (by < bits)
        wide = a.astype(np.int64)
        if left:
            return np.where(inside, wide << np.where(inside, by, 0), 0)
        result: Array = wide >> np.where(inside, by, bits - 1 + (a.dtype.kind == "u"))
        return result

    return function


def _shift_element(left: bool) -> Callable[[Element], ir.Expr]:
    def element(e: Element) -> ir.Expr:
        dtype, wide = e.output.dtype, arithmetic(e.output.dtype)
        y: ir.Expr = ir.Call(f"shift_{'left' if left else 'right'}_{wide.value}", e.args)
        if not left or dtype is wide:
            return y
        if dtype.min == 0:
            return ir.Bin("&", y, ir.const(dtype.max, wide))
        return ir.Call(f"wrap_{dtype.value}", (y,))

    return element


def _joined(op: ir.BinOp) -> Callable[[Element], ir.Expr]:
    return lambda e: ir.Bin(op, *e.args)


def _inverted(e: Element) -> ir.Expr:
    """The complement: the greatest value less x, of signed types -1 - x."""
    dtype, wide = e.output.dtype, arithmetic(e.output.dtype)
    most = 1 if dtype is DType.BOOL else dtype.max if dtype.min == 0 else -1
    return ir.Bin("-", ir.const(most, wide), e.args[0])


@dataclass(frozen=True, slots=True)
class _Operator:
    name: str
    count: int
    function: Callable[..., Array]
    element: Callable[[Element], ir.Expr]
    dtypes: tuple[DType, ...]
    onnx: str = ""

    def infer(self, inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
        arity(inputs, self.count)
        dtype = inputs[0].dtype
        if dtype not in self.dtypes or any(t.dtype is not dtype for t in inputs):
            raise fail(f"{self.name} of {', '.join(map(str, inputs))}")
        return (TensorType(broadcast(*inputs), dtype),)

    def reference(self, inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
        return (self.function(*inputs).astype(inputs[0].dtype),)

    def samples(self) -> tuple[Sample, ...]:
        shapes = (((2, 3), (2, 3)), ((2, 3, 4), (4,)), ((), (5,)))
        every = [
            Sample(tuple(TensorType(s, d) for s in both[: self.count]))
            for d in self.dtypes
            for both in shapes
        ]
        if self.name.startswith("shift"):
            by = np.array([0, 1, 7, 8, 31, 63, 127, 3])
            every += [
                Sample((TensorType((9, 1), d), TensorType((8,), d)), {}, {1: by.astype(d.numpy)})
                for d in self.dtypes
            ]
        return tuple(every)

    def register(self) -> None:
        op = OpDef(self.name, self.infer, self.reference, elementwise=True, samples=self.samples())
        OPS.add(self.name, op)
        SCALAR_RULES.add(self.name, ScalarRule(("a", "b")[: self.count], self.element))
        if self.onnx:
            importer = _onnx.elementwise(self.name, self.count, *self.dtypes)
            IMPORTERS["onnx"].add(self.onnx, importer)
        if self.dtypes == _BOOL and self.name != "logical_xor":
            IMPORTERS["tflite"].add(self.name.upper(), self.from_tflite)

    def from_tflite(self, op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(self.count)
        for i in range(self.count):
            op.expect_dtype(i, DType.BOOL)
        return (op.node(self.name),)


for _op in (
    _Operator("logical_and", 2, np.logical_and, _joined("&"), _BOOL, "And"),
    _Operator("logical_or", 2, np.logical_or, _joined("|"), _BOOL, "Or"),
    _Operator("logical_xor", 2, np.logical_xor, _joined("^"), _BOOL, "Xor"),
    _Operator("logical_not", 1, np.logical_not, _inverted, _BOOL, "Not"),
    _Operator("bitwise_and", 2, np.bitwise_and, _joined("&"), _INTEGERS, "BitwiseAnd"),
    _Operator("bitwise_or", 2, np.bitwise_or, _joined("|"), _INTEGERS, "BitwiseOr"),
    _Operator("bitwise_xor", 2, np.bitwise_xor, _joined("^"), _INTEGERS, "BitwiseXor"),
    _Operator("bitwise_not", 1, np.bitwise_not, _inverted, _INTEGERS, "BitwiseNot"),
    _Operator("shift_left", 2, _shift(True), _shift_element(True), _INTEGERS),
    _Operator("shift_right", 2, _shift(False), _shift_element(False), _INTEGERS),
):
    _op.register()


def shift_from_onnx(op: Foreign) -> tuple[Node, ...]:
    direction = _onnx.word(op, "direction", "", ("LEFT", "RIGHT"))
    _onnx.same_types(op, *_INTEGERS, least=2, most=2)
    return (op.node(f"shift_{direction.lower()}"),)


IMPORTERS["onnx"].add("BitShift", shift_from_onnx)
for _name, _options in (
    ("logical_and", "LogicalAndOptions"),
    ("logical_or", "LogicalOrOptions"),
    ("logical_not", "LogicalNotOptions"),
):
    EXPORTERS["tflite"].add(_name, plain(_name.upper(), _options))
