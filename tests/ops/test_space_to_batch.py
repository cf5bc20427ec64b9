"""SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND against LiteRT, alone and around a convolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from midge.core.errors import ModelError
from midge.graph.evaluate import evaluate
from midge.pipeline import prepare
from oracle import Rng, litert, load, random, same
from tflite_builder import TFLiteModel

CONV = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}
SAME, VALID = 0, 1
Pairs = tuple[tuple[int, int], ...]


def ints(m: TFLiteModel, values: Any) -> int:
    return m.const(np.array(values, np.int32))


def moved(kind: str, shape: Any, block: Any, pairs: Any, out: Any, dtype: str = "int8") -> bytes:
    m = TFLiteModel()
    q = {"int8": (0.1, -9), "int16": (0.1, 0)}.get(dtype, (None, 0))
    x, y = m.input(shape, dtype, *q), m.value(out, dtype, *q)
    m.op(kind, [x, ints(m, block), ints(m, pairs)], [y], f"{OPTIONS[kind]}Options", version=3)
    return m.build([y])


OPTIONS = {"SPACE_TO_BATCH_ND": "SpaceToBatchND", "BATCH_TO_SPACE_ND": "BatchToSpaceND"}
SPLITS = [
    ((1, 4, 6, 3), (2, 3), ((0, 0), (0, 0)), (6, 2, 2, 3)),
    ((2, 5, 4, 1), (3, 2), ((1, 0), (0, 2)), (12, 2, 3, 1)),
    ((1, 1, 1, 2), (2, 2), ((0, 1), (1, 0)), (4, 1, 1, 2)),
    ((2, 7, 3), (2,), ((1, 0),), (4, 4, 3)),
    ((1, 1, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1, 1, 1)),
]


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "int32"])
@pytest.mark.parametrize("case", range(len(SPLITS)))
def test_split(case: int, dtype: str) -> None:
    shape, block, pads, out = SPLITS[case]
    x = random(np.random.default_rng(0), shape, dtype)
    same(moved("SPACE_TO_BATCH_ND", shape, block, pads, out, dtype), {"t0": x})


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32"])
@pytest.mark.parametrize("case", range(len(SPLITS)))
def test_merged(case: int, dtype: str) -> None:
    """What was padded is cropped."""
    out, block, crops, shape = SPLITS[case]
    x = random(np.random.default_rng(0), shape, dtype)
    same(moved("BATCH_TO_SPACE_ND", shape, block, crops, out, dtype), {"t0": x})


BROKEN = {
    "no multiple": ("SPACE_TO_BATCH_ND", (1, 5, 4, 1), (2, 2), ((0, 0), (0, 0)), (4, 2, 2, 1)),
    "a small batch": ("BATCH_TO_SPACE_ND", (3, 2, 2, 1), (2, 2), ((0, 0), (0, 0)), (1, 4, 4, 1)),
    "less padding": ("SPACE_TO_BATCH_ND", (1, 4, 4, 1), (2, 2), ((-2, 0), (0, 0)), (4, 1, 2, 1)),
    "block of nothing": ("SPACE_TO_BATCH_ND", (1, 4, 4, 1), (0, 2), ((0, 0), (0, 0)), (4, 1, 2, 1)),
    "one block for two axes": ("SPACE_TO_BATCH_ND", (1, 4, 4, 1), (2,), ((0, 0),), (2, 2, 4, 1)),
    "all cropped": ("BATCH_TO_SPACE_ND", (4, 1, 1, 1), (2, 2), ((1, 1), (0, 0)), (1, 1, 2, 1)),
    "two axes": ("SPACE_TO_BATCH_ND", (4, 4), (2,), ((0, 0),), (8, 2)),
    "another shape": ("SPACE_TO_BATCH_ND", (1, 4, 4, 1), (2, 2), ((0, 0), (0, 0)), (4, 2, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_what_does_not_fit_is_refused(case: str) -> None:
    with pytest.raises(ModelError, match="_ND"):
        load(moved(*BROKEN[case]))


@dataclass(frozen=True)
class Atrous:
    """size: batch, height, width (or batch, time).  outer: a PAD of its own before the split."""

    size: tuple[int, ...] = (1, 9, 9)
    kernel: tuple[int, int] = (3, 3)
    block: tuple[int, ...] = (2, 2)
    pads: Pairs = ((2, 3), (2, 3))
    crops: Pairs = ((0, 1), (0, 1))
    depthwise: bool = False
    padding: int = VALID
    outer: Pairs = ()
    stride: int = 1
    rows: bool = False  # a signal is along the rows of an image of one column
    joined: bool = True
    left: tuple[str, ...] = ()  # other operators than the convolution that stay


ATROUS = {
    "same": Atrous(),
    "same, three apart": Atrous(
        size=(2, 11, 8), block=(3, 3), pads=((3, 4), (3, 4)), crops=((0, 1), (0, 1))
    ),
    "valid, even kernel": Atrous(
        size=(1, 11, 8), kernel=(2, 2), pads=((0, 1), (0, 0)), crops=((0, 1), (0, 0))
    ),
    "depthwise": Atrous(depthwise=True, size=(3, 9, 9)),
    "rows and columns differ": Atrous(
        size=(2, 7, 5), kernel=(3, 2), block=(2, 3), pads=((2, 3), (0, 1)), crops=((0, 1), (0, 0))
    ),
    "one pixel": Atrous(size=(1, 1, 1), pads=((2, 3), (2, 3))),
    "one tap": Atrous(size=(1, 5, 3), kernel=(1, 1), pads=((0, 1), (0, 1))),
    "padding in the convolution": Atrous(
        size=(1, 6, 4), padding=SAME, pads=((0, 0), (0, 0)), crops=((0, 0), (0, 0))
    ),
    "even kernel, padding in the convolution": Atrous(
        size=(2, 6, 6), kernel=(2, 4), block=(3, 2), padding=SAME, pads=((0, 0), (0, 0)),
        crops=((1, 0), (0, 1)), left=("slice",),
    ),
    "more cropped than padded": Atrous(
        size=(1, 8, 8), pads=((0, 0), (1, 1)), crops=((1, 0), (2, 1)), left=("slice",)
    ),
    "causal signal": Atrous(
        size=(1, 24), kernel=(1, 3), block=(2,), outer=((4, 0),), pads=((0, 0),), crops=((0, 0),),
        left=("reshape", "reshape"),
    ),
    "signal": Atrous(
        size=(2, 7), kernel=(1, 2), block=(3,), pads=((1, 1),), crops=((0, 2),),
        left=("reshape", "reshape", "slice"),
    ),
    "signal along rows": Atrous(
        size=(2, 7), kernel=(2, 1), block=(3,), pads=((1, 1),), crops=((0, 2),), rows=True,
        left=("reshape", "reshape", "slice"),
    ),
    "stride": Atrous(
        size=(1, 8, 8), stride=2, pads=((0, 0), (0, 0)), crops=((0, 0), (0, 0)), joined=False
    ),
}  # fmt: skip


class Writer:
    """A convolution as old converters write a dilated one. value: what the last operator made."""

    def __init__(self, rng: Rng, case: Atrous, dtype: str) -> None:
        self.rng, self.case, self.dtype = rng, case, dtype
        self.floats = dtype == "float32"
        self.filters = 4 if case.depthwise else 3
        self.model = TFLiteModel()
        self.own = (None, 0) if self.floats else (0.1, 7)
        self.value = self.model.input((*case.size, CHANNELS), dtype, *self.own, name="x")

    def op(
        self, kind: str, shape: Any, *constants: Any, options: str = "", version: int = 1,
        **fields: Any,
    ) -> None:  # fmt: skip
        """An operator on the value and constants; arrays as they are, others as int32."""
        m = self.model
        inputs = [self.value, *(c if isinstance(c, int) else ints(m, c) for c in constants)]
        self.value = m.value(shape, self.dtype, *self.own)
        m.op(kind, inputs, [self.value], options, version=version, **fields)

    def build(self) -> tuple[bytes, dict[str, Any]]:
        case = self.case
        n, *space = case.size
        if case.outer:
            space = [a + sum(p) for a, p in zip(space, case.outer, strict=True)]
            pads = ((0, 0), *case.outer, (0, 0))
            self.op("PAD", (n, *space, CHANNELS), pads, options="PadOptions")
        parts = [(a + sum(p)) // b for a, p, b in zip(space, case.pads, case.block, strict=True)]
        batch = n * int(np.prod(case.block))
        self.op(
            "SPACE_TO_BATCH_ND", (batch, *parts, CHANNELS), case.block, case.pads,
            options="SpaceToBatchNDOptions", version=2,
        )  # fmt: skip
        if len(parts) == 1:
            parts.insert(int(case.rows), 1)
            axis = [1 + int(case.rows)]
            self.op("EXPAND_DIMS", (batch, *parts, CHANNELS), axis, options="ExpandDimsOptions")
        spans = self.convolution(batch, parts)
        if len(case.block) == 1:
            del spans[int(case.rows)]
            shape = (batch, *spans, self.filters)
            self.op("RESHAPE", shape, shape, options="ReshapeOptions")
        whole = [a * b - sum(c) for a, b, c in zip(spans, case.block, case.crops, strict=True)]
        self.op(
            "BATCH_TO_SPACE_ND", (n, *whole, self.filters), case.block, case.crops,
            options="BatchToSpaceNDOptions", version=2,
        )  # fmt: skip
        self.model.graph.tensors[self.value].name = b"z"
        inputs = {"x": random(self.rng, (*case.size, CHANNELS), self.dtype)}
        return self.model.build([self.value]), inputs

    def convolution(self, batch: int, parts: list[int]) -> list[int]:
        """Its rows and columns."""
        case, filters = self.case, self.filters
        spans = [
            a if case.padding == SAME else a - k + 1
            for a, k in zip(parts, case.kernel, strict=True)
        ]
        spans = [-(-a // case.stride) for a in spans]
        shape = (filters, *case.kernel, CHANNELS)
        kind, table, fields = "CONV_2D", "Conv2DOptions", dict(CONV)
        if case.depthwise:
            shape = (1, *case.kernel, filters)
            kind, table = "DEPTHWISE_CONV_2D", "DepthwiseConv2DOptions"
            fields["depthMultiplier"] = filters // CHANNELS
        fields |= {"strideH": case.stride, "strideW": case.stride, "padding": case.padding}
        scales = None if self.floats else [0.02, 0.013, 0.01, 0.03][:filters]
        values = random(self.rng, shape, "float32" if self.floats else "int8")
        w = self.model.const(values, scales, axis=3 if case.depthwise else 0)
        bias = (np.arange(filters) * 50 - 60).astype(np.float32 if self.floats else np.int32)
        b = self.model.const(bias, scales and [0.1 * scale for scale in scales])
        self.own = self.own if self.floats else (0.3, -4)
        self.op(kind, (batch, *spans, filters), w, b, options=table, version=3, **fields)
        return spans


CHANNELS = 2


def atrous(case: str, dtype: str) -> tuple[bytes, dict[str, Any]]:
    return Writer(np.random.default_rng(0), ATROUS[case], dtype).build()


@pytest.mark.parametrize("dtype", ["int8", "float32"])
@pytest.mark.parametrize("case", ATROUS)
def test_a_dilated_convolution(case: str, dtype: str) -> None:
    """It is one convolution, and gives what the framework gives."""
    data, inputs = atrous(case, dtype)
    same(data, inputs, 9.0, sums=True)
    graph = prepare(load(data)).graph
    have, want = evaluate(graph, inputs)["z"], litert(data, inputs)["z"]
    if dtype == "int8":
        np.testing.assert_array_equal(have, want)
    else:
        np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-4)
    moves = sorted(n.op for n in graph.nodes if n.op not in ("conv2d", "depthwise_conv2d"))
    if ATROUS[case].joined:
        assert moves == sorted(ATROUS[case].left)
    else:
        assert "transpose" in moves


def test_images_that_others_read_stay() -> None:
    """The convolution's own result is an output too."""
    data, inputs = atrous("same", "int8")
    graph = load(data)
    (conv,) = (n for n in graph.nodes if n.op == "conv2d")
    both = replace(graph, outputs=(*graph.outputs, conv.outputs[0]))
    made = prepare(both).graph
    assert sum(n.op == "transpose" for n in made.nodes) == 2
    for name, array in evaluate(both, inputs).items():
        np.testing.assert_array_equal(evaluate(made, inputs)[name], array)


def test_padding_that_is_no_zero_stays() -> None:
    """A PADV2 with another value than the zero point."""
    data, inputs = atrous("causal signal", "int8")
    graph = load(data)
    nodes = [replace(n, attrs={**n.attrs, "value": 1}) if n.op == "pad" else n for n in graph.nodes]
    other = graph.with_nodes(nodes)
    made = prepare(other).graph
    assert [n.op for n in made.nodes].count("pad") == 1
    np.testing.assert_array_equal(evaluate(made, inputs)["z"], evaluate(other, inputs)["z"])
