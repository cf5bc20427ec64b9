"""Train the five networks and export them: `python train.py [FOLDER]`, about two minutes.

For each there are then NAME.onnx and NAME.pt2 (float), NAME_calibration.npy (training inputs) and
NAME_test.npz (inputs x, labels, and what PyTorch answers).
Needs: pip install '.[train]'
"""

from __future__ import annotations

import logging
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from networks import EPOCHS, NETWORKS, Data
from torch import nn


def train(network: nn.Module, data: Data, epochs: int) -> None:
    x, y = torch.from_numpy(data.train), torch.from_numpy(data.train_labels)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(x)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(x[chosen]), y[chosen]).backward()
            optimizer.step()
        schedule.step()
    network.eval()


def export(network: nn.Module, name: str, data: Data, folder: Path) -> None:
    example = (torch.from_numpy(data.test[:1]),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, example, folder / f"{name}.onnx", dynamo=True, external_data=False,
            input_names=["x"], output_names=["scores"], verbose=False,
        )  # fmt: skip
        torch.export.save(torch.export.export(network, example), folder / f"{name}.pt2")
    with torch.no_grad():
        answers = network(torch.from_numpy(data.test)).numpy()
    np.save(folder / f"{name}_calibration.npy", data.train[:200])
    np.savez(folder / f"{name}_test.npz", x=data.test, labels=data.test_labels, answers=answers)
    right = (answers.argmax(1) == data.test_labels).mean()
    print(f"{name:12} {100 * right:5.1f} % of {len(answers)} test samples")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build")
    folder.mkdir(parents=True, exist_ok=True)
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    for name, (make, load) in NETWORKS.items():
        torch.manual_seed(0)
        network, data = make(), load()
        train(network, data, EPOCHS[name])
        export(network, name, data, folder)


if __name__ == "__main__":
    main()
