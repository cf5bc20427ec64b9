"""PyTorch modules that change what outlives a call, as exported programs of both dialects:
`python tests/torch_state_cases.py` writes them to tests/data/torch_state.zip."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from torch_cases import Case, saved, store

STORED = Path(__file__).parent / "data" / "torch_state.zip"


def modules() -> Iterator[tuple[str, Any]]:  # noqa: C901, PLR0915 - a list
    """Name and module; each has a buffer `s` f32[1, 4] and a counter, and takes an x like `s`."""
    import torch

    class Of(torch.nn.Module):
        def __init__(self, function: Callable[[Any, Any], Any]) -> None:
            super().__init__()
            self.function = function
            self.register_buffer("s", torch.ones(1, 4))
            self.register_buffer("count", torch.zeros((), dtype=torch.long))
            self.register_buffer("peak", torch.zeros((), dtype=torch.float64))
            self.plain = torch.ones(1, 4)
            self.weight = torch.nn.Parameter(torch.ones(1, 4))

        def forward(self, x: Any) -> Any:
            return self.function(self, x)

    def average(m: Any, x: Any) -> Any:
        m.s.copy_(m.s * 0.5 + x)
        return m.s * 2

    def assigned(m: Any, x: Any) -> Any:
        m.s = m.s * 0.5 + x
        return m.s

    def added(m: Any, x: Any) -> Any:
        m.s.add_(1)
        return x + m.s

    def late(m: Any, x: Any) -> Any:
        y = x + m.s
        m.s.copy_(x)
        return y

    def part(m: Any, x: Any) -> Any:
        y = m.s + x
        m.s[:, 1:3] = x[:, :2]
        return y

    def viewed(m: Any, x: Any) -> Any:
        y = m.s + x
        m.s.view(-1).mul_(2)
        return y

    def indexed(m: Any, x: Any) -> Any:
        y = m.s + x
        m.s.index_put_((torch.tensor([0]),), x)
        return y

    def out(m: Any, x: Any) -> Any:
        y = m.s + x
        torch.mul(x, 2, out=m.s)
        return y

    def constant(m: Any, x: Any) -> Any:
        m.plain.mul_(0.5).add_(x)
        return m.plain * 1

    def parameter(m: Any, x: Any) -> Any:
        with torch.no_grad():
            m.weight.add_(1)
        return m.weight + x

    def given(_: Any, x: Any) -> Any:
        return x.add_(1) * 2

    def given_late(_: Any, x: Any) -> Any:
        y = x * 2
        x.view(-1)[1:].zero_()
        return y

    def counted(m: Any, x: Any) -> Any:
        m.count.add_(1)
        return x + m.s

    def watched(m: Any, x: Any) -> Any:
        m.peak.copy_(torch.maximum(m.peak, torch.special.erfcx(x.double()).max()))
        return x * 2

    def overwritten(m: Any, x: Any) -> Any:
        m.s.copy_(x)
        return m.s * 2

    def fresh(m: Any, x: Any) -> Any:
        y = torch.tensor([1.0, 2.0, 3.0, 4.0]).mul_(2)
        return (x > 0).to(torch.float32).div_(2) + y + m.s

    for function in (
        average, assigned, added, late, part, viewed, indexed, out, constant, parameter, given,
        given_late, counted, watched, overwritten, fresh,
    ):  # fmt: skip
        yield function.__name__, Of(function)


def cases() -> Iterator[Case]:
    """Every module as it is exported and, where PyTorch can do that, taken apart. The outputs are
    those of the third call."""
    import torch

    x = torch.tensor([[0.5, -1.0, 2.0, 3.0]])
    for name, module in modules():
        program = torch.export.export(module.eval(), (x.clone(),))
        own = program.module()
        for _ in range(3):
            y = own(x.clone())
        outputs = (np.array(y.detach().numpy()),)
        yield Case(name, saved(program), x.numpy(), outputs)
        if name != "constant":
            yield Case(f"{name}_core", saved(program.run_decompositions()), x.numpy(), outputs)


if __name__ == "__main__":
    store(STORED, cases())
