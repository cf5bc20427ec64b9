"""All operators in one model of each element type: compiled C on this machine against LiteRT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import midge
from oracle import ACTIVATIONS, litert, load, random
from tflite_builder import TFLiteModel

pytestmark = pytest.mark.slow

SHAPE = (1, 6, 5, 4)
FLOAT_ULPS = 16  # sums in another order, exp by a polynomial


class Zoo:
    """A model that applies operators side by side to one tensor; every result is an output."""

    def __init__(self, dtype: str, seed: int = 0) -> None:
        self.dtype = dtype
        self.rng = np.random.default_rng(seed)
        self.model = TFLiteModel()
        self.outputs: list[int] = []
        self.x = self.model.input(SHAPE, dtype, *self.quant(0.03, -5))

    def quant(self, scale: float, zero: int = 0) -> tuple[Any, int]:
        if self.dtype == "float32":
            return None, 0
        return (scale, zero) if self.dtype == "int8" else (scale / 200, 0)

    def add(
        self,
        kind: str,
        inputs: Sequence[int],
        shape: Sequence[int] = SHAPE,
        quant: tuple[Any, int] | None = None,
        options: str = "",
        **fields: Any,
    ) -> int:
        """An operator; its output has the quantisation of x unless another is given."""
        y = self.model.value(shape, self.dtype, *(quant or self.quant(0.03, -5)))
        self.model.op(kind, inputs, [y], options, **fields)
        self.outputs.append(y)
        return y

    def ints(self, *values: Any) -> int:
        return self.model.const(np.array(values, np.int32))

    def const(self, shape: Sequence[int], scale: float, zero: int = 0) -> int:
        return self.model.const(random(self.rng, shape, self.dtype), *self.quant(scale, zero))

    def weights(self, shape: tuple[int, ...], axis: int) -> list[int]:
        """Weights and bias."""
        n = shape[axis]
        if self.dtype == "float32":
            values = (random(self.rng, s, "float32") for s in (shape, (n,)))
            return [self.model.const(v) for v in values]
        w = self.model.const(
            random(self.rng, shape, "int8"), [0.001 * (i + 1) for i in range(n)], axis=axis
        )
        bias = "int32" if self.dtype == "int8" else "int64"
        return [w, self.model.const(self.rng.integers(-900, 900, n).astype(bias), [1e-4] * n)]

    def check(self) -> None:
        data = self.model.build(self.outputs)
        x = random(self.rng, SHAPE, self.dtype)
        want = litert(data, {"t0": x})
        package = midge.compile(load(data), "host", name="zoo")
        have = midge.run(package, {"t0": x}, on="host").outputs
        assert len(want) == len(self.outputs)
        for name, expected in want.items():
            if self.dtype == "float32":
                top = np.float32(max(np.abs(expected).max(), np.abs(x).max()))
                limit = FLOAT_ULPS * float(np.spacing(top))
                np.testing.assert_allclose(have[name], expected, rtol=0, atol=limit)
            else:
                np.testing.assert_array_equal(have[name], expected, err_msg=name)


def elementwise(z: Zoo) -> None:
    for kind in ("RELU", "RELU6", "ABS"):
        z.add(kind, [z.x], quant=z.quant(0.025, 7))
    z.add("LEAKY_RELU", [z.x], quant=z.quant(0.02, 3), options="LeakyReluOptions", alpha=0.2)
    z.add("LOGISTIC", [z.x], quant={"int8": (1 / 256, -128), "int16": (1 / 32768, 0)}.get(z.dtype))
    z.add("TANH", [z.x], quant={"int8": (1 / 128, 0), "int16": (1 / 32768, 0)}.get(z.dtype))
    if z.dtype != "int16":
        z.add("HARD_SWISH", [z.x], quant=z.quant(0.035, 7))
    for kind in ("ADD", "SUB", "MUL"):
        for shape in ((4,), SHAPE, (1, 6, 1, 1)):
            options = {
                "fusedActivationFunction": ACTIVATIONS["relu6" if shape == SHAPE else "none"]
            }
            other = z.const(shape, 0.02, 9)
            wide = z.quant(0.06, -9) if z.dtype == "int8" or kind != "MUL" else z.quant(3.0)
            z.add(kind, [z.x, other], quant=wide, options=f"{kind.title()}Options", **options)
    z.add("MUL", [z.x, z.x], quant=z.quant(0.1 if z.dtype == "int8" else 4.0), options="MulOptions")
    for kind in ("MAXIMUM", "MINIMUM"):
        z.add(kind, [z.x, z.const((1, 1, 5, 4), 0.03, -5)], options="MaximumMinimumOptions")


def movement(z: Zoo) -> None:
    paddings = z.ints([0, 0], [1, 0], [2, 1], [0, 0])
    z.add("PAD", [z.x, paddings], (1, 7, 8, 4), options="PadOptions")
    z.add(
        "CONCATENATION",
        [z.x, z.const(SHAPE, 0.03, -5), z.x],
        (1, 6, 5, 12),
        options="ConcatenationOptions",
        axis=3,
    )
    z.add("TRANSPOSE", [z.x, z.ints(0, 3, 1, 2)], (1, 4, 6, 5), options="TransposeOptions")
    spec = (z.ints(0, 5, 1, 0), z.ints(1, 0, 4, 4), z.ints(1, -2, 1, 3))
    z.add("STRIDED_SLICE", [z.x, *spec], (1, 3, 3, 2), options="StridedSliceOptions")
    z.add(
        "SLICE",
        [z.x, z.ints(0, 2, 0, 1), z.ints(1, 3, -1, 2)],
        (1, 3, 5, 2),
        options="SliceOptions",
    )
    halves = [z.model.value((1, 3, 5, 4), z.dtype, *z.quant(0.03, -5)) for _ in range(2)]
    z.model.op("SPLIT", [z.ints(1), z.x], halves, "SplitOptions", numSplits=2)
    z.outputs += halves
    for half in (False, True):
        for kind, name in (
            ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighbor"),
            ("RESIZE_BILINEAR", "ResizeBilinear"),
        ):
            z.add(
                kind,
                [z.x, z.ints(9, 8)],
                (1, 9, 8, 4),
                options=f"{name}Options",
                halfPixelCenters=half,
            )


def sums(z: Zoo) -> None:
    window = {"strideH": 2, "strideW": 1, "padding": 0}
    for kind in ("AVERAGE_POOL_2D", "MAX_POOL_2D"):
        z.add(
            kind,
            [z.x],
            (1, 3, 5, 4),
            options="Pool2DOptions",
            filterHeight=3,
            filterWidth=2,
            **window,
        )
    z.add("MEAN", [z.x, z.ints(1, 2)], (1, 4), z.quant(0.01, 3), "ReducerOptions", keepDims=False)
    conv = {**window, "dilationHFactor": 1, "dilationWFactor": 1}
    wide = z.quant(0.3, 3) if z.dtype == "int8" else z.quant(0.5)
    z.add(
        "CONV_2D", [z.x, *z.weights((3, 3, 3, 4), 0)], (1, 3, 5, 3), wide, "Conv2DOptions", **conv
    )
    z.add(
        "DEPTHWISE_CONV_2D",
        [z.x, *z.weights((1, 3, 3, 8), 3)],
        (1, 3, 5, 8),
        wide,
        "DepthwiseConv2DOptions",
        depthMultiplier=2,
        **conv,
    )
    z.add("FULLY_CONNECTED", [z.x, *z.weights((7, 20), 0)], (6, 7), wide, "FullyConnectedOptions")
    softmax = {"int8": (1 / 256, -128), "int16": (1 / 32768, 0)}.get(z.dtype)
    z.add("SOFTMAX", [z.x], SHAPE, softmax, "SoftmaxOptions", beta=1.0)


@pytest.mark.parametrize("family", [elementwise, movement, sums], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
def test_compiled(dtype: str, family: Any) -> None:
    zoo = Zoo(dtype)
    family(zoo)
    zoo.check()


def test_from_floats_through_integers_to_floats() -> None:
    m = TFLiteModel()
    x = m.input((1, 50), "float32")
    q = m.value((1, 50), "int8", 0.05, 3)
    r = m.value((1, 50), "int8", 0.08, -20)
    w = m.value((1, 50), "int16", 1e-3, 0)
    y, z = m.value((1, 50), "float32"), m.value((1, 50), "float32")
    m.op("QUANTIZE", [x], [q], "QuantizeOptions")
    m.op("QUANTIZE", [q], [r], "QuantizeOptions")
    m.op("DEQUANTIZE", [r], [y], "DequantizeOptions")
    m.op("QUANTIZE", [x], [w], "QuantizeOptions")
    m.op("DEQUANTIZE", [w], [z], "DequantizeOptions")
    data = m.build([y, z, r])
    inputs = {"t0": random(np.random.default_rng(0), (1, 50), "float32")}
    want = litert(data, inputs)
    have = midge.run(midge.compile(load(data), "host", name="zoo"), inputs, on="host").outputs
    for name, expected in want.items():
        np.testing.assert_array_equal(have[name], expected)
