"""Layers of random TFLite files."""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from fuzzing.tflite_values import EXTENTS, MOST, Shape, TFLiteValues, Value


class TFLiteLayers(TFLiteValues):
    """A file that can get layers."""

    def weights(self, x: Value, shape: Shape, axis: int) -> tuple[list[int], float]:
        """Weights, mostly a bias, and the size of a product."""
        count = shape[axis]
        if not x.is_integer:
            w = self.model.const(self.numbers.normal(0, 0.4, shape).astype(np.float32))
            bias = self.model.const(self.numbers.normal(0, 1, count).astype(np.float32))
            return [w, bias], 1.0
        array = self.numbers.integers(-127, 128, shape)
        mode = self.rng.random()
        if mode < 0.25:
            dead = self.numbers.random(count) < (1.0 if mode < 0.05 else 0.4)
            np.moveaxis(array, axis, 0)[dead] = 0
        elif mode < 0.35:
            array = self.numbers.choice([-128, -127, 127], shape)
        base = 10 ** self.rng.uniform(*((-7, 1) if self.wild else (-4, -1)))
        scales = [float(np.float32(base))]
        if self.rng.random() < 0.6:
            spread = 10 ** self.numbers.uniform(-1, 1, count)
            scales = [float(s) for s in (base * spread).astype(np.float32)]
        w = self.model.const(array.astype(np.int8), scales, axis=axis)
        return [w, self.bias(x, scales, count)], float(np.mean(scales)) * 70

    def bias(self, x: Value, scales: list[float], count: int) -> int:
        most = self.rng.choice((100, 3000, 30000, 1 << 24))
        array = self.numbers.integers(-most, most, count)
        wide = array.astype(np.int64 if x.dtype == "int16" else np.int32)
        assert x.scale is not None
        with np.errstate(all="ignore"):
            units = np.float32(x.scale) * np.array(scales, np.float32)
        units = np.maximum(units, np.float32(1e-37))
        return self.model.const(wide, [float(u) for u in units])

    def window(self, x: Value, kernel: Shape, *, dilated: bool) -> tuple[dict[str, int], Shape]:
        """Strides, dilations, padding, and height and width of the output; () if there is none."""
        strides = [self.rng.choice((1, 1, 1, 2, 3)) for _ in "hw"]
        dilations = [1, 1]
        if dilated and self.rng.random() < 0.2:
            strides, dilations = [1, 1], [self.rng.choice((1, 2, 3)) for _ in "hw"]
        padding = self.rng.choice((0, 1))
        size = []
        for n, k, s, d in zip(x.shape[1:3], kernel, strides, dilations, strict=True):
            reach = (k - 1) * d + 1
            size.append(-(-n // s) if padding == 0 else (n - reach) // s + 1 if n >= reach else 0)
        fields = {"strideH": strides[0], "strideW": strides[1], "padding": padding}
        if dilated:
            fields |= {"dilationHFactor": dilations[0], "dilationWFactor": dilations[1]}
        return fields, tuple(size) if min(size) > 0 else ()

    def convolution(self) -> None:
        x = self.pick(lambda v: len(v.shape) == 4)
        if x is None:
            return
        kernel = (self.rng.choice((1, 1, 2, 3, 3, 5)), self.rng.choice((1, 1, 2, 3, 3, 5)))
        fields, size = self.window(x, kernel, dilated=True)
        channels, groups = x.shape[3], 1
        out = self.rng.choice((1, 2, 3, 4, 5, 6, 8, 12, 16, 17))
        if channels > 1 and self.rng.random() < 0.12:
            groups = self.rng.choice([g for g in range(2, channels + 1) if channels % g == 0])
            out = groups * self.rng.choice((1, 2, 3))
        if not size or x.shape[0] * prod(size) * out > MOST:
            return
        operands, unit = self.weights(x, (out, *kernel, channels // groups), 0)
        scale = (x.scale or 1.0) * unit * sqrt(prod(kernel) * channels / groups)
        self.write(
            "CONV_2D", [x.index, *operands], (x.shape[0], *size, out), x, "Conv2DOptions",
            quant=self.sized(scale, x.dtype), fusedActivationFunction=self.activation(), **fields,
        )  # fmt: skip

    def depthwise(self) -> None:
        x = self.pick(lambda v: len(v.shape) == 4)
        if x is None:
            return
        kernel = (self.rng.choice((1, 2, 3, 3, 5)), self.rng.choice((1, 2, 3, 3, 5)))
        fields, size = self.window(x, kernel, dilated=True)
        times = self.rng.choice((1, 1, 1, 1, 2, 3))
        out = x.shape[3] * times
        if not size or out > 64 or x.shape[0] * prod(size) * out > MOST:
            return
        operands, unit = self.weights(x, (1, *kernel, out), 3)
        self.write(
            "DEPTHWISE_CONV_2D", [x.index, *operands], (x.shape[0], *size, out), x,
            "DepthwiseConv2DOptions", quant=self.sized((x.scale or 1) * unit * 3, x.dtype),
            depthMultiplier=times, fusedActivationFunction=self.activation(), **fields,
        )  # fmt: skip

    def dense(self) -> None:
        x = self.pick(lambda v: 0 < len(v.shape) <= 4 and prod(v.shape) < 3000)
        if x is None:
            return
        keep = len(x.shape) > 1 and self.rng.random() < 0.3
        depth = x.shape[-1] if keep or self.rng.random() < 0.5 else prod(x.shape[1:])
        if depth < 1 or depth > 2000:
            return
        out = self.rng.choice((1, 2, 3, 4, 5, 7, 8, 10, 13, 16, 33))
        operands, unit = self.weights(x, (out, depth), 0)
        if self.rng.random() < 0.1:
            operands[1] = -1
        shape = (*x.shape[:-1], out) if keep else (prod(x.shape) // depth, out)
        self.write(
            "FULLY_CONNECTED", [x.index, *operands], shape, x, "FullyConnectedOptions", version=4,
            quant=self.sized((x.scale or 1) * unit * sqrt(depth), x.dtype), keepNumDims=keep,
            fusedActivationFunction=self.activation(),
        )  # fmt: skip

    def pool(self) -> None:
        x = self.pick(lambda v: len(v.shape) == 4)
        if x is None:
            return
        whole = x.shape[1:3] if self.rng.random() < 0.2 else None
        kernel = whole or (self.rng.choice((1, 2, 2, 3, 5)), self.rng.choice((1, 2, 2, 3)))
        fields, size = self.window(x, kernel, dilated=False)
        if not size:
            return
        self.write(
            self.rng.choice(("AVERAGE_POOL_2D", "MAX_POOL_2D")), [x.index],
            (x.shape[0], *size, x.shape[3]), x, "Pool2DOptions", filterHeight=kernel[0],
            filterWidth=kernel[1], fusedActivationFunction=self.activation(), **fields,
        )  # fmt: skip

    def matmul(self) -> None:
        x = self.pick(lambda v: 2 <= len(v.shape) <= 4)
        if x is None:
            return
        turned = [self.rng.random() < 0.4 for _ in "ab"]
        rows, depth = x.shape[-2:] if not turned[0] else x.shape[:-3:-1]
        columns = self.rng.choice(EXTENTS)
        shape = (*x.shape[:-2], *((columns, depth) if turned[1] else (depth, columns)))
        if prod(shape) > 2000 or prod(x.shape[:-2]) * rows * columns > MOST:
            return
        quant = self.quant(x.dtype)
        index = self.constant(shape, x, quant)
        scale = (x.scale or 1) * (quant[0] or 1) * 50 * sqrt(depth)
        self.write(
            "BATCH_MATMUL", [x.index, index], (*x.shape[:-2], rows, columns), x,
            "BatchMatMulOptions", quant=self.sized(scale, x.dtype), adjX=turned[0], adjY=turned[1],
        )  # fmt: skip
