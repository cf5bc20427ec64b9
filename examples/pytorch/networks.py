"""Five small networks and their data.

Digits: scikit-learn's copy of the UCI ML hand-written digits, 1 797 images of 8 x 8, 0 to 16
(sklearn.datasets.load_digits). Motions: BasicMotions of the UEA archive, 80 recordings of a
smartwatch, 100 samples of 6 axes of accelerometer and gyroscope, standing, walking, running and
playing badminton (sktime.datasets.load_basic_motions).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """Inputs with a leading axis of samples, and their classes."""

    train: Floats
    train_labels: Labels
    test: Floats
    test_labels: Labels


def digits(*shape: int) -> Data:
    """A fifth of the images is for the test."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32).reshape(-1, *shape)
    parts = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    return Data(parts[0], parts[2].astype(np.int64), parts[1], parts[3].astype(np.int64))


def motions() -> Data:
    """The archive's own split, 40 recordings each; axes scaled by the training set."""
    from sktime.datasets import load_basic_motions

    names: dict[str, int] = {}
    arrays: list[Floats] = []
    classes: list[Labels] = []
    for split in ("train", "test"):
        series, labels = load_basic_motions(split=split, return_type="numpy3d")
        arrays.append(series.astype(np.float32))
        classes.append(np.array([names.setdefault(v, len(names)) for v in labels], np.int64))
    scale = arrays[0].std((0, 2), keepdims=True)
    return Data(arrays[0] / scale, classes[0], arrays[1] / scale, classes[1])


class Lstm(nn.Module):
    """Reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(x)
        result: torch.Tensor = self.head(states[:, -1])
        return result


class Transformer(nn.Module):
    """An encoder layer on the rows of an image."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.embed = nn.Linear(8, width)
        self.place = nn.Parameter(torch.zeros(1, 8, width))
        self.layer = nn.TransformerEncoderLayer(
            width, 4, 64, dropout=0.0, activation="gelu", batch_first=True
        )
        self.head = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = self.layer(self.embed(x) + self.place)
        result: torch.Tensor = self.head(tokens.mean(1))
        return result


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 32, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def mlp() -> nn.Module:
    return nn.Sequential(
        nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 10)
    )


def cnn1d() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(6, 16, 5, stride=2), nn.BatchNorm1d(16), nn.ReLU(),
        nn.Conv1d(16, 16, 5, stride=2), nn.BatchNorm1d(16), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


NETWORKS = {
    "cnn": (cnn, lambda: digits(1, 8, 8)),
    "mlp": (mlp, lambda: digits(64)),
    "cnn1d": (cnn1d, motions),
    "lstm": (Lstm, lambda: digits(8, 8)),
    "transformer": (Transformer, lambda: digits(8, 8)),
}
EPOCHS = {"cnn": 40, "mlp": 60, "cnn1d": 150, "lstm": 60, "transformer": 60}
