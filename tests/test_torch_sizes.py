"""PyTorch programs with open dimensions: a shape is said, what they compute of it is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midge import driver
from midge.core.errors import ModelError, UsageError
from midge.frontends.torch import read
from midge.frontends.torch_sizes import arithmetic, check_ranges
from midge.graph.evaluate import evaluate
from test_frontend_torch import nodes_of, rewritten
from torch_cases import Case, outputs_in_c, stored
from torch_size_cases import STORED

driver.load_operators()
CASES = {case.name: case for case in stored(STORED)}


@pytest.mark.parametrize("name", CASES)
def test_what_pytorch_computes_for_that_shape(name: str) -> None:
    case = CASES[name]
    (want,) = case.outputs
    graph = read(case.program, "g", {"x": case.x.shape})
    (found,) = evaluate(graph, {"x": case.x}).values()
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", ["image", "length"])
def test_what_stays_open_is_asked_for(name: str) -> None:
    with pytest.raises(ModelError, match="has open dimensions: 1,") as caught:
        read(CASES[name].program, "g")
    assert "--shape x=1," in caught.value.hint


def test_a_batch_is_one_unasked() -> None:
    case = CASES["batch"]
    (have,) = outputs_in_c(case)
    np.testing.assert_allclose(have, case.outputs[0], rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 5), (3, 6, 3)])
def test_sizes_that_the_program_states_stay(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="is no shape of 'x'"):
        read(CASES["states"].program, "g", {"x": shape})


@pytest.mark.parametrize(
    ("written", "ranges", "fits"),
    [
        ("Symbol('s7', positive=True, integer=True)", {"min_val": 3, "max_val": 8}, True),
        ("Symbol('s7', positive=True, integer=True)", {"min_val": 0, "max_val": None}, True),
        ("s7", {"min_val": 6, "max_val": 8}, False),
        ("s7", {"min_val": 2, "max_val": 4}, False),
        ("Mul(Integer(5), Symbol('s7', integer=True))", {"min_val": 2, "max_val": 9}, True),
        ("Mul(Integer(2), Symbol('s7', integer=True))", {"min_val": 2, "max_val": 9}, False),
        ("Mul(Integer(5), Symbol('s7', integer=True))", {"min_val": 3, "max_val": 9}, False),
    ],
)
def test_a_size_the_program_was_not_exported_for(written: str, ranges: Any, fits: bool) -> None:
    """It may have left out what it does of those."""
    sizes = [{"as_expr": {"expr_str": written}}, {"as_int": 3}]
    own = {"s7": ranges}
    if fits:
        check_ranges("x", sizes, (5, 3), own)
    else:
        with pytest.raises(ModelError, match="dimension 0 of 'x' is 5; the program was exported"):
            check_ranges("x", sizes, (5, 3), own)


def test_the_range_of_an_open_batch_is_the_files() -> None:
    """A batch of 1 is not assumed outside of it."""

    def change(model: Any) -> None:
        for own in model["range_constraints"].values():
            own.update(min_val=4, max_val=9)

    data = rewritten(CASES["batch"].program, change)
    with pytest.raises(ModelError, match="exported for 4 to 9"):
        read(data, "g")


def changed(case: Case, old: str, new: str) -> bytes:
    """The program with a size computed by another operator."""

    def change(model: Any) -> None:
        for node in nodes_of(model):
            if node["target"] == old:
                node["target"] = new

    return rewritten(case.program, change)


def test_what_else_computes_sizes_is_refused() -> None:
    data = changed(CASES["states"], "_operator.mul", "_operator.matmul")
    with pytest.raises(ModelError, match=r"computed by _operator\.matmul"):
        read(data, "g", {"x": (3, 5, 3)})


def test_sizes_that_cannot_be_are_refused() -> None:
    def change(model: Any) -> None:
        for node in nodes_of(model):
            if node["target"] == "_operator.floordiv":
                node["inputs"][1]["arg"] = {"as_int": 0}

    with pytest.raises(ModelError, match="a size cannot be computed"):
        read(rewritten(CASES["image"].program, change), "g", {"x": (1, 2, 7, 5)})


def test_a_size_that_nothing_computes_is_refused() -> None:
    def change(model: Any) -> None:
        text = json.dumps(nodes_of(model)).replace('"as_name": "mul"', '"as_name": "other"', 1)
        model["graph_module"]["graph"]["nodes"] = json.loads(text)

    with pytest.raises(ModelError, match="computed from values at run time"):
        read(rewritten(CASES["states"].program, change), "g", {"x": (3, 5, 3)})


@pytest.mark.parametrize("name", CASES)
def test_pytorch_judges_programs_that_compute_with_sizes(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="pip install '.[torch]'")
    from midge.oracle.pytorch import PyTorch

    case, path = CASES[name], tmp_path / "case.pt2"
    path.write_bytes(case.program)
    graph = driver.load(path, shapes=(("x", case.x.shape),))
    found = PyTorch().load(path, graph).run({"x": case.x})
    (output,), (want,) = graph.outputs, case.outputs
    np.testing.assert_allclose(found[output], want, rtol=1e-5, atol=2e-6)
    (own,) = evaluate(graph, {"x": case.x}).values()
    np.testing.assert_allclose(own, want, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("kind", ["os.system", "torch.load", "math.nothing", "builtins.eval"])
def test_nothing_else_computes_a_size(kind: str) -> None:
    """Names come from a file of whoever made it."""
    assert arithmetic(kind) is None
