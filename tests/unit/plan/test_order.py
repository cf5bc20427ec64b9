"""The order of operators against all topological orders."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import pytest

from midge.plan import order_beam
from midge.plan.order import Task, best_order
from midge.plan.order_net import Net

Case = tuple[list[Task], dict[str, int], list[str], list[str]]


def case(rng: random.Random, count: int) -> Case:
    """Tasks on earlier tensors, in a topological order; some write one tensor together."""
    inputs = [f"x{i}" for i in range(rng.choice([1, 1, 2]))]
    known = list(inputs)
    tasks = []
    for i in range(count):
        together = bool(tasks) and rng.random() < 0.2
        others = known[:-1] if together else known
        reads = rng.sample(others, min(len(others), rng.choice([1, 1, 2])))
        inplace = tuple(rng.sample(reads, 0 if together else rng.randrange(len(reads) + 1)))
        writes = tasks[-1].writes if together else f"t{i}"
        tasks.append(Task(tuple(reads), writes, rng.choice([0, 0, 5, 40]), inplace))
        known += [] if together else [writes]
    sizes = {n: rng.choice([0, 4, 10, 10, 32, 100]) for n in known}
    made = known[len(inputs) :]
    outputs = [made[-1], *rng.sample(made, rng.choice([0, 0, 1]))]
    return tasks, sizes, inputs, list(dict.fromkeys(outputs))


def peak(found: Case, order: Sequence[int]) -> int:
    """The bytes alive at the busiest task, counted afresh for each."""
    tasks, sizes, inputs, outputs = found
    most = 0
    for at, task in enumerate(order):
        before = {*inputs, *(tasks[i].writes for i in order[:at])}
        needed = {v for i in order[at:] for v in tasks[i].reads} | set(outputs)
        later = {v for i in order[at + 1 :] for v in tasks[i].reads} | set(outputs)
        own = tasks[task]
        alive = sum(sizes[v] for v in before & needed)
        over = any(v not in later and sizes[v] == sizes[own.writes] for v in own.inplace)
        there = own.writes in before or over
        most = max(most, alive + own.scratch + (0 if there else sizes[own.writes]))
    return most


def orders(tasks: Sequence[Task], done: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    if len(done) == len(tasks):
        yield done
        return
    made = {t.writes for t in tasks}
    there = made - {t.writes for i, t in enumerate(tasks) if i not in done}
    for i, task in enumerate(tasks):
        if i not in done and not (set(task.reads) & made) - there:
            yield from orders(tasks, (*done, i))


def is_order(tasks: Sequence[Task], order: Sequence[int]) -> bool:
    assert sorted(order) == list(range(len(tasks)))
    place = {task: at for at, task in enumerate(order)}
    return all(
        place[j] < place[i]
        for i, t in enumerate(tasks)
        for j, maker in enumerate(tasks)
        if maker.writes in t.reads
    )


@pytest.mark.parametrize("seed", range(60))
def test_the_best_of_all_orders(seed: int) -> None:
    rng = random.Random(seed)
    found = case(rng, rng.randrange(1, 8))
    best = best_order(*found)
    assert is_order(found[0], best)
    assert peak(found, best) == min(peak(found, o) for o in orders(found[0]))


@pytest.mark.parametrize("seed", range(60))
def test_a_beam_is_never_worse_than_the_given_order(seed: int) -> None:
    rng = random.Random(1000 + seed)
    found = case(rng, rng.randrange(2, 25))
    best = best_order(*found, most_sets=1)
    assert is_order(found[0], best)
    assert peak(found, best) <= peak(found, range(len(found[0])))


def test_nothing_better_is_the_given_order() -> None:
    chain = [Task((a,), b) for a, b in pairwise(["x", "t0", "t1", "t2"])]
    assert best_order(chain, dict.fromkeys(["x", "t0", "t1", "t2"], 8), ["x"], ["t2"]) == (0, 1, 2)
    two = [Task(("x",), "t0"), Task(("x",), "t1"), Task(("t0", "t1"), "t2")]
    assert best_order(two, dict.fromkeys(["x", "t0", "t1", "t2"], 8), ["x"], ["t2"]) == (0, 1, 2)


def test_the_branch_that_shrinks_goes_first() -> None:
    """x -> a (large) -> b (small), and x -> c (large) -> d (small): one after the other."""
    tasks = [
        Task(("x",), "a"), Task(("x",), "c"), Task(("a",), "b"), Task(("c",), "d"),
        Task(("b", "d"), "y"),
    ]  # fmt: skip
    sizes = {"x": 10, "a": 100, "c": 100, "b": 1, "d": 1, "y": 1}
    order = best_order(tasks, sizes, ["x"], ["y"])
    assert order in ((0, 2, 1, 3, 4), (1, 3, 0, 2, 4))


def test_no_tasks() -> None:
    assert best_order([], {"x": 4}, ["x"], ["x"]) == ()


def test_hundreds_of_operators_that_could_come_next() -> None:
    """As in a recurrent layer over hundreds of steps: a narrow beam still finds chains."""
    tasks, sizes = [], {"x": 4, "y": 4}
    for i in range(300):
        tasks.append(Task(("x",), f"a{i}"))
        sizes[f"a{i}"] = 1000
    for i in range(300):
        tasks.append(Task((f"a{i}",), f"b{i}"))
        sizes[f"b{i}"] = 1
    tasks.append(Task(tuple(f"b{i}" for i in range(300)), "y"))
    found = best_order(tasks, sizes, ["x"], ["y"])
    assert sorted(found) == list(range(601))
    places = {task: at for at, task in enumerate(found)}
    assert all(places[i] < places[300 + i] for i in range(300))
    assert max(places[300 + i] - places[i] for i in range(300)) == 1


def independent(count: int) -> Case:
    """Tasks that could all come next, and one that reads what they make."""
    tasks = [Task(("x",), f"a{i}") for i in range(count)]
    tasks.append(Task(tuple(f"a{i}" for i in range(count)), "y"))
    return tasks, dict.fromkeys([*(t.writes for t in tasks), "x"], 4), ["x"], ["y"]


def unrolled(steps: int) -> Case:
    """A recurrent layer: slices of an input first, as a model file may have them."""
    tasks = [Task(("x",), f"s{i}") for i in range(steps)]
    sizes = {"x": 64 * steps, "h-": 16}
    for i in range(steps):
        before = f"h{i - 1}" if i else "h-"
        tasks.append(Task((before,), f"r{i}"))
        tasks += [Task((f"s{i}", f"r{i}"), f"g{i}"), Task((f"g{i}", before), f"h{i}")]
        sizes |= {f"s{i}": 64, f"r{i}": 64, f"g{i}": 64, f"h{i}": 16}
    return tasks, sizes, ["x", "h-"], [f"h{steps - 1}"]


@pytest.mark.parametrize("make", [independent, unrolled])
def test_work_grows_with_the_number_of_operators(
    make: Callable[[int], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many could come next: what is looked at of each operator is bounded."""
    looked = 0
    step = Net.step

    def counted(net: Net, done: int, task: int, live: int) -> int:
        nonlocal looked
        looked += 1
        return step(net, done, task, live)

    monkeypatch.setattr(Net, "step", counted)
    for count in (600, 1200):
        looked = 0
        found = make(count)
        assert is_complete(found[0], best_order(*found, most_sets=1))
        steps = order_beam.MOST_STEPS, order_beam.STEPS_AT_LEAST * len(found[0])
        assert looked < max(steps) + 10 * len(found[0])


def is_complete(tasks: Sequence[Task], order: Sequence[int]) -> bool:
    """As `is_order`, in a time that grows with the tasks."""
    made = {v for t in tasks for v in t.reads} - {t.writes for t in tasks}
    for task in order:
        if not made.issuperset(tasks[task].reads):
            return False
        made.add(tasks[task].writes)
    return sorted(order) == list(range(len(tasks)))


def test_a_beam_keeps_few_sets() -> None:
    """Of each size, at any time."""
    net = Net(*unrolled(400))
    found = order_beam._Beam(net)
    for _ in net.tasks:
        found.advance()
        assert len(found.states) <= order_beam.WIDTH
        assert max(len(s.ready) for s in found.states.values()) <= order_beam.WINDOW


def test_unrolled_steps_are_taken_one_by_one() -> None:
    """No more than one slice is there beside the input, whatever the order in the file."""
    found = unrolled(300)
    best = best_order(*found)
    assert peak_of(found, best) == 64 * 300 + 16 + 64 + 64 + 64
    assert peak_of(found, range(len(found[0]))) > 2 * 64 * 300


def peak_of(found: Case, order: Sequence[int]) -> int:
    return Net(*found).peak(order)


@pytest.mark.parametrize("seed", range(20))
def test_the_peak_of_an_order(seed: int) -> None:
    rng = random.Random(seed)
    found = case(rng, rng.randrange(1, 30))
    for order in (range(len(found[0])), Net(*found).depth_first()):
        assert is_order(found[0], order)
        assert peak_of(found, order) == peak(found, order)
