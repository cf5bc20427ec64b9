"""Values of a random TFLite file, and how operators are written."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_builder import TFLiteModel

EXTENTS = (1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 16, 17)
CHANNELS = (1, 1, 2, 3, 4, 5, 7, 8, 12, 16, 17)
MOST = 5000  # elements of a value
RELU, RELU_N1_TO_1, RELU6 = 1, 2, 3
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    """A tensor of the file. scale is None for floats."""

    index: int
    shape: Shape
    dtype: str
    scale: float | None = None
    zero: int = 0

    @property
    def quant(self) -> tuple[float | None, int]:
        return self.scale, self.zero

    @property
    def is_integer(self) -> bool:
        return self.scale is not None


class TFLiteValues:
    """One file under construction. wild: scales lie anywhere."""

    def __init__(self, seed: int) -> None:
        self.rng, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.model = TFLiteModel()
        self.values: list[Value] = []
        self.read: set[int] = set()
        self.steps: list[str] = []
        self.wild = self.rng.random() < 0.12
        self.dtype = self.rng.choices(["int8", "int16", "float32"], [7, 1, 2])[0]

    # Values.

    def quant(self, dtype: str) -> tuple[float | None, int]:
        if dtype == "float32":
            return None, 0
        reach = (-6.0, 3.0) if self.wild else (-2.5, 0.0)
        scale = float(np.float32(10 ** self.rng.uniform(*reach)))
        zeros = (-128, 127, 0, self.rng.randint(-128, 127), self.rng.randint(-128, 127))
        return scale, 0 if dtype == "int16" else self.rng.choice(zeros)

    def sized(self, scale: float, dtype: str) -> tuple[float | None, int]:
        """A quantisation of about that scale, or a wild one."""
        _, zero = self.quant(dtype)
        if dtype == "float32" or (self.wild and self.rng.random() < 0.6):
            return self.quant(dtype)
        factor = self.rng.choice((0.3, 1.0, 1.0, 1.7, 3.0))
        return max(float(np.float32(scale * factor)), 1e-12), zero

    def input(self, shape: Shape) -> None:
        scale, zero = self.quant(self.dtype)
        index = self.model.input(shape, self.dtype, scale, zero)
        self.values.append(Value(index, shape, self.dtype, scale, zero))

    def write(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        like: Value,
        options: str = "",
        *,
        quant: tuple[float | None, int] | None = None,
        dtype: str = "",
        version: int = 1,
        **fields: Any,
    ) -> Value:
        """An operator; its output is `like` one of its inputs unless said otherwise."""
        dtype = dtype or like.dtype
        scale, zero = like.quant if quant is None else quant
        if dtype in ("float32", "int32", "bool"):
            scale, zero = None, 0
        index = self.model.value(shape, dtype, scale, zero)
        self.model.op(kind, inputs, [index], options, version, **fields)
        made = Value(index, tuple(shape), dtype, scale, zero)
        self.values.append(made)
        self.steps.append(f"{kind} {list(like.shape)} -> {dtype}{list(shape)}")
        return made

    def pick(self, accept: Callable[[Value], bool] = lambda v: True) -> Value | None:
        """A value to go on with, the last one mostly."""
        fitting = [v for v in self.values if accept(v) and v.dtype not in ("bool", "int32")]
        if not fitting:
            return None
        chosen = fitting[-1] if self.rng.random() < 0.65 else self.rng.choice(fitting)
        self.read.add(chosen.index)
        return chosen

    def ints(self, *values: int) -> int:
        return self.model.const(np.array(values, np.int32))

    def constant(self, shape: Sequence[int], like: Value, quant: Any = None) -> int:
        if like.dtype == "float32":
            return self.model.const(self.numbers.normal(0, 1, shape).astype(np.float32))
        info = np.iinfo(like.dtype)
        array = self.numbers.integers(info.min, info.max, shape, endpoint=True)
        return self.model.const(array.astype(like.dtype), *(quant or like.quant))

    def activation(self) -> int:
        return self.rng.choice((0, 0, 0, RELU, RELU6, RELU_N1_TO_1))
