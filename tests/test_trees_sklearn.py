"""Fitted scikit-learn models: the same prediction for every sample, evaluated, as C on the host and
on the emulated Cortex-M4."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge
from conftest import NO_SEARCH, Cli
from midge import driver, from_sklearn, save
from midge.core.errors import MidgeError, ModelError, UsageError
from midge.core.types import Array
from midge.graph.ir import Graph
from midge.run import RUNNERS
from midge.target import load_target
from tree_models import evaluated

datasets = pytest.importorskip("sklearn.datasets", reason="pip install '.[trees]'")
from sklearn import clone, ensemble, linear_model, model_selection, tree  # noqa: E402

pytestmark = pytest.mark.slow

Split = tuple[Array, Array, Array, Array]


def split(data: tuple[Array, Array]) -> Split:
    train, test, target, wanted = model_selection.train_test_split(*data, random_state=0)
    return train, test, target, wanted


DIGITS = split(datasets.load_digits(return_X_y=True))
BINARY = split(datasets.load_breast_cancer(return_X_y=True))
REAL = split(datasets.load_diabetes(return_X_y=True))
MISSING = split(datasets.load_wine(return_X_y=True))
for _x in MISSING[:2]:
    _x[np.random.default_rng(0).random(_x.shape) < 0.2] = np.nan

CLASSIFIERS: dict[str, tuple[Any, Split]] = {
    "tree": (tree.DecisionTreeClassifier(max_depth=10, random_state=0), DIGITS),
    "forest": (ensemble.RandomForestClassifier(10, random_state=0), DIGITS),
    "soft forest": (
        ensemble.RandomForestClassifier(10, min_samples_leaf=4, random_state=0), DIGITS
    ),
    "extra trees": (ensemble.ExtraTreesClassifier(9, max_depth=6, random_state=0), DIGITS),
    "binary forest": (ensemble.RandomForestClassifier(7, max_depth=4, random_state=0), BINARY),
    "boosting": (ensemble.GradientBoostingClassifier(n_estimators=6, random_state=0), DIGITS),
    "binary boosting": (ensemble.GradientBoostingClassifier(n_estimators=20), BINARY),
    "histogram": (ensemble.HistGradientBoostingClassifier(max_iter=5), DIGITS),
    "binary histogram": (ensemble.HistGradientBoostingClassifier(max_iter=20), BINARY),
    "missing": (ensemble.RandomForestClassifier(6, random_state=0), MISSING),
    "missing histogram": (
        ensemble.HistGradientBoostingClassifier(max_iter=8, min_samples_leaf=5), MISSING
    ),
}  # fmt: skip
REGRESSORS: dict[str, Any] = {
    "tree": tree.DecisionTreeRegressor(max_depth=7, random_state=0),
    "forest": ensemble.RandomForestRegressor(8, max_depth=7, random_state=0),
    "boosting": ensemble.GradientBoostingRegressor(n_estimators=30, random_state=0),
    "histogram": ensemble.HistGradientBoostingRegressor(max_iter=20),
}


@cache
def fitted(name: str, shift: int = 0) -> Any:
    """A classifier; its features moved by `shift`."""
    from threadpoolctl import threadpool_limits

    model, (train, _, target, _) = CLASSIFIERS[name]
    with threadpool_limits(1):
        return clone(model).fit(train + shift, target)


def on_host(
    graph: Graph, x: Array, target: str = "cortex-m4", on: str = "host"
) -> dict[str, Array]:
    """The outputs of the package, row by row."""
    package = driver.compile_graph(graph, load_target(target), NO_SEARCH).package
    session = RUNNERS[on].load(package)
    (name,) = graph.inputs
    runs = [session.run({name: row[None]}).outputs for row in x]
    session.close()
    return {n: np.concatenate([r[n] for r in runs]) for n in graph.outputs}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_sample_is_classified_alike(name: str) -> None:
    model, test = fitted(name), CLASSIFIERS[name][1][1]
    graph = midge.from_sklearn(model, outputs=["label", "probabilities"])
    # What it makes of features itself; only histograms are asked with binary64 ones.
    x = test[:150].astype(np.float32)
    known = evaluated(graph, x)
    np.testing.assert_array_equal(known["label"], model.predict(x))
    np.testing.assert_allclose(known["probabilities"], model.predict_proba(x), atol=2e-7)
    c = on_host(graph, x)
    np.testing.assert_array_equal(c["label"], known["label"])
    np.testing.assert_allclose(c["probabilities"], known["probabilities"], atol=2e-7)


@pytest.mark.parametrize("name", REGRESSORS)
def test_every_sample_has_the_same_value(name: str) -> None:
    train, test, target, _ = REAL
    model = REGRESSORS[name].fit(train, target)
    graph = midge.from_sklearn(model)
    x = test.astype(np.float32)
    known = evaluated(graph, x)["value"]
    np.testing.assert_allclose(known[:, 0], model.predict(x), rtol=1.3e-7)
    np.testing.assert_array_equal(on_host(graph, x)["value"], known)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("tree", "int8"), ("tree", "int16"), ("forest", "int8"), ("forest", "uint8"),
        ("forest", "int16"), ("soft forest", "int8"), ("histogram", "int16"),
    ],
)  # fmt: skip
def test_integer_features_are_classified_alike(name: str, dtype: str) -> None:
    test = CLASSIFIERS[name][1][1]
    shift = 0 if dtype == "uint8" else 7
    model = fitted(name, -shift)
    graph = midge.from_sklearn(model, dtype=dtype)
    assert graph.types["x"].dtype.numpy == dtype
    x = (test[:200] - shift).astype(dtype)
    want = model.predict(x)
    np.testing.assert_array_equal(evaluated(graph, x)["label"], want)
    np.testing.assert_array_equal(on_host(graph, x[:60])["label"], want[:60])


def test_several_values_at_once() -> None:
    train, test, target, _ = REAL
    both = np.stack([target, -2 * target], 1)
    model = ensemble.RandomForestRegressor(4, max_depth=5, random_state=0).fit(train, both)
    known = evaluated(midge.from_sklearn(model), test.astype(np.float32))["value"]
    np.testing.assert_allclose(known, model.predict(test), rtol=1.3e-7)


@pytest.mark.parametrize(
    ("classes", "want"),
    [
        ((7, -300, 5), None),
        ((0.0, 2.0, 5.0), None),
        ((False, True, True), None),
        (("red", "green", "blue"), (2, 1, 0)),
        ((0.5, 1.5, 2.5), (0, 1, 2)),
    ],
)
@pytest.mark.parametrize("trees", [1, 4])
def test_labels_are_the_classes_or_their_positions(
    classes: tuple[Any, ...], want: tuple[int, ...] | None, trees: int
) -> None:
    train, test, target, _ = MISSING
    train, test = np.nan_to_num(train), np.nan_to_num(test)
    names = np.array(classes)
    if names.dtype.kind == "f" and want is not None:
        pytest.importorskip("sklearn")
        names = np.array([str(v) for v in classes])  # scikit-learn refuses such numbers
    model = (
        tree.DecisionTreeClassifier(random_state=0)
        if trees == 1
        else ensemble.RandomForestClassifier(trees, random_state=0)
    ).fit(train, names[target])
    label = evaluated(midge.from_sklearn(model), test.astype(np.float32))["label"]
    predicted = model.predict(test)
    expected = predicted if want is None else np.searchsorted(model.classes_, predicted)
    np.testing.assert_array_equal(label, expected)


def test_what_is_not_supported_is_refused() -> None:
    train, _, target, _ = BINARY
    start = ensemble.GradientBoostingClassifier(
        n_estimators=2, init=linear_model.LogisticRegression(max_iter=20)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start.fit(train, target)
    categories = ensemble.HistGradientBoostingClassifier(categorical_features=[0], max_iter=2)
    categories.fit(np.round(train % 5), target)
    several = tree.DecisionTreeClassifier().fit(train, np.stack([target, target], 1))
    unfitted = tree.DecisionTreeClassifier()
    for model in (start, categories, several, unfitted, linear_model.Ridge(), object()):
        with pytest.raises(ModelError):
            midge.from_sklearn(model)
    fitted = tree.DecisionTreeClassifier().fit(train, target)
    with pytest.raises(ModelError, match="has no output"):
        midge.from_sklearn(fitted, outputs=["value"])
    for wrong in ({"dtype": "float64"}, {"name": "1x"}):
        with pytest.raises((UsageError, MidgeError)):
            midge.from_sklearn(fitted, **wrong)


def test_scikit_learn_judges_by_its_labels(midge: Cli, tmp_path: Path) -> None:
    model, test = fitted("forest"), DIGITS[1][:20]
    save(from_sklearn(model, dtype="uint8"), tmp_path / "net.midge")
    np.save(tmp_path / "x.npy", test.astype(np.uint8))
    np.save(tmp_path / "y.npy", model.predict(test))
    words = ("verify", "net.midge", "--no-search", "--no-prove", "-i", "x.npy")
    result = midge(*words, "--on", "host,emulator")
    assert result.code == 0, result.err
    assert "self-check only" in result.out
    assert "--accuracy LABELS.npy, with the labels that its predict(X) gives" in result.out
    judged = midge(*words, "--on", "host", "--accuracy", "y.npy")
    assert "Top-1: 100.00 % by C on this host" in judged.out


def test_the_digits_on_the_board() -> None:
    """A forest of 10 trees: at most 480 instructions and 12 kB, and every label is the same."""
    model, test = fitted("forest"), DIGITS[1]
    graph = midge.from_sklearn(model, dtype="uint8")
    package = midge.compile(graph, "cortex-m4")
    session = RUNNERS["emulator"].load(package)
    runs = [session.run({"x": row[None]}) for row in test.astype(np.uint8)]
    session.close()
    label = np.concatenate([r.outputs["label"] for r in runs])
    np.testing.assert_array_equal(label, model.predict(test))
    assert np.mean([r.instructions for r in runs]) <= 480
    from midge.toolchain import build_image

    symbols = build_image(package, optimize="speed").symbols
    own = [s.size for n, s in symbols.items() if n.startswith((package.name, "midge_"))]
    assert sum(own) <= 12_000
