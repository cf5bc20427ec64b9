"""TFLite models of quantised operators whose scales lie anywhere, as no converter chooses them.

    data, inputs = scaled([("CONV_2D", 3), ("ADD", 4)], "int8", 6.0)

Scales are 10^-reach..10^reach. What comes out is mostly limited, often beyond what 32 bits hold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from oracle import every, random
from tflite_builder import TFLiteModel

_CODES = {"relu": 1, "relu_n1_to_1": 2, "relu6": 3}


class Scaled:
    """Operators side by side in one model; `inputs`: values for what the model reads."""

    def __init__(self, dtype: str, reach: float) -> None:
        self.model, self.dtype, self.reach = TFLiteModel(), dtype, reach
        self.rng = np.random.default_rng(0)
        self.inputs: dict[str, Any] = {}
        self.outputs: list[int] = []

    def scale(self) -> float:
        return float(np.float32(10 ** self.rng.uniform(-self.reach, self.reach)))

    def quant(self) -> tuple[float, int]:
        middle = int(self.rng.integers(-128, 128))
        zero = int(self.rng.choice([-128, 127, 0, middle]))
        return self.scale(), 0 if self.dtype == "int16" else zero

    def read(self, values: Any) -> tuple[int, float]:
        """An input, and its scale."""
        scale, zero = self.quant()
        index = self.model.input(values.shape, self.dtype, scale, zero)
        self.inputs[f"t{index}"] = values
        return index, scale

    def constant(self, shape: Sequence[int]) -> int:
        return self.model.const(random(self.rng, shape, self.dtype), *self.quant())

    def write(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int],
        *options: Any,
        quant: tuple[float, int] | None = None,
        dtype: str = "",
        **fields: Any,
    ) -> None:
        if dtype == "bool":
            y = self.model.value(shape, dtype)
        else:
            y = self.model.value(shape, dtype or self.dtype, *(quant or self.quant()))
        self.model.op(kind, inputs, [y], *options, **fields)
        self.outputs.append(y)

    def activation(self) -> int:
        return int(self.rng.choice([0, 0, *_CODES.values()]))

    def weighted(self, kind: str) -> None:
        """Layers with weights, per tensor and per channel."""
        shape, weights, out = {
            "CONV_2D": ((1, 5, 5, 4), (4, 1, 2, 4), (1, 5, 4, 4)),
            "DEPTHWISE_CONV_2D": ((1, 5, 5, 4), (1, 2, 2, 4), (1, 4, 4, 4)),
            "FULLY_CONNECTED": ((7, 4), (4, 4), (7, 4)),
        }[kind]
        x, sx = self.read(random(self.rng, shape, self.dtype))
        scales = [self.scale() for _ in range(int(self.rng.choice([1, 4])))]
        axis = 3 if kind == "DEPTHWISE_CONV_2D" else 0
        w = self.model.const(random(self.rng, weights, "int8"), scales, axis=axis)
        most = 10 ** int(self.rng.integers(1, 7))
        bias = self.rng.integers(-most, most, 4)
        with np.errstate(all="ignore"):
            products = np.float32(sx) * np.array(scales, np.float32)
        b = self.model.const(bias.astype("int32" if self.dtype == "int8" else "int64"), products)
        window = {
            "strideH": 1,
            "strideW": 1,
            "padding": 1,
            "dilationHFactor": 1,
            "dilationWFactor": 1,
        }
        options, fields = {
            "CONV_2D": ("Conv2DOptions", window),
            "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", {**window, "depthMultiplier": 1}),
            "FULLY_CONNECTED": ("FullyConnectedOptions", {}),
        }[kind]
        fields["fusedActivationFunction"] = self.activation()
        self.write(kind, [x, w, b], out, options, **fields)

    def binary(self, kind: str) -> None:
        a, _ = self.read(random(self.rng, (64,), self.dtype))
        if self.rng.random() < 0.4:
            b = self.constant((64,))
        else:
            b, _ = self.read(random(self.rng, (64,), self.dtype))
        name = "".join(part.capitalize() for part in kind.split("_"))
        active = kind in ("ADD", "SUB", "MUL")
        fields = {"fusedActivationFunction": self.activation()} if active else {}
        compared = kind in ("EQUAL", "LESS")
        self.write(
            kind, [a, b], (64,), f"{name}Options", dtype="bool" if compared else "", **fields
        )

    def mean(self, kind: str) -> None:
        x, _ = self.read(random(self.rng, (1, 5, 7, 3), self.dtype))
        axes = self.model.const(np.array([1, 2], np.int32))
        self.write(kind, [x, axes], (1, 3), "ReducerOptions", keepDims=False)

    def product(self, kind: str) -> None:
        a, _ = self.read(random(self.rng, (5, 4), self.dtype))
        b, _ = self.read(random(self.rng, (4, 6), self.dtype))
        self.write(kind, [a, b], (5, 6), "BatchMatMulOptions")

    def prelu(self, kind: str) -> None:
        x, _ = self.read(random(self.rng, (1, 4, 4, 3), self.dtype))
        self.write(kind, [x, self.constant((1, 1, 3))], (1, 4, 4, 3))

    def unary(self, kind: str) -> None:
        values = every("int8") if self.dtype == "int8" else random(self.rng, (2048,), "int16")
        scale, zero = self.quant()
        if kind in ("SQRT", "RSQRT"):
            values = np.maximum(
                values, values.dtype.type(min(zero + (kind == "RSQRT"), values.max()))
            )
        x = self.model.input((1, values.size), self.dtype, scale, zero)
        self.inputs[f"t{x}"] = values.reshape(1, -1)
        fixed = {
            ("LOGISTIC", "int8"): (1 / 256, -128),
            ("SOFTMAX", "int8"): (1 / 256, -128),
            ("LOG_SOFTMAX", "int8"): (1 / 16, 127),
        }
        if self.dtype == "int16" and kind in ("LOGISTIC", "TANH", "SOFTMAX"):
            fixed[kind, "int16"] = (1 / 32768, 0)
        slope = float(np.float32(self.rng.choice([0.1, -0.5, 1.5, 0.0, 100.0, -1e6])))
        options, fields = {
            "LEAKY_RELU": ("LeakyReluOptions", {"alpha": slope}),
            "SOFTMAX": ("SoftmaxOptions", {"beta": float(self.rng.choice([1.0, 0.5, 10.0]))}),
        }.get(kind, ("", {}))
        self.write(
            kind, [x], (1, values.size), options, quant=fixed.get((kind, self.dtype)), **fields
        )


_UNARY = (
    "SOFTMAX", "LOGISTIC", "TANH", "LOG_SOFTMAX", "LEAKY_RELU", "GELU", "RELU", "RELU6",
    "RELU_N1_TO_1", "ABS", "QUANTIZE", "EXP", "LOG", "SQRT", "RSQRT", "HARD_SWISH",
)  # fmt: skip
_ROUTES: dict[str, Callable[[Scaled, str], None]] = {
    **dict.fromkeys(("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"), Scaled.weighted),
    **dict.fromkeys(("ADD", "SUB", "MUL", "SQUARED_DIFFERENCE", "EQUAL", "LESS"), Scaled.binary),
    "MEAN": Scaled.mean,
    "BATCH_MATMUL": Scaled.product,
    "PRELU": Scaled.prelu,
    **dict.fromkeys(_UNARY, Scaled.unary),
}
_NOT_INT16 = {"SQUARED_DIFFERENCE", "PRELU", "LOG_SOFTMAX", "GELU", "RELU_N1_TO_1", "SQRT",
              "HARD_SWISH"}  # fmt: skip
KINDS = {
    "int8": tuple(_ROUTES),
    "int16": tuple(k for k in _ROUTES if k not in _NOT_INT16),
}


def scaled(
    cases: Sequence[tuple[str, int]], dtype: str, reach: float
) -> tuple[bytes, dict[str, Any]]:
    """A model of these operators, (kind, seed), side by side, and inputs for it. An operator of a
    kind and a seed is the same in whatever company."""
    made = Scaled(dtype, reach)
    for kind, seed in cases:
        made.rng = np.random.default_rng(seed)
        _ROUTES[kind](made, kind)
    return made.model.build(made.outputs), made.inputs
