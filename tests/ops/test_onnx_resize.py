"""Resize and Upsample against ONNX Runtime, which rounds lengths, places and weights as floats."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import onnxruntime
import pytest

from islands import resized
from midge.core.types import Array
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate
from midge.oracle.units import largest_value
from midge.verify import FLOAT_BOUND_ULP, difference
from onnx_builder import OnnxModel
from test_islands import differences

OPSETS = (11, 13, 17, 19)
PLACES = ("align_corners", "half_pixel", "pytorch_half_pixel", "asymmetric")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
# Both directions, whole and fractional lengths; 10 * 0.7 is 7 as a float, 5 * 0.3 is 1 element.
SHAPES = [
    ((5, 3), (1.7, 1.7)), ((10, 8), (0.7, 0.6)), ((5, 12), (0.3, 2.5)), ((5, 4), (1.1, 3.0)),
    ((1, 7), (1.9, 0.3)), ((50, 9), (1.3, 1.1)), ((7, 9), (1.1, 1.05)),
]  # fmt: skip


def model(
    shape: Any, scales: Any, opset: int, sizes: Any = None, kind: str = "", **a: Any
) -> bytes:
    m = OnnxModel(opset=opset)
    if opset < 11:
        m.op(kind or "Resize", "x", m.const(scales), output="y", **a)
    else:
        none = m.const([]) if opset < 13 else ""  # these inputs were not optional
        ends = [none, m.ints(*sizes)] if sizes is not None else [m.const(scales)]
        m.op("Resize", "x", none, *ends, output="y", **a)
    return m.build([("x", shape)], ["y"])


def both(data: bytes, x: Array) -> tuple[Array, Array]:
    """Midge's result and ONNX Runtime's."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    (want,) = onnxruntime.InferenceSession(data, options).run(None, {"x": x})
    return evaluate(read(data, "m"), {"x": x})["y"], want


def ulp(data: bytes, x: Array) -> float:
    have, want = both(data, x)
    assert have.shape == want.shape
    return difference("y", want, have, largest_value({"x": x, "y": want})).ulp


def values(shape: Any) -> Array:
    return np.random.default_rng(7).normal(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize(("place", "opset"), list(product(PLACES, OPSETS)))
def test_the_nearest_elements_are_onnxruntimes(place: str, opset: int) -> None:
    for (shape, scales), mode in product(SHAPES, NEAREST):
        more = {"coordinate_transformation_mode": place, "nearest_mode": mode}
        have, want = both(model(shape, scales, opset, **more), values(shape))
        np.testing.assert_array_equal(have, want, str((shape, scales, mode)))


def test_what_is_near_the_middle_is_the_middle() -> None:
    """1 / (2 / 7) is 3.4999998."""
    for mode in NEAREST:
        more = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": mode}
        for sizes in ((7, 2), (7, 4), (7, 16)):
            have, want = both(model((7, 7), None, 13, sizes, **more), values((7, 7)))
            np.testing.assert_array_equal(have, want, str((sizes, mode)))


@pytest.mark.parametrize(("place", "opset"), list(product(PLACES, OPSETS)))
def test_between_two_rows(place: str, opset: int) -> None:
    """To the bit where height and width have tables."""
    for shape, scales in SHAPES:
        more = {"mode": "linear", "coordinate_transformation_mode": place}
        have, want = both(model(shape, scales, opset, **more), values(shape))
        np.testing.assert_array_equal(have, want, str((shape, scales)))
        image, whole = (1, 2, *shape), (1, 1, *scales)
        assert ulp(model(image, whole, opset, **more), values(image)) <= FLOAT_BOUND_ULP
        for sizes in ((1, 2, 90, 17), (1, 2, 1, 1)):
            sized = model(image, None, opset, sizes, **more)
            assert ulp(sized, values(image)) <= FLOAT_BOUND_ULP


@pytest.mark.parametrize("exclude", [0, 1])
@pytest.mark.parametrize(("place", "opset"), list(product(PLACES, OPSETS)))
def test_of_four_rows(place: str, opset: int, exclude: int) -> None:
    for shape, scales in SHAPES:
        attrs = {"mode": "cubic", "exclude_outside": exclude}
        data = model(shape, scales, opset, coordinate_transformation_mode=place, **attrs)
        assert ulp(data, values(shape)) <= 8, (shape, scales)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("place", PLACES)
def test_without_aliases(place: str, mode: str) -> None:
    """An axis whose length stays is left as it is, whatever its scale."""
    attrs = {"mode": mode, "coordinate_transformation_mode": place, "antialias": 1}
    for shape, scales in SHAPES:
        image = (1, 2, *shape)
        data = model(image, (1, 1, *scales), 19, **attrs)
        assert ulp(data, values(image)) <= FLOAT_BOUND_ULP, (shape, scales)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_symmetric_places(mode: str) -> None:
    attrs = {"mode": mode, "coordinate_transformation_mode": "half_pixel_symmetric"}
    for shape, scales in SHAPES:
        have, want = both(model(shape, scales, 19, **attrs), values(shape))
        np.testing.assert_array_equal(have, want, str((shape, scales)))


@pytest.mark.parametrize(("kind", "opset"), [("Upsample", 9), ("Resize", 10)])
def test_before_there_were_modes(kind: str, opset: int) -> None:
    for shape, scales in SHAPES:
        if kind == "Upsample" and min(scales) < 1:
            continue
        for mode in ("nearest", "linear"):
            have, want = both(model(shape, scales, opset, kind=kind, mode=mode), values(shape))
            np.testing.assert_array_equal(have, want, str((shape, scales)))


@pytest.mark.parametrize("opset", OPSETS)
def test_bytes_behind_it(opset: int) -> None:
    for scales in ((1.7, 0.7), (0.3, 1.7), (1.1, 2.5), (0.3, 0.2), (1.1, 1.1)):
        for place in PLACES:
            for seed in range(3):
                assert not differences(resized(place, *scales), seed, opset).any(), (scales, place)


def test_scales_that_are_nearly_those_of_the_lengths() -> None:
    """Count as they are: to the bit, also in images."""
    for shape, scales in (((5, 6), (1.8000002, 1.5000002)), ((7, 9), (3.0000005, 0.6666668))):
        attrs = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        image = (1, 2, *shape)
        have, want = both(model(image, (1, 1, *scales), 17, **attrs), values(image))
        np.testing.assert_array_equal(have, want, str((shape, scales)))
