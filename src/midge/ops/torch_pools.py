"""PyTorch's windows over images: adaptive pools, and im2col, which lays them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import Node
from midge.ops._torch import Aten, add
from midge.ops.torch_shapes import cut


def adaptive_average(a: Aten) -> str:
    return _adaptive(a, "AveragePool", "ReduceMean")


def adaptive_max(op: Foreign) -> tuple[Node, ...]:
    """The places of the maxima are not there."""
    a = Aten(op)
    return a.finished([_adaptive(a, "MaxPool", "ReduceMax")])


def _adaptive(a: Aten, pool: str, reduce: str) -> str:
    """As many windows as there are to be outputs: one that covers all is a reduction, those of one
    size a pool, others are reduced one by one, first along the rows, then along the columns (all
    windows of a column have one height, so that the mean of their means is the mean)."""
    x = a.tensor("self")
    rank = 1 if "1d" in a.op.kind else 2
    shape = a.shape(x)
    lead, spatial = shape[:-rank], shape[-rank:]
    output = a.integers("output_size", rank)
    if min(output) < 1:
        raise a.op.error(f"pooling to {output} leaves nothing")
    axes = [len(lead) + d for d in range(rank)]
    if set(output) == {1}:
        return a.onnx(reduce, [x, a.value(axes)], keepdims=1)
    if all(n % o == 0 for n, o in zip(spatial, output, strict=True)):
        kernel = tuple(n // o for n, o in zip(spatial, output, strict=True))
        images = x if len(lead) == 2 else a.reshape(x, (1, prod(lead), *spatial))
        y = a.onnx(pool, [images], kernel_shape=kernel, strides=kernel)
        return a.reshape(y, (*lead, *output))
    for axis, count in zip(axes, output, strict=True):
        x = _reduced(a, reduce, x, axis, count)
    return x


def _reduced(a: Aten, reduce: str, x: str, axis: int, count: int) -> str:
    """Windows as AdaptiveAveragePooling.cpp of PyTorch has them: from i * n / count, rounded down,
    to (i + 1) * n / count, rounded up."""
    n = a.shape(x)[axis]
    if count == n:
        return x
    parts = [
        a.onnx(
            reduce, [cut(a, x, axis, i * n // count, -(-(i + 1) * n // count)), a.value([axis])],
            keepdims=1,
        )
        for i in range(count)
    ]  # fmt: skip
    return parts[0] if count == 1 else a.onnx("Concat", parts, axis=axis)


add("adaptive_avg_pool1d adaptive_avg_pool2d _adaptive_avg_pool2d", adaptive_average)
for _name in ("adaptive_max_pool1d", "adaptive_max_pool2d"):
    IMPORTERS["torch"].add(f"aten.{_name}", adaptive_max)


def im2col(a: Aten) -> str:
    """[batch, channels * kernel, windows]: what each position of a window sees, row by row."""
    x = a.tensor("self")
    lone = len(a.shape(x)) == 3
    if lone:
        x = a.reshape(x, (1, *a.shape(x)))
    kernel, dilation, padding, stride = (
        a.integers(name, 2) for name in ("kernel_size", "dilation", "padding", "stride")
    )
    if any(padding):
        pads = a.value([0, 0, *padding, 0, 0, *padding])
        x = a.onnx("Pad", [x, pads, a.value(0, a.type(x).dtype)], mode="constant")
    batch, channels, *image = a.shape(x)
    counts = [
        (n - d * (k - 1) - 1) // s + 1
        for n, k, d, s in zip(image, kernel, dilation, stride, strict=True)
    ]
    if min(counts) < 1:
        raise a.op.error(f"windows of {kernel} do not fit an image of {tuple(image)}")
    seen = [
        _strided(a, x, (y * dilation[0], z * dilation[1]), counts, stride)
        for y in range(kernel[0])
        for z in range(kernel[1])
    ]
    places, windows = len(seen), prod(counts)
    rows = [a.reshape(s, (batch, channels, 1, windows)) for s in seen]
    y = rows[0] if places == 1 else a.onnx("Concat", rows, axis=2)
    y = a.reshape(y, (batch, channels * places, windows))
    return a.reshape(y, a.shape(y)[1:]) if lone else y


def _strided(
    a: Aten, x: str, start: Sequence[int], counts: Sequence[int], stride: Sequence[int]
) -> str:
    """What one position of all windows sees."""
    for axis, at, count, step in zip((2, 3), start, counts, stride, strict=True):
        x = cut(a, x, axis, at, at + (count - 1) * step + 1, step)
    return x


add("im2col", im2col)
