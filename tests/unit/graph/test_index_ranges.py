"""Inputs that are indices are drawn inside their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midge import driver
from midge.data import random_inputs
from midge.frontends import parse
from midge.graph.index_ranges import index_ranges
from midge.graph.ir import Graph
from onnx_builder import OnnxModel


def graph(build: Any, shape: tuple[int, ...] = (2, 3), dtype: str = "i64") -> Graph:
    m = OnnxModel()
    build(m)
    driver.load_operators()
    return parse(m.build([("x", shape)], ["y"], dtype=dtype), Path("x.onnx"), "g")


def embedding(m: OnnxModel, x: str = "x", rows: int = 11) -> None:
    m.op("Gather", m.weights(rows, 4), x, output="y")


def behind(*steps: Any) -> Any:
    """An embedding of 11 rows behind operators."""

    def build(m: OnnxModel) -> None:
        x = "x"
        for step in steps:
            x = step(m, x)
        embedding(m, x)

    return build


CASES: dict[str, tuple[Any, int, int]] = {
    "alone": (embedding, 0, 10),
    "cast": (behind(lambda m, x: m.op("Cast", x, to=6)), 0, 10),
    "moved": (
        behind(
            lambda m, x: m.op("Transpose", x),
            lambda m, x: m.op("Reshape", x, m.ints(6)),
            lambda m, x: m.op("Concat", x, m.ints(3, 4), axis=0),
            lambda m, x: m.op("Expand", x, m.ints(2, 8)),
        ),
        0,
        10,
    ),
    "offset": (behind(lambda m, x: m.op("Add", x, m.ints(3))), -3, 7),
    "from 1": (behind(lambda m, x: m.op("Sub", x, m.ints(1))), 1, 11),
    "backwards": (behind(lambda m, x: m.op("Sub", m.ints(10), x)), 0, 10),
    "every third": (behind(lambda m, x: m.op("Mul", x, m.ints(3))), 0, 3),
    "negative ones too": (
        behind(
            lambda m, x: m.op("Where", m.op("Less", x, m.ints(0)), m.op("Add", x, m.ints(11)), x)
        ),
        0,
        10,
    ),
    "elements": (
        lambda m: m.op("GatherElements", m.weights(2, 7), "x", output="y", axis=1), 0, 6
    ),
    "one-hot": (lambda m: m.op("OneHot", "x", m.ints(5), m.const([0, 1]), output="y"), 0, 4),
    "scattered": (
        lambda m: m.op("ScatterElements", m.weights(9, 3), "x", m.weights(2, 3), output="y"), 0, 8
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_as_far_as_the_table_goes(name: str) -> None:
    build, low, high = CASES[name]
    found = graph(build)
    sets = random_inputs(found, 40, 0)
    values = np.concatenate([s["x"].reshape(-1) for s in sets])
    assert (values.min(), values.max()) == (low, high)
    assert len(np.unique(values)) == high - low + 1
    assert (sets[0]["x"] == low).all()
    assert (sets[1]["x"] == high).all()


@pytest.mark.parametrize("kind", ["GatherND", "ScatterND"])
def test_several_axes_have_extents_of_their_own(kind: str) -> None:
    def build(m: OnnxModel) -> None:
        updates = [m.weights(2)] if kind == "ScatterND" else []
        m.op(kind, m.weights(3, 50, 9), "x", *updates, output="y")

    found = graph(build, (2, 3))
    values = np.concatenate([s["x"] for s in random_inputs(found, 100, 0)])
    np.testing.assert_array_equal(values.max(0), [2, 49, 8])
    assert values.min() == 0


def test_the_smallest_of_several_tables_counts() -> None:
    def build(m: OnnxModel) -> None:
        first, second = (m.op("Gather", m.weights(n, 4), "x") for n in (9, 5))
        m.op("Add", first, second, output="y")

    (wanted,) = index_ranges(graph(build)).values()
    assert wanted.high.max() == 4


def test_parts_of_an_input_that_are_no_indices_are_free() -> None:
    def build(m: OnnxModel) -> None:
        part = m.op("Slice", "x", m.ints(0), m.ints(1), m.ints(1))
        embedding(m, part)

    values = np.concatenate([s["x"] for s in random_inputs(graph(build), 20, 0)])
    assert 0 <= values[:, 0].min() <= values[:, 0].max() <= 10
    assert np.abs(values[:, 1:]).max() > 1 << 40


def test_floats_that_become_indices() -> None:
    found = graph(behind(lambda m, x: m.op("Cast", x, to=7)), dtype="f32")
    values = np.concatenate([s["x"] for s in random_inputs(found, 40, 0)])
    assert set(np.unique(values)) == set(range(11))


def test_what_is_no_index_is_drawn_as_ever() -> None:
    def compared(m: OnnxModel) -> None:
        m.op("Cast", m.op("Equal", "x", m.ints(0)), output="y", to=1)

    for build in (compared, lambda m: m.op("Mul", "x", m.ints(3), output="y")):
        assert index_ranges(graph(build)) == {}
