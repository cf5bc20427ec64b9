"""Arguments of PyTorch's calls: computed as PyTorch does, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midge import driver
from midge.core.errors import ModelError
from midge.frontends import torch_arguments
from midge.frontends.torch import read
from midge.graph.evaluate import evaluate
from midge.graph.importers import IMPORTERS
from test_frontend_torch import CASES, nodes_of, rewritten
from torch_call_cases import STORED
from torch_cases import Case, outputs_in_c, stored

driver.load_operators()
CALLS = {case.name: case for case in stored(STORED)}
_ROUNDED = ("activations", "resized", "hidden", "infinities", "sums", "pooled", "tapered", "spaced")


def check(case: Case) -> None:
    graph = read(case.program, "g")
    with np.errstate(all="ignore"):
        found = evaluate(graph, {graph.inputs[0]: case.x})
    outputs = [found[name] for name in graph.outputs]
    assert [y.dtype for y in outputs] == [y.dtype for y in case.outputs]
    assert [y.shape for y in outputs] == [y.shape for y in case.outputs]
    for y, want in zip(outputs, case.outputs, strict=True):
        if case.name in _ROUNDED:
            np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("name", CALLS)
def test_what_pytorch_computes(name: str) -> None:
    check(CALLS[name])


@pytest.mark.parametrize(
    "name",
    ["integers", "wide", "infinities", "remainders", "divided", "pooled", "patches", "gated"],
)
def test_the_same_in_c(name: str) -> None:
    case = CALLS[name]
    for have, want in zip(outputs_in_c(case), case.outputs, strict=True):
        np.testing.assert_allclose(have.reshape(want.shape), want, rtol=1e-5)


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own
def test_the_pytorch_that_is_installed() -> None:
    pytest.importorskip("torch", reason="pip install '.[torch]'")
    from torch_call_cases import called

    for case in called():
        check(case)


def _with(argument: str, value: Any) -> bytes:
    """A program whose first operator has one argument more."""

    def change(model: Any) -> None:
        entry = {"name": argument, "arg": value, "kind": 2}
        nodes_of(model)[0]["inputs"].append(entry)

    return rewritten(CASES["prelu"].program, change)


@pytest.mark.parametrize("value", [{"as_int": 3}, {"as_bool": False}, {"as_scalar_type": 4}])
def test_an_argument_that_no_rule_reads_is_refused(value: Any) -> None:
    with pytest.raises(ModelError, match=r"aten\.prelu .*argument sharpness=.* is not") as error:
        read(_with("sharpness", value), "g")
    assert "sharpness" in error.value.hint


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("sharpness", {"as_none": True}),
        ("memory_format", {"as_memory_format": 2}),
        ("non_blocking", {"as_bool": True}),
        ("half_to_float", {"as_bool": False}),
    ],
)
def test_arguments_that_leave_values_alone_are_not(argument: str, value: Any) -> None:
    assert read(_with(argument, value), "g").outputs


def test_another_value_than_the_default_is_refused() -> None:
    with pytest.raises(ModelError, match="argument half_to_float=True is not supported"):
        read(_with("half_to_float", {"as_bool": True}), "g")


def test_every_operator_with_harmless_arguments_is_there() -> None:
    assert set(torch_arguments.HARMLESS) <= set(IMPORTERS["torch"])


@pytest.mark.parametrize(
    ("change", "told"),
    [({"dtype": 4}, r"gives i32\["), ({"sizes": [{"as_int": 1}]}, r"gives f32\[1\]")],
)
def test_a_result_of_another_type_than_in_the_file_is_refused(change: Any, told: str) -> None:
    def changed(model: Any) -> None:
        output = nodes_of(model)[0]["outputs"][0]["as_tensor"]["name"]
        model["graph_module"]["graph"]["tensor_values"][output] |= change

    with pytest.raises(ModelError, match=rf"aten\.prelu .*{told}.*, Midge would compute f32"):
        read(rewritten(CASES["prelu"].program, changed), "g")
