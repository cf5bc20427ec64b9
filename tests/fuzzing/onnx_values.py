"""Values of a random ONNX file, and how operators are written."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

EXTENTS = (1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 16)
CHANNELS = (1, 2, 3, 4, 5, 8)
MOST = 5000  # elements of a value
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    name: str
    shape: Shape


class OnnxValues:
    """One file under construction. quantised: nearly every value goes through integers."""

    def __init__(self, seed: int) -> None:
        self.rng, self.numbers = random.Random(seed), np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Value] = []
        self.values: list[Value] = []
        self.read: set[str] = set()
        self.steps: list[str] = []
        self.quantised = self.rng.random() < 0.5
        self.unsigned = self.rng.random() < 0.3
        self.opset = self.rng.choice((13, 14, 17, 18, 19, 21))
        self.scale = float(np.float32(10 ** self.rng.uniform(-2, -0.5)))

    # Values.

    def const(self, array: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        contents = np.asarray(array, dtype)
        whole = np.ascontiguousarray(contents).reshape(contents.shape)
        self.constants.append(numpy_helper.from_array(whole, name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(values, np.int64)

    def normal(self, shape: Sequence[int], size: float = 1.0) -> str:
        return self.const(self.numbers.normal(0, size, shape))

    def op(self, kind: str, inputs: Sequence[str], shape: Sequence[int], **attrs: Any) -> Value:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attrs))
        return Value(name, tuple(shape))

    def input(self, shape: Shape) -> None:
        value = Value(f"x{len(self.inputs)}", shape)
        self.inputs.append(value)
        self.values.append(self.through(value))

    def through(self, value: Value) -> Value:
        """Quantised and back, mostly by the scale that others have, too."""
        if not self.quantised:
            return value
        dtype = np.uint8 if self.unsigned else np.int8
        scale = self.scale if self.rng.random() < 0.5 else 10 ** self.rng.uniform(-2, -0.5)
        zero = self.rng.choice((-128, 127, 0, self.rng.randint(-100, 100)))
        names = [self.const(scale), self.const(zero + (128 if self.unsigned else 0), dtype)]
        integers = self.op("QuantizeLinear", [value.name, *names], value.shape)
        return self.op("DequantizeLinear", [integers.name, *names], value.shape)

    def done(self, value: Value, source: Value) -> None:
        """The value is one to go on with."""
        kind = self.nodes[-1].op_type
        made = self.through(value) if self.rng.random() < 0.95 else value
        self.values.append(made)
        self.steps.append(f"{kind} {list(source.shape)} -> {list(value.shape)}")

    def pick(self, accept: Callable[[Value], bool] = lambda v: True) -> Value | None:
        fitting = [v for v in self.values if accept(v)]
        if not fitting:
            return None
        chosen = fitting[-1] if self.rng.random() < 0.65 else self.rng.choice(fitting)
        self.read.add(chosen.name)
        return chosen

    def weights(self, shape: Sequence[int], axis: int) -> str:
        if not self.quantised or self.rng.random() < 0.05:
            return self.normal(shape, 0.0 if self.rng.random() < 0.05 else 0.4)
        array = self.numbers.integers(-127, 128, shape) * (self.rng.random() > 0.05)
        count = shape[axis] if self.rng.random() < 0.6 else 0
        scales = 10 ** self.numbers.uniform(-4, -1, count or None)
        zeros = np.zeros(count or (), np.int8)
        inputs = [self.const(array, np.int8), self.const(scales), self.const(zeros, np.int8)]
        attrs = {"axis": axis} if count else {}
        return self.op("DequantizeLinear", inputs, shape, **attrs).name

    def limited(self, value: Value) -> Value:
        kind = self.rng.random()
        if kind < 0.3:
            return self.op("Relu", [value.name], value.shape)
        if kind < 0.4:
            return self.op("Clip", [value.name, self.const(0), self.const(6)], value.shape)
        return value
