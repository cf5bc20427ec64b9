"""Train four small networks on the digits, quantise them and write them here: `python train.py`.

residual: blocks whose input is added to what they make of it.  wide: 3 x 3 convolutions of 16
channels and more.  depthwise: as MobileNet has them.  recurrent: an LSTM that reads an image row
by row. Each is NAME_int8.tflite, at most 60 kB, and heldout.npz holds inputs that none has seen: x
[60, 8, 8] (0 to 1) and their labels. About a minute; needs: pip install '.[train]'
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

import midge

HERE = Path(__file__).parent
EPOCHS = 50
HELD_OUT = 60


def conv(ic: int, oc: int, k: int = 3, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(ic, oc, k, stride, k // 2, groups=groups, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(oc), nn.ReLU())


class Block(nn.Module):
    """x + two convolutions of x."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = conv(channels, channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


class Recurrent(nn.Module):
    """Reads an image row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 24, batch_first=True)
        self.head = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        states, _ = self.lstm(x[:, 0])
        result: torch.Tensor = self.head(states[:, -1])
        return result


def ending(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)]


def separable(ic: int, oc: int, stride: int = 1) -> list[nn.Module]:
    return [conv(ic, ic, 3, stride, ic), conv(ic, oc, 1)]


NETWORKS = {
    "residual": lambda: nn.Sequential(
        conv(1, 16), Block(16), conv(16, 24, 3, 2), Block(24), *ending(24)
    ),
    "wide": lambda: nn.Sequential(
        conv(1, 16), conv(16, 16), nn.MaxPool2d(2), conv(16, 24), conv(24, 32), *ending(32)
    ),
    "depthwise": lambda: nn.Sequential(
        conv(1, 16), *separable(16, 32, 2), *separable(32, 32), *separable(32, 48, 2), *ending(48)
    ),
    "recurrent": Recurrent,
}


def train(network: nn.Module, x: torch.Tensor, y: torch.Tensor) -> None:
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    network.train()
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
            optimizer.step()
        schedule.step()
    network.eval()


def main() -> None:
    images, labels = load_digits(return_X_y=True)
    x = (images / 16.0).astype(np.float32).reshape(-1, 1, 8, 8)
    seen, held, seen_labels, held_labels = train_test_split(
        x, labels.astype(np.int64), test_size=HELD_OUT, random_state=0, stratify=labels
    )
    np.savez_compressed(HERE / "heldout.npz", x=held[:, 0], labels=held_labels.astype(np.int8))
    torch.set_num_threads(1)
    for name, make in NETWORKS.items():
        torch.manual_seed(0)
        network = make()
        train(network, torch.from_numpy(seen), torch.from_numpy(seen_labels))
        with torch.no_grad():
            answers = network(torch.from_numpy(held)).numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = midge.from_torch(network, (torch.from_numpy(held[:1]),), name=name)
        path = HERE / f"{name}_int8.tflite"
        midge.save(midge.quantize(graph, seen[:200]), path)
        right = 100 * (answers.argmax(1) == held_labels).mean()
        print(f"{name:10} {right:5.1f} % float, {path.stat().st_size:6} bytes")


if __name__ == "__main__":
    main()
