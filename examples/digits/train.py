"""Train a small CNN on scikit-learn's digits and write it as an int8 TFLite file.

    pip install '.[train]'
    python examples/digits/train.py

Writes digits_int8.tflite and heldout.npz (images 0..16 and labels that training never saw) beside
this file. Seeded; another TensorFlow version may still give other weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HERE = Path(__file__).parent
EPOCHS = 60


def network() -> tf.keras.Model:
    """8x8 grey levels to 10 scores: a convolution, two separable blocks, one dense layer."""
    layers = tf.keras.layers
    return tf.keras.Sequential(
        [
            layers.Input((8, 8, 1), batch_size=1),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.Conv2D(32, 1, activation="relu"),
            layers.MaxPooling2D(2),
            layers.DepthwiseConv2D(3, padding="same", activation="relu"),
            layers.Conv2D(48, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def augmented(images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The images and their copies shifted by one pixel in four directions."""
    shifts = [(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)]
    moved = [np.roll(images, s, axis=(1, 2)) for s in shifts]
    return np.concatenate(moved), np.tile(labels, len(shifts))


def main() -> None:
    tf.keras.utils.set_random_seed(1)
    digits = load_digits()
    images = (digits.images / 16.0).astype(np.float32)[..., None]
    x, x_test, y, y_test = train_test_split(
        images, digits.target, test_size=360, stratify=digits.target, random_state=1
    )
    x_more, y_more = augmented(x, y)
    # Trained with a free batch; converted with a batch of one.
    trained = tf.keras.models.clone_model(network(), input_tensors=tf.keras.layers.Input((8, 8, 1)))
    schedule = tf.keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * (len(x_more) // 64))
    trained.compile(
        tf.keras.optimizers.Adam(schedule), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    trained.fit(x_more, y_more, batch_size=64, epochs=EPOCHS, verbose=2)
    print("float accuracy", trained.evaluate(x_test, y_test, verbose=0)[1])
    fixed = network()
    fixed.set_weights(trained.get_weights())

    def calibration() -> Iterator[list[np.ndarray]]:
        for image in x[:300]:
            yield [image[None]]

    converter = tf.lite.TFLiteConverter.from_keras_model(fixed)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = calibration
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    model = converter.convert()
    (HERE / "digits_int8.tflite").write_bytes(model)
    pixels = np.round(x_test[..., 0] * 16).astype(np.uint8)
    np.savez_compressed(HERE / "heldout.npz", images=pixels, labels=y_test.astype(np.uint8))
    print(len(model), "bytes")


if __name__ == "__main__":
    main()
