"""Random ONNX files: float networks, and networks quantised by QuantizeLinear and its inverse.

made = random_onnx(7)      # for the same number always the same
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import helper

from fuzzing.models import Made
from fuzzing.onnx_layers import OnnxLayers
from fuzzing.onnx_values import CHANNELS, EXTENTS, MOST, Shape, Value


class OnnxGraph(OnnxLayers):
    """A file that can get any operator."""

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
        if prod(shape) > MOST:
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
        if min(shape) < 1 or prod(shape) > MOST:
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
        if prod(shape) > MOST:
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
        if not shape or prod(shape) > MOST:
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
    shape: Shape = (rng.choice((1, 3)), rng.choice((*EXTENTS, 33)))
    if kind < 0.7:
        size = rng.choice(EXTENTS), rng.choice(EXTENTS)
        shape = (rng.choice((1, 1, 1, 2)), rng.choice(CHANNELS), *size)
    elif kind < 0.85:
        shape = (rng.choice((1, 2, 3)), rng.choice(EXTENTS), rng.choice(EXTENTS))
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
