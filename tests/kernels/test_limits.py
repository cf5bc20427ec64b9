"""Where kernels stop: every bound, from both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from test_refused_layers import request_of

from midge.graph.attrs import Attr
from midge.graph.ir import Graph, Node
from midge.kernels.arm_dsp.column import Column
from midge.kernels.arm_dsp.column import fits as column_fits
from midge.kernels.arm_dsp.depthwise import column_of
from midge.kernels.arm_dsp.gemm import most_pixels, packable
from midge.kernels.arm_dsp.geometry import int8_layer
from midge.kernels.arm_dsp.kernel import Part
from midge.kernels.arm_dsp.plane import Plane, direct_fits
from midge.kernels.arm_dsp.plane import fits as plane_fits
from midge.kernels.arm_dsp.rows import Convolution
from midge.kernels.arm_dsp.scaling import Line, Twice, constants_fit, scaling_of
from midge.kernels.arm_dsp.scaling16 import Wide, _no_ties, scaling16
from midge.kernels.arm_dsp.strips import blocks_of
from midge.kernels.arm_dsp.trees_branches import encodable
from midge.lower.fuse import Group
from midge.target import load_target

# Planes.

DIRECT = Plane(4, 3, 9, (9, 1, 27), 1, 9, (3, 3), (1, 1), 0, 1, 0, 4, 1, Twice(-128, 127), "rows")


@pytest.mark.parametrize(
    ("change", "direct"),
    [
        ({}, True),
        ({"top": 1, "height": 2}, False),
        ({"height": 4}, False),
        ({"width": 3, "out_width": 3}, False),
        ({"width": 4, "out_width": 4}, True),
        ({"x_strides": (9, 4, 1)}, False),
        ({"width": 255, "out_width": 255}, True),
        ({"width": 256, "out_width": 256}, False),
        ({"x_strides": (9, 1, 4095)}, True),
        ({"x_strides": (9, 1, 4096)}, False),
        ({"out_height": 14, "height": 16}, True),
        ({"out_height": 15, "height": 17}, False),
        ({"left": 2, "out_width": 10}, True),
        ({"left": 3, "out_width": 9}, False),
        ({"left": 0, "out_width": 9}, True),
        ({"left": 0, "out_width": 10}, False),
        ({"left": 1, "out_width": 10}, True),
        ({"left": 1, "out_width": 11}, False),
        ({"left": 1, "out_width": 5, "strides": (1, 2)}, True),
        ({"left": 1, "out_width": 6, "strides": (1, 2)}, False),
        ({"pointers": ""}, False),
        ({"pointers": "columns"}, False),
        ({"taps": (3, 4)}, False),
        ({"taps": (1, 4), "height": 1}, False),
        ({"top": 1}, False),
        ({"taps": (9, 1), "height": 9, "left": 0}, False),
    ],
)
def test_rows_read_where_they_lie(change: dict[str, Any], direct: bool) -> None:
    assert direct_fits(replace(DIRECT, **change)) == direct


def test_a_window_is_reached_from_one_register() -> None:
    plane = replace(DIRECT, pointers="", taps=(3, 3), out_width=1)
    widths = [n for n in range(1, 2000) if plane_fits(replace(plane, out_width=n))]
    assert widths == [*range(1, 814)]  # 5 * (n + 2) + 3 + 16 < 4096
    tall = [n for n in range(1, 60) if plane_fits(replace(plane, out_width=98, taps=(n, 3)))]
    assert tall == [*range(1, 39)]  # (n + 2) * 100 + 19 < 4096
    wide = [n for n in range(1, 300) if plane_fits(replace(plane, strides=(1, n), out_width=1))]
    assert wide == [*range(1, 255)]  # 5 * 3 + 3 + 16 * n < 4096
    assert plane_fits(replace(plane, taps=(2, 3), out_width=1017))  # 4 * 1019 + 19 = 4095
    assert not plane_fits(replace(plane, taps=(1, 3), out_width=1357))  # 3 * 1359 + 19 = 4096


@pytest.mark.parametrize(
    ("change", "twinned"),
    [
        ({}, True),
        ({"out_height": 3}, True),
        ({"out_height": 1}, False),
        ({"twins": False}, False),
        ({"taps": (1, 4)}, False),
        ({"taps": (4, 3)}, False),
        ({"strides": (1, 2)}, False),
        ({"strides": (2, 1)}, False),
    ],
)
def test_rows_two_at_a_time(change: dict[str, Any], twinned: bool) -> None:
    assert replace(DIRECT, **{"out_height": 2, **change}).twinned == twinned


def test_outputs_that_padding_beside_the_image_adds_to() -> None:
    for changes, outputs in (
        ({"pad": 1}, (0, 8)), ({"pad": -7, "left": 2}, (0, 1)), ({"pad": 0}, ()),
        ({"pad": -7, "direct": False}, ()), ({"pad": 2, "strides": (1, 2), "out_width": 5}, (0, 4)),
    ):  # fmt: skip
        assert replace(DIRECT, **{"direct": True, **changes}).borders == outputs, changes


COLUMN = Plane(8, 1, 7, (8, 8, 1), 1, 5, (1, 3), (1, 1), 0, 0, 0, 8, 1, Twice(-128, 127), "columns")


@pytest.mark.parametrize(
    ("change", "column"),
    [
        ({}, True),
        ({"strides": (2, 1)}, True),
        ({"top": 1}, False),
        ({"left": 1}, False),
        ({"height": 2}, False),
        ({"out_height": 2}, False),
        ({"taps": (2, 3)}, False),
        ({"width": 8}, False),
        ({"strides": (1, 2), "width": 11}, False),
        ({"channels": 6}, False),
    ],
)
def test_planes_that_are_columns(change: dict[str, Any], column: bool) -> None:
    found = column_of(replace(COLUMN, **change))
    assert found == (Column(8, 5, 3, 8, 1, COLUMN.scaling) if column else None)


def test_a_column_takes_four_channels_and_thirteen_registers_at_most() -> None:
    column = Column(8, 2, 3, 8, 1, Twice(-128, 127))
    for channels, fits in ((4, True), (5, False), (6, False), (8, True)):
        assert column_fits(replace(column, channels=channels)) == fits
    for taps in range(1, 12):
        for rows in range(1, 12):
            pairs = -(-(rows + taps - 1) // 2)  # of pixels, two of which are a word
            fits = column_fits(replace(column, taps=taps, rows=rows))
            assert fits == (pairs + rows + 2 <= 13), (taps, rows)


# Blocks.


def test_pixels_that_one_register_reaches() -> None:
    assert [most_pixels(s) for s in (1, 682, 683, 1023, 1024, 2047, 2048, 9999)] == [
        4, 4, 3, 3, 2, 2, 1, 1,
    ]  # fmt: skip


def test_pixels_in_blocks() -> None:
    assert {n: blocks_of(n) for n in (1, 3, 4, 5, 6, 9, 12, 13, 15, 29, 33, 37, 14)} == {
        1: ((1, 1),), 3: ((3, 1),), 4: ((4, 1),), 5: ((3, 1), (2, 1)), 6: ((3, 2),), 9: ((3, 3),),
        12: ((4, 3),), 13: ((4, 2), (3, 1), (2, 1)), 15: ((4, 3), (3, 1)),
        29: ((4, 6), (3, 1), (2, 1)), 33: ((4, 8), (1, 1)), 37: ((4, 9), (1, 1)),
        14: ((4, 3), (2, 1)),
    }  # fmt: skip
    assert blocks_of(6, 2) == ((2, 3),)
    assert blocks_of(9, 2) == ((2, 4), (1, 1))
    assert blocks_of(6, 5) == ((5, 1), (1, 1))


def reserved() -> Convolution:
    """With a register less."""
    made = convolution()
    made.request = replace(made.request, target=load_target("cortex-m4").reserving(("r9",)))
    return made


def convolution(size: int = 2, **changes: Any) -> Convolution:
    """Of 8 channels, by blocks of `size` pixels; changes: of its geometry."""
    request = request_of("conv2d/arm_dsp")
    layer = int8_layer(request)
    assert layer is not None
    return Convolution(request, replace(layer, taps=(1, 1), **changes), None, 32, size)


def test_channels_that_one_register_reaches() -> None:
    """As many as leave registers for pixels, where their weights are not too far apart."""
    part = Part("", 0, 8, 1)
    for depth, pixels, pairs in (
        (8, 4, 1), (8, 3, 1), (8, 2, 2), (8, 1, 4), (2046, 2, 2), (2047, 2, 1), (682, 1, 4),
        (683, 1, 2), (2046, 1, 2), (2047, 1, 1),
    ):  # fmt: skip
        assert convolution(depth=depth).together(part, pixels) == pairs, depth
    assert convolution().together(Part("", 0, 6, 1), 2) == 1
    assert convolution().together(Part("", 0, 8, 0), 2) == 1
    assert reserved().together(part, 2) == 1


def test_blocks_of_two_pixels() -> None:
    """Where they take more channels: a block of three only if one register reaches that far."""
    assert convolution().in_blocks(5, 4) == ((2, 1), (3, 1))
    assert convolution(4).in_blocks(5, 4) == ((3, 1), (2, 1))
    assert convolution().in_blocks(5, 2) == ((2, 2), (1, 1))
    assert convolution(depth=500, strides=(1, 3)).in_blocks(5, 4) == ((2, 2), (1, 1))
    assert convolution(depth=9999).in_blocks(5, 4) == ((1, 5),)
    assert reserved().in_blocks(5, 4) == ((3, 1), (2, 1))


# What makes sums int8.

REQUANTIZE: dict[str, Attr] = {
    "dtype": "i8", "low": -128, "high": 127, "rounding": "right", "zero_out": 3,
}  # fmt: skip


def group_of(
    op: str = "requantize", *, inputs: tuple[str, ...] = ("x", "w", "b"), shift: int = 5,
    rest: tuple[str, ...] = (), first: str = "s", consts: tuple[str, ...] = (), **attrs: Attr,
) -> tuple[Graph, Group]:  # fmt: skip
    """A convolution, what scales its sums, and a reader of `rest` behind it; consts: those that
    are none."""
    anchor = Node("conv2d", inputs, ("s",), {})
    own = REQUANTIZE if op == "requantize" else {"dtype": "i8", "low": -128, "high": 127, "up": 8,
                                                 "down": 4}  # fmt: skip
    scale = Node(op, (first, "m", "h"), ("y",), {**own, **attrs})
    nodes = (anchor, scale, *((Node("add", ("y", *rest), ("z",), {}),) if rest else ()))
    known = {
        "w": np.ones((2, 1, 1, 2), np.int8), "b": np.array([5, -9], np.int32),
        "m": np.array([1 << 30], np.int32), "h": np.array([shift, 7], np.int32),
    }  # fmt: skip
    known = {n: a for n, a in known.items() if n not in consts}
    return Graph("g", ("x",), ("y",), {}, known, nodes), Group(nodes, anchor)


def test_sums_that_are_cast_have_no_limits() -> None:
    """As they are where a framework takes the low bytes of integers."""
    graph, group = group_of()
    anchor = group.nodes[0]
    cast = Node("cast", ("s",), ("y",), {"dtype": "i8"})
    assert scaling_of(graph, Group((anchor, cast), anchor)) is None
    assert scaling16(graph, replace(cast, attrs={"dtype": "i16"}), np.zeros(2, np.int64), 9) is None


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({}, Twice),
        ({"shift": 1}, Twice),
        ({"shift": 0}, None),
        ({"shift": 22}, Twice),
        ({"shift": 23}, None),
        ({"zero_out": -128}, Twice),
        ({"zero_out": -129}, None),
        ({"zero_out": 127}, Twice),
        ({"zero_out": 128}, None),
        ({"zero_in": 1}, None),
        ({"left_shift": 1}, None),
        ({"zero_in": 1, "left_shift": 1}, None),
        ({"rounding": "away"}, None),
        ({"dtype": "i16"}, None),
        ({"rest": ("q",)}, Twice),
        ({"rest": ("s",)}, None),
        ({"first": "x"}, None),
        ({"consts": ("w",)}, None),
        ({"consts": ("b",)}, None),
        ({"consts": ("m",)}, None),
        ({"consts": ("h",)}, None),
        ({"op": "scale", "inputs": ("x", "w")}, Line),
        ({"op": "scale"}, None),
        ({"op": "clip", "inputs": ("x", "w"), "rounding": "right"}, None),
    ],
)
def test_sums_that_become_int8(change: dict[str, Any], kind: type | None) -> None:
    graph, group = group_of(**change)
    found = scaling_of(graph, group)
    assert found is None if kind is None else isinstance(found, kind)


def test_upper_sums_that_may_be_as_great_as_they_like() -> None:
    """256 times such a sum is all that is needed where it is shifted by 8 to begin with."""
    w = np.full((2, 1 << 16), 127, np.int8)
    for up in (4, 7, 8, 9, 16):
        assert packable(w, Line(up, 0, -128, 127).exact_shift) == (up == 8)
        assert packable(w[:, :100], Line(up, 0, -128, 127).exact_shift)


def test_sums_that_nothing_scales() -> None:
    graph, group = group_of()
    assert scaling_of(graph, Group(group.nodes[:1], group.anchor)) is None
    assert scaling_of(graph, Group(group.nodes, group.nodes[1])) is None
    assert scaling_of(graph, Group(group.nodes, None)) is None


def test_twice_a_sum_is_a_word() -> None:
    graph, group = group_of()
    whole, line = Twice(-128, 127), Line(8, 4, -128, 127)
    least = (1 << 30) - 9
    for beyond, fits in ((-1, True), (0, False), (1, False)):
        sums = np.array([0, least + beyond])
        assert constants_fit(graph, group, whole, sums) == fits
        assert constants_fit(graph, group, line, sums)
    graph, group = group_of(inputs=("x", "w"))
    assert constants_fit(graph, group, whole, np.array([(1 << 30) - 1]))
    assert not constants_fit(graph, group, whole, np.array([1 << 30]))


# What makes them int16.


def scaled16(multiplier: int, shift: int, **changes: Any) -> type | None:
    own = {"dtype": "i16", "low": -32768, "high": 32767, "rounding": "wide"}
    attrs: dict[str, Attr] = {**own, **changes.pop("attrs", {})}
    consts = {"m": np.array([multiplier]), "h": np.array([shift])}
    names = [n for n in consts if n not in changes.get("without", ())]
    node = Node(changes.get("op", "requantize"), ("s", "m", "h"), ("y",), attrs)
    graph = Graph("g", (), (), {}, {n: consts[n] for n in names}, (node,))
    found = scaling16(graph, node, np.zeros(2, np.int64), 1 << 20)
    return found and type(found[0])


@pytest.mark.parametrize(
    ("multiplier", "changes", "fits"),
    [
        (20_000, {}, True),
        (0, {}, True),
        (-1, {}, False),
        ((1 << 15) - 1, {}, True),
        (1 << 15, {}, False),
        (20_000, {"attrs": {"zero_out": 1}}, False),
        (20_000, {"attrs": {"zero_in": 1}}, False),
        (20_000, {"attrs": {"left_shift": 1}}, False),
        (20_000, {"attrs": {"dtype": "i8"}}, False),
        (20_000, {"attrs": {"rounding": "right"}}, False),
        (20_000, {"without": ("m",)}, False),
        (20_000, {"without": ("h",)}, False),
        (20_000, {"op": "clip"}, False),
    ],
)
def test_sums_that_become_int16(multiplier: int, changes: dict[str, Any], fits: bool) -> None:
    assert scaled16(multiplier, -10, **changes) is (Wide if fits else None)


def away(product: int, shift: int) -> int:
    """product * 2^-shift rounded, ties away from zero."""
    rounded = (2 * abs(product) + (1 << shift)) >> (shift + 1)
    return rounded if product > 0 else -rounded


def same_in_binary64(mantissa: int, shift: int, most: int) -> bool:
    """`_no_ties` one by one."""
    products = (sign * x * mantissa for x in range(1, most + 1) for sign in (-1, 1))
    half = 1 << (shift - 1)
    return all(away(int(float(p)), shift) == (p + half) >> shift for p in products)


def test_ties_of_binary64_are_looked_for() -> None:
    """x * 1.5 * 2^-10 is a tie for some x; of what is a little less, binary64 makes one."""
    assert _no_ties(0, 55, 1 << 20)
    half = 3 << 51  # 1.5 as a mantissa of 53 bits
    first = next(x for x in range(1, 1 << 12) if x * 3 % (1 << 11) == 1 << 10)
    assert not _no_ties(half, 62, 1 << 20)
    for mantissa, shift, most, same in (
        (half, 62, first, False),
        (half, 62, first - 1, True),
        (((1 << 54) - 1) // 3, 55, 3, False),  # three times that is 2^54 - 1
        (((1 << 54) - 1) // 3, 55, 2, True),
        (((1 << 54) - 4) // 3, 55, 3, True),  # binary64 has 2^54 - 4
        ((1 << 53) - 1, 54, 1, True),
        ((1 << 53) - 1, 54, 300, True),
        ((1 << 53) - 1, 60, 300, True),
    ):
        assert same_in_binary64(mantissa, shift, most) == same, (mantissa, shift, most)
        assert _no_ties(mantissa, shift, most) == same, (mantissa, shift, most)


# Trees.


def test_thresholds_of_one_instruction() -> None:
    """Against all of Thumb-2's modified constants of one byte: rotated, at every place."""
    places = {byte << place for byte in range(256) for place in range(24)}
    for value in range(1 << 16):
        assert encodable(value) == (value in places), value
        assert encodable(-value) == (value in places), value
