"""Layers of random ONNX files."""

from __future__ import annotations

from math import prod
from typing import Any

from fuzzing.onnx_values import MOST, OnnxValues


class OnnxLayers(OnnxValues):
    """A file that can get layers."""

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
        if min(made) < 1 or batch * out * prod(made) > MOST:
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
        if min(made) < 1 or batch * out * prod(made) > MOST:
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
