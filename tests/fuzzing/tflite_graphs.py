"""Random TFLite files: layers, arithmetic and movement in int8, int16 and float, in odd shapes.

made = random_tflite(7)      # for the same number always the same
"""

from __future__ import annotations

import random
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from fuzzing.models import Made
from fuzzing.tflite_layers import TFLiteLayers
from fuzzing.tflite_values import CHANNELS, EXTENTS, MOST, Shape, Value


class TFLiteGraph(TFLiteLayers):
    """A file that can get any operator."""

    # Arithmetic.

    def partner(self, x: Value, quant: Any) -> Value:
        """Another value of the same shape, or a constant that broadcasts."""
        others = [v for v in self.values if (v.shape, v.dtype) == (x.shape, x.dtype)]
        if self.rng.random() < 0.5:
            chosen = self.rng.choice(others)
            self.read.add(chosen.index)
            return chosen
        shape = tuple(n if self.rng.random() < 0.6 else 1 for n in x.shape)
        if len(shape) > 1 and self.rng.random() < 0.3:
            shape = shape[self.rng.randrange(1, len(shape)) :]
        if self.rng.random() < 0.15:
            shape = ()
        return Value(self.constant(shape, x, quant), shape, x.dtype, *quant)

    def binary(self) -> None:
        x = self.pick()
        if x is None:
            return
        kind = self.rng.choice(
            ("ADD", "ADD", "SUB", "MUL", "MUL", "MINIMUM", "MAXIMUM", "SQUARED_DIFFERENCE")
        )
        chooses = kind in ("MINIMUM", "MAXIMUM")
        if kind == "SQUARED_DIFFERENCE" and (self.wild or x.dtype == "int16"):
            return
        other = self.partner(x, x.quant if chooses else self.quant(x.dtype))
        if chooses and other.quant != x.quant:
            return
        scales = (x.scale or 1.0, other.scale or 1.0)
        scale = max(scales) * 1.5
        if kind in ("MUL", "SQUARED_DIFFERENCE"):
            scale = prod(scales) * self.rng.choice((3, 30, 100))
            scale = max(scale, max(scales) ** 2 / 1000 if kind != "MUL" else 0)
        names = {"MINIMUM": "MaximumMinimum", "MAXIMUM": "MaximumMinimum"}
        name = names.get(kind, "".join(p.capitalize() for p in kind.split("_")))
        pair = [x.index, other.index]
        fields = {} if chooses or "_" in kind else {"fusedActivationFunction": self.activation()}
        self.write(
            kind, pair if self.rng.random() < 0.7 else pair[::-1], x.shape, x, f"{name}Options",
            quant=x.quant if chooses else self.sized(scale, x.dtype), **fields,
        )  # fmt: skip

    def selection(self) -> None:
        """A comparison, and a choice by it. LiteRT compares at scales below 1."""
        x = self.pick(lambda v: v.dtype != "int16" and (v.scale or 0.0) < 1.0)
        if x is None:
            return
        kind = self.rng.choice(("LESS", "GREATER", "EQUAL", "LESS_EQUAL", "GREATER_EQUAL"))
        name = "".join(p.capitalize() for p in kind.split("_"))
        other = self.constant(x.shape, x)
        test = self.write(kind, [x.index, other], x.shape, x, f"{name}Options", dtype="bool")
        self.read.add(test.index)
        operands = [test.index, x.index, self.constant(x.shape, x)]
        self.write("SELECT_V2", operands, x.shape, x, "SelectV2Options")

    def unary(self) -> None:
        x = self.pick()
        if x is None:
            return
        f32, narrow = x.dtype == "float32", x.dtype == "int8"
        kinds = ["SOFTMAX", "LOGISTIC", "TANH", "RELU", "RELU6", "LEAKY_RELU", "QUANTIZE"]
        if f32 or narrow:
            kinds += ["HARD_SWISH", "LOG_SOFTMAX", "GELU", "PRELU", "ABS", "EXP", "LOG", "SQRT"]
        kind = self.rng.choice([k for k in kinds if not (f32 and k == "QUANTIZE")])
        fixed: dict[tuple[str, str], tuple[float | None, int]] = {
            ("SOFTMAX", "int8"): (1 / 256, -128), ("LOGISTIC", "int8"): (1 / 256, -128),
            ("SOFTMAX", "int16"): (1 / 32768, 0), ("LOGISTIC", "int16"): (1 / 32768, 0),
            ("TANH", "int8"): (1 / 128, 0), ("TANH", "int16"): (1 / 32768, 0),
            ("LOG_SOFTMAX", "int8"): (1 / 16, 127),
        }  # fmt: skip
        if kind in ("SOFTMAX", "LOG_SOFTMAX") and not 1 <= len(x.shape) <= 4:
            return
        inputs, options, fields = [x.index], "", {}
        match kind:
            case "SOFTMAX":
                options, fields = "SoftmaxOptions", {"beta": self.rng.choice((1.0, 1.0, 0.5, 2.0))}
            case "LEAKY_RELU":
                slope = self.rng.choice((0.1, 0.3, -0.5, 1.5, 0.0))
                options, fields = "LeakyReluOptions", {"alpha": slope}
            case "GELU":
                options, fields = "GeluOptions", {"approximate": self.rng.random() < 0.5}
            case "PRELU":
                slopes = tuple(n if self.rng.random() < 0.6 else 1 for n in x.shape[1:]) or (1,)
                inputs.append(self.constant(slopes, x, self.quant(x.dtype)))
            case "LOG" | "SQRT" if f32:
                fine = self.write("ABS", inputs, x.shape, x)
                self.read.add(fine.index)
                inputs = [fine.index]
        quant = fixed.get((kind, x.dtype), self.sized(x.scale or 1.0, x.dtype))
        self.write(kind, inputs, x.shape, x, options, quant=quant, **fields)

    def converted(self) -> None:
        """To floats, or to integers of another type."""
        x = self.pick(lambda v: v.dtype in ("int8", "int16", "float32"))
        if x is None:
            return
        dtype = self.rng.choice([d for d in ("int8", "int16", "float32") if d != x.dtype])
        if dtype == "float32":
            self.write("DEQUANTIZE", [x.index], x.shape, x, dtype=dtype)
        else:
            step = 250 if (x.dtype, dtype) == ("int16", "int8") else 1
            quant = self.sized(min(step * x.scale, 0.3), dtype) if x.scale else self.quant(dtype)
            self.write("QUANTIZE", [x.index], x.shape, x, dtype=dtype, quant=quant)

    def reduced(self) -> None:
        x = self.pick(lambda v: len(v.shape) >= 2)
        if x is None:
            return
        kinds = ["MEAN", "MEAN", "REDUCE_MAX", "REDUCE_MIN"] + ["SUM"] * (x.dtype == "float32")
        kind = self.rng.choice(kinds[:2] if x.dtype == "int16" else kinds)
        rank = len(x.shape)
        axes = sorted(self.rng.sample(range(rank), self.rng.randint(1, rank)))
        if rank == 4 and self.rng.random() < 0.4:
            axes = [1, 2]
        keep = self.rng.random() < 0.5
        shape = [1 if d in axes else n for d, n in enumerate(x.shape) if keep or d not in axes]
        if not shape:
            return
        given = [a if self.rng.random() < 0.7 else a - rank for a in axes]
        quant = self.sized(x.scale or 1.0, x.dtype) if kind == "MEAN" else x.quant
        inputs = [x.index, self.ints(*given)]
        self.write(kind, inputs, shape, x, "ReducerOptions", quant=quant, keepDims=keep)

    def chosen(self) -> None:
        """The place of the greatest or the least."""
        x = self.pick(lambda v: len(v.shape) >= 2 and v.dtype != "int16")
        if x is None:
            return
        axis = self.rng.randrange(len(x.shape))
        kind = self.rng.choice(("ARG_MAX", "ARG_MIN"))
        options = "ArgMaxOptions" if kind == "ARG_MAX" else "ArgMinOptions"
        shape = (*x.shape[:axis], *x.shape[axis + 1 :])
        index = self.model.const(np.array(axis, np.int32))
        self.write(kind, [x.index, index], shape, x, options, dtype="int32", outputType=2)

    # Movement.

    def transposed(self) -> None:
        x = self.pick(lambda v: len(v.shape) >= 2)
        if x is None:
            return
        perm = self.rng.sample(range(len(x.shape)), len(x.shape))
        shape = [x.shape[p] for p in perm]
        self.write("TRANSPOSE", [x.index, self.ints(*perm)], shape, x, "TransposeOptions")

    def reshaped(self) -> None:
        x = self.pick()
        if x is None:
            return
        left, shape = prod(x.shape), []
        for _ in range(self.rng.choice((0, 1, 2, 2, 3))):
            part = self.rng.choice([d for d in range(1, left + 1) if left % d == 0][:12])
            shape.append(part)
            left //= part
        shape.append(left)
        self.rng.shuffle(shape)
        if len(shape) == 3 and self.rng.random() < 0.5:
            shape.insert(0, 1)
        inputs = [x.index, self.ints(*shape)]
        self.write("RESHAPE", inputs, shape, x, "ReshapeOptions", newShape=shape)

    def sliced(self) -> None:
        x = self.pick(lambda v: 1 <= len(v.shape) <= 4)
        if x is None:
            return
        begin, end, steps, size, mask = [], [], [], [], 0
        for d, n in enumerate(x.shape):
            step = self.rng.choice((1, 1, 1, 2, 3, -1, -2))
            first = self.rng.randrange(n)
            ends = (first + 1, n) if step > 0 else (-1, first - 1)
            last = self.rng.randint(*ends)
            if last < 0:
                mask |= 1 << d
            size.append(len(range(first, last, step)))
            begin.append(first if self.rng.random() < 0.8 else first - n)
            end.append(max(last, 0))
            steps.append(step)
        if 0 in size:
            return
        tables = [self.ints(*v) for v in (begin, end, steps)]
        self.write(
            "STRIDED_SLICE", [x.index, *tables], size, x, "StridedSliceOptions", endMask=mask
        )

    def cut(self) -> None:
        x = self.pick(lambda v: 1 <= len(v.shape) <= 4)
        if x is None:
            return
        begin = [self.rng.randrange(n) for n in x.shape]
        size = [self.rng.randint(1, n - b) for n, b in zip(x.shape, begin, strict=True)]
        inputs = [x.index, self.ints(*begin), self.ints(*size)]
        self.write("SLICE", inputs, size, x, "SliceOptions")

    def padded(self) -> None:
        x = self.pick(lambda v: 1 <= len(v.shape) <= 4)
        if x is None:
            return
        pads = [[self.rng.choice((0, 0, 1, 2)) for _ in "ab"] for _ in x.shape]
        if len(pads) == 4 and self.rng.random() < 0.7:
            pads[0] = [0, 0]
        shape = [n + sum(p) for n, p in zip(x.shape, pads, strict=True)]
        if prod(shape) > MOST:
            return
        table = self.model.const(np.array(pads, np.int32))
        if self.rng.random() < 0.3:
            value = self.constant((1,), x)
            self.write("PADV2", [x.index, table, value], shape, x, "PadV2Options")
        else:
            self.write("PAD", [x.index, table], shape, x, "PadOptions")

    def joined(self) -> None:
        x = self.pick(lambda v: len(v.shape) > 0)
        if x is None:
            return
        axis = self.rng.randrange(len(x.shape))

        def fits(v: Value) -> bool:
            same = len(v.shape) == len(x.shape) and (v.dtype, v.quant) == (x.dtype, x.quant)
            return same and all(
                a == b for d, (a, b) in enumerate(zip(v.shape, x.shape, strict=True)) if d != axis
            )

        fitting = [v for v in self.values if fits(v)]
        parts = [x, *(self.rng.choice(fitting) for _ in range(self.rng.choice((0, 1, 1, 2))))]
        if self.rng.random() < 0.25:
            shape = list(x.shape)
            shape[axis] = self.rng.choice((1, 2, 3))
            parts.append(Value(self.constant(shape, x), tuple(shape), x.dtype, *x.quant))
        self.rng.shuffle(parts)
        self.read.update(p.index for p in parts)
        shape = list(x.shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        if prod(shape) > MOST:
            return
        given = axis if self.rng.random() < 0.5 else axis - len(shape)
        inputs = [p.index for p in parts]
        self.write("CONCATENATION", inputs, shape, x, "ConcatenationOptions", axis=given)

    def packed(self) -> None:
        x = self.pick(lambda v: 1 <= len(v.shape) <= 3)
        if x is None:
            return
        alike = [v for v in self.values if v.dtype == x.dtype and v.shape == x.shape]
        parts = [v for v in alike if v.quant == x.quant][-self.rng.choice((1, 2, 3)) :]
        self.read.update(p.index for p in parts)
        axis = self.rng.randint(0, len(x.shape))
        shape = (*x.shape[:axis], len(parts), *x.shape[axis:])
        fields = {"valuesCount": len(parts), "axis": axis}
        self.write("PACK", [p.index for p in parts], shape, x, "PackOptions", **fields)

    def split(self) -> None:
        x = self.pick(lambda v: len(v.shape) >= 2)
        axes = [] if x is None else [d for d, n in enumerate(x.shape) if n > 1]
        if x is None or not axes:
            return
        axis = self.rng.choice(axes)
        counts = [k for k in (2, 3, 4) if x.shape[axis] % k == 0]
        if not counts:
            return
        count = self.rng.choice(counts)
        shape = list(x.shape)
        shape[axis] //= count
        index = self.model.const(np.array(axis, np.int32))
        outputs = [self.model.value(shape, x.dtype, *x.quant) for _ in range(count)]
        self.model.op("SPLIT", [index, x.index], outputs, "SplitOptions", numSplits=count)
        self.values += [Value(o, tuple(shape), x.dtype, *x.quant) for o in outputs]
        self.steps.append(f"SPLIT {list(x.shape)} axis {axis} by {count}")

    def resized(self) -> None:
        x = self.pick(lambda v: len(v.shape) == 4)
        if x is None:
            return
        kind = self.rng.choice(("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"))
        size = [self.rng.choice((1, 2, 3, 5, 2 * n)) for n in x.shape[1:3]]
        if x.shape[0] * prod(size) * x.shape[3] > MOST:
            return
        align = self.rng.random() < 0.3
        half = not align and self.rng.random() < 0.4
        options = "ResizeBilinearOptions" if "BI" in kind else "ResizeNearestNeighborOptions"
        self.write(
            kind, [x.index, self.ints(*size)], (x.shape[0], *size, x.shape[3]), x, options,
            alignCorners=align, halfPixelCenters=half,
        )  # fmt: skip

    def gathered(self) -> None:
        x = self.pick(lambda v: 1 <= len(v.shape) <= 4)
        if x is None:
            return
        axis = self.rng.randrange(len(x.shape))
        count = self.rng.choice((1, 2, 3, 5))
        places = self.numbers.integers(0, x.shape[axis], count).astype(np.int32)
        shape = list(x.shape)
        shape[axis] = count
        inputs = [x.index, self.model.const(places)]
        self.write("GATHER", inputs, shape, x, "GatherOptions", axis=axis)


_OPERATORS: dict[Callable[[TFLiteGraph], None], int] = {
    TFLiteGraph.convolution: 6, TFLiteGraph.depthwise: 4, TFLiteGraph.dense: 3,
    TFLiteGraph.pool: 3, TFLiteGraph.matmul: 1, TFLiteGraph.binary: 5, TFLiteGraph.selection: 1,
    TFLiteGraph.unary: 4, TFLiteGraph.converted: 1, TFLiteGraph.reduced: 2, TFLiteGraph.chosen: 1,
    TFLiteGraph.transposed: 1, TFLiteGraph.reshaped: 1, TFLiteGraph.sliced: 2, TFLiteGraph.cut: 1,
    TFLiteGraph.padded: 2, TFLiteGraph.joined: 2, TFLiteGraph.packed: 1, TFLiteGraph.split: 1,
    TFLiteGraph.resized: 1, TFLiteGraph.gathered: 1,
}  # fmt: skip


def _input_shape(rng: random.Random) -> Shape:
    """An image mostly, a series, or a row."""
    kind = rng.random()
    if kind < 0.7:
        size = rng.choice(EXTENTS), rng.choice(EXTENTS)
        return (rng.choice((1, 1, 1, 2)), *size, rng.choice(CHANNELS))
    if kind < 0.85:
        return (1, rng.choice(EXTENTS), rng.choice(EXTENTS))
    return (rng.choice((1, 3)), rng.choice((*EXTENTS, 33)))


def random_tflite(seed: int, most: int = 8) -> Made:
    """A file of 1 to `most` operators; every value that nobody reads is an output."""
    graph = TFLiteGraph(seed)
    rng = graph.rng
    shape = _input_shape(rng)
    for _ in range(rng.choice((1, 1, 1, 2))):
        graph.input(shape)
    wanted = rng.randint(1, most)
    for _ in range(12 * wanted):
        if len(graph.steps) >= wanted:
            break
        rng.choices(list(_OPERATORS), list(_OPERATORS.values()))[0](graph)
    inputs = set(graph.model.graph.inputs)
    ends = [v.index for v in graph.values if v.index not in graph.read | inputs]
    inner = [v.index for v in graph.values if v.index in graph.read - inputs]
    if inner and rng.random() < 0.2:
        ends.append(rng.choice(inner))
    if not ends:
        return random_tflite(seed + (1 << 32), most)
    return Made("tflite", seed, graph.model.build(ends), tuple(graph.steps))
