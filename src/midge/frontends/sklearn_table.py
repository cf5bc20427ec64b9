"""What decides a prediction of scikit-learn's trees: every parameter and attribute, and its use.

A parameter that is not here must have its default value: it came with a later scikit-learn, and may
change what is predicted. `tests/test_trees_sklearn.py` compares with the one that is installed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from enum import Enum
from typing import Any

from midge.core.errors import ModelError

SINGLE = ("DecisionTree", "ExtraTree")
FORESTS = ("RandomForest", "ExtraTrees")
BOOSTED = ("GradientBoosting", "HistGradientBoosting")


class Use(Enum):
    """READ: the graph depends on it.  FIT: it is in what `fit` has left.  NONE: it changes no
    prediction.  CHECKED: some values are refused, by what fit has left of them."""

    READ = "read"
    FIT = "in the fitted trees"
    NONE = "no effect"
    CHECKED = "some are refused"


def _all(words: str, use: Use) -> dict[str, Use]:
    return dict.fromkeys(words.split(), use)


_GROWTH = _all(
    "ccp_alpha class_weight criterion max_depth max_features max_leaf_nodes min_impurity_decrease "
    "min_samples_leaf min_samples_split min_weight_fraction_leaf monotonic_cst splitter",
    Use.FIT,
)
_RUN = _all("random_state warm_start", Use.FIT) | _all("n_jobs oob_score verbose", Use.NONE)
_STOPPING = _all("n_iter_no_change tol validation_fraction", Use.FIT)
_TREES = _GROWTH | _RUN
_FOREST = _TREES | _all("bootstrap max_samples n_estimators", Use.FIT)
PARAMETERS: Mapping[str, Mapping[str, Use]] = {
    "DecisionTree": _TREES,
    "ExtraTree": _TREES,
    "RandomForest": _FOREST,
    "ExtraTrees": _FOREST,
    "GradientBoosting": _GROWTH
    | _RUN
    | _STOPPING
    | _all("alpha n_estimators subsample", Use.FIT)
    | _all("learning_rate", Use.READ)  # the leaves do not hold it
    | _all("loss init", Use.CHECKED),
    "HistGradientBoosting": _GROWTH
    | _RUN
    | _STOPPING
    | _all("early_stopping interaction_cst l2_regularization learning_rate max_bins", Use.FIT)
    | _all("max_iter quantile scoring", Use.FIT)
    | _all("loss categorical_features", Use.CHECKED),
}

_SEEN = _all("n_features_in_ classes_ n_outputs_", Use.READ) | _all(
    "feature_names_in_ max_features_ n_classes_", Use.NONE
)
_ESTIMATORS = _SEEN | _all("estimators_", Use.READ) | _all(
    "estimator estimator_ estimator_params n_estimators_ n_trees_per_iteration_ oob_improvement_ "
    "oob_prediction_ oob_decision_function_ oob_score_ oob_scores_ train_score_ _estimator_type "
    "_n_samples _n_samples_bootstrap _rng _sample_weight base_estimator",
    Use.NONE,
)  # fmt: skip
_LOSS = _all("_loss", Use.CHECKED)
ATTRIBUTES: Mapping[str, Mapping[str, Use]] = {
    "DecisionTree": _SEEN | _all("tree_", Use.READ),
    "ExtraTree": _SEEN | _all("tree_", Use.READ),
    "RandomForest": _ESTIMATORS,
    "ExtraTrees": _ESTIMATORS,
    "GradientBoosting": _ESTIMATORS | _LOSS | _all("init_", Use.CHECKED),
    "HistGradientBoosting": _SEEN
    | _LOSS
    | _all("_baseline_prediction _predictors", Use.READ)
    | _all("is_categorical_ _preprocessor", Use.CHECKED)
    | _all(
        "n_trees_per_iteration_ train_score_ validation_score_ do_early_stopping_ _bin_mapper "
        "_feature_subsample_rng _in_fit _is_categorical_remapped _label_encoder _n_features "
        "_random_seed _scorer _use_validation_data n_iter_ _raw_predictions",
        Use.NONE,
    ),
}


def check_parameters(model: Any, family: str) -> None:
    """ModelError for a parameter that is not in the table and not at its default."""
    known = PARAMETERS[family]
    defaults = inspect.signature(type(model).__init__).parameters
    for name, value in model.get_params(deep=False).items():
        if name in known or _is(value, defaults[name].default):
            continue
        raise ModelError(
            f"has {name}={value!r}, which Midge does not know",
            where=type(model).__name__,
            hint=f"leave {name} at its default, or take a scikit-learn that Midge is tested with",
        )


def _is(value: Any, default: Any) -> bool:
    return value is default or (isinstance(value, bool | int | float | str) and value == default)
