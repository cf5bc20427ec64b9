"""Random ONNX files: float networks, and networks quantised by QuantizeLinear and its inverse.

made = random_onnx(7)      # for the same number always the same
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from fuzzing.models import Made

_EXTENTS = (1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 16)
_CHANNELS = (1, 2, 3, 4, 5, 8)
_MOST = 5000  # elements of a value
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Value:
    name: str
    shape: Shape


class OnnxGraph:
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

    # Layers.

    def convolution(self) -> None:
        x = self.pick(lambda v: len(v.shape) in (3, 4))
        if x is None:
            return
        batch, channels, *size = x.shape
        groups = self.rng.choice([g for g in range(1, channels + 1) if channels % g == 0])
        groups = groups if self.rng.random() < 0.35 else 1
        out = groups * self.rng.choice((1, 1, 2, 3) if groups > 1 else (1, 2, 3, 4, 7, 8, 12))
        kernel = [self.rng.choice((1, 2, 3, 3, 5)) for _ in size]
        strides = [self.rng.choice((1, 1, 2, 3)) for _ in size]
        dilations = [self.rng.choice((1, 1, 1, 2)) for _ in size]
        attrs: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "group": groups}
        if self.rng.random() < 0.25:
            attrs["auto_pad"] = self.rng.choice(("SAME_UPPER", "SAME_LOWER"))
            made = [-(-n // s) for n, s in zip(size, strides, strict=True)]
        else:
            pads = [self.rng.choice((0, 0, 1, 2)) for _ in (*size, *size)]
            attrs |= {"pads": pads, "dilations": dilations}
            made = [
                (n + pads[i] + pads[i + len(size)] - (k - 1) * d - 1) // s + 1
                for i, (n, k, d, s) in enumerate(zip(size, kernel, dilations, strides, strict=True))
            ]
        if min(made) < 1 or batch * out * prod(made) > _MOST:
            return
        inputs = [x.name, self.weights((out, channels // groups, *kernel), 0)]
        if self.rng.random() < 0.8:
            inputs.append(self.normal((out,), 0.5))
        y = self.op("Conv", inputs, (batch, out, *made), **attrs)
        self.done(self.limited(y), x)

    def transposed_convolution(self) -> None:
        x = self.pick(lambda v: len(v.shape) == 4)
        if x is None:
            return
        batch, channels, *size = x.shape
        groups = self.rng.choice((1, 1, channels))
        out = groups * self.rng.choice((1, 2, 3))
        kernel = [self.rng.choice((1, 2, 3)) for _ in size]
        strides = [self.rng.choice((1, 2, 3)) for _ in size]
        pads = [self.rng.choice((0, 0, 1)) for _ in range(4)]
        more = [self.rng.choice((0, min(1, s - 1))) for s in strides]
        made = [
            (n - 1) * s + k - pads[i] - pads[i + 2] + m
            for i, (n, s, k, m) in enumerate(zip(size, strides, kernel, more, strict=True))
        ]
        if min(made) < 1 or batch * out * prod(made) > _MOST:
            return
        inputs = [x.name, self.weights((channels, out // groups, *kernel), 1)]
        if self.rng.random() < 0.6:
            inputs.append(self.normal((out,), 0.5))
        attrs = {"kernel_shape": kernel, "strides": strides, "pads": pads, "group": groups}
        y = self.op("ConvTranspose", inputs, (batch, out, *made), output_padding=more, **attrs)
        self.done(y, x)

    def dense(self) -> None:
        x = self.pick(lambda v: len(v.shape) >= 2 and prod(v.shape) < 3000)
        if x is None:
            return
        out = self.rng.choice((1, 2, 3, 5, 8, 10))
        if len(x.shape) != 2 and self.rng.random() < 0.5:
            weights = self.weights((x.shape[-1], out), 1)
            self.done(self.op("MatMul", [x.name, weights], (*x.shape[:-1], out)), x)
            return
        rows, depth = x.shape[0], prod(x.shape[1:])
        flat = self.op("Flatten", [x.name], (rows, depth)) if len(x.shape) != 2 else x
        turned = self.rng.random() < 0.6
        shape, axis = ((out, depth), 0) if turned else ((depth, out), 1)
        inputs = [flat.name, self.weights(shape, axis)]
        if self.rng.random() < 0.8:
            biases = ((out,), (1, out), (rows, out), (1,))
            inputs.append(self.normal(self.rng.choice(biases), 0.5))
        attrs: dict[str, Any] = {"transB": int(turned)}
        if self.rng.random() < 0.15:
            attrs |= {"alpha": 0.5, "beta": 1.5}
        self.done(self.limited(self.op("Gemm", inputs, (rows, out), **attrs)), x)

    def pool(self) -> None:
        x = self.pick(lambda v: len(v.shape) in (3, 4))
        if x is None:
            return
        batch, channels, *size = x.shape
        if self.rng.random() < 0.25:
            kind = self.rng.choice(("GlobalAveragePool", "GlobalMaxPool"))
            self.done(self.op(kind, [x.name], (batch, channels, *[1] * len(size))), x)
            return
        kernel = [self.rng.choice((1, 2, 2, 3, n)) for n in size]
        strides = [self.rng.choice((1, 2, 2, 3)) for _ in size]
        pads = [self.rng.choice((0, 0, 1)) if k > 1 else 0 for k in (*kernel, *kernel)]
        ceiled = self.rng.choice((0, 0, 1))
        made = []
        for i, (n, k, s) in enumerate(zip(size, kernel, strides, strict=True)):
            room = n + pads[i] + pads[i + len(size)] - k
            count = (-(-room // s) if ceiled else room // s) + 1
            made.append(count - (ceiled and (count - 1) * s >= n + pads[i]))
            if n + pads[i] < k:
                return
        if min(made) < 1:
            return
        attrs: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "pads": pads}
        kind = self.rng.choice(("MaxPool", "AveragePool"))
        if kind == "AveragePool":
            attrs["count_include_pad"] = self.rng.choice((0, 1))
        y = self.op(kind, [x.name], (batch, channels, *made), ceil_mode=ceiled, **attrs)
        self.done(y, x)

    def normalised(self) -> None:
        x = self.pick(lambda v: len(v.shape) in (3, 4))
        if x is None:
            return
        channels = x.shape[1]
        kind = self.rng.choice(("BatchNormalization", "InstanceNormalization"))
        shape: tuple[int, ...] = (channels,)
        attrs: dict[str, Any] = {}
        if self.opset >= 17 and self.rng.random() < 0.3:
            kind, attrs["axis"] = "LayerNormalization", self.rng.choice((-1, -2, 1))
            shape = x.shape[attrs["axis"] :]
        inputs = [x.name, self.const(self.numbers.normal(1, 0.2, shape)), self.normal(shape, 0.3)]
        if kind == "BatchNormalization":
            variance = self.numbers.uniform(0.3, 2, channels)
            inputs += [self.normal(shape, 0.3), self.const(variance)]
        self.done(self.op(kind, inputs, x.shape, **attrs), x)

    def recurrent(self) -> None:
        x = self.pick(lambda v: len(v.shape) == 3 and prod(v.shape) < 300 and v.shape[0] < 8)
        if x is None or self.quantised:
            return
        kind, gates = self.rng.choice((("LSTM", 4), ("GRU", 3), ("RNN", 1)))
        hidden = self.rng.choice((1, 3, 5))
        way = self.rng.choice(("forward", "reverse", "bidirectional"))
        ways = 2 if way == "bidirectional" else 1
        steps, batch, depth = x.shape
        inputs = [x.name]
        inputs += [self.normal((ways, gates * hidden, n), 0.4) for n in (depth, hidden)]
        if self.rng.random() < 0.7:
            inputs.append(self.normal((ways, 2 * gates * hidden), 0.4))
        attrs: dict[str, Any] = {"hidden_size": hidden, "direction": way}
        if kind == "GRU":
            attrs["linear_before_reset"] = self.rng.choice((0, 1))
        self.done(self.op(kind, inputs, (steps, ways, batch, hidden), **attrs), x)

    # Arithmetic.

    def binary(self) -> None:
        x = self.pick()
        if x is None:
            return
        kind = self.rng.choice(("Add", "Add", "Sub", "Mul", "Max", "Min", "Div", "Pow"))
        others = [v for v in self.values if v.shape == x.shape]
        shape = tuple(n if self.rng.random() < 0.6 else 1 for n in x.shape)
        shape = shape[self.rng.randint(0, len(shape)) :] if self.rng.random() < 0.3 else shape
        if kind == "Pow":
            other = self.const(self.rng.choice((2.0, 3.0)))
        elif kind == "Div":
            other = self.const(self.numbers.uniform(0.5, 3, shape))
        elif self.rng.random() < 0.5:
            chosen = self.rng.choice(others)
            self.read.add(chosen.name)
            other = chosen.name
        else:
            other = self.through(Value(self.normal(shape), shape)).name
        pair = [x.name, other]
        if kind not in ("Div", "Pow") and self.rng.random() < 0.3:
            pair.reverse()
        self.done(self.limited(self.op(kind, pair, x.shape)), x)

    def unary(self) -> None:
        x = self.pick(lambda v: len(v.shape) > 0)
        if x is None:
            return
        kinds = [
            "Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "HardSigmoid", "Softmax", "LogSoftmax",
            "Erf", "Abs", "Neg", "Exp", "Softplus", "PRelu", "Sqrt", "Ceil", "Floor", "Clip",
            "Softsign", "Selu",
        ]  # fmt: skip
        kinds += ["HardSwish"] * (self.opset >= 14) + ["Mish"] * (self.opset >= 18)
        kinds += ["Gelu"] * (self.opset >= 20)
        kind = self.rng.choice(kinds)
        inputs, attrs = [x.name], {}
        match kind:
            case "Softmax" | "LogSoftmax":
                attrs["axis"] = self.rng.randrange(-len(x.shape), len(x.shape))
            case "LeakyRelu":
                attrs["alpha"] = self.rng.choice((0.1, 0.01, -0.3, 1.2))
            case "PRelu":
                slopes = [n if d == 1 else 1 for d, n in enumerate(x.shape)][1:] or [1]
                inputs.append(self.normal(slopes, 0.4))
            case "Clip":
                inputs += [self.const(-0.5), self.const(1)]
            case "Sqrt":
                inputs = [self.op("Abs", inputs, x.shape).name]
            case "Exp":
                inputs = [self.op("Clip", [*inputs, self.const(-5), self.const(5)], x.shape).name]
        self.done(self.op(kind, inputs, x.shape, **attrs), x)

    def reduced(self) -> None:
        x = self.pick(lambda v: len(v.shape) >= 2)
        if x is None:
            return
        kind = self.rng.choice(
            ("ReduceMean", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1",
             "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp")
        )  # fmt: skip
        rank = len(x.shape)
        axes = self.rng.sample(range(rank), self.rng.randint(1, rank))
        keep = self.rng.choice((0, 1))
        shape = [1 if d in axes else n for d, n in enumerate(x.shape) if keep or d not in axes]
        if not shape:
            return
        given = [a if self.rng.random() < 0.7 else a - rank for a in axes]
        inputs, attrs = [x.name], {"keepdims": keep}
        if self.opset >= 18 or kind == "ReduceSum":
            inputs.append(self.ints(*given))
            self.done(self.op(kind, inputs, shape, **attrs), x)
        else:
            self.done(self.op(kind, inputs, shape, axes=given, **attrs), x)

    # Movement.

    def joined(self) -> None:
        x = self.pick(lambda v: len(v.shape) > 0)
        if x is None:
            return
        axis = self.rng.randrange(len(x.shape))
        fitting = [
            v
            for v in self.values
            if len(v.shape) == len(x.shape)
            and v.shape[:axis] + v.shape[axis + 1 :] == x.shape[:axis] + x.shape[axis + 1 :]
        ]
        parts = [x, *(self.rng.choice(fitting) for _ in range(self.rng.choice((1, 1, 2))))]
        self.read.update(p.name for p in parts)
        self.rng.shuffle(parts)
        shape = list(x.shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        if prod(shape) > _MOST:
            return
        given = self.rng.choice((axis, axis - len(shape)))
        self.done(self.op("Concat", [p.name for p in parts], shape, axis=given), x)

    def transposed(self) -> None:
        x = self.pick(lambda v: len(v.shape) >= 2)
        if x is not None:
            perm = self.rng.sample(range(len(x.shape)), len(x.shape))
            shape = [x.shape[p] for p in perm]
            self.done(self.op("Transpose", [x.name], shape, perm=perm), x)

    def reshaped(self) -> None:
        x = self.pick()
        if x is None:
            return
        left, shape = prod(x.shape), []
        for _ in range(self.rng.choice((0, 1, 2, 3, 3))):
            shape.append(self.rng.choice([d for d in range(1, left + 1) if left % d == 0][:12]))
            left //= shape[-1]
        shape.append(left)
        self.rng.shuffle(shape)
        given = list(shape)
        if self.rng.random() < 0.3:
            given[self.rng.randrange(len(given))] = -1
        self.done(self.op("Reshape", [x.name, self.ints(*given)], shape), x)

    def sliced(self) -> None:
        x = self.pick(lambda v: len(v.shape) >= 1)
        if x is None:
            return
        axes = self.rng.sample(range(len(x.shape)), self.rng.randint(1, len(x.shape)))
        starts, ends, steps, shape = [], [], [], list(x.shape)
        for axis in axes:
            n, step = x.shape[axis], self.rng.choice((1, 1, 2, 3, -1, -2))
            start = self.rng.randrange(n)
            stop = self.rng.randint(start + 1, n) if step > 0 else self.rng.randint(-1, start - 1)
            shape[axis] = len(range(start, stop, step))
            starts.append(start if self.rng.random() < 0.7 else start - n)
            ends.append(-(1 << 31) if stop < 0 else (1 << 31) - 1 if stop == n else stop)
            steps.append(step)
        if 0 in shape:
            return
        tables = [self.ints(*t) for t in (starts, ends, axes, steps)]
        self.done(self.op("Slice", [x.name, *tables], shape), x)

    def padded(self) -> None:
        x = self.pick(lambda v: len(v.shape) >= 1)
        if x is None:
            return
        rank = len(x.shape)
        mode = self.rng.choice(("constant", "constant", "reflect", "edge"))
        pads = [self.rng.choice((0, 0, 1, 2)) for _ in range(2 * rank)]
        if mode == "reflect":
            pads = [min(p, x.shape[i % rank] - 1) for i, p in enumerate(pads)]
        if mode == "constant" and self.rng.random() < 0.2:
            pads = [p - 1 if x.shape[i % rank] > 4 else p for i, p in enumerate(pads)]
        shape = [n + pads[i] + pads[i + rank] for i, n in enumerate(x.shape)]
        if min(shape) < 1 or prod(shape) > _MOST:
            return
        inputs = [x.name, self.ints(*pads)]
        if mode == "constant" and self.rng.random() < 0.5:
            value = Value(self.const(self.rng.choice((0.0, 1.5, -3.0))), ())
            inputs.append(self.through(value).name if self.rng.random() < 0.5 else value.name)
        self.done(self.op("Pad", inputs, shape, mode=mode), x)

    def resized(self) -> None:
        x = self.pick(lambda v: len(v.shape) == 4)
        if x is None:
            return
        size = [self.rng.choice((1, 2, 3, 5, 2 * n)) for n in x.shape[2:]]
        shape = (*x.shape[:2], *size)
        if prod(shape) > _MOST:
            return
        attrs: dict[str, Any] = {
            "mode": self.rng.choice(("nearest", "linear", "linear", "cubic")),
            "coordinate_transformation_mode": self.rng.choice(
                ("asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel")
            ),
        }
        if attrs["mode"] == "nearest":
            roundings = ("floor", "round_prefer_floor", "ceil", "round_prefer_ceil")
            attrs["nearest_mode"] = self.rng.choice(roundings)
        self.done(self.op("Resize", [x.name, "", "", self.ints(*shape)], shape, **attrs), x)

    def gathered(self) -> None:
        x = self.pick(lambda v: len(v.shape) >= 1)
        if x is None:
            return
        axis = self.rng.randrange(len(x.shape))
        n, places = x.shape[axis], self.rng.choice(((), (2,), (3,), (2, 2)))
        shape = (*x.shape[:axis], *places, *x.shape[axis + 1 :])
        if not shape or prod(shape) > _MOST:
            return
        indices = self.const(self.numbers.integers(-n, n, places), np.int64)
        self.done(self.op("Gather", [x.name, indices], shape, axis=axis), x)

    def split(self) -> None:
        x = self.pick(lambda v: any(n > 1 for n in v.shape))
        if x is None:
            return
        axis = self.rng.choice([d for d, n in enumerate(x.shape) if n > 1])
        first = self.rng.randint(1, x.shape[axis] - 1)
        sizes = (first, x.shape[axis] - first)
        names = [f"v{len(self.nodes)}", f"w{len(self.nodes)}"]
        inputs = [x.name, self.ints(*sizes)]
        self.nodes.append(helper.make_node("Split", inputs, names, axis=axis))
        for name, n in zip(names, sizes, strict=True):
            self.values.append(Value(name, (*x.shape[:axis], n, *x.shape[axis + 1 :])))
        self.steps.append(f"Split {list(x.shape)} axis {axis} {sizes}")


_OPERATORS: dict[Callable[[OnnxGraph], None], int] = {
    OnnxGraph.convolution: 6, OnnxGraph.transposed_convolution: 1, OnnxGraph.dense: 3,
    OnnxGraph.pool: 3, OnnxGraph.normalised: 2, OnnxGraph.recurrent: 1, OnnxGraph.binary: 5,
    OnnxGraph.unary: 5, OnnxGraph.reduced: 2, OnnxGraph.joined: 2, OnnxGraph.transposed: 2,
    OnnxGraph.reshaped: 2, OnnxGraph.sliced: 2, OnnxGraph.padded: 2, OnnxGraph.resized: 1,
    OnnxGraph.gathered: 1, OnnxGraph.split: 1,
}  # fmt: skip


def random_onnx(seed: int, most: int = 8) -> Made:
    """A file of 1 to `most` operators; every value that nobody reads is an output."""
    graph = OnnxGraph(seed)
    rng, kind = graph.rng, graph.rng.random()
    shape: Shape = (rng.choice((1, 3)), rng.choice((*_EXTENTS, 33)))
    if kind < 0.7:
        size = rng.choice(_EXTENTS), rng.choice(_EXTENTS)
        shape = (rng.choice((1, 1, 1, 2)), rng.choice(_CHANNELS), *size)
    elif kind < 0.85:
        shape = (rng.choice((1, 2, 3)), rng.choice(_EXTENTS), rng.choice(_EXTENTS))
    for _ in range(rng.choice((1, 1, 1, 1, 1, 2))):
        graph.input(shape)
    wanted = rng.randint(1, most)
    for _ in range(12 * wanted):
        if len(graph.steps) >= wanted:
            break
        rng.choices(list(_OPERATORS), list(_OPERATORS.values()))[0](graph)
    read = {name for node in graph.nodes for name in node.input}
    made = {name for node in graph.nodes for name in node.output}
    ends = [v for v in graph.values if v.name in made - read]
    if not ends or not graph.steps:
        return random_onnx(seed + (1 << 32), most)
    return Made("onnx", seed, _file(graph, ends), tuple(graph.steps))


def _file(graph: OnnxGraph, ends: Sequence[Value]) -> bytes:
    ports = [
        [helper.make_tensor_value_info(v.name, onnx.TensorProto.FLOAT, v.shape) for v in values]
        for values in (graph.inputs, ends)
    ]
    made = helper.make_graph(graph.nodes, "random", *ports, graph.constants)
    imports = [helper.make_opsetid("", graph.opset)]
    version = 8 if graph.opset < 19 else 10
    model = helper.make_model(made, opset_imports=imports, ir_version=version)
    return bytes(model.SerializeToString())
