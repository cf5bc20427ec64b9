"""Whole small files of every format, as they are before they are damaged; quick to compile."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import onnx_builder
import small_models
import torch_cases
from graphs import random_graph
from midge import driver
from midge.export import writer_for
from midge.graph.archive import pack
from midge.graph.ir import OPS, Graph, Node, Sample
from tflite_builder import TFLiteModel

DATA = Path(__file__).parents[1] / "data"
SHARED = Path(__file__).parents[3] / "shared" / "models"
_SMALL = ("hello_world_float", "hello_world_int8", "micro_speech_int8")
_SLOW = frozenset("pools pools_core lstm activations arithmetic composed reductions".split())
_MOST = 30_000  # bytes of a stored program

Options = Mapping[str, Any]
# Operator, shapes of its inputs (arrays: constants), shape of its output, options.
_SINGLE: tuple[tuple[str, Sequence[Any], tuple[int, ...], str, Options], ...] = (
    ("AVERAGE_POOL_2D", [(1, 6, 5, 4)], (1, 3, 3, 4), "Pool2DOptions",
     {"filterHeight": 2, "filterWidth": 3, "strideH": 2, "strideW": 2, "padding": 0}),
    ("TRANSPOSE", [(2, 3, 4), [2, 0, 1]], (4, 2, 3), "TransposeOptions", {}),
    ("PAD", [(1, 3, 4, 2), [[0, 0], [1, 2], [0, 1], [0, 0]]], (1, 6, 5, 2), "PadOptions", {}),
    ("CONCATENATION", [(1, 3, 2), (1, 5, 2)], (1, 8, 2), "ConcatenationOptions", {"axis": 1}),
    ("GATHER", [(5, 4), [3, 0, 0]], (3, 4), "GatherOptions", {"axis": 0, "batchDims": 0}),
    ("GATHER_ND", [(3, 4), [[2, 1], [0, 3]]], (2,), "GatherNdOptions", {}),
    ("SLICE", [(4, 6), [1, 2], [2, 3]], (2, 3), "SliceOptions", {}),
    ("STRIDED_SLICE", [(4, 6), [0, 1], [4, 6], [2, 2]], (2, 3), "StridedSliceOptions", {}),
    ("MEAN", [(1, 4, 5, 3), [1, 2]], (1, 1, 1, 3), "ReducerOptions", {"keepDims": True}),
    ("SUM", [(4, 5), [1]], (4,), "ReducerOptions", {"keepDims": False}),
    ("REDUCE_MAX", [(4, 5), [-1]], (4,), "ReducerOptions", {"keepDims": False}),
    ("ARG_MAX", [(4, 5), [1]], (4,), "ArgMaxOptions", {"outputType": 2}),
    ("RESIZE_BILINEAR", [(1, 3, 4, 2), [6, 8]], (1, 6, 8, 2), "ResizeBilinearOptions",
     {"halfPixelCenters": True}),
    ("RESIZE_NEAREST_NEIGHBOR", [(1, 3, 4, 2), [5, 7]], (1, 5, 7, 2),
     "ResizeNearestNeighborOptions", {}),
    ("EXPAND_DIMS", [(4, 6), [1]], (4, 1, 6), "ExpandDimsOptions", {}),
    ("SQUEEZE", [(1, 4, 1, 6)], (4, 6), "SqueezeOptions", {"squeezeDims": [0, 2]}),
    ("PACK", [(4, 3), (4, 3)], (4, 2, 3), "PackOptions", {"axis": 1, "valuesCount": 2}),
    ("BATCH_MATMUL", [(2, 3, 4), (2, 4, 5)], (2, 3, 5), "BatchMatMulOptions", {}),
    ("PRELU", [(1, 3, 4), (1, 3, 4)], (1, 3, 4), "", {}),
    ("LEAKY_RELU", [(3, 4)], (3, 4), "LeakyReluOptions", {"alpha": 0.1}),
    ("LOGISTIC", [(3, 4)], (3, 4), "", {}),
    ("EXP", [(3, 4)], (3, 4), "ExpOptions", {}),
    ("RSQRT", [(3, 4)], (3, 4), "", {}),
    ("DIV", [(3, 4), (3, 4)], (3, 4), "DivOptions", {}),
    ("SUB", [(2, 3, 4), (1, 4)], (2, 3, 4), "SubOptions", {}),
    ("MAXIMUM", [(3, 4), (4,)], (3, 4), "MaximumMinimumOptions", {}),
    ("SQUARED_DIFFERENCE", [(3, 4), (4,)], (3, 4), "SquaredDifferenceOptions", {}),
    ("LOG_SOFTMAX", [(3, 4)], (3, 4), "LogSoftmaxOptions", {}),
    ("HARD_SWISH", [(3, 4)], (3, 4), "HardSwishOptions", {}),
    ("GELU", [(3, 4)], (3, 4), "GeluOptions", {}),
)  # fmt: skip
_FLOAT_ONLY = frozenset(
    "GATHER_ND BATCH_MATMUL DIV SQUARED_DIFFERENCE SUM LOGISTIC LOG_SOFTMAX".split()
)


def single(kind: str, shapes: Sequence[Any], out: tuple[int, ...], options: str, fields: Options,
           dtype: str) -> bytes:  # fmt: skip
    """A TFLite file of one operator."""
    m = TFLiteModel()
    quant = [] if dtype == "float32" else [1 / 16, 0]
    inputs = [
        m.input(s, dtype, *quant) if isinstance(s, tuple) else m.const(np.array(s, np.int32))
        for s in shapes
    ]
    y = m.value(out, "int32") if kind == "ARG_MAX" else m.value(out, dtype, *quant)
    m.op(kind, inputs, [y], options, **fields)
    return m.build([y])


def _tflite() -> Iterator[tuple[str, bytes]]:
    yield from ((n, m()) for n, m in small_models.MODELS.items())
    for name in _SMALL:
        if (SHARED / f"{name}.tflite").is_file():
            yield name, (SHARED / f"{name}.tflite").read_bytes()
    for row in _SINGLE:
        yield f"{row[0]} float", single(*row, "float32")
        if row[0] not in _FLOAT_ONLY:
            yield f"{row[0]} int8", single(*row, "int8")
    write = writer_for(Path("x.tflite")).write
    yield from ((f"random {i}", write(g)) for i, g in enumerate(_graphs(6)))


def _graphs(count: int) -> list[Graph]:
    return [random_graph(random.Random(i), quantised=i % 2 == 0) for i in range(count)]


def _onnx() -> Iterator[tuple[str, bytes]]:
    for build in (onnx_builder.cnn1d, onnx_builder.vgg, onnx_builder.shufflenet, onnx_builder.rnn,
                  onnx_builder.lstm, onnx_builder.transformer):  # fmt: skip
        yield build.__name__, build()
    for path in sorted((DATA / "trees").glob("*.onnx")):
        if path.stat().st_size < 6000:
            yield path.stem, path.read_bytes()
    yield "operators", onnx_operators()
    yield "quantized", onnx_quantized()


def onnx_operators() -> bytes:
    """One ONNX file of operators whose parameters are constants and attributes."""
    m = onnx_builder.OnnxModel()
    x = m.op("Reshape", "x", m.ints(2, 3, 4))
    outputs = [
        m.op("Slice", x, m.ints(0, 1), m.ints(2, 4), m.ints(1, 2), m.ints(1, 2)),
        m.op("Pad", x, m.ints(0, 0, 1, 0, 2, 0), m.const(0.5), mode="constant"),
        m.op("Transpose", x, perm=[2, 0, 1]),
        m.op("Gather", x, m.ints(0, 2, 2), axis=1),
        m.op("Concat", x, x, axis=-1),
        m.op("ReduceMean", x, axes=[1, 2], keepdims=1),
        m.op("Softmax", x, axis=1),
        m.op("Expand", x, m.ints(5, 2, 3, 4)),
        m.op("Tile", x, m.ints(1, 2, 1)),
        m.op("Clip", x, m.const(-1.0), m.const(1.0)),
        m.op("MatMul", x, m.weights(4, 5)),
        m.op("ArgMax", x, axis=2),
        m.op("CumSum", x, m.const(1, np.int64)),
        m.op("OneHot", m.op("Cast", x, to=7), m.const(4, np.int64), m.const([0.0, 1.0])),
        m.op("Einsum", x, m.weights(4, 3), equation="abc,cd->abd"),
        m.op("DepthToSpace", m.op("Reshape", x, m.ints(1, 4, 2, 3)), blocksize=2),
        m.op("Resize", m.op("Reshape", x, m.ints(1, 2, 3, 4)), "", m.const([1, 1, 2, 2])),
        m.op("AveragePool", m.op("Reshape", x, m.ints(1, 2, 3, 4)), kernel_shape=[2, 2]),
        m.op("Where", m.op("Greater", x, m.const(0.0)), x, m.const(1.0)),
        m.op("LayerNormalization", x, m.weights(4), m.weights(4), axis=-1),
        m.op("Constant", value_floats=[1.0, 2.0]),
    ]
    kept = [m.op("Identity", o) for o in outputs[:-1]]
    return m.build([("x", [24])], [*kept, m.op("Mul", x, m.op("Slice", outputs[-1], m.ints(0),
                                                             m.ints(1)))])  # fmt: skip


def onnx_quantized() -> bytes:
    """A convolution and a dense layer between QuantizeLinear and DequantizeLinear."""
    m = onnx_builder.OnnxModel()

    def real(value: str, scale: Any, zero: Any, **attrs: Any) -> str:
        zeros = m.const(zero, np.int8)
        return m.op("DequantizeLinear", value, m.const(scale), zeros, **attrs)

    def through(value: str, scale: float, zero: int) -> str:
        zeros = m.const(zero, np.int8)
        return real(m.op("QuantizeLinear", value, m.const(scale), zeros), scale, zero)

    x = through("x", 0.05, 3)
    w = m.const(m.rng.integers(-127, 128, (4, 2, 3, 3)), np.int8)
    y = m.op("Conv", x, real(w, [0.01, 0.02, 0.03, 0.01], [0] * 4, axis=0), pads=[1] * 4)
    y = through(m.op("Relu", y), 0.1, -128)
    y = m.op("Flatten", through(m.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), 0.1, -128))
    v = m.const(m.rng.integers(-127, 128, (16, 3)), np.int8)
    y = through(m.op("MatMul", y, real(v, 0.02, 0)), 0.2, 1)
    return m.build([("x", [1, 2, 4, 4])], [y])


def _torch() -> Iterator[tuple[str, bytes]]:
    for case in torch_cases.stored():
        if len(case.program) < _MOST and case.name not in _SLOW:
            yield case.name, case.program


def _midge() -> Iterator[tuple[str, bytes]]:
    driver.load_operators()
    for name, data in _tflite():
        if not name.startswith(("random", "int", "float")):
            yield name, pack(small_models.graph(data))
    yield from ((f"random {i}", pack(g)) for i, g in enumerate(_graphs(12)))
    yield from _samples()


def _samples() -> Iterator[tuple[str, bytes]]:
    """The first and the last sample of every operator, as a graph of one node."""
    for name in OPS:
        samples = OPS[name].samples
        for sample in (*samples[:1], *samples[1:][-1:]):
            graph = sampled(name, sample)
            if graph.inputs:
                yield f"{name} sample", pack(graph)


def sampled(op: str, sample: Sample) -> Graph:
    """A graph of one use of an operator."""
    names = tuple(f"v{i}" for i in range(len(sample.inputs)))
    consts = {names[i]: array for i, array in sample.consts.items()}
    made = OPS[op].infer(sample.inputs, sample.attrs)
    results = tuple(f"y{i}" for i in range(len(made)))
    node = Node(op, names, results, sample.attrs)
    types = {
        **dict(zip(names, sample.inputs, strict=True)),
        **dict(zip(results, made, strict=True)),
    }
    inputs = tuple(n for n in names if n not in consts)
    return Graph("model", inputs, results, types, consts, (node,))


def _keras() -> Iterator[tuple[str, bytes]]:
    yield "small", (DATA / "small.keras").read_bytes()


SOURCES: dict[str, Callable[[], Iterator[tuple[str, bytes]]]] = {
    "tflite": _tflite, "onnx": _onnx, "pt2": _torch, "keras": _keras, "midge": _midge,
}  # fmt: skip


@cache
def sources(form: str) -> tuple[tuple[str, bytes], ...]:
    """The files of a format by name."""
    driver.load_operators()
    return tuple(SOURCES[form]())
