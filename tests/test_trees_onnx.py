"""ONNX-ML's tree operators against ONNX Runtime, and files as the exporters write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import NO_SEARCH
from midge import driver
from midge.core.errors import ModelError
from midge.core.types import Array
from midge.oracle import oracle_for
from midge.run import RUNNERS
from midge.target import load_target
from tree_models import Grown, by_onnxruntime, evaluated, features, loaded, model

pytest.importorskip("onnxruntime", reason="pip install '.[verify]'")

_MODES = (
    "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ",
)  # fmt: skip
_STORED = Path(__file__).parent / "data" / "trees"
_POSTS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")


def same(data: bytes, x: Array, ulps: float = 0) -> None:
    """The outputs are ONNX Runtime's, bit for bit or within `ulps`."""
    want, have = by_onnxruntime(data, x), evaluated(loaded(data), x)
    assert want.keys() == have.keys()
    for name, expected in want.items():
        found = have[name].reshape(expected.shape)
        if ulps and expected.dtype.kind == "f":
            np.testing.assert_array_max_ulp(np.float32(1) + found, np.float32(1) + expected, ulps)
        else:
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("modes", [*((m,) for m in _MODES), _MODES])
def test_every_comparison(modes: Sequence[str], missing: bool) -> None:
    grown = Grown(1, modes, missing).grow(5, 4)
    data = model("TreeEnsembleRegressor", ["y"], grown.attributes("target") | {"n_targets": 1})
    same(data, features(60, missing=missing))


@pytest.mark.parametrize("post", _POSTS)
@pytest.mark.parametrize("how", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("base", [None, (0.25, -3.0)])
def test_aggregates(how: str, post: str, base: Sequence[float] | None) -> None:
    grown = Grown(2, targets=(0, 1), all_targets=True).grow(7, 3)
    attributes = grown.attributes("target") | {
        "n_targets": 2, "aggregate_function": how, "post_transform": post
    }  # fmt: skip
    if base:
        attributes["base_values"] = base
    data = model("TreeEnsembleRegressor", ["y"], attributes)
    same(data, features(30), ulps=0 if post == "NONE" else 2)


CLASSES: dict[str, dict[str, Any]] = {
    "votes": {"weights": (0.1,), "targets": (0, 1, 2), "labels": (0, 1, 2)},
    "shares": {"weights": (0.1, 0.2, 0.3), "targets": (0, 1, 2), "labels": (5, 7, 9)},
    "scores": {
        "targets": (0, 1, 2),
        "labels": (9, -7, 5),
        "all_targets": True,
        "base": (1.0, 0.0, 2.0),
    },
    "share of the second": {"weights": (0.1, 0.02, 0.15), "targets": (0,), "labels": (0, 1)},
    "share beside none": {"weights": (0.1, 0.02, 0.15), "targets": (1,), "labels": (0, 1)},
    "score of the second": {"targets": (0,), "labels": (3, 8), "base": (0.3,)},
}


@pytest.mark.parametrize("post", _POSTS)
@pytest.mark.parametrize("name", CLASSES)
def test_classifiers(name: str, post: str) -> None:
    own = dict(CLASSES[name])
    labels, base = own.pop("labels"), own.pop("base", None)
    if len(labels) == 2 and post.startswith("SOFTMAX"):
        pytest.skip("ONNX Runtime applies no softmax to one score")
    attributes = Grown(3, **own).grow(6, 4).attributes("class")
    attributes |= {"classlabels_int64s": labels, "post_transform": post}
    if base:
        attributes["base_values"] = base
    data = model("TreeEnsembleClassifier", ["label", "scores"], attributes)
    same(data, features(60), ulps=0 if post == "NONE" else 2)


def test_two_scores_of_two_classes_are_compared() -> None:
    """As ONNX's reference does; ONNX Runtime asks whether the second one is above 0."""
    grown = Grown(3, targets=(0, 1), all_targets=True).grow(6, 4)
    attributes = grown.attributes("class") | {"classlabels_int64s": (0, 1)}
    found = evaluated(
        loaded(model("TreeEnsembleClassifier", ["label", "scores"], attributes)), features(40)
    )
    np.testing.assert_array_equal(found["label"], found["scores"].argmax(1))


def test_strings_are_given_as_positions() -> None:
    attributes = Grown(3, targets=(0, 1, 2)).grow(6, 4).attributes("class")
    x = features(20)
    numbers, words = (
        evaluated(loaded(model("TreeEnsembleClassifier", ["label"], attributes | names)), x)
        for names in (
            {"classlabels_int64s": (0, 1, 2)}, {"classlabels_strings": ("c", "a", "b")}
        )
    )  # fmt: skip
    np.testing.assert_array_equal(numbers["label"], words["label"])


def version_5(**changes: Any) -> bytes:
    """Two trees with a set, an inequality and a shared leaf."""
    f32, nan = np.float32, np.nan
    attributes: dict[str, Any] = {
        "n_targets": 2, "aggregate_function": 1, "post_transform": 0, "tree_roots": [0, 2],
        "nodes_modes": np.array([6, 0, 3], np.uint8),
        "nodes_featureids": [0, 1, 2],
        "nodes_splits": np.array([nan, 0.5, -1], f32),
        "nodes_truenodeids": [0, 1, 2], "nodes_trueleafs": [1, 1, 1],
        "nodes_falsenodeids": [1, 0, 1], "nodes_falseleafs": [0, 1, 1],
        "nodes_missing_value_tracks_true": [0, 1, 0],
        "membership_values": np.array([0.5, 1, -1.5, nan], f32),
        "leaf_weights": np.array([1.5, -2, 0.25], f32), "leaf_targetids": [0, 1, 1],
    } | changes  # fmt: skip
    arrays = {k: v for k, v in attributes.items() if isinstance(v, np.ndarray)}
    attributes |= {k: numpy_helper.from_array(v, k) for k, v in arrays.items()}
    node = helper.make_node("TreeEnsemble", ["x"], ["y"], domain="ai.onnx.ml", **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])
    imports = [helper.make_opsetid("ai.onnx.ml", 5), helper.make_opsetid("", 18)]
    graph = helper.make_graph([node], "trees", [x], [y])
    return bytes(helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString())


def test_version_5_with_sets() -> None:
    x = features(60, missing=True)

    def first(row: Array) -> tuple[int, float]:
        if row[0] in (0.5, 1, -1.5):
            return 0, 1.5
        return (1, -2) if row[1] <= 0.5 or np.isnan(row[1]) else (0, 1.5)

    want = np.zeros((60, 2), np.float32)
    for total, row in zip(want, x, strict=True):
        for target, weight in (first(row), (1, 0.25) if row[2] > -1 else (1, -2)):
            total[target] += weight
    np.testing.assert_array_equal(evaluated(loaded(version_5()), x)["y"], want)


@pytest.mark.parametrize(
    "changes",
    [
        {"tree_roots": [7]}, {"nodes_truenodeids": [9, 1, 2]}, {"nodes_featureids": [0, 4, 0]},
        {"nodes_modes": np.array([7, 0, 0], np.uint8)}, {"post_transform": 4},
        {"aggregate_function": 9}, {"leaf_targetids": [0, 1, 2]}, {"tree_roots": [-1]},
        {"nodes_falsenodeids": [0, 0, 1]}, {"n_targets": 0}, {"aggregate_function": 2},
        {"leaf_weights": np.array([np.inf, 0, 0], np.float32)},
        {"membership_values": np.zeros(0, np.float32)},
        {"nodes_splits": np.array([0, np.nan, 0], np.float32)},
        {"nodes_trueleafs": [1, 1]},
    ],
)  # fmt: skip
def test_damaged_trees_are_refused(changes: Mapping[str, Any]) -> None:
    with pytest.raises(ModelError):
        loaded(version_5(**changes))


def test_what_is_not_defined_is_refused() -> None:
    attributes = Grown(3, targets=(0,)).grow(2, 2).attributes("class")
    two = {"classlabels_int64s": (0, 1)}
    for wrong in (
        {}, two | {"post_transform": "PROBIT"}, two | {"base_values": (1.0, 2.0)},
        {"classlabels_int64s": (4,)}, two | {"classlabels_strings": ("a", "b")},
        two | {"nodes_modes": ("BRANCH",) * len(attributes["nodes_modes"])},
    ):  # fmt: skip
        with pytest.raises(ModelError):
            loaded(model("TreeEnsembleClassifier", ["label"], attributes | wrong))


STORED = sorted(p.stem for p in _STORED.glob("*.onnx"))


@pytest.mark.parametrize("name", STORED)
def test_exported_models_predict_as_their_frameworks(name: str) -> None:
    """Written by tests/data/trees/make.py."""
    with np.load(_STORED / "expected.npz") as expected:
        x, label = expected[f"{name}/x"], expected[f"{name}/label"]
        shares = expected[f"{name}/probabilities"] if not name.endswith("real") else None
    graph = loaded((_STORED / f"{name}.onnx").read_bytes())
    found = evaluated(graph, x)
    first = found[graph.outputs[0]].reshape(-1)
    if shares is None:
        np.testing.assert_allclose(first, label, rtol=3e-7)
        return
    np.testing.assert_array_equal(first, label)
    np.testing.assert_allclose(found[graph.outputs[1]], shares, atol=2e-7)


def test_an_exported_model_as_c() -> None:
    data = (_STORED / "lgbm_multi.onnx").read_bytes()
    with np.load(_STORED / "expected.npz") as expected:
        x, label = expected["lgbm_multi/x"], expected["lgbm_multi/label"]
    graph = loaded(data)
    session = RUNNERS["host"].load(
        driver.compile_graph(graph, load_target("cortex-m4"), NO_SEARCH).package
    )
    found = [session.run({graph.inputs[0]: row[None]}).outputs for row in x]
    session.close()
    name = next(n for n in found[0] if found[0][n].dtype == np.int64)
    np.testing.assert_array_equal(np.concatenate([f[name] for f in found]), label)


def test_maps_of_the_judge_are_read_as_tensors() -> None:
    path = _STORED / "lgbm_binary.onnx"
    graph = loaded(path.read_bytes())
    with np.load(_STORED / "expected.npz") as expected:
        x = expected["lgbm_binary/x"][:1]
    judge = oracle_for(path)
    assert judge is not None
    found = judge.load(path, graph).run({graph.inputs[0]: x})
    want = evaluated(graph, x)
    for name in graph.outputs:
        np.testing.assert_allclose(found[name], want[name], atol=1e-7)
