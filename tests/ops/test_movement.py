"""PAD, CONCATENATION, SPLIT, SLICE, STRIDED_SLICE, TRANSPOSE and RESHAPE against LiteRT."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from midge.core.errors import ModelError
from oracle import load, random, same
from tflite_builder import TFLiteModel

DTYPES = ["float32", "int8", "int16", "uint8", "int32", "int64", "bool"]
QUANT: dict[str, tuple[Any, int]] = {"int8": (0.1, 3), "int16": (0.01, 0), "uint8": (0.1, 100)}


def quant(dtype: str) -> tuple[Any, int]:
    return QUANT.get(dtype, (None, 0))


def values(shape: tuple[int, ...], dtype: str) -> Any:
    return random(np.random.default_rng(sum(shape)), shape, dtype)


def moved(
    kind: str,
    dtype: str,
    shape: tuple[int, ...],
    out: tuple[int, ...],
    consts: list[Any],
    options: str = "",
    **fields: Any,
) -> tuple[bytes, dict[str, Any]]:
    """A model of one operator whose first input is the tensor, the others constants."""
    m = TFLiteModel()
    x = m.input(shape, dtype, *quant(dtype))
    others = [m.const(np.asarray(c)) for c in consts]
    y = m.value(out, dtype, *quant(dtype))
    m.op(kind, [x, *others], [y], options, **fields)
    return m.build([y]), {"t0": values(shape, dtype)}


PADDINGS = [
    ((2, 3), [[1, 0], [0, 2]]),
    ((1, 3, 2, 2), [[0, 0], [1, 1], [2, 0], [0, 0]]),
    ((2, 1, 2, 3), [[1, 0], [0, 1], [2, 2], [1, 1]]),
    ((2, 2), [[0, 0], [0, 0]]),
]


@pytest.mark.parametrize(("shape", "paddings"), PADDINGS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pad(dtype: str, shape: tuple[int, ...], paddings: list[list[int]]) -> None:
    out = tuple(n + a + b for n, (a, b) in zip(shape, paddings, strict=True))
    for index in (np.int32, np.int64):
        same(*moved("PAD", dtype, shape, out, [np.array(paddings, index)], "PadOptions"))


@pytest.mark.parametrize(("shape", "paddings"), PADDINGS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pad_with_a_value(dtype: str, shape: tuple[int, ...], paddings: list[list[int]]) -> None:
    out = tuple(n + a + b for n, (a, b) in zip(shape, paddings, strict=True))
    m = TFLiteModel()
    x = m.input(shape, dtype, *quant(dtype))
    p = m.const(np.array(paddings, np.int32))
    v = m.const(np.array([1 if dtype == "bool" else 5], dtype), *quant(dtype))
    y = m.value(out, dtype, *quant(dtype))
    m.op("PADV2", [x, p, v], [y], "PadV2Options")
    same(m.build([y]), {"t0": values(shape, dtype)})


@pytest.mark.parametrize(
    ("shapes", "axis"),
    [(((2, 3), (2, 1), (2, 2)), 1), (((1, 2, 2, 3), (1, 2, 2, 1)), -1), (((1, 2), (3, 2)), 0)],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_concatenation(dtype: str, shapes: tuple[tuple[int, ...], ...], axis: int) -> None:
    m = TFLiteModel()
    inputs = [m.input(s, dtype, *quant(dtype)) for s in shapes]
    out = list(shapes[0])
    out[axis] = sum(s[axis] for s in shapes)
    y = m.value(out, dtype, *quant(dtype))
    m.op("CONCATENATION", inputs, [y], "ConcatenationOptions", axis=axis)
    same(m.build([y]), {f"t{i}": values(s, dtype) for i, s in enumerate(shapes)})


def test_concatenation_of_one_tensor_twice_and_a_constant() -> None:
    m = TFLiteModel()
    x = m.input((2, 2), "int8", 0.1, 3)
    c = m.const(np.array([[7], [8]], np.int8), 0.1, 3)
    y = m.value((2, 5), "int8", 0.1, 3)
    m.op("CONCATENATION", [x, c, x], [y], "ConcatenationOptions", axis=1)
    same(m.build([y]), {"t0": values((2, 2), "int8")})


@pytest.mark.parametrize(
    ("shape", "axis", "count"), [((4, 6), 1, 3), ((2, 3, 4), -1, 2), ((4, 2), 0, 4)]
)
@pytest.mark.parametrize("dtype", DTYPES[:-1])
def test_split(dtype: str, shape: tuple[int, ...], axis: int, count: int) -> None:
    m = TFLiteModel()
    a = m.const(np.array([axis], np.int32))
    x = m.input(shape, dtype, *quant(dtype))
    out = list(shape)
    out[axis] //= count
    ys = [m.value(out, dtype, *quant(dtype)) for _ in range(count)]
    m.op("SPLIT", [a, x], ys, "SplitOptions", numSplits=count)
    same(m.build(ys), {"t1": values(shape, dtype)})


@pytest.mark.parametrize("dtype", DTYPES[:-1])
def test_split_into_unequal_parts(dtype: str) -> None:
    m = TFLiteModel()
    x = m.input((2, 7), dtype, *quant(dtype))
    sizes, axis = m.const(np.array([2, -1, 1], np.int32)), m.const(np.array([1], np.int32))
    ys = [m.value((2, n), dtype, *quant(dtype)) for n in (2, 4, 1)]
    m.op("SPLIT_V", [x, sizes, axis], ys, "SplitVOptions", numSplits=3)
    same(m.build(ys), {"t0": values((2, 7), dtype)})


@pytest.mark.parametrize(
    ("shape", "begin", "size"),
    [((4, 5), (1, 2), (2, -1)), ((2, 3, 4, 5), (1, 0, 2, 0), (1, 3, 1, -1)), ((6,), (0,), (6,))],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_slice(
    dtype: str, shape: tuple[int, ...], begin: tuple[int, ...], size: tuple[int, ...]
) -> None:
    out = tuple(n - b if s == -1 else s for n, b, s in zip(shape, begin, size, strict=True))
    for index in (np.int32, np.int64):
        consts = [np.array(begin, index), np.array(size, index)]
        same(*moved("SLICE", dtype, shape, out, consts, "SliceOptions"))


PERMUTATIONS = [
    ((2, 3), (1, 0)),
    ((1, 2, 3, 4), (0, 3, 1, 2)),
    ((2, 1, 3), (2, 1, 0)),
    ((2, 3, 4, 5), (3, 1, 2, 0)),
    ((1, 4, 1, 3), (0, 2, 1, 3)),
    ((2, 3, 2), (-1, 0, 1)),
]


@pytest.mark.parametrize(("shape", "perm"), PERMUTATIONS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_transpose(dtype: str, shape: tuple[int, ...], perm: tuple[int, ...]) -> None:
    out = tuple(shape[p] for p in perm)
    same(*moved("TRANSPOSE", dtype, shape, out, [np.array(perm, np.int32)], "TransposeOptions"))


def test_transposing_axes_of_length_one_costs_nothing() -> None:
    data, _ = moved(
        "TRANSPOSE", "int8", (1, 4, 1, 3), (1, 1, 4, 3), [np.array([0, 2, 1, 3], np.int32)]
    )
    assert [n.op for n in load(data).nodes] == ["reshape"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_reshape_squeeze_expand_dims(dtype: str) -> None:
    shape = (1, 2, 3)
    new = np.array([3, -1], np.int32)
    same(*moved("RESHAPE", dtype, shape, (3, 2), [new], "ReshapeOptions", newShape=[3, -1]))
    same(*moved("SQUEEZE", dtype, shape, (2, 3), [], "SqueezeOptions", squeezeDims=[0]))
    axis = np.array([1], np.int32)
    same(*moved("EXPAND_DIMS", dtype, shape, (1, 1, 2, 3), [axis], "ExpandDimsOptions"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_strided_slice(dtype: str) -> None:
    spec = [np.array(v, np.int32) for v in ((0, 4, 1), (2, 0, 3), (1, -2, 1))]
    same(*moved("STRIDED_SLICE", dtype, (2, 5, 4), (2, 2, 2), spec, "StridedSliceOptions"))


SPEC = st.integers(-6, 6)
MASK = st.integers(0, 7)


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(*[st.integers(1, 4)] * 3),
    st.lists(st.tuples(SPEC, SPEC, st.sampled_from([1, 2, 3, -1, -2])), min_size=1, max_size=3),
    MASK,
    MASK,
    st.sampled_from([0, 0, 1, 2, 4]),
    st.sampled_from([0, 0, 1, 2, 4]),
    st.sampled_from([0, 0, 1, 2, 4]),
)
def test_strided_slice_masks(
    shape: tuple[int, ...],
    spec: list[tuple[int, int, int]],
    begin: int,
    end: int,
    ellipsis: int,
    new_axis: int,
    shrink: int,
) -> None:
    """As NumPy slices, whose meaning the masks spell; and as LiteRT."""
    names = ("begin", "end", "ellipsis", "new_axis", "shrink")
    known = (1 << len(spec)) - 1
    given_masks = (begin, end, ellipsis, new_axis, shrink)
    masks = {name: mask & known for name, mask in zip(names, given_masks, strict=True)}
    x = values(shape, "int8")
    try:
        want = x[numpy_index(spec, masks)]
    except IndexError:
        assume(False)
    assume(want.size > 0 and want.ndim > 0)
    # An index out of range, or a shrunk axis with a stride: the framework does not check.
    assume(not any(shrink >> i & 1 and s[2] < 0 for i, s in enumerate(spec)))
    data, inputs = moved(
        "STRIDED_SLICE",
        "int8",
        shape,
        want.shape,
        list(np.array(spec, np.int32).T),
        "StridedSliceOptions",
        beginMask=masks["begin"],
        endMask=masks["end"],
        ellipsisMask=masks["ellipsis"],
        newAxisMask=masks["new_axis"],
        shrinkAxisMask=masks["shrink"],
    )
    same(data, {"t0": x})
    assert inputs.keys() == {"t0"}


def numpy_index(spec: list[tuple[int, int, int]], masks: dict[str, int]) -> tuple[Any, ...]:
    index: list[Any] = []
    for i, (begin, end, stride) in enumerate(spec):
        bits = {name: bool(mask >> i & 1) for name, mask in masks.items()}
        if bits["ellipsis"]:
            index.append(Ellipsis)
        elif bits["new_axis"]:
            index.append(None)
        elif bits["shrink"]:
            index.append(0 if bits["begin"] else begin)
        else:
            index.append(
                slice(None if bits["begin"] else begin, None if bits["end"] else end, stride)
            )
    return tuple(index)


@pytest.mark.parametrize("kind", ["PAD", "CONCATENATION", "TRANSPOSE", "SLICE"])
def test_bytes_that_would_mean_something_else_are_refused(kind: str) -> None:
    m = TFLiteModel()
    x = m.input((2, 2), "int8", 0.1, 3)
    consts = {
        "PAD": [[[0, 0], [0, 0]]],
        "TRANSPOSE": [[1, 0]],
        "SLICE": [[0, 0], [2, 2]],
        "CONCATENATION": [],
    }[kind]
    others = [m.const(np.array(c, np.int32)) for c in consts]
    y = m.value((2, 2), "int8", 0.2, 3)
    m.op(kind, [x, *others], [y])
    with pytest.raises(ModelError, match="different scales"):
        load(m.build([y]))


def test_a_computed_axis_is_refused() -> None:
    m = TFLiteModel()
    x, p = m.input((2, 3), "int8", 0.1, 0), m.input((2,), "int32")
    y = m.value((3, 2), "int8", 0.1, 0)
    m.op("TRANSPOSE", [x, p], [y])
    with pytest.raises(ModelError, match=r"permutation \('t1'\) is computed at run time"):
        load(m.build([y]))
