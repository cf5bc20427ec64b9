"""TFLite files whose shapes are open: those of what is computed follow from the inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midge import ops
from midge.core.errors import MidgeError
from midge.frontends.tflite import read
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.oracle.litert import LiteRT
from tflite_builder import TFLiteModel

pytest.importorskip("ai_edge_litert", reason="needs pip install '.[verify]'")

Q = (0.1, 3)
CONV = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


class Free:
    """A model under construction whose tensors are open where a dimension is -1. What stands in
    their `shape` there is 1, as converters write it."""

    def __init__(self) -> None:
        self.model = TFLiteModel()

    def _open(self, tensor: int, signature: tuple[int, ...]) -> int:
        if -1 in signature:
            self.model.graph.tensors[tensor].shapeSignature = list(signature)
        return tensor

    def input(self, *signature: int, dtype: str = "int8") -> int:
        q = Q if dtype == "int8" else ()
        shape = [1 if n == -1 else n for n in signature]
        return self._open(self.model.input(shape, dtype, *q), signature)

    def ints(self, *values: Any) -> int:
        return self.model.const(np.array(values[0] if len(values) == 1 else values, np.int32))

    def op(
        self, kind: str, inputs: list[int], *signature: int, options: str = "", dtype: str = "int8",
        q: Any = Q, **fields: Any,
    ) -> int:  # fmt: skip
        shape = [1 if n == -1 else n for n in signature]
        out = self.model.value(shape, dtype, *(q if dtype == "int8" else ()))
        self.model.op(kind, inputs, [out], options, **fields)
        return self._open(out, signature)

    def shape(self, x: int, rank: int) -> int:
        return self.op("SHAPE", [x], rank, dtype="int32", options="ShapeOptions", outType=2)

    def batch(self, x: int, rank: int) -> int:
        spec = [self.ints([n]) for n in (0, 1, 1)]
        return self.op(
            "STRIDED_SLICE", [self.shape(x, rank), *spec], dtype="int32",
            options="StridedSliceOptions", shrinkAxisMask=1,
        )  # fmt: skip

    def pack(self, *parts: int) -> int:
        count = len(parts)
        return self.op(
            "PACK", [*parts], count, dtype="int32", options="PackOptions", valuesCount=count
        )

    def build(self, *outputs: int) -> bytes:
        return self.model.build(outputs)


def dense_of_rows() -> bytes:
    """As Keras writes a dense layer of [batch, 5, 4]: everything by way of its shape."""
    f = Free()
    x = f.input(-1, 5, 4)
    shape, zero = f.shape(x, 3), f.ints(0)
    rows = f.op("GATHER", [shape, f.ints([0, 1])], 2, dtype="int32", options="GatherOptions")
    depth = f.op("GATHER", [shape, f.ints([2])], 1, dtype="int32", options="GatherOptions")
    counts = [
        f.op("REDUCE_PROD", [v, f.ints([0])], dtype="int32", options="ReducerOptions")
        for v in (rows, depth)
    ]
    flat = f.op("RESHAPE", [x, f.pack(*counts)], -1, -1)
    w = f.model.const(np.arange(-6, 6, dtype=np.int8).reshape(3, 4), 0.02)
    y = f.op("FULLY_CONNECTED", [flat, w, -1], -1, 3, options="FullyConnectedOptions")
    back = f.op(
        "CONCATENATION", [rows, f.ints([3])], 3, dtype="int32", options="ConcatenationOptions"
    )
    assert zero
    return f.build(f.op("RESHAPE", [y, back], -1, 5, 3))


def upsampled() -> bytes:
    """Rows repeated by TILE and RESHAPE, whose height nobody states, and padded."""
    f = Free()
    x = f.input(-1, 3, 4, 2)
    wide = f.op("EXPAND_DIMS", [x, f.ints(2)], -1, 3, 1, 4, 2)
    tiled = f.op("TILE", [wide, f.ints([1, 1, 3, 1, 1])], -1, -1, 3, 4, 2)
    shape = f.pack(f.batch(x, 4), f.ints(9), f.ints(4), f.ints(2))
    tall = f.op("RESHAPE", [tiled, shape], -1, -1, 4, 2)
    pads = f.ints([[0, 0], [1, 1], [0, 2], [0, 0]])
    return f.build(f.op("PAD", [tall, pads], -1, -1, 6, 2))


def filled() -> bytes:
    """A state of zeros, as unrolled recurrent layers begin with."""
    f = Free()
    x = f.input(-1, 4)
    zero = f.model.const(np.array(5, np.int8), *Q)
    state = f.op("FILL", [f.pack(f.batch(x, 2), f.ints(4)), zero], -1, 4)
    wide = f.op(
        "BROADCAST_TO", [state, f.pack(f.ints(2), f.batch(x, 2), f.ints(4))], 2, -1, 4, version=3
    )
    both = f.op("ADD", [wide, x], 2, -1, 4, options="AddOptions")
    least = f.op("REDUCE_MIN", [both, f.ints([0])], -1, 4, options="ReducerOptions")
    mean = f.op("MEAN", [both, f.ints([0])], -1, 4, options="ReducerOptions")
    return f.build(f.op("CONCATENATION", [least, mean], -1, 4, options="ConcatenationOptions"))


def sizes_of_images() -> bytes:
    """Height and width open too: convolution, pool, resizing, transposition, places."""
    f = Free()
    x = f.input(-1, -1, -1, 2)
    w = f.model.const(np.arange(-9, 9, dtype=np.int8).reshape(1, 3, 3, 2), 0.02)
    b = f.model.const(np.array([7], np.int32), 0.002)
    y = f.op("CONV_2D", [x, w, b], -1, -1, -1, 1, options="Conv2DOptions", padding=0, **CONV)
    y = f.op(
        "MAX_POOL_2D", [y], -1, -1, -1, 1, options="Pool2DOptions",
        strideH=2, strideW=2, filterHeight=2, filterWidth=2, padding=0,
    )  # fmt: skip
    y = f.op(
        "RESIZE_NEAREST_NEIGHBOR", [y, f.ints([4, 6])], -1, 4, 6, 1,
        options="ResizeNearestNeighborOptions",
    )  # fmt: skip
    turned = f.op("TRANSPOSE", [y, f.ints([0, 3, 2, 1])], -1, 1, 6, 4, options="TransposeOptions")
    flat = f.op("SQUEEZE", [turned], -1, 6, 4, options="SqueezeOptions", squeezeDims=[1])
    best = f.op(
        "ARG_MAX", [flat, f.ints(2)], -1, 6, dtype="int32", options="ArgMaxOptions", outputType=2
    )
    first = f.op(
        "STRIDED_SLICE", [flat, f.ints([0, 2, 0]), f.ints([0, 0, 3]), f.ints([1, 1, 1])], -1, 1, 3,
        options="StridedSliceOptions", beginMask=1, endMask=1, newAxisMask=0, shrinkAxisMask=2,
    )  # fmt: skip
    f.model.graph.tensors[first].shape = [1, 3]
    f.model.graph.tensors[first].shapeSignature = [-1, 3]
    return f.build(best, first)


Shapes = Mapping[str, tuple[int, ...]]
CASES: dict[str, tuple[Callable[[], bytes], tuple[Shapes, ...]]] = {
    "dense of rows": (dense_of_rows, ({}, {"t0": (3, 5, 4)})),
    "upsampled": (upsampled, ({}, {"t0": (2, 3, 4, 2)})),
    "filled": (filled, ({}, {"t0": (3, 4)})),
    "images": (
        sizes_of_images, ({"t0": (1, 5, 7, 2)}, {"t0": (2, 1, 1, 2)}, {"t0": (3, 8, 4, 2)}),
    ),
}  # fmt: skip


def graph(data: bytes, shapes: Shapes | None = None) -> Graph:
    ops.load()
    return read(data, "model", shapes or {})


@pytest.mark.parametrize("case", CASES)
def test_shapes_follow_from_the_inputs(case: str, tmp_path: Path) -> None:
    """Every value, for each shape, as LiteRT resized to it."""
    make, given = CASES[case]
    path = tmp_path / "model.tflite"
    path.write_bytes(make())
    for shapes in given:
        g = graph(make(), shapes)
        x = {n: np.random.default_rng(0).integers(-128, 128, g.types[n].shape) for n in g.inputs}
        inputs = {n: a.astype(np.int8) for n, a in x.items()}
        want = LiteRT().load(path, g).run(inputs)
        have = evaluate(g, inputs)
        assert have
        for name, array in have.items():
            np.testing.assert_array_equal(array, want[name], err_msg=f"{case} {shapes} {name}")


def test_sizes_of_shapes_are_folded() -> None:
    g = graph(dense_of_rows())
    assert [n.op for n in g.nodes] == ["reshape", "dense", "reshape"]
    assert g.types[g.outputs[0]].shape == (1, 5, 3)


def relu(**tensors: Mapping[str, Any]) -> bytes:
    """x[-1x?x2] -> RELU -> y; `tensors` changes fields of x and y."""
    f = Free()
    x = f.input(-1, 4, 2)
    y = f.op("RELU", [x], -1, 4, 2)
    for name, fields in tensors.items():
        for field, value in fields.items():
            setattr(f.model.graph.tensors[{"x": x, "y": y}[name]], field, value)
    return f.build(y)


def computed_shape() -> bytes:
    """A RESHAPE to what arrives at run time, the file states nothing."""
    f = Free()
    x, at = f.input(-1, 4), f.input(2, dtype="int32")
    return f.build(f.op("RESHAPE", [x, at], -1, -1))


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "a shorter signature": (lambda: relu(x={"shapeSignature": [-1, 4]}), "disagree"),
    "another size": (lambda: relu(x={"shapeSignature": [-1, 5, 2]}), "disagree"),
    "a negative size": (lambda: relu(x={"shapeSignature": [-2, 4, 2]}), "disagree"),
    "a size that is not inferred": (
        lambda: relu(y={"shape": [1, 5, 2], "shapeSignature": [-1, 5, 2]}), r"i8\[\?x5x2\]"
    ),
    "a static size that is not inferred": (
        lambda: relu(y={"shape": [2, 4, 2], "shapeSignature": None}), r"i8\[2x4x2\], inferred"
    ),
    "an open height": (lambda: relu(x={"shapeSignature": [-1, -1, 2]}), "--shape t0=1"),
    "a shape from outside": (computed_shape, "computed at run time"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_told_is_refused(case: str) -> None:
    make, says = REFUSED[case]
    with pytest.raises(MidgeError, match=says) as caught:
        graph(make())
    assert caught.value.where


def test_tensors_of_unknown_rank_are_inferred() -> None:
    data = relu(y={"shape": [], "shapeSignature": None})
    assert graph(data).types["t1"].shape == (1, 4, 2)


def test_an_open_batch_is_one_whatever_the_file_holds_there() -> None:
    data = relu(x={"shape": [7, 4, 2]}, y={"shape": [7, 4, 2]})
    assert graph(data).types["t1"].shape == (1, 4, 2)


BIASES = {
    "conv": ("CONV_2D", (3, 2, 2, 2), 0, "Conv2DOptions"),
    "depthwise": ("DEPTHWISE_CONV_2D", (1, 2, 2, 2), 3, "DepthwiseConv2DOptions"),
}


def biased(kind: str, axis: int, scales: int = 0) -> bytes:
    """A convolution whose bias says that its scales are along `axis`, as its weights' may be."""
    code, shape, own, options = BIASES[kind]
    m = TFLiteModel()
    n = shape[own]
    x = m.input((1, 4, 4, 2), "int8", 0.5)
    w = m.const(np.arange(np.prod(shape), dtype=np.int8).reshape(shape), [0.1] * n, axis=own)
    b = m.const(np.arange(n, dtype=np.int32), [0.05] * (scales or n), axis=axis)
    y = m.value((1, 4, 4, n), "int8", 0.7)
    fields = {**CONV, "padding": 0} | ({"depthMultiplier": 1} if kind == "depthwise" else {})
    m.op(code, [x, w, b], [y], options, **fields)
    return m.build([y])


@pytest.mark.parametrize("axis", [0, 3])
@pytest.mark.parametrize("kind", BIASES)
def test_a_bias_may_name_the_axis_of_its_weights(kind: str, axis: int, tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(biased(kind, axis))
    g = graph(path.read_bytes())
    x = {"t0": np.random.default_rng(0).integers(-128, 128, (1, 4, 4, 2)).astype(np.int8)}
    want = LiteRT().load(path, g).run(x)["t3"]
    np.testing.assert_array_equal(evaluate(g, x)["t3"], want)


def test_a_bias_of_fewer_scales_is_refused() -> None:
    with pytest.raises(MidgeError, match="2 scales on axis 3"):
        graph(biased("conv", 3, 2))
