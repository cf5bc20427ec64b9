"""Which kernels a layer is offered: a precondition that is too strict or too lax shows there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Golden
from extreme_layers import LAYERS, graph_of, ways
from midge.loop.schedule import Tensorize
from midge.lower.candidates import Option
from midge.target import load_target

OTHERS = ("cortex-m0plus", "cortex-m3", "cortex-m7", "cortex-m33", "rv32imac")
SPARSE = 29  # of so many layers one is offered kernels on each of the other targets


def cases() -> Iterator[Any]:
    for number, name in enumerate(LAYERS):
        slow = [pytest.mark.slow] if number % 8 else []
        yield pytest.param("cortex-m4", name, marks=slow)
        if number % SPARSE < len(OTHERS):
            yield pytest.param(OTHERS[number % SPARSE], name, marks=[pytest.mark.slow])


@pytest.mark.parametrize(("target", "name"), list(cases()))
def test_offers(target: str, name: str, golden: Golden) -> None:
    found = ways(graph_of(LAYERS[name]), load_target(target))
    golden("\n".join(offer(o) for own in found.options for o in own) + "\n")


def offer(option: Option) -> str:
    """How a kernel is made, its scratch memory and constants, and its order of columns."""
    func = option.kernel.func
    words = [s.instruction if isinstance(s, Tensorize) else str(s) for s in option.kernel.steps]
    words += [f"{p.name}={p.elements}" for p in func.params if p.mode in ("scratch", "const")]
    words += [f"{i}:{o}" for i, o in option.candidate.order]
    return f"{option.candidate.name}: {' '.join(words)}"
