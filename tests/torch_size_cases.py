"""PyTorch modules with open dimensions that compute with sizes, as exported programs:
`python tests/torch_size_cases.py` writes them to tests/data/torch_sizes.zip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch_cases import Case, saved, store

STORED = Path(__file__).parent / "data" / "torch_sizes.zip"


def modules() -> Iterator[tuple[str, Any, Any, Any, dict[int, Any]]]:
    """Name, module, the input it is exported with, one of another shape, and what is open."""
    import torch
    from torch import nn
    from torch.export import Dim

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.end = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x: Any) -> Any:
            return self.end(self.layer(x)[0][:, -1])

    class Stated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(3, 4, num_layers=2, batch_first=True)

        def forward(self, x: Any) -> Any:
            batch = x.shape[0]
            state = torch.zeros(2, batch, 4), torch.ones(2, batch, 4)
            y, _ = self.layer(x, state)
            return y.reshape(batch * y.shape[1], 4)[:: x.shape[1]].view(batch, -1)

    class Projected(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.LSTM(3, 6, 2, batch_first=True, bidirectional=True, proj_size=2)
            self.bare = nn.LSTM(4, 5, bias=False, proj_size=3)

        def forward(self, x: Any) -> Any:
            y, (h, c) = self.layer(x)
            z, (g, b) = self.bare(y.transpose(0, 1))
            flat = [v.transpose(0, 1).flatten(1) for v in (y.transpose(0, 1), h, c, z, g, b)]
            return torch.cat(flat, 1)

    class Image(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(2, 3, 3, padding=1)

        def forward(self, x: Any) -> Any:
            y = self.layer(x)
            height, width = x.shape[2], x.shape[3]
            y = nn.functional.pad(y[:, :, 1:, : width - 1], (0, width // 2, height + 1, 0))
            return y.flatten(2).mean(2) * (height * width) + torch.arange(3) / height

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 12)
            self.place = nn.Parameter(torch.randn(16, 4))

        def forward(self, x: Any) -> Any:
            length = x.shape[1]
            q, k, v = self.layer(x + self.place[:length]).chunk(3, -1)
            mask = torch.tril(torch.ones(length, length)).bool()
            weights = (q @ k.transpose(1, 2) / 2).masked_fill(~mask, float("-inf"))
            return torch.softmax(weights, -1) @ v

    torch.manual_seed(0)
    batch = Dim("batch")
    yield "batch", Last(), torch.randn(2, 5, 3), torch.randn(1, 5, 3), {0: batch}
    yield "states", Stated(), torch.randn(2, 5, 3), torch.randn(3, 5, 3), {0: batch}
    yield "projected", Projected(), torch.randn(2, 4, 3), torch.randn(3, 4, 3), {0: batch}
    open_ = {2: Dim("height", min=6, max=64), 3: Dim("width", min=4, max=64)}
    yield "image", Image(), torch.randn(1, 2, 9, 6), torch.randn(1, 2, 7, 5), open_
    length = Dim("length", min=2, max=16)
    yield "length", Attention(), torch.randn(1, 5, 4), torch.randn(1, 7, 4), {1: length}


def exported() -> Iterator[Case]:
    import torch

    for name, module, example, x, open_ in modules():
        program = torch.export.export(module.eval(), (example,), dynamic_shapes={"x": open_})
        with torch.no_grad():
            yield Case(name, saved(program), x.numpy(), (module(x).numpy(),))


if __name__ == "__main__":
    store(STORED, exported())
