"""Every way to compute an extreme layer leaves the bytes that the layer's own loops leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from cascade_nets import Net, check, packaged
from extreme_layers import LAYERS, floats, graph_of, ways
from midge.core.types import Array
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.lower.bands import Form
from midge.lower.lower import find_options
from midge.plan.offsets import plan
from midge.run import RUNNERS
from midge.target import load_target
from midge.tune.measure import measure
from midge.tune.trials import Unfit

OTHERS = ("cortex-m0plus", "cortex-m3", "cortex-m7", "cortex-m33", "rv32imac")
SPARSE = 29  # of so many layers one is run on each of the other targets


def cases() -> Iterator[Any]:
    for number, name in enumerate(LAYERS):
        slow = [pytest.mark.slow] if number % 8 else []
        if number % 3 == 0:
            yield pytest.param("cortex-m4", name, marks=slow)
        if number % SPARSE < len(OTHERS):
            yield pytest.param(OTHERS[number % SPARSE], name, marks=[pytest.mark.slow])


@pytest.mark.parametrize(("target", "name"), list(cases()))
def test_every_way_leaves_the_same_bytes(target: str, name: str) -> None:
    found = ways(graph_of(LAYERS[name]), load_target(target))
    outcomes = measure(found.matches, load_target(target), "size", thorough=True)
    for own, options in zip(outcomes, found.options, strict=True):
        for outcome, option in zip(own, options, strict=True):
            assert not isinstance(outcome, Unfit), f"{option.candidate.name}: {outcome}"


@pytest.mark.parametrize("name", LAYERS)
def test_the_passes_keep_what_an_extreme_layer_means(name: str) -> None:
    net = Net.of(graph_of(LAYERS[name]))
    for given in inputs(net):
        with np.errstate(all="ignore"):
            want, found = evaluate(net.source, given), evaluate(net.plain, given)
        for theirs, mine in zip(net.source.outputs, net.plain.outputs, strict=True):
            if floats(net):
                np.testing.assert_allclose(found[mine], want[theirs], rtol=0, atol=1e-4)
            else:
                np.testing.assert_array_equal(found[mine], want[theirs])


def inputs(net: Net) -> Iterator[dict[str, Array]]:
    """All least, all greatest, ends at random, random."""
    yield from random_inputs(net.source, 4, 0)
    if not floats(net):
        rng = np.random.default_rng(1)
        ends = {n: (net.source.types[n].dtype.min, net.source.types[n].dtype.max)
                for n in net.source.inputs}  # fmt: skip
        yield {n: rng.choice(np.array(e), net.source.types[n].shape).astype(
            net.source.types[n].dtype.numpy) for n, e in ends.items()}  # fmt: skip


def over_its_input(name: str) -> bool:
    layer = LAYERS[name]
    sized = layer.op != "dense" and layer.strides == (1, 1) and layer.x[0] > 3
    same = layer.x[2] == layer.oc or not layer.op.startswith("conv")
    return sized and same and layer.bias not in ("edge", "over", "far")


@pytest.mark.slow
@pytest.mark.parametrize("name", list(filter(over_its_input, LAYERS))[::3])
def test_what_lies_over_its_input_reads_first(name: str) -> None:
    """The first options of the kernel, with the output where the plan puts it: over its input as
    far as that has been read."""
    net, target = Net.of(graph_of(LAYERS[name])), load_target("cortex-m4")
    for form in ({}, {v: Form(1, False) for v in net.able()}):
        found = find_options(net.plain, target, net.types, "speed", form)
        for number in range(min(3, max(len(c.options) for c in found.choices))):
            picks = [min(number, len(c.options) - 1) for c in found.choices]
            package, _ = packaged(found, picks, target, plan)
            check(net, package, RUNNERS["emulator"], 3)
