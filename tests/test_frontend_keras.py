"""Keras models through TensorFlow's converter, where TensorFlow is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midge import driver
from midge.core.errors import ModelError, UsageError
from midge.frontends import keras as frontend
from midge.graph.evaluate import evaluate

REASON = "pip install '.[keras]'"


def model(tf: Any) -> Any:
    tf.keras.utils.set_random_seed(1)
    layers = tf.keras.layers
    return tf.keras.Sequential([
        layers.Input((8, 6)),
        layers.Reshape((8, 6, 1)),
        layers.Conv2D(4, 3, padding="same", strides=2, activation="relu"),
        layers.BatchNormalization(),
        layers.DepthwiseConv2D(3, padding="same"),
        layers.GlobalAveragePooling2D(),
        layers.Dense(5, activation="softmax"),
    ])  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["model.keras", "model.h5", "folder"])
def test_what_keras_computes(tmp_path: Path, form: str) -> None:
    tf = pytest.importorskip("tensorflow", reason=REASON)
    built, path = model(tf), tmp_path / form
    if form == "folder":
        built.export(path)
    else:
        built.save(path)
    graph = driver.load(path)
    x = np.random.default_rng(0).normal(size=(1, 8, 6)).astype(np.float32)
    (found,) = evaluate(graph, {graph.inputs[0]: x}).values()
    np.testing.assert_allclose(found, built(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_recurrent_layers_are_taken_apart(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason=REASON)
    layers = [tf.keras.layers.Input((5, 3)), tf.keras.layers.LSTM(4, unroll=True)]
    built = tf.keras.Sequential(layers)
    built.save(tmp_path / "model.keras")
    graph = driver.load(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(1, 5, 3)).astype(np.float32)
    (found,) = evaluate(graph, {graph.inputs[0]: x}).values()
    np.testing.assert_allclose(found, built(x).numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_code_in_a_model_is_not_run(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason=REASON)
    layers = [tf.keras.layers.Input((3,)), tf.keras.layers.Lambda(lambda x: x + 1)]
    tf.keras.Sequential(layers).save(tmp_path / "model.keras")
    with pytest.raises(ModelError, match="TensorFlow refuses the model"):
        driver.load(tmp_path / "model.keras")


@pytest.mark.filterwarnings("ignore")
def test_damaged_files(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow", reason=REASON)
    for data in (b"\x89HDF\r\n\x1a\n" + bytes(40), b"PK\x03\x04model.weights.h5"):
        with pytest.raises(ModelError, match="TensorFlow refuses the model"):
            frontend.read(data, "g")


def test_without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tensorflow", None)
    with pytest.raises(UsageError, match="need TensorFlow") as error:
        frontend.read(b"\x89HDF\r\n\x1a\n", "g")
    assert error.value.hint.startswith("pip install 'tensorflow>=")


def test_a_folder_is_a_model_only_if_tensorflow_wrote_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot read the model"):
        driver.load(tmp_path)
