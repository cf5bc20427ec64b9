"""What decides a prediction of scikit-learn is read or refused; targets of every scale."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import midge
from midge.core.errors import ModelError
from midge.core.types import Array
from midge.frontends.sklearn_table import ATTRIBUTES, PARAMETERS
from midge.run import RUNNERS
from tree_models import evaluated

pytest.importorskip("sklearn", reason="pip install '.[trees]'")
from sklearn import dummy, ensemble, linear_model, tree

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4)).astype(np.float32)
BINARY = (X[:, 0] + X[:, 1] > 0).astype(int)
THREE = BINARY + (X[:, 2] > 0.5)
SMALL: dict[str, Any] = {"n_estimators": 4, "random_state": 0}
UNIFORM = dummy.DummyClassifier(strategy="uniform")


def estimators() -> list[type]:
    """The classes of the installed scikit-learn that Midge reads."""
    folders = (tree, ensemble)
    names = [f"{family}{kind}" for family in PARAMETERS for kind in ("Classifier", "Regressor")]
    return [getattr(next(f for f in folders if hasattr(f, n)), n) for n in names]


def family_of(own: type) -> str:
    return own.__name__.removesuffix("Classifier").removesuffix("Regressor")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Histograms take longer to start threads than to be filled."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


@pytest.mark.parametrize("own", estimators(), ids=lambda c: c.__name__)
def test_every_parameter_and_attribute_is_in_the_table(own: type) -> None:
    parameters = set(own().get_params())
    assert parameters <= set(PARAMETERS[family_of(own)])
    given = {"max_iter": 3, "n_estimators": 3, "oob_score": True, "bootstrap": True} | {
        "n_iter_no_change": 2, "subsample": 0.5, "early_stopping": True
    }  # fmt: skip
    model = own(**{k: v for k, v in given.items() if k in parameters})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that so few trees leave no out-of-bag estimate
        model.fit(X, BINARY)
    assert set(vars(model)) - parameters <= set(ATTRIBUTES[family_of(own)]) | {
        "class_weight", "alpha", "ccp_alpha", "init", "verbose", "warm_start"
    }  # fmt: skip


def test_a_parameter_that_is_not_in_the_table_must_be_at_its_default() -> None:
    class Later(tree.DecisionTreeClassifier):  # type: ignore[misc]
        def __init__(self, *, power: float = 1.0, max_depth: int = 3) -> None:
            super().__init__(max_depth=max_depth)
            self.power = power

    Later.__module__, Later.__name__ = "sklearn.tree", "DecisionTreeClassifier"
    assert "power" in inspect.signature(Later).parameters
    midge.from_sklearn(Later().fit(X, BINARY))
    with pytest.raises(ModelError, match=r"power=2\.0, which Midge does not know"):
        midge.from_sklearn(Later(power=2.0).fit(X, BINARY))


def probabilities(model: Any) -> Array:
    return evaluated(midge.from_sklearn(model, outputs=["probabilities"]), X[:40])["probabilities"]


BOOSTING: dict[str, tuple[Any, Array]] = {
    "log": (ensemble.GradientBoostingClassifier(**SMALL), BINARY),
    "exponential": (ensemble.GradientBoostingClassifier(loss="exponential", **SMALL), BINARY),
    "exponential from 0": (
        ensemble.GradientBoostingClassifier(loss="exponential", init="zero", **SMALL), BINARY
    ),
    "from 0": (ensemble.GradientBoostingClassifier(init="zero", **SMALL), THREE),
    "from frequencies": (
        ensemble.GradientBoostingClassifier(init=UNIFORM, **SMALL), THREE,
    ),
    "slow": (ensemble.GradientBoostingClassifier(learning_rate=0.01, **SMALL), THREE),
    "half of the samples": (ensemble.GradientBoostingClassifier(subsample=0.5, **SMALL), BINARY),
    "stopped early": (
        ensemble.GradientBoostingClassifier(n_estimators=50, n_iter_no_change=2, tol=0.1), BINARY
    ),
    "histogram, weighted": (
        ensemble.HistGradientBoostingClassifier(max_iter=4, class_weight={0: 1, 1: 5}), BINARY
    ),
    "histogram, monotonic": (
        ensemble.HistGradientBoostingClassifier(max_iter=4, monotonic_cst=[1, 0, 0, -1]), BINARY
    ),
    "forest, weighted": (
        ensemble.RandomForestClassifier(class_weight="balanced_subsample", max_depth=3, **SMALL),
        THREE,
    ),
    "forest, monotonic": (
        ensemble.ExtraTreesClassifier(monotonic_cst=[1, 0, 0, 0], max_depth=4, **SMALL), BINARY
    ),
    "one class": (ensemble.RandomForestClassifier(**SMALL), np.zeros(len(X), int)),
    "pruned": (tree.DecisionTreeClassifier(ccp_alpha=0.01, class_weight="balanced"), THREE),
    "words": (
        ensemble.GradientBoostingClassifier(loss="exponential", **SMALL),
        np.array(["no", "yes"])[BINARY],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BOOSTING)
def test_probabilities(name: str) -> None:
    model, target = BOOSTING[name]
    model.fit(X, target)
    np.testing.assert_allclose(probabilities(model), model.predict_proba(X[:40]), atol=2e-7)
    label = evaluated(midge.from_sklearn(model), X[:40])["label"]
    want = model.predict(X[:40])
    np.testing.assert_array_equal(model.classes_[label] if name == "words" else label, want)


LOSSES: dict[str, Any] = {
    "gamma": ensemble.HistGradientBoostingRegressor(loss="gamma", max_iter=8),
    "poisson": ensemble.HistGradientBoostingRegressor(loss="poisson", max_iter=8),
    "quantile": ensemble.HistGradientBoostingRegressor(loss="quantile", quantile=0.8, max_iter=8),
    "absolute": ensemble.HistGradientBoostingRegressor(loss="absolute_error", max_iter=8),
    "huber": ensemble.GradientBoostingRegressor(loss="huber", alpha=0.7, **SMALL),
    "other quantile": ensemble.GradientBoostingRegressor(loss="quantile", alpha=0.2, **SMALL),
    "median tree": tree.DecisionTreeRegressor(criterion="absolute_error", max_depth=4),
    "poisson forest": ensemble.RandomForestRegressor(criterion="poisson", **SMALL),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_regressors(name: str) -> None:
    model = LOSSES[name].fit(X, np.exp(X[:, 0] + X[:, 1] * 2))
    found = evaluated(midge.from_sklearn(model), X[:40])["value"][:, 0]
    np.testing.assert_allclose(found, model.predict(X[:40]), rtol=1e-6)


def test_starts_and_categories_that_depend_on_the_sample_are_refused() -> None:
    boosting = ensemble.GradientBoostingClassifier
    random = boosting(init=dummy.DummyClassifier(strategy="stratified"), **SMALL)
    other = boosting(init=linear_model.LogisticRegression(), **SMALL)
    # Categories move the features, also if no split asks for one.
    unused = ensemble.HistGradientBoostingClassifier(categorical_features=[3], max_iter=2)
    table = np.column_stack([X[:, :3], np.zeros(len(X))])
    for model, x in ((random, X), (other, X), (unused, table)):
        with pytest.raises(ModelError) as error:
            midge.from_sklearn(model.fit(x, BINARY))
        assert error.value.hint


SCALES = [(1, 1), (1e-6, 1e6), (1e-12, 1e3), (1e-9, 1e9), (1e-30, 1e30), (1e-38, 1e37), (0, 1)]


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("trees", [1, 5])
def test_every_target_is_as_near_as_its_own_scale_allows(
    scales: tuple[float, float], trees: int
) -> None:
    model = ensemble.RandomForestRegressor(trees, random_state=0, max_depth=6)
    model.fit(X, X[:, :2].astype(float) * scales)
    found = evaluated(midge.from_sklearn(model), X[:40])["value"]
    want = model.predict(X[:40])
    largest = np.maximum(np.abs(want).max(0), np.finfo(np.float32).tiny)
    assert (np.abs(found - want).max(0) / largest).max() < 1e-6


def test_both_scales_in_c() -> None:
    model = ensemble.RandomForestRegressor(3, random_state=0, max_depth=3)
    graph = midge.from_sklearn(model.fit(X, X[:, :2].astype(float) * (1e-30, 1e30)))
    session = RUNNERS["host"].load(midge.compile(graph, "host"))
    found = np.concatenate([session.run({"x": row[None]}).outputs["value"] for row in X[:10]])
    session.close()
    np.testing.assert_allclose(found, model.predict(X[:10]), rtol=2e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e12, 1e18, 1e25, 1e36])
def test_boosting_of_every_scale(scale: float) -> None:
    model = ensemble.GradientBoostingRegressor(**SMALL).fit(X, (X[:, 0].astype(float) + 3) * scale)
    found = evaluated(midge.from_sklearn(model), X[:40])["value"][:, 0]
    np.testing.assert_allclose(found, model.predict(X[:40]), rtol=2e-7)


@pytest.mark.parametrize(
    "model",
    [
        tree.DecisionTreeRegressor(max_depth=2),
        ensemble.RandomForestRegressor(**SMALL),
        ensemble.GradientBoostingRegressor(**SMALL),
        ensemble.HistGradientBoostingRegressor(max_iter=2),
    ],
    ids=lambda m: type(m).__name__,
)
def test_values_beyond_binary32_are_refused(model: Any) -> None:
    with pytest.raises(ModelError, match="no 32-bit float holds"):
        midge.from_sklearn(model.fit(X, (X[:, 0].astype(float) + 9) * 1e38))
