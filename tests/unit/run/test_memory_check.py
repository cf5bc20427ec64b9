"""A checked run finds what a wrong plan does: stray writes, and reads of dead memory."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from cascade_nets import Net, NetMaker, check, packaged
from midge.core.errors import RunError, UsageError
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.data import random_inputs
from midge.driver import compile_file
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.lower.bands import Form
from midge.plan.arena import Planner
from midge.plan.buffers import Buffer, Plan
from midge.plan.guards import GUARD, guarded
from midge.plan.offsets import plan
from midge.run import RUNNERS
from midge.target import load_target

pytestmark = pytest.mark.slow

TARGET = "cortex-m4"
_placed = cache(lambda buffers: plan(buffers))
Break = Callable[[list[Buffer], Plan], dict[str, int]]


def chain(height: int = 7) -> Net:
    """Three convolutions of 3 rows, each followed by nothing: rows wait for their readers."""
    m = NetMaker(random.Random(3), "int8")
    value = m.input((1, height, 4, 2))
    for channels in (4, 4, 3):
        shape = (channels, 3, 3, m.types[value].shape[3])
        attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": (1, 1, 1, 1)}
        value = m.node("conv2d", [value, *m.weights(value, shape, 0)], attrs)
    graph = Graph("g", ("x0",), (value,), m.types, m.consts, ()).with_nodes(m.nodes)
    return Net.of(graph)


def placed(buffers: Sequence[Buffer]) -> Plan:
    """As `plan`, once for the same buffers."""
    return _placed(tuple(buffers))


def made(net: Net, planner: Planner, *, arriving: bool = False, bands: bool = True) -> Package:
    target = load_target(TARGET)
    forms = {out: Form(1) for out in net.able()} if bands else {}
    found = net.lowered(target, forms, arriving)
    return packaged(found, [0] * len(found.choices), target, planner)[0]


@pytest.mark.parametrize("runner", ["host", "emulator"])
@pytest.mark.parametrize("arriving", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_a_right_plan_passes(runner: str, arriving: bool, apart: bool) -> None:
    net = chain()
    package = made(net, guarded() if apart else placed, arriving=arriving)
    check(net, package, RUNNERS[runner], 1)


@pytest.mark.parametrize("runner", ["host", "emulator"])
def test_rows_that_wait_for_no_row_of_the_input(runner: str) -> None:
    """The first output row is all of padding: it is made with the first row of the input, not
    before, when the memory may be somebody else's."""
    m = NetMaker(random.Random(5), "int8")
    x = m.input((1, 5, 4, 2))
    attrs = {"strides": (2, 1), "dilations": (1, 1), "padding": (2, 0, 1, 1)}
    y = m.node("conv2d", [x, *m.weights(x, (3, 2, 3, 2), 0)], attrs)
    graph = Graph("g", (x,), (y,), m.types, m.consts, ()).with_nodes(m.nodes)
    net = Net.of(graph)
    package = made(net, placed, arriving=True)
    check(net, package, RUNNERS[runner], 1)
    session = RUNNERS[runner].load(package, toolchain=None, optimize="debug")
    for given in random_inputs(graph, 2, 0):
        run = session.run(given, layers=True)
        want = evaluate(graph, given)[y]
        for found in (run.outputs, run.layers):
            (layer,) = found.values()
            np.testing.assert_array_equal(layer.reshape(want.shape), want)
    session.close()


def moved(net: Net, one: str, other: str, by: int = 0, *, tell: bool) -> Package:
    """The package of a plan that puts buffer `one` on `other`. tell: the planner is at fault, and
    the check knows where buffers lie; else it thinks that they lie where they should."""

    def planner(buffers: list[Buffer]) -> Plan:
        right = placed(buffers)
        return replace(right, offsets={**right.offsets, one: right.offsets[other] + by})

    right, wrong = made(net, placed), made(net, planner)
    size = max(p.offset + p.size for p in wrong.places)
    assert size <= wrong.arena_size
    return wrong if tell else replace(wrong, places=right.places)


def rows_alive_together(package: Package) -> tuple[str, str]:
    """Two buffers that share a time, of which the second is read when the first one is written."""
    names = {p.name: p for p in package.places if "#" in p.name}
    return next(
        (a, b)
        for a, p in names.items()
        for b, q in names.items()
        if a != b and p.size == q.size and q.writes[0] < p.writes[0] < q.last
    )


@pytest.mark.parametrize("runner", ["host", "emulator"])
def test_a_buffer_over_another_is_found_where_it_is_written(runner: str) -> None:
    net = chain()
    one, other = rows_alive_together(made(net, placed))
    package = moved(net, one, other, tell=False)
    with pytest.raises(RunError, match=r"call \d+, of conv2d_\d .*wrote byte \d+ of the arena"):
        check(net, package, RUNNERS[runner], 1)


def test_a_buffer_over_another_gives_wrong_results() -> None:
    """The check believes what the plan says of who lies where: then the bytes tell."""
    net = chain()
    one, other = rows_alive_together(made(net, placed))
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        check(net, moved(net, one, other, tell=True), RUNNERS["emulator"], 1)


@pytest.mark.parametrize("runner", ["host", "emulator"])
def test_a_row_that_dies_one_call_too_early_is_poisoned(runner: str) -> None:
    """In the plan nothing lies over it: without the poison the results would be right."""
    net = chain()
    package = made(net, guarded())
    last = [p for p in package.places if "#" in p.name and p.last - p.writes[0] > 1]
    for place in last[:: max(len(last) // 5, 1)]:
        early = replace(place, last=place.last - 1)
        places = tuple(early if p == place else p for p in package.places)
        with pytest.raises(AssertionError, match="Arrays are not equal"):
            check(net, replace(package, places=places), RUNNERS[runner], 1, count=1)


def test_the_input_is_there_until_it_is_read() -> None:
    net = chain()
    package = made(net, guarded(), bands=False)
    places = tuple(p for p in package.places if p.name != "x0")
    with pytest.raises(AssertionError, match="Arrays are not equal"):
        check(net, replace(package, places=places), RUNNERS["emulator"], 1, count=1)


def test_a_write_before_its_tensor_is_found() -> None:
    """An output that is larger than the plan believes: its last byte is a guard's."""
    net = chain()
    package = made(net, guarded())
    row = next(p for p in package.places if "#" in p.name)
    places = tuple(replace(p, size=p.size - 1) if p == row else p for p in package.places)
    message = (
        rf"wrote byte {row.offset + row.size - 1} of the arena, which is 1 bytes after the end"
    )
    with pytest.raises(RunError, match=message):
        check(net, replace(package, places=places), RUNNERS["emulator"], 1, count=1)


def test_guards_lie_around_every_piece() -> None:
    buffers = [
        Buffer.solid("a", 40, 0, 4),
        Buffer.solid("b", 8, 2, 6),
        Buffer.solid("c", 12, 5, 8),
    ]
    found = guarded()(buffers)
    spans = sorted((found.offsets[n], found.offsets[n] + s) for n, s in (("a", 40), ("b", 8)))
    assert spans[0][0] >= GUARD
    assert spans[1][0] - spans[0][1] >= 2 * GUARD
    assert found.peak >= spans[1][1] + GUARD
    assert np.all([offset % 4 == 0 for offset in found.offsets.values()])


def test_verify_checks_memory(midge, digits) -> None:  # type: ignore[no-untyped-def]
    result = midge("verify", digits, "--check-memory", "--no-search", "--count", "1", "--json")
    assert result.code == 0, result.err
    assert result.json["ok"]


def test_memory_of_pushes_is_not_checked(digits) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError):
        compile_file(
            digits,
            load_target(TARGET),
            CompileOptions(search=False, prove=False, stream_time=1, check_memory=True),
        )
