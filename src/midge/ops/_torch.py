"""What importers of PyTorch's ATen operators share: their arguments, and operators of ONNX.

Most ATen operators are one of ONNX's with its arguments stated otherwise; they are written as that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.importers import IMPORTERS, Foreign, Ref
from midge.graph.ir import OPS, Attr, Attrs, Node
from midge.ops._compose import Composer

_RANKS = [DType.BOOL, DType.U8, DType.I8, DType.I16, DType.I32, DType.I64, DType.F16, DType.F32]


class Aten(Composer):
    """One operator: its arguments by name, and the nodes that are written for it."""

    def __init__(self, op: Foreign) -> None:
        super().__init__(op)
        self.count = 0

    # Arguments.

    def tensor(self, name: str) -> str:
        """A tensor argument; "" if it is None or absent."""
        value = self.op.attrs.get(name)
        if value is None:
            return ""
        if not isinstance(value, Ref):
            raise self.op.error(f"argument {name} is {value!r}, expected a tensor")
        return str(value)

    def tensors(self, name: str) -> list[str]:
        value = self.op.attrs.get(name)
        if not isinstance(value, tuple) or not all(isinstance(v, Ref) for v in value):
            raise self.op.error(f"argument {name} is {value!r}, expected tensors")
        return [str(v) for v in value]

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.op.attrs.get(name)
        value = default if value is None else value
        if not isinstance(value, int):
            raise self.op.error(f"argument {name} is {value!r}, expected an integer")
        return int(value)

    def number(self, name: str, default: float | None = None) -> float:
        value = self.op.attrs.get(name)
        value = default if value is None else value
        if not isinstance(value, int | float):
            raise self.op.error(f"argument {name} is {value!r}, expected a number")
        return float(value)

    def integers(self, name: str, count: int = 0, default: Sequence[int] = ()) -> tuple[int, ...]:
        """Several; a single one, or one alone in a list, counts for each of `count`."""
        value = self.op.attrs.get(name)
        value = tuple(default) if value is None or value == () else value
        if isinstance(value, int):
            value = (value,)
        if not isinstance(value, tuple) or not all(isinstance(v, int) for v in value):
            raise self.op.error(f"argument {name} is {value!r}, expected integers")
        if count and len(value) == 1:
            value = value * count
        if count and len(value) != count:
            raise self.op.error(f"argument {name} is {value!r}, expected {count} integers")
        return tuple(int(v) for v in value)

    def axis(self, name: str, rank: int, default: int | None = None) -> int:
        axis = self.integer(name, default)
        if not -max(rank, 1) <= axis < max(rank, 1):
            raise self.op.error(f"dimension {axis} does not exist in {rank}")
        return axis % max(rank, 1)

    def scalar_type(self, name: str) -> DType | None:
        """The element type that an argument names, None if it names none."""
        value = self.op.attrs.get(name)
        if value is None:
            return None
        if not isinstance(value, DType):
            raise self.op.error(f"argument {name} is {value!r}, which is no supported type")
        return value

    def type(self, value: str) -> TensorType:
        return self.types[value]

    def shape(self, value: str) -> tuple[int, ...]:
        return self.types[value].shape

    # Nodes.

    def named(self) -> str:
        self.count += 1
        return f"{self.op.outputs[0]}/{self.count}"

    def value(self, array: Any, dtype: DType = DType.I64) -> str:
        """A constant. ModelError for integers that the type cannot hold, and for NaN."""
        number = np.asarray(array)
        if np.isnan(number).any():
            raise self.op.error("a constant is NaN, which is not supported")
        if dtype.is_integer and not ((number >= dtype.min) & (number <= dtype.max)).all():
            raise self.op.error(f"a number is beyond {dtype.value}", "convert the tensor: x.int()")
        return self.const(number.astype(dtype.numpy), self.named().rpartition("/")[2] + "c")

    def onnx(self, kind: str, inputs: Sequence[str], **attrs: Any) -> str:
        """An operator of ONNX, its output under a name of its own."""
        return self.call(kind, inputs, attrs, self.named())

    def node(self, op: str, inputs: Sequence[str], attrs: Attrs | None = None) -> str:
        """A node of the graph."""
        output = self.named()
        (t,) = OPS[op].infer([self.types[v].plain for v in inputs], attrs or {})
        self.types[output] = t
        self.nodes.append(self.op.node(op, attrs, inputs=inputs, outputs=[output]))
        return output

    def cast(self, value: str, dtype: DType) -> str:
        if self.types[value].dtype is dtype:
            return value
        attrs: dict[str, Attr] = {"dtype": dtype.value}
        if dtype.is_integer and self.types[value].dtype.is_integer:
            attrs["wrap"] = 1
        return self.node("cast", [value], attrs)

    def typed(self, value: str) -> str:
        """A value in the type that the argument dtype names, if it names one."""
        return self.cast(value, self.scalar_type("dtype") or self.types[value].dtype)

    def summable(self, value: str) -> str:
        """The same; sums and products of integers are of I64 unless told otherwise."""
        dtype = self.scalar_type("dtype")
        if dtype is None and not self.types[value].dtype.is_float:
            dtype = DType.I64
        return self.cast(value, dtype or self.types[value].dtype)

    def reshape(self, value: str, shape: Sequence[int]) -> str:
        if self.shape(value) == tuple(shape):
            return value
        return self.node("reshape", [value], {"shape": tuple(shape)})

    def permute(self, value: str, perm: Sequence[int]) -> str:
        return self.node("transpose", [value], {"perm": tuple(perm)})

    def operand(self, name: str, like: DType | None = None) -> str:
        """A tensor, or a number as a tensor without dimensions."""
        value = self.op.attrs.get(name)
        if isinstance(value, Ref):
            return str(value)
        if isinstance(value, bool | int | float):
            return self.number_as(value, like)
        raise self.op.error(f"argument {name} is {value!r}, expected a tensor or a number")

    def number_as(self, value: float, like: DType | None) -> str:
        """A number as a tensor without dimensions, of the type of `like` if that can hold it."""
        real = isinstance(value, float) or (like is not None and like.is_float)
        fallback = DType.I64 if like in (None, DType.BOOL) else like
        assert fallback is not None
        return self.value(value, DType.F32 if real else fallback)

    def promoted(self, *values: str) -> list[str]:
        """Operands of one element type, the widest of theirs; floats before integers before truth
        values, and tensors with dimensions before those without."""
        ranked = [(_category(self.types[v].dtype), bool(self.shape(v)), v) for v in values]
        most = max((f, d) for f, d, _ in ranked)
        leading = [v for f, d, v in ranked if f == most[0] and (d or not most[1])]
        leading = leading or [v for f, _, v in ranked if f == most[0]]
        dtype = max((self.types[v].dtype for v in leading), key=_RANKS.index)
        return [self.cast(v, dtype) for v in values]

    def finish(self, value: str) -> tuple[Node, ...]:
        """All nodes; `value` is the operator's first output."""
        return self.finished([value])

    def finished(self, values: Sequence[str]) -> tuple[Node, ...]:
        """The same for several outputs."""
        for value, output in zip(values, self.op.outputs, strict=False):
            self.nodes.append(self.op.node("copy", inputs=[value], outputs=[output]))
        return tuple(self.nodes)


def _category(dtype: DType) -> int:
    return 0 if dtype is DType.BOOL else 2 if dtype.is_float else 1


Rule = Callable[[Aten], str]


def add(names: str, rule: Rule) -> None:
    """Register ATen operators of one output, by names without the overload."""

    def importer(op: Foreign) -> tuple[Node, ...]:
        aten = Aten(op)
        return aten.finish(rule(aten))

    for name in names.split():
        IMPORTERS["torch"].add(f"aten.{name}", importer)


def array(a: Aten, value: str, what: str) -> Array:
    """The value of a constant tensor."""
    if value not in a.consts:
        raise a.op.error(f"{what} is computed at run time, which is not supported")
    return a.consts[value]
