"""Points of spaces that nobody called usual: most of them are kernels, and these are right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from extreme_layers import LAYERS, drawn_ways, graph_of
from midge.target import load_target
from midge.tune.measure import measure
from midge.tune.trials import Unfit

COUNT = 3  # of each space
EVERY, OTHERS = 12, ("cortex-m0plus", "cortex-m7", "rv32imac")


def cases() -> Iterator[Any]:
    for number, name in enumerate(LAYERS):
        if number % EVERY == 5:
            yield "cortex-m4", name
        if number % (EVERY * len(OTHERS)) == 6:
            yield OTHERS[number // (EVERY * len(OTHERS)) % len(OTHERS)], name


@pytest.mark.slow
@pytest.mark.parametrize(("target", "name"), list(cases()))
def test_points_at_random_leave_the_same_bytes(target: str, name: str) -> None:
    own = load_target(target)
    found, drawn = drawn_ways(graph_of(LAYERS[name]), own, COUNT, len(name))
    outcomes = measure(found.matches, own, "size", thorough=True)
    for rows, options in zip(outcomes, found.options, strict=True):
        for outcome, option in zip(rows, options, strict=True):
            assert not isinstance(outcome, Unfit), f"{option.candidate.name}: {outcome}"
    assert found.options or not drawn


def test_most_points_are_kernels() -> None:
    built = total = 0
    for number, name in enumerate(LAYERS):
        if number % (2 * EVERY) == 1:
            found, drawn = drawn_ways(graph_of(LAYERS[name]), load_target("cortex-m4"), 4, number)
            built, total = built + sum(map(len, found.options)), total + drawn
    assert total > 50
    assert 2 * built >= total
