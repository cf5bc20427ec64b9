"""Element types, tensor types and quantisation: the words every layer shares."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import isfinite, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class DType(Enum):
    """An element type; the value is its name in printed IR."""

    BOOL = "bool"
    I8 = "i8"
    U8 = "u8"
    I16 = "i16"
    I32 = "i32"
    I64 = "i64"
    F16 = "f16"
    F32 = "f32"

    # Members are unique, and keys of much that is looked up; Enum's own hashes the name each time.
    __hash__ = object.__hash__

    @property
    def c_name(self) -> str:
        return _C_NAMES[self]

    @property
    def size(self) -> int:
        """Bytes of one element."""
        return int(self.numpy.itemsize)

    @property
    def numpy(self) -> np.dtype[np.generic]:
        return _NUMPY[self]

    @property
    def is_float(self) -> bool:
        return self is DType.F32 or self is DType.F16

    @property
    def is_integer(self) -> bool:
        return not self.is_float and self is not DType.BOOL

    @property
    def min(self) -> int:
        """The least value of an integer type."""
        return _LIMITS[self][0]

    @property
    def max(self) -> int:
        """The greatest value of an integer type."""
        return _LIMITS[self][1]

    @staticmethod
    def of(array: Array) -> DType:
        """The element type of a NumPy array; KeyError when there is none."""
        return _FROM_NUMPY[array.dtype]


_C_NAMES = {
    DType.BOOL: "bool",
    DType.I8: "int8_t",
    DType.U8: "uint8_t",
    DType.I16: "int16_t",
    DType.I32: "int32_t",
    DType.I64: "int64_t",
    DType.F16: "_Float16",
    DType.F32: "float",
}
_NUMPY: dict[DType, np.dtype[np.generic]] = {
    DType.BOOL: np.dtype(np.bool_),
    DType.I8: np.dtype(np.int8),
    DType.U8: np.dtype(np.uint8),
    DType.I16: np.dtype(np.int16),
    DType.I32: np.dtype(np.int32),
    DType.I64: np.dtype(np.int64),
    DType.F16: np.dtype(np.float16),
    DType.F32: np.dtype(np.float32),
}
_FROM_NUMPY = {v: k for k, v in _NUMPY.items()}
_LIMITS = {
    t: (int(np.iinfo(t.c_name[:-2]).min), int(np.iinfo(t.c_name[:-2]).max))
    for t in DType
    if t.is_integer
}


@dataclass(frozen=True, slots=True)
class Quant:
    """Affine quantisation, real = scale * (q - zero_point); one entry, or one per `axis`."""

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int | None = None

    def __post_init__(self) -> None:
        if len(self.scale) != len(self.zero_point):
            raise ValueError(f"{len(self.scale)} scales, {len(self.zero_point)} zero points")
        if self.axis is None and len(self.scale) != 1:
            raise ValueError(f"per-tensor quantisation has {len(self.scale)} scales, expected 1")
        if not all(isfinite(s) and s > 0 for s in self.scale):
            raise ValueError("a scale is not a positive finite number")

    @staticmethod
    def per_tensor(scale: float, zero_point: int) -> Quant:
        return Quant((scale,), (zero_point,))


@dataclass(frozen=True, slots=True)
class TensorType:
    """A static shape, an element type and, for quantised tensors, their scale."""

    shape: tuple[int, ...]
    dtype: DType
    quant: Quant | None = None

    @property
    def elements(self) -> int:
        return prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes of the whole tensor."""
        return self.elements * self.dtype.size

    @property
    def plain(self) -> TensorType:
        """The same without quantisation."""
        return TensorType(self.shape, self.dtype)

    def __str__(self) -> str:
        return f"{self.dtype.value}[{'x'.join(map(str, self.shape))}]"
