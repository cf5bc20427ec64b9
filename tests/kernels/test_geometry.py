"""What a convolution's geometry says, against windows that are listed one by one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from midge.core.types import DType, TensorType
from midge.graph.attrs import Attr
from midge.graph.ir import Graph, Node
from midge.kernels.arm.geometry import Layer, layer_of


def layers() -> Iterator[Layer]:
    """Every small window, stride, padding before and place of the last output."""
    for taps, stride, before, size, out in product(
        product((1, 2, 3), (1, 2)), product((1, 2), (1, 2)), product((0, 1), (0, 1)), (2, 3, 4),
        (1, 2, 3),
    ):  # fmt: skip
        other = 4 if size != 4 else 3
        yield Layer(size, other, 5, out, out + 1, 6, taps, stride, *before, 0)


def reads(layer: Layer) -> Iterator[tuple[int, int, int, int]]:
    """(output row and column, input row and column) of every tap."""
    for oh, ow in np.ndindex(layer.out_height, layer.out_width):
        for r, s in np.ndindex(*layer.taps):
            ih = oh * layer.strides[0] - layer.top + r
            yield oh, ow, ih, ow * layer.strides[1] - layer.left + s


def test_windows_that_reach_outside_are_padded() -> None:
    found = set()
    for layer in layers():
        outside = any(
            not (0 <= ih < layer.height and 0 <= iw < layer.width) for _, _, ih, iw in reads(layer)
        )
        assert layer.padded == outside, layer
        found.add(outside)
    assert found == {True, False}


def test_pointwise_is_each_pixel_for_itself() -> None:
    same = Layer(3, 4, 5, 3, 4, 6, (1, 1), (1, 1), 0, 0, 0)
    assert same.pointwise
    for change in (
        {"taps": (2, 1)}, {"taps": (1, 2)}, {"strides": (2, 1)}, {"strides": (1, 2)},
        {"out_height": 2}, {"out_width": 3}, {"height": 4}, {"width": 5},
    ):  # fmt: skip
        assert not replace(same, **change).pointwise, change


SHAPES = {"x": (1, 5, 6, 3), "w": (4, 3, 2, 3), "y": (1, 5, 6, 4)}
ATTRS: dict[str, Attr] = {
    "padding": (1, 1, 0, 1), "dilations": (1, 1), "strides": (1, 2), "pad_value": -7,
}  # fmt: skip


def read(attrs: dict[str, Attr], **shapes: tuple[int, ...]) -> Layer | None:
    types = {n: TensorType(shape, DType.I8) for n, shape in (SHAPES | shapes).items()}
    node = Node("conv2d", ("x", "w"), ("y",), {**ATTRS, **attrs})
    return layer_of(Graph("g", ("x",), ("y",), types, {}, (node,)), node)


def test_a_layer_is_read_as_it_is() -> None:
    assert read({}) == Layer(5, 6, 3, 5, 6, 4, (3, 2), (1, 2), 1, 0, -7)


def test_padding_is_zero_if_nothing_is_said() -> None:
    attrs = {n: v for n, v in ATTRS.items() if n != "pad_value"}
    node = Node("conv2d", ("x", "w"), ("y",), attrs)
    types = {n: TensorType(shape, DType.I8) for n, shape in SHAPES.items()}
    found = layer_of(Graph("g", ("x",), ("y",), types, {}, (node,)), node)
    assert found is not None
    assert found.pad_value == 0


@pytest.mark.parametrize("dilations", [(2, 1), (1, 2)])
def test_dilated_windows_are_left(dilations: tuple[int, int]) -> None:
    assert read({"dilations": dilations}) is None


def test_groups_batches_and_fractions_are_left() -> None:
    assert read({}, w=(4, 3, 2, 1)) is None
    assert read({}, x=(2, 5, 6, 3), y=(2, 5, 6, 4)) is None
    assert read({"pad_value": 0.5}) is None


@pytest.mark.parametrize("empty", ["x", "w", "y"])
def test_empty_layers_are_left(empty: str) -> None:
    shape = SHAPES[empty]
    assert read({}, **{empty: (shape[0], 0, *shape[2:])}) is None
