"""ONNX files that say what no network means: infinite weights, no elements."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import NO_SEARCH
from midge import driver
from midge.core.errors import ModelError
from midge.frontends.onnx import read
from midge.target import load_target
from onnx_builder import OnnxModel


def test_infinite_weights_are_refused(tmp_path: Path) -> None:
    """Of what is 0 they make no number."""
    m = OnnxModel()
    m.op("Conv", "x", m.const(np.float32([1, np.inf, 0, 2]).reshape(2, 2, 1, 1)), output="y")
    path = tmp_path / "net.onnx"
    path.write_bytes(m.build([("x", [1, 2, 4, 4])], ["y"]))
    with pytest.raises(ModelError, match="multiplies by infinite weights"):
        driver.compile_file(path, load_target("cortex-m4"), NO_SEARCH)


def test_a_first_dimension_of_0_is_an_open_batch_where_all_are() -> None:
    m = OnnxModel()
    m.op("Concat", "x", "e", output="y", axis=1)
    graph = read(m.build([("x", [0, 3]), ("e", [0, 2])], ["y"]), "m")
    assert graph.types["y"].shape == (1, 5)
    m = OnnxModel()
    m.op("Concat", "x", "e", output="y", axis=0)
    with pytest.raises(ModelError, match="no elements"):
        read(m.build([("x", [2, 3]), ("e", [0, 3])], ["y"]), "m")
