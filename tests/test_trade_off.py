"""RAM against cycles: what is offered beside the plan that is taken is what its option gives."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

import midge as midge_package
from cascade_nets import Net
from conftest import DIGITS, Cli
from midge import driver
from midge.cascading import Chosen, Priced, choose
from midge.cli import curve
from midge.core.options import CompileOptions
from midge.core.target import Memory
from midge.core.trade_off import Offer, TradeOff
from midge.driver import Compiled
from midge.lower.lower import Choice
from midge.plan.arena import Planner
from midge.plan.buffers import Buffer, Plan, busiest_time
from midge.plan.offsets import plan, reach
from midge.ranking import Wish, within
from midge.target import load_target
from midge.trade_off import _best, _Front, offered, trade_off
from onnx_builder import OnnxModel
from test_cascades import priced, small

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

M4 = load_target("cortex-m4")
PLAIN = CompileOptions(prove=False)

MOST_OF_A_CALL = 60  # cycles, from a table of calls


def found(own: Net, wish: Wish, factor: float = 1.3, planner: Planner | None = None) -> Chosen:
    """Chosen where bands cost `factor` times the cycles, and less scratch memory more of them."""
    price = priced(factor, extra=1000)
    return choose(own.plain, M4, own.types, "speed", price, wish, planner)


@cache
def digits(max_ram: int | None = None) -> Compiled:
    return driver.compile_file(DIGITS, M4, replace(PLAIN, max_ram=max_ram))


def all_of(chosen: Chosen, most: int | None = None) -> TradeOff:
    traded = trade_off(chosen, most=most, every=True)
    assert traded is not None
    return traded


# What is offered is what one gets.


@pytest.mark.parametrize(
    ("kind", "height", "width", "factor"),
    [("int8", 40, 8, 1.3), ("float", 24, 6, 1.3), ("float", 24, 6, 1.02), ("int16", 30, 4, 1.02)],
)
def test_every_offer_is_what_its_limit_gives(
    kind: str, height: int, width: int, factor: float
) -> None:
    own = small(kind, height, width)
    chosen = found(own, Wish(), factor)
    traded = all_of(chosen)
    assert len(traded.offers) > 2
    for offer in traded.offers:
        if offer.max_ram is not None:
            made = found(own, Wish(max_ram=offer.max_ram), factor)
            assert (made.arena.size, made.cycles) == (offer.arena, offer.cycles)
            assert offer.arena <= offer.max_ram
    assert (traded.taken.arena, traded.taken.cycles) == (chosen.arena.size, chosen.cycles)


def test_rows_that_arrive_are_offered_as_they_are_planned() -> None:
    own = small("int8", 40, 8)
    wish = Wish(arriving=frozenset(own.plain.inputs))
    traded = all_of(found(own, wish))
    for offer in traded.offers:
        if offer.max_ram is not None:
            made = found(own, replace(wish, max_ram=offer.max_ram))
            assert (made.arena.size, made.cycles) == (offer.arena, offer.cycles)


def test_what_is_built_has_what_was_said() -> None:
    """With kernels that are measured; a run takes what their calls take besides."""
    offers = all_of(digits().chosen).offers
    for offer in (*offers[:2], *offers[-2:]):
        made = digits(offer.max_ram)
        assert (made.package.arena_size, made.chosen.cycles) == (offer.arena, offer.cycles)
    for offer in (summary().fastest, summary().smallest):
        package = digits(offer.max_ram).package
        run = midge_package.run(package, digits_input(package))
        assert 0 < run.cycles - offer.cycles < MOST_OF_A_CALL * len(package.all_calls)


def digits_input(package: midge_package.Package) -> object:
    import numpy as np

    return np.random.default_rng(0).integers(-128, 127, package.inputs[0].type.shape, np.int8)


def summary() -> TradeOff:
    traded = driver.beside_others(digits(), PLAIN).trade_off
    assert traded is not None
    return traded


def test_a_limit_is_offered_for_the_plan_that_is_placed_first() -> None:
    """Faster ones that could fit too would be tried before it."""
    chosen = digits().chosen
    front = _Front(chosen, tuple(_best(chosen)), None)
    near = 0
    for number, trial in enumerate(front.trials):
        limits = list(front._limits(number))
        assert limits[-1] == trial.live
        for limit in limits:
            assert within(chosen.tried, Wish(max_ram=limit))[0] is trial
        near += limits[0] < trial.live * 108 // 100
    assert near, "some are so near to the next that it cuts their limits off"


def test_what_is_reached_soon_is_what_a_plan_with_that_limit_has() -> None:
    missed = met = 0
    for seed in range(6):
        rng = random.Random(seed)
        buffers = []
        for number in range(60):
            start = rng.randrange(40)
            stop = start + rng.randint(1, 12)
            buffers.append(Buffer.solid(f"b{number}", 4 * rng.randint(1, 60), start, stop))
        live, _ = busiest_time(buffers)
        peak_within = reach(buffers)
        assert peak_within(live - 1) is None
        for limit in (live, live * 101 // 100, live * 104 // 100, 2 * live):
            peak = peak_within(limit)
            missed += peak is None
            met += peak is not None
            assert peak is None or peak == plan(buffers, limit=limit).peak <= limit
    assert missed
    assert met


def test_the_front_falls_in_ram_where_it_rises_in_cycles() -> None:
    traded = all_of(digits().chosen)
    assert len(traded.offers) > 4
    rams = [o.arena for o in traded.offers]
    cycles = [o.cycles for o in traded.offers]
    assert rams == sorted(rams, reverse=True)
    assert cycles == sorted(cycles)
    assert len({*rams}) == len(rams)
    assert traded.offers[0] == summary().fastest
    assert traded.offers[-1] == summary().smallest
    assert traded.least <= rams[-1] <= 1.08 * traded.least


def test_nothing_is_offered_that_the_board_has_no_room_for() -> None:
    ram = Memory("ram", "ram", 0x20000000, 2000)
    board = replace(M4, memories=(ram,))
    chosen = digits().chosen
    everything = offered(chosen, M4, PLAIN, every=True)
    some = offered(chosen, board, PLAIN, every=True)
    assert everything is not None
    assert some is not None
    own = [o for o in some.offers if o.max_ram is not None]
    assert own
    assert all(o.max_ram is not None and o.max_ram <= 2000 for o in own)
    assert offered(chosen, board, replace(PLAIN, oversize=True), every=True) == everything


# Where there is nothing to say.


@pytest.mark.parametrize(
    "options",
    [
        {"search": False},
        {"bands": False},
        {"max_ram": 3000},
        {"pools": (("a", 8192),)},
        {"check_memory": True},
    ],
    ids=str,
)
def test_it_is_quiet_where_the_plan_was_asked_for_or_costs_are_unknown(
    options: dict[str, object],
) -> None:
    package = midge_package.compile(DIGITS, prove=False, **options)
    assert package.trade_off is None
    assert "RAM against" not in str(package)


def test_it_is_quiet_where_the_fastest_is_the_smallest() -> None:
    only = TradeOff.of(Offer(64, 100, None, "whole"), [Offer(64, 100, 64, "whole")], 64, "cycles")
    assert len(only.offers) == 1
    assert only.told() == []


def test_worse_plans_are_not_told() -> None:
    taken = Offer(100, 1000, None, "rows")
    worse = [Offer(100, 1001, 100, "a"), Offer(120, 1000, 120, "b"), Offer(130, 1100, 130, "c")]
    better = [Offer(200, 900, 200, "d"), Offer(90, 1200, 90, "e"), Offer(95, 1200, 95, "f")]
    traded = TradeOff.of(taken, [*worse, *better], 80, "instructions")
    assert traded.offers == (better[0], taken, better[1])
    assert traded.told() == [
        "RAM against instructions of the kernels, as measured one by one in the emulator:",
        "  fastest   200 bytes    900 instructions           --max-ram 200",
        "  taken     100 bytes  1 000 instructions  +11.1 %",
        "  smallest   90 bytes  1 200 instructions  +33.3 %  --max-ram 90",
        "A lower --max-ram is tried for longer; none below 80 can be met.",
    ]


# Where it is said.


def test_the_summary_says_it(midge: Cli, tmp_path: Path) -> None:
    result = midge("compile", DIGITS, "-o", str(tmp_path / "out"), "--no-prove")
    assert result.code == 0
    assert "\n".join(summary().told()) in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    written = midge("compile", DIGITS, "-o", str(tmp_path / "out"), "--no-prove", "--json").json
    assert written["trade_off"] == summary().described()
    assert [p["taken"] for p in written["trade_off"]["plans"]] == [True, False]
    metadata = (tmp_path / "out" / "metadata.json").read_text()
    assert "trade_off" not in metadata, "cycles depend on what was measured beside them"


def test_a_package_says_it() -> None:
    assert digits().package.trade_off is None, "other plans are looked at only where they are told"
    package = midge_package.compile(DIGITS, options=PLAIN)
    told = summary().told()
    assert str(package).endswith("\n".join(f"  {line}" for line in told) + ">")
    assert f"--max-ram {summary().smallest.max_ram}" in str(package)


def test_the_same_compilation_says_the_same(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    m = OnnxModel()
    m.op("Relu", m.conv(m.conv("x", 2, 4), 4, 2), output="y")
    model = m.build([("x", (1, 2, 16, 16))], ["y"])
    path = own_cache.with_name("net.onnx")
    path.write_bytes(model)
    texts = []
    for number in range(2):
        monkeypatch.setenv("MIDGE_CACHE_DIR", str(own_cache / str(number)))
        texts.append(str(midge_package.compile(path, M4, PLAIN)))
    assert texts[0] == texts[1]
    assert "smallest" in texts[0]


def test_instructions_are_called_so() -> None:
    for target, unit in (("rv32imac", "instructions"), ("cortex-m0plus", "cycles")):
        traded = offered(digits().chosen, load_target(target), PLAIN)
        assert traded is not None
        assert traded.unit == unit


# Limits that whole tensors could meet, and do not.


def test_bands_are_tried_where_whole_tensors_cannot_be_placed() -> None:
    own = small("int8", 40, 8)
    price: Callable[[Sequence[Choice]], Priced] = priced(1.5)
    whole = choose(own.plain, M4, own.types, "speed", price, Wish(bands=False))
    limit = whole.whole
    wasted: list[int] = []

    def wasteful(buffers: Sequence[Buffer]) -> Plan:
        """Whole tensors lie far apart."""
        made = plan(buffers, effort=0.1)
        if len(buffers) > 2 * len(whole.arena.buffers):
            return made
        wasted.append(made.peak)
        return replace(made, peak=made.peak + 10_000)

    wish = Wish(max_ram=limit)
    found = choose(own.plain, M4, own.types, "speed", price, wish, wasteful)
    assert wasted
    assert found.complete
    assert found.arena.size <= limit
    assert any(op.bands for op in found.program.operations)


# As a curve.


def test_inspect_draws_the_curve(midge: Cli) -> None:
    result = midge("inspect", DIGITS, "--no-prove", "--trade-off")
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert max(map(len, lines)) <= 80
    traded = all_of(digits().chosen)
    drawn = curve.curve(traded)
    assert drawn in result.out
    assert drawn.count("o") - drawn.partition("bytes of")[2].count("o") > 3
    assert sum("*" in line for line in drawn.splitlines()) == 1
    for offer in traded.offers:
        option = f"--max-ram {offer.max_ram}" if offer.max_ram else "* as it is"
        (line,) = (line for line in lines if line.rstrip().endswith(option))
        assert f"{offer.cycles:,}".replace(",", " ") in line
    assert midge("inspect", DIGITS, "--no-prove", "--trade-off").out == result.out
    as_json = midge("inspect", "--no-prove", "--trade-off", DIGITS, "--json").json
    assert as_json["trade_off"] == traded.described()


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_curve_keeps_to_its_width_and_shows_what_limits_between_give(width: int) -> None:
    offers = [Offer(1000, 900, 1000, "a"), Offer(400, 1000, None, "b"), Offer(100, 1500, 100, "c")]
    traded = TradeOff(tuple(offers), 100)
    lines = curve.curve(traded, width).splitlines()
    assert max(map(len, lines)) == width
    top, middle, bottom = lines[1], next(line for line in lines if "*" in line), lines[12]
    assert re.fullmatch(r"1 500 \|o\.+", top)
    assert re.fullmatch(r" {6}\| +\*\.+", middle)
    assert re.fullmatch(r"  900 \| +o", bottom)
    assert len(top) == middle.index("*"), "up to 400 bytes it is the smallest"
    assert len(middle) == bottom.index("o"), "up to 1000 bytes it is the one in between"
    assert lines[-1].split() == ["100", "1", "000", "bytes", "of", "RAM"]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_curve_as_a_picture(midge: Cli, suffix: str, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs pip install '.[plot]'")
    paths = [tmp_path / f"{name}.{suffix}" for name in "ab"]
    for path in paths:
        result = midge("inspect", DIGITS, "--no-prove", "--trade-off", str(path))
        assert result.code == 0, result.err
        assert result.out.rstrip().endswith(f"Drew the curve to {path}".splitlines()[-1][-20:])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    if suffix == "svg":
        text = paths[0].read_text()
        assert "digits_int8 on cortex-m4" in text
        assert f"--max-ram {summary().smallest.max_ram}" in text


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["--max-ram", "4K"], "without --max-ram"),
        (["--whole-tensors"], "without --whole-tensors"),
        (["--no-search"], "without --no-search"),
        (["--pool", "a=8K"], "without --pool"),
        (["--stream-time"], "without --stream-time"),
        (["--check-memory"], "without --check-memory"),
        (["--show", "c"], "without --show"),
        (["-t", "cortex-m55"], "another --target"),
    ],
    ids=str,
)
def test_a_curve_without_a_choice_is_refused(midge: Cli, words: list[str], match: str) -> None:
    result = midge("inspect", DIGITS, "--no-prove", "--trade-off", *words)
    assert result.code == 2
    assert "--trade-off" in result.err
    assert match in result.err


def test_a_picture_of_another_kind_is_refused(midge: Cli, tmp_path: Path) -> None:
    result = midge("inspect", DIGITS, "--no-prove", f"--trade-off={tmp_path / 'a.gif'}")
    assert result.code == 2
    assert "use .svg or .png" in result.err
    model = tmp_path / "digits.svg"
    model.write_bytes(DIGITS.read_bytes())
    result = midge("inspect", model, f"--trade-off={model}")
    assert result.code == 2
    assert "--trade-off" in result.err
    assert model.read_bytes() == DIGITS.read_bytes()


def test_an_arena_that_is_small_enough_has_no_curve(midge: Cli, tmp_path: Path) -> None:
    m = OnnxModel()
    m.op("Relu", "x", output="y")
    path = tmp_path / "net.onnx"
    path.write_bytes(m.build([("x", (1, 16))], ["y"]))
    result = midge("inspect", path, "--no-prove", "--trade-off")
    assert result.code == 0, result.err
    assert "nothing to trade" in result.out
    assert midge("inspect", path, "--no-prove", "--trade-off", "--json").json["trade_off"] is None
