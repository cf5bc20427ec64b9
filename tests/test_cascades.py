"""Networks computed band by band: every plan gives what the graph means, with no byte of the arena
read or written by who should not; and which plan is chosen."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from cascade_nets import KINDS, Net, NetMaker, check, net, packaged, random_picks
from conftest import unsearched
from midge import cascading, driver
from midge.cascading import Chosen, Price, Priced, choose, price_first
from midge.codegen.arrange import arrange
from midge.core.errors import UsageError
from midge.core.types import DType, TensorType
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, Node
from midge.lower.bands import Form
from midge.lower.lower import Lowered, find_options
from midge.plan.offsets import plan
from midge.ranking import MUCH_LESS, MUCH_SLOWER, SLOWER, SMALL, Trial, Wish, ranked
from midge.run import RUNNERS
from midge.target import load_target

pytestmark = pytest.mark.slow

TARGETS = ("cortex-m4", "cortex-m0plus")  # with kernels in assembler, and plain C
EMULATOR = RUNNERS["emulator"]


def small(kind: str, height: int = 9, width: int = 4) -> Net:
    """Two branches that lag behind each other, a stride, a pool and a sum over the image."""
    m = NetMaker(random.Random(8), kind)
    x = m.input((1, height, width, 2))

    def conv(v: str, channels: int, kernel: tuple[int, int], stride: int, pads: int) -> str:
        shape = (channels, *kernel, m.types[v].shape[3])
        side = kernel[1] // 2
        attrs = {
            "strides": (stride, stride),
            "dilations": (1, 1),
            "padding": (pads, pads, side, side),
        }
        return m.node("conv2d", [v, *m.weights(v, shape, 0)], attrs)

    a = conv(x, 8, (3, 3), 2, 1)
    b = conv(conv(a, 8, (3, 3), 1, 1), 8, (5, 1), 1, 2)
    c = m.node("add", [a, b], {"activation": "relu"})
    d = m.node("depthwise_conv2d", [c, *m.weights(c, (1, 3, 3, 8), 3)],
               {"strides": (1, 1), "dilations": (1, 1), "padding": (1, 1, 1, 1)})  # fmt: skip
    y = m.node("mean", [d], {"axes": (1, 2)})
    return Net.of(Graph("g", (x,), (y,), m.types, m.consts, ()).with_nodes(m.nodes))


def test_images_of_very_many_rows_are_computed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """A damaged or absurd model would be planned for hours."""
    plain = small("int8").plain
    counts = []
    for rows in (5, 4):
        monkeypatch.setattr(cascading, "_TALLEST", rows)
        counts.append([name for name, _ in cascading._forms(plain, Wish())])
    assert len(counts[0]) > 1
    assert counts[1] == ["whole"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("target", TARGETS)
def test_every_kind_of_plan(target: str, kind: str) -> None:
    """Whole tensors and all that the driver tries, the input at once and row by row."""
    own, made = small(kind), load_target(target)
    for number, (name, forms) in enumerate(own.planned()):
        for arriving in (False, True) if forms else (False,):
            found = own.lowered(made, forms, arriving)
            assert (name == "whole") == (not found.found.banded)
            picks = [0] * len(found.choices)
            package, _ = packaged(found, picks, made, None if arriving else plan)
            check(own, package, EMULATOR, number)


@pytest.mark.parametrize("seed", range(20))
def test_random_bands_of_random_networks(seed: int) -> None:
    """Bands of random heights in random groups, any kernels; every third with guards between all
    buffers, others placed as closely as it goes."""
    rng = random.Random(50 + seed)
    own = Net.of(net(300 + seed, ("int8", "float", "int8", "int16")[seed % 4]))
    target = load_target(TARGETS[seed % 3 == 1])
    forms = own.random_forms(rng)
    arriving = bool(forms) and len(own.plain.inputs) == 1 and seed % 3 == 0
    found = own.lowered(target, forms, arriving)
    picks = random_picks(found, rng) if seed % 2 else [0] * len(found.choices)
    package, _ = packaged(found, picks, target, None if seed % 3 == 0 else plan)
    check(own, package, EMULATOR, seed)


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_on_the_host(seed: int) -> None:
    own = Net.of(net(900 + seed, KINDS[seed % 3]))
    target = load_target("cortex-m4")
    found = own.lowered(target, own.random_forms(random.Random(seed)))
    package, _ = packaged(found, [0] * len(found.choices), target)
    check(own, package, RUNNERS["host"], seed)


def test_an_input_that_nobody_reads_has_a_place() -> None:
    """The caller writes it, and must hit nothing else."""
    m = NetMaker(random.Random(2), "int8")
    x, unused = m.input((1, 6, 3, 2)), m.input((1, 6, 3, 2))
    attrs = {"strides": (2, 2), "dilations": (1, 1), "padding": (0, 0, 0, 0)}
    y = m.node("conv2d", [x, *m.weights(x, (3, 1, 1, 2), 0)], attrs)
    own = Net.of(Graph("g", (x, unused), (y,), m.types, m.consts, ()).with_nodes(m.nodes))
    target = load_target("cortex-m4")
    for forms in ({}, {out: Form(1) for out in own.able()}):
        found = own.lowered(target, forms)
        package, _ = packaged(found, [0] * len(found.choices), target, plan)
        ends = sorted((t.offset, t.offset + t.type.size) for t in package.inputs)
        assert ends[0][1] <= ends[1][0]
        assert ends[1][1] <= package.arena_size
        check(own, package, EMULATOR, 3)


def test_rows_of_an_input_that_nobody_reads_have_a_place() -> None:
    """The last row lies beyond the last window, the arena is as large as the input all the same."""
    m = NetMaker(random.Random(2), "int8")
    x = m.input((1, 6, 8, 4))
    attrs = {"strides": (2, 2), "dilations": (1, 1), "padding": (0, 0, 0, 0)}
    y = m.node("conv2d", [x, *m.weights(x, (1, 1, 1, 4), 0)], attrs)
    own = Net.of(Graph("g", (x,), (y,), m.types, m.consts, ()).with_nodes(m.nodes))
    target = load_target("cortex-m4")
    found = own.lowered(target, {out: Form(1) for out in own.able()})
    package, arena = packaged(found, [0] * len(found.choices), target, plan)
    assert package.arena_size >= arena.offset(x) + m.types[x].size
    check(own, package, EMULATOR, 3)


@pytest.mark.parametrize("height", [1, 4])
def test_an_input_that_is_read_as_a_whole_cannot_be_streamed(height: int) -> None:
    m = NetMaker(random.Random(1), "int8")
    x = m.input((1, height, 4, 2))
    shape = {"shape": (1, height * 8)}
    flat = m.node("reshape", [x], shape, quant=m.types[x].quant)
    y = m.node("dense", [flat, *m.weights(flat, (3, height * 8), 0)])
    graph = Graph("g", (x,), (y,), m.types, m.consts, ()).with_nodes(m.nodes)
    with pytest.raises(UsageError, match="row by row"):
        driver.compile_graph(
            graph,
            load_target("cortex-m4"),
            unsearched(stream_input=True),
        )


@pytest.mark.parametrize("stream", [False, True])
def test_a_checked_compilation_computes_the_same(stream: bool) -> None:
    own = small("int8", 20, 8)
    options = unsearched(stream_input=stream, check_memory=True)
    made = driver.compile_graph(own.source, load_target("cortex-m4"), options)
    assert made.package.places
    assert made.package.arena_size > made.chosen.arena.size
    session = EMULATOR.load(made.package, toolchain=None, optimize="speed")
    given = random_inputs(own.source, 1, 4)[0]
    run = session.run(given, layers=True)
    session.close()
    (want,) = evaluate(own.source, given).values()
    (have,) = run.outputs.values()
    np.testing.assert_array_equal(have, want)
    assert len(run.operators) == len(made.package.operators)


# Which plan is chosen, with kernels that cost what a test says.


def priced(factor: float, extra: int = 0) -> Price:
    """A network with bands costs `factor` times what it costs without, and each option of a kernel
    `extra` more than the one before it."""

    def price(found: Lowered, wish: Wish) -> Priced:
        choices = found.choices
        total = 1e9 * (factor if any(c.count for c in choices) else 1.0)
        cycles = tuple(
            tuple(int(total / len(choices) / c.calls) + extra * i for i in range(len(c.options)))
            for c in choices
        )
        return Priced((0,) * len(choices), cycles)

    return price


def chosen(own: Net, wish: Wish, price: Price = price_first) -> Chosen:
    return choose(own.plain, load_target("cortex-m4"), own.types, "speed", price, wish)


def is_banded(found: Chosen) -> bool:
    return any(op.bands for op in found.program.operations)


def test_a_cascade_may_cost_five_percent() -> None:
    own = small("int8", 40, 8)
    assert SLOWER == 1.05
    cheap, dear = (chosen(own, Wish(), priced(f)) for f in (1.04, 1.06))
    assert is_banded(cheap)
    assert not is_banded(dear)
    assert cheap.arena.size < 0.9 * dear.arena.size
    assert cheap.whole >= dear.arena.size  # kernels with less scratch memory at a small price
    assert is_banded(chosen(own, Wish()))
    assert not is_banded(chosen(own, Wish(bands=False), priced(1.0)))


def test_ten_percent_where_that_saves_much_of_a_large_arena() -> None:
    large = small("int8", 128, 16)
    saving, dear = (chosen(large, Wish(), priced(f)) for f in (1.09, 1.11))
    assert is_banded(saving)
    assert not is_banded(dear)
    assert saving.arena.size < MUCH_LESS * dear.arena.size


@pytest.mark.parametrize(
    ("whole", "bands", "cycles", "taken"),
    [
        (12_300, 8_200, 1_100, "rows"),
        (12_300, 8_201, 1_100, "whole"),  # more than two thirds
        (12_300, 8_200, 1_101, "whole"),  # more than a tenth
        (12_300, 11_000, 1_050, "rows"),  # a tenth, for a twentieth
        (8_193, 4_000, 1_100, "rows"),
        (8_192, 4_000, 1_100, "whole"),  # small enough
        (8_192, 4_000, 1_050, "rows"),
    ],
)
def test_what_is_taken_by_default(whole: int, bands: int, cycles: int, taken: str) -> None:
    assert (SLOWER, MUCH_SLOWER, MUCH_LESS, SMALL) == (1.05, 1.1, 2 / 3, 8192)
    found = find_options(small("int8").plain, load_target("cortex-m4"), small("int8").types)
    trials = [Trial("whole", whole, 1_000, found, ()), Trial("rows", bands, cycles, found, ())]
    assert [t.name for t in ranked(trials, Wish())] == [taken]
    for more, wanted in ((3 * (whole - bands) - 1, taken), (3 * (whole - bands), "whole")):
        dear = [replace(trials[0], flash=900), replace(trials[1], flash=900 + more)]
        assert [t.name for t in ranked(dear, Wish())] == [taken]
        assert [t.name for t in ranked(dear, Wish(small=True))] == [wanted]


def test_where_flash_counts_the_least_ram_that_is_worth_its_flash_is_taken() -> None:
    found = find_options(small("int8").plain, load_target("cortex-m4"), small("int8").types)
    whole = Trial("whole", 16_000, 1_000, found, (), flash=900)
    trials = [
        whole,
        replace(whole, name="least", live=4_000, cycles=1_080, flash=4_901),
        replace(whole, name="rows", live=4_800, cycles=1_090, flash=2_500),
        replace(whole, name="more", live=5_334, cycles=1_070, flash=900),
    ]
    assert [t.name for t in ranked(trials, Wish(small=True))] == ["rows"]
    assert [t.name for t in ranked(trials, Wish())] == ["least"]


def test_plans_that_flash_has_no_room_for_give_way() -> None:
    found = find_options(small("int8").plain, load_target("cortex-m4"), small("int8").types)
    whole = Trial("whole", 16_000, 1_000, found, (), flash=900)
    trials = [
        whole,
        replace(whole, name="fast", live=15_000, cycles=900, flash=1_500),
        replace(whole, name="rows", live=4_000, cycles=1_010, flash=1_200),
        replace(whole, name="least", live=3_900, cycles=1_040, flash=1_300),
    ]

    def names(**wished: int) -> list[str]:
        return [t.name for t in ranked(trials, Wish(**wished))]

    assert [names(max_flash=n) for n in (1_300, 1_299, 1_199, 899)] == [
        ["least"], ["rows"], ["whole"], ["whole"],
    ]  # fmt: skip
    assert names(max_ram=15_500) == ["fast", "rows", "least", "least"]
    assert names(max_ram=15_500, max_flash=1_250) == ["rows", "least", "fast", "least"]
    assert names(max_ram=100, max_flash=1_250) == ["least"]


def test_a_small_arena_is_left_alone() -> None:
    own = small("int8", 6, 2)
    found = chosen(own, Wish())
    assert found.whole <= 1024
    assert not is_banded(found)


@pytest.mark.parametrize("factor", [1.5, 0.9])
def test_max_ram_takes_the_fastest_that_fits(factor: float) -> None:
    own = small("int8", 40, 8)
    price = priced(factor, extra=1000)
    tried = chosen(own, Wish(max_ram=1), price).tried
    placed = [(t.cycles, arrange(t.lowered.program(t.picks)).size) for t in tried]
    sizes = sorted({size for _, size in placed})
    assert len(sizes) > 1
    for limit in (sizes[0], sizes[len(sizes) // 2], sizes[-1] + 100):
        found = chosen(own, Wish(max_ram=limit), price)
        assert found.arena.size <= limit
        if tried[0].live <= limit:
            assert not is_banded(found)  # what fits as a whole is not looked at any further
        else:
            assert found.cycles == min(cycles for cycles, size in placed if size <= limit)


def test_if_nothing_fits_it_is_what_needs_least() -> None:
    found = chosen(small("int8", 40, 8), Wish(max_ram=10), priced(3.0))
    assert found.arena.plan.lower_bound == min(t.live for t in found.tried)
    assert is_banded(found)


def test_less_scratch_memory_is_taken_at_the_busiest_moment() -> None:
    """The operators run in another order than the graph has them: the wide branch first."""
    m = NetMaker(random.Random(4), "int8")
    x = m.input((1, 8, 8, 4))
    side = {"strides": (1, 1), "dilations": (1, 1), "padding": (1, 1, 1, 1), "clip": None}
    narrow = m.node("conv2d", [x, *m.weights(x, (8, 3, 3, 4), 0)], {**side})
    wide = m.node("conv2d", [x, *m.weights(x, (48, 3, 3, 4), 0)], {**side})
    back = m.node("conv2d", [wide, *m.weights(wide, (8, 3, 3, 48), 0)], {**side})
    graph = Graph("g", (x,), (narrow, back), m.types, m.consts, ())
    own = Net.of(graph.with_nodes(m.nodes))
    found = find_options(own.plain, load_target("cortex-m4"), own.types)
    picks = (0,) * len(found.choices)
    program = found.program(picks)
    assert [o.output for o in program.operations] != [g.output for g in found.found.groups]
    assert program.operations[-1].output == narrow
    tried = cascading._descent("whole", found, Priced(picks))
    first = next(
        c for c, old, new in zip(found.choices, picks, tried[1].picks, strict=True) if old != new
    )
    assert first.value == back, "it reads the wide one, and has scratch memory"
    assert tried[-1].live < tried[0].live


@pytest.mark.parametrize("shape", ["", "7", "2x3", "2x4x4x1"])
def test_what_is_no_image_is_not_fed_by_rows(shape: str) -> None:
    axes = tuple(int(n) for n in shape.split("x") if n)
    types = {n: TensorType(axes, DType.F32) for n in "xy"}
    graph = Graph("g", ("x",), ("y",), types, {}, (Node("tanh", ("x",), ("y",), {}, "", ""),))
    with pytest.raises(UsageError, match="cannot be fed row by row"):
        driver.compile_graph(graph, load_target("cortex-m4"), unsearched(stream_input=True))
