"""Single calls of PyTorch whose arguments or types matter, with what it gives for them.

`python tests/torch_call_cases.py` writes them to tests/data/torch_calls.zip, which needs no PyTorch
to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from torch_cases import Case, saved, store

STORED = Path(__file__).parent / "data" / "torch_calls.zip"


def calls() -> Iterator[tuple[str, Callable[[Any], tuple[Any, ...]], Any]]:
    """Name, what is called, and on what."""
    import torch
    from torch import tensor
    from torch.nn import functional as f

    aten, inf = torch.ops.aten, float("inf")
    i8, i16, i32, i64, u8 = torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8

    def resized(x: Any) -> tuple[Any, ...]:
        image = x.view(1, 1, 2, 4)
        return (
            f.interpolate(x, scale_factor=1.7, mode="linear", align_corners=True),
            f.interpolate(image, scale_factor=1.7, mode="bilinear", align_corners=True),
            f.interpolate(image, scale_factor=1.7, mode="bicubic", align_corners=True),
            aten.upsample_nearest1d.default(x, [6], 1.7),
            aten.upsample_linear1d.default(x, [6], False, 1.7),
            aten.upsample_bilinear2d.default(image, [3, 6], False, 1.7, 1.7),
        )

    def masked(x: Any) -> tuple[Any, ...]:
        rows = tensor([[True, False], [False, False]])
        attention = f.scaled_dot_product_attention
        return (
            attention(x, x, x, attn_mask=rows),
            attention(x, x, x, attn_mask=x.transpose(1, 2) > 3),
            attention(x, x, x, attn_mask=torch.where(x.transpose(1, 2) > 3, 0.5, -inf)),
            attention(x, x, x, attn_mask=torch.where(rows, x, tensor(-inf))),
            attention(x, x, x, attn_mask=tensor([[0.0, -inf], [-inf, -inf]])),
            aten._safe_softmax(torch.where(x > 2, x, -inf), -1),
        )

    yield (
        "activations",
        lambda x: (f.softplus(x, 3, 2), f.softplus(x, 1, 0.5), aten.elu(x, 1.5)),
        tensor([[1.5, 0.1, -3.0]]),
    )
    yield (
        "decimals",
        lambda x: (torch.round(x, decimals=1), torch.round(x, decimals=-1)),
        tensor([[1.25, -2.51, 17.0, -25.0]]),
    )
    yield (
        "alphas",
        lambda x: (torch.rsub(x, 1, alpha=2), torch.rsub(x, x * x, alpha=2)),
        tensor([[1.5, -2.0]]),
    )
    yield "resized", resized, tensor([[[0.0, 1, 2, 5], [3, 1, 4, 1]]])
    yield (
        "sums_i8",
        lambda x: (x.sum(1), x.prod(1), x.sum(1, dtype=i32), x.cumsum(1), x.cumprod(1)),
        tensor([[100, 100, 100]], dtype=i8),
    )
    yield (
        "sums",
        lambda x: (
            x.sum(1, dtype=i32), x.cumsum(1, dtype=i32), x.prod(1, dtype=i64),
            x.mean(1, dtype=torch.float32), x.softmax(1, dtype=torch.float32),
        ),
        tensor([[1.7, 2.7]]),
    )  # fmt: skip
    yield (
        "types",
        lambda x: (x.type_as(tensor([1], dtype=i32)), x.new_zeros([3]), torch.where(x > 0, 1, 0)),
        tensor([[1.5, -1.5]]),
    )
    yield (
        "integers",
        lambda x: (
            ~x, x.clamp(max=2.5), x.clamp(min=tensor(1.5)), x.to(i8), x.to(u8), x.to(i16),
            x.round(), x.floor(), x.trunc(), x.clamp(-5, 5) ** 2.0,
        ),
        tensor([[-7, 5, 200, -200, 2**31 - 1]], dtype=i32),
    )  # fmt: skip
    yield (
        "truths",
        lambda x: (x.any(1), x.all(1), (x > 1).any(1), (x > 1).sum(1)),
        tensor([[2, 0, 5]], dtype=u8),
    )
    yield (
        "wide",
        lambda x: (x.abs(), -x, x.sign(), x.to(i32)),
        tensor([[2**40, -(2**40) - 5, 5, 2**31]]),
    )
    yield (
        "remainders",
        lambda x: (
            torch.remainder(x, 3), torch.remainder(x, 0.1), torch.remainder(x, -0.7),
            torch.remainder(x, inf), torch.remainder(x, tensor(-3.0)),
        ),
        tensor([[1e10, 16777216.0, 7, -7, 1, 0.3, -1, 0]]),
    )  # fmt: skip
    yield (
        "floored",
        lambda x: tuple(torch.div(x, y, rounding_mode="floor") for y in (0.1, -0.7, 3.0)),
        tensor([[1.0, 0.3, -1, 7, -7, 1e10]]),
    )
    yield (
        "infinities",
        lambda x: (
            torch.where(x > 0, x, -inf), torch.relu(x) * inf, x + -inf,
            x.masked_fill(x < inf, -inf).softmax(1), x.masked_fill(x < 0, -inf).softmax(1),
            x.clamp(min=-inf, max=0.5),
        ),
        tensor([[1.0, -1.0, 0.25]]),
    )  # fmt: skip
    yield "hidden", masked, tensor([[[1.0, 2], [3, 4]]])

    yield from _windows()


def _windows() -> Iterator[tuple[str, Callable[[Any], tuple[Any, ...]], Any]]:
    """Windows that slide, adapt or taper, and what stands beside them in signal processing."""
    import torch
    from torch.nn import functional as f

    def pooled(x: Any) -> tuple[Any, ...]:
        return (
            f.adaptive_avg_pool2d(x, (3, 2)),
            f.adaptive_avg_pool2d(x, (7, 1)),
            f.adaptive_avg_pool2d(x[0], (2, 5)),
            f.adaptive_avg_pool2d(x, (9, 7)),
            f.adaptive_avg_pool1d(x[0], 4),
            f.adaptive_avg_pool1d(x[0, 0], 3),
            f.adaptive_avg_pool2d(x, 1),
            f.adaptive_avg_pool2d(x[0, :, :6, :4], (3, 2)),
        )

    def highest(x: Any) -> tuple[Any, ...]:
        return (
            f.adaptive_max_pool2d(x, (3, 2)),
            f.adaptive_max_pool2d(x[0], (2, 5)),
            f.adaptive_max_pool1d(x[0], 4),
            f.adaptive_max_pool2d(x, 1),
            f.adaptive_max_pool2d(x[0, :, :6, :4], (3, 2)),
            f.adaptive_max_pool1d(x[0, 0], 1),
        )

    def patches(x: Any) -> tuple[Any, ...]:
        return (
            f.unfold(x, 3),
            f.unfold(x, (2, 3), dilation=(2, 1), padding=(1, 2), stride=(3, 2)),
            f.unfold(x[0], (1, 2)),
            f.unfold(x, (7, 5)),
            x.mT,
            x[0].mT,
            torch.adjoint(x),
        )

    def tapered(x: Any) -> tuple[Any, ...]:
        n = x.shape[0]
        return (
            x * torch.hann_window(n),
            x * torch.hann_window(n, periodic=False),
            x * torch.hamming_window(n),
            x * torch.hamming_window(n, False, 0.6, 0.4),
            x * torch.blackman_window(n),
            x[:1] * torch.hann_window(1),
        )

    def floored(x: Any) -> tuple[Any, ...]:
        y, z = x[:8], x[8:]
        i, j = y.int(), z.int()
        return (
            torch.floor_divide(y, z),
            y // -0.75,
            i // j,
            i // -3,
            torch.div(i, j, rounding_mode="floor"),
            i.to(torch.int8) // j.to(torch.int8),
            i.long() // j.long(),
            i // 2,
            i.abs().to(torch.uint8) // j.abs().to(torch.uint8),
        )

    def spaced(x: Any) -> tuple[Any, ...]:
        made = (
            torch.linspace(-1, 1, 7),
            torch.linspace(3, 0.1, 10),
            torch.linspace(5, 9, 1),
            torch.linspace(-7, 8, 5, dtype=torch.int32),
            torch.logspace(0.1, 1, 6),
            torch.logspace(0, 3, 4, base=2, dtype=torch.int64),
            torch.eye(3),
            torch.eye(2, 4),
            torch.eye(4, 2, dtype=torch.int32),
        )
        return tuple(x[0, 0] + y for y in made)

    def gated(x: Any) -> tuple[Any, ...]:
        many = x > 3
        return (
            many * (x < 6), x * many, many * x.int(), many * 2, many + 1, 1 - many.int(),
            many * 0.5, many.to(torch.uint8) * many, 1 + many, many + many,
        )  # fmt: skip

    image = torch.arange(90, dtype=torch.float32).reshape(1, 2, 9, 5) * 0.37 % 7 - 3
    yield "pooled", pooled, image
    yield "highest", highest, image
    yield "patches", patches, image[:, :, :7]
    yield "tapered", tapered, torch.linspace(-2, 3, 13)
    numbers = [7.0, -7, 7, -7, 6, -6, 0, 127, 2, 2, -2, -2, 3, 3, -5, -1]
    yield "spaced", spaced, torch.tensor([[0.0]])
    yield "gated", gated, torch.arange(8.0)
    yield "divided", floored, torch.tensor(numbers)


def called() -> Iterator[Case]:
    """Every case, exported by the PyTorch that is installed."""
    import torch

    class Of(torch.nn.Module):
        def __init__(self, function: Callable[[Any], Any]) -> None:
            super().__init__()
            self.function = function

        def forward(self, x: Any) -> Any:
            return self.function(x)

    for name, function, x in calls():
        outputs = tuple(np.array(y.numpy()) for y in function(x))
        program = torch.export.export(Of(function).eval(), (x,))
        yield Case(name, saved(program), x.numpy(), outputs)


if __name__ == "__main__":
    store(STORED, called())
