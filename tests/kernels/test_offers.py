"""Which kernels a layer is offered: a precondition that is too strict or too lax shows there."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pytest

from conftest import Golden
from extreme_layers import LAYERS, graph_of, ways
from midge import lower
from midge.core.target import Target
from midge.core.types import TensorType
from midge.graph.ir import Graph
from midge.loop.schedule import Tensorize
from midge.lower.bands import Forms
from midge.lower.candidates import Candidate, Option, Request, candidates
from midge.lower.lower import find_options
from midge.lower.space import Goal
from midge.target import load_target
from random_layers import drawn

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
    options = [option for own in found.options for option in own]
    lines = [*map(offer, options), f"texts: {digest(o.candidate for o in options)}"]
    golden("\n".join(lines) + "\n")


COUNT, BLOCK = 1000, 25  # layers, and how many of them are a test


def before_breaking() -> None:
    """What no kernel has a part in: `benchmarks/mutants.py` does it once."""
    for seed in range(COUNT):
        drawn(seed)


@pytest.mark.parametrize("first", range(0, COUNT, BLOCK))
def test_candidates(first: int, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of layers that are only described: how many of which kind, and a digest of their texts."""
    golden("".join(f"{seed}: {described(seed, monkeypatch)}\n"
                   for seed in range(first, first + BLOCK)))  # fmt: skip


def described(seed: int, monkeypatch: pytest.MonkeyPatch) -> str:
    layer = drawn(seed)
    net = layer.net
    found = offered(net.plain, layer.target, net.types, layer.goal, layer.forms, monkeypatch)
    return f"{layer.name}: {summary(found)}"


def offered(
    graph: Graph, target: Target, types: Mapping[str, TensorType], goal: str, forms: Forms,
    monkeypatch: pytest.MonkeyPatch,
) -> list[Candidate]:  # fmt: skip
    """What all kernels of a plain graph are offered, as it is described."""
    found: list[Candidate] = []

    def recorded(request: Request, goal: Goal) -> Iterator[Option]:
        found.extend(candidates(request, goal))
        yield from ()

    with monkeypatch.context() as patch:
        patch.setattr(lower.candidates, "options", recorded)
        for choice in find_options(graph, target, types, goal, forms).choices:
            assert len(choice.options) == 1  # what there is without a candidate
    return found


def summary(found: Sequence[Candidate]) -> str:
    kinds = Counter(c.name for c in found)
    return f"{' '.join(f'{name}*{count}' for name, count in kinds.items())} {digest(found)}"


def digest(found: Iterable[Candidate]) -> str:
    """Of everything that a candidate says."""
    text = hashlib.sha256()
    for c in found:
        consts = {n: (a.dtype.str, a.shape, a.tobytes()) for n, a in sorted(c.consts.items())}
        own = {n: i.asm for n, i in sorted(c.instructions.items())}
        text.update(repr((c.name, c.func, c.args, c.steps, consts, own, c.order)).encode())
    return text.hexdigest()[:8]


def offer(option: Option) -> str:
    """How a kernel is made, its scratch memory and constants, and its order of columns."""
    func = option.kernel.func
    words = [s.instruction if isinstance(s, Tensorize) else str(s) for s in option.kernel.steps]
    words += [f"{p.name}={p.elements}" for p in func.params if p.mode in ("scratch", "const")]
    words += [f"{i}:{o}" for i, o in option.candidate.order]
    return f"{option.candidate.name}: {' '.join(words)}"
