"""Writes the .onnx files of this folder and expected.npz, with what the frameworks predict.

pip install scikit-learn skl2onnx onnxmltools lightgbm xgboost; python make.py. Made once, with
scikit-learn 1.9.1, skl2onnx 1.20.0, onnxmltools 1.16.0, lightgbm 4.7.0 and xgboost 3.2.0, on data
that scikit-learn carries: wine, breast cancer, diabetes (the last 40 samples are the expected
ones).
"""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import xgboost
from onnxmltools import convert_lightgbm, convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType as TheirTensor
from skl2onnx import to_onnx
from sklearn import datasets, ensemble, linear_model, pipeline, preprocessing, tree
from sklearn.utils import shuffle

HERE = Path(__file__).parent
DATA = {
    "multi": datasets.load_wine(return_X_y=True),
    "binary": datasets.load_breast_cancer(return_X_y=True),
    "real": datasets.load_diabetes(return_X_y=True),
}
SKLEARN = {
    "sk_forest_multi": ensemble.RandomForestClassifier(6, max_depth=5, random_state=0),
    "sk_forest_binary": ensemble.RandomForestClassifier(6, max_depth=4, random_state=0),
    "sk_votes_multi": ensemble.ExtraTreesClassifier(6, random_state=0),
    "sk_tree_multi": tree.DecisionTreeClassifier(max_depth=4, random_state=0),
    "sk_boosting_multi": ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0),
    "sk_boosting_binary": ensemble.GradientBoostingClassifier(n_estimators=5, random_state=0),
    "sk_histogram_multi": ensemble.HistGradientBoostingClassifier(max_iter=4, random_state=0),
    "sk_forest_real": ensemble.RandomForestRegressor(5, max_depth=5, random_state=0),
    "sk_boosting_real": ensemble.GradientBoostingRegressor(n_estimators=8, random_state=0),
    "sk_pipeline_multi": pipeline.make_pipeline(
        preprocessing.StandardScaler(), ensemble.RandomForestClassifier(4, random_state=0)
    ),
    "sk_linear_multi": pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression()
    ),
}
LIGHTGBM = {
    "lgbm_multi": lightgbm.LGBMClassifier(n_estimators=4, num_leaves=8, verbose=-1),
    "lgbm_binary": lightgbm.LGBMClassifier(n_estimators=6, num_leaves=8, verbose=-1),
    "lgbm_real": lightgbm.LGBMRegressor(n_estimators=6, num_leaves=8, verbose=-1),
}
XGBOOST = {
    "xgb_multi": xgboost.XGBClassifier(n_estimators=4, max_depth=3),
    "xgb_binary": xgboost.XGBClassifier(n_estimators=6, max_depth=3),
    "xgb_real": xgboost.XGBRegressor(n_estimators=6, max_depth=3),
}


def main() -> None:
    expected = {}
    for name, model in {**SKLEARN, **LIGHTGBM, **XGBOOST}.items():
        features, target = shuffle(*DATA[name.rsplit("_", 1)[1]], random_state=0)
        x = features.astype(np.float32)
        model.fit(x[:-40], target[:-40])
        if name in SKLEARN:
            file = to_onnx(model, x[:1], target_opset={"": 17, "ai.onnx.ml": 3})
        else:
            convert = convert_lightgbm if name in LIGHTGBM else convert_xgboost
            types = [("X", TheirTensor([None, x.shape[1]]))]
            file = convert(model, initial_types=types, target_opset=15)
        (HERE / f"{name}.onnx").write_bytes(file.SerializeToString())
        expected[f"{name}/x"] = x[-40:]
        expected[f"{name}/label"] = model.predict(x[-40:])
        if not name.endswith("real"):
            expected[f"{name}/probabilities"] = model.predict_proba(x[-40:])
    np.savez_compressed(HERE / "expected.npz", **expected)


if __name__ == "__main__":
    main()
