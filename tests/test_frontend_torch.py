"""PyTorch's exported programs: the stored cases without PyTorch, more of them with it."""

from __future__ import annotations

import contextlib
import io
import json
import random
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import midge
from midge import driver, pipeline
from midge.core.errors import ModelError
from midge.frontends.torch import read
from midge.frontends.torch_calls import Call
from midge.frontends.torch_views import Views
from midge.graph.evaluate import evaluate
from midge.passes import run as run_passes
from torch_cases import Case, outputs_in_c, stored

driver.load_operators()
CASES = {case.name: case for case in stored()}


def check(case: Case) -> None:
    graph = read(case.program, "g")
    model = run_passes(pipeline.MODEL_PASSES, graph)
    found = evaluate(model, {graph.inputs[0]: case.x})
    assert len(model.outputs) == len(case.outputs)
    for name, want in zip(model.outputs, case.outputs, strict=True):
        assert found[name].shape == want.shape
        np.testing.assert_allclose(found[name], want, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", CASES)
def test_what_pytorch_computes(name: str) -> None:
    check(CASES[name])


@pytest.mark.parametrize("name", ["norms", "lstm_states", "transformer", "pools", "quantised"])
def test_the_same_in_c(name: str) -> None:
    case = CASES[name]
    for have, want in zip(outputs_in_c(case), case.outputs, strict=True):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=2e-5)


def test_products_of_a_quantised_export_are_integers() -> None:
    """Also those whose results PyTorch leaves float: the weights stay bytes."""
    graph = read(CASES["quantised"].program, "g")
    plain, _ = pipeline.spell_out(run_passes(pipeline.MODEL_PASSES, graph))
    products = [n for n in plain.nodes if n.op in ("conv2d", "dense")]
    assert len(products) == 3
    assert all(plain.types[n.inputs[1]].dtype.value == "i8" for n in products)
    assert sum(n.op == "transpose" for n in plain.nodes) == 1  # of the input


def rewritten(data: bytes, change: Callable[[Any], None], path: str = "models/model.json") -> bytes:
    """The file with one of its JSON entries changed."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith(path):
                model = json.loads(content)
                change(model)
                content = json.dumps(model).encode()
            new.writestr(name, content)
    return out.getvalue()


def nodes_of(model: Any) -> Any:
    return model["graph_module"]["graph"]["nodes"]


def test_an_unknown_operator_is_named_with_its_module() -> None:
    def change(model: Any) -> None:
        nodes_of(model)[0]["target"] = "torch.ops.aten.cubist.default"

    with pytest.raises(ModelError, match=r"aten\.cubist\.default is not supported") as error:
        read(rewritten(CASES["conv"].program, change), "g")
    assert "parts.0" in str(error.value)
    assert "run_decompositions" in error.value.hint


def test_a_pickle_is_never_loaded() -> None:
    def change(config: Any) -> None:
        for entry in config["config"].values():
            entry["use_pickle"] = True

    data = rewritten(CASES["conv"].program, change, "model_weights_config.json")
    with pytest.raises(ModelError, match="stored as a pickle, which is never loaded"):
        read(data, "g")


def test_only_the_batch_may_be_dynamic() -> None:
    def dynamic(axis: int) -> bytes:
        def change(model: Any) -> None:
            sizes = model["graph_module"]["graph"]["tensor_values"]["x"]["sizes"]
            sizes[axis] = {"as_expr": {"expr_str": "s0"}}

        return rewritten(CASES["conv"].program, change)

    assert read(dynamic(0), "g").types["x"].shape[0] == 1
    with pytest.raises(ModelError, match="has open dimensions: 1,4,s0,8") as caught:
        read(dynamic(2), "g")
    assert "--shape x=1,4,s0,8" in caught.value.hint


def test_training_mode_is_refused() -> None:
    def change(model: Any) -> None:
        for argument in nodes_of(model)[0]["inputs"]:
            if argument["name"] == "training":
                argument["arg"] = {"as_bool": True}

    with pytest.raises(ModelError, match=r"training mode"):
        read(rewritten(CASES["norms"].program, change), "g")


@pytest.mark.parametrize("name", ["prelu", "quantised"])
def test_damaged_files_are_model_errors(name: str) -> None:
    """Cut anywhere, bits flipped anywhere; what can still be read is a graph."""
    data, rng = CASES[name].program, random.Random(1)
    broken = [data[: rng.randrange(len(data))] for _ in range(40)]
    for _ in range(120):
        copy = bytearray(data)
        for _ in range(rng.choice([1, 1, 8])):
            copy[rng.randrange(len(copy))] ^= 1 << rng.randrange(8)
        broken.append(bytes(copy))
    for bad in broken:
        with contextlib.suppress(ModelError):
            read(bad, "g")


@pytest.mark.parametrize("name", ["prelu", "gru_core", "quantised"])
def test_hostile_programs_are_model_errors(name: str) -> None:
    """Any value of the program replaced by another kind of thing, or dropped."""
    rng = random.Random(2)
    others = [None, -1, 1 << 40, "x", [], {}, True, 0.5, {"as_int": -5}, {"name": "x"}]

    def change(value: Any) -> None:
        while True:
            keys = list(value) if isinstance(value, dict) else list(range(len(value)))
            if not keys:
                return
            key = rng.choice(keys)
            if not isinstance(value[key], dict | list) or rng.random() < 0.1:
                value[key] = rng.choice(others)
                return
            value = value[key]

    for i in range(150):
        path = "models/model.json" if i % 4 else "model_weights_config.json"
        with contextlib.suppress(ModelError):
            read(rewritten(CASES[name].program, change, path), "g")


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own
def test_modules() -> None:
    """Every case exported by the PyTorch that is installed."""
    torch = pytest.importorskip("torch", reason="pip install '.[torch]'")
    from torch_cases import exported, models

    for case in exported(quantised=False):
        check(case)
    _, module, x = next(models())
    graph = midge.from_torch(module, (x,), name="conv")
    assert graph.name == "conv"
    with pytest.raises(ModelError, match=r"torch\.export refuses the module"):
        midge.from_torch(torch.nn.Linear(3, 4), (torch.zeros(1, 5),))


def test_changes_through_views_are_refused_in_files() -> None:
    views = Views()
    views.operator(Call("aten.view.default", (("self", "x"),), ("v",), {}, "node 0"))
    views.operator(Call("aten.relu_.default", (("self", "v"),), ("r",), {}, "node 1"))
    views.read(["r"], "node 2")
    for name in ("x", "v"):
        with pytest.raises(ModelError, match="changed in place by node 1") as error:
            views.read([name], "node 2")
        assert "run_decompositions" in error.value.hint


@pytest.mark.filterwarnings("ignore")  # of PyTorch's own
def test_changes_in_place_are_written_out_for_modules() -> None:
    torch = pytest.importorskip("torch", reason="pip install '.[torch]'")

    class Writes(torch.nn.Module):  # type: ignore[name-defined, misc]
        def forward(self, x: Any) -> Any:
            y = x * 2
            y[:, 2:4] = x[:, 1:3]
            y[0] += 1
            y.view(-1).sigmoid_()
            return torch.logit(y).relu_() + y.sum(1, keepdim=True)

    x = torch.randn(3, 7)
    graph = midge.from_torch(Writes(), (x,))
    found = evaluate(graph, {graph.inputs[0]: x.numpy()})[graph.outputs[0]]
    np.testing.assert_allclose(found, Writes()(x).numpy(), rtol=1e-4, atol=2e-5)
