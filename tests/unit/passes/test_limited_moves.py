"""Pools with an activation between dequantisation and what follows: on integers only where these
are limited to the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from midge import driver
from midge.graph.evaluate import evaluate
from midge.graph.text import parse_graph
from midge.passes.fuse_quantized import fuse_quantized

POOL = "strides=(1 1), dilations=(1 1), padding=(0 0 0 0), window=(1 2)"


@pytest.mark.parametrize(
    ("activation", "quant", "on_integers"),
    [
        ("relu", "0.45; 3", True),  # 0 is a number of every scale
        ("relu6", "0.5; 0", True),  # 6 is twelve steps
        ("relu6", "0.45; 0", False),
        ("relu6", "0.5; -128", True),
        ("relu6", "0.04; 0", True),  # 6 is more than there is
        ("relu6", "0.045; -128", False),
        ("relu_n1_to_1", "0.25; 3", True),
        ("relu_n1_to_1", "0.3; 3", False),
        ("relu_n1_to_1", "0.007; 0", True),
        ("relu_n1_to_1", "0.007; 100", False),  # -1 is inside
    ],
)
def test_limits_of_a_pool(activation: str, quant: str, on_integers: bool) -> None:
    driver.load_operators()
    graph = parse_graph(f"""graph g(x: i8[1x1x256x1]{{{quant}}}):
  a: f32[1x1x256x1] = dequantize(x) @ "operator 0" "DEQUANTIZE"
  y: f32[1x1x255x1] = max_pool2d(a, activation="{activation}", {POOL}) @ "operator 1" "POOL"
  return y
""")
    given = {"x": np.arange(-128, 128, dtype=np.int8).reshape(1, 1, 256, 1)}
    made = fuse_quantized(graph)
    np.testing.assert_array_equal(evaluate(made, given)["y"], evaluate(graph, given)["y"])
    (pool,) = (n for n in made.nodes if n.op == "max_pool2d")
    assert (pool.inputs == ("x",)) == on_integers
