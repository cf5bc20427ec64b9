"""Flash that is short: of the plans those are taken, and offered, that have room in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conftest import DIGITS
from midge import driver
from midge.cli.commands.compile import misfits
from midge.core.errors import PlanError
from midge.core.target import Memory
from midge.toolchain import build_image
from midge.trade_off import offered, trade_off
from onnx_builder import OnnxModel
from test_trade_off import M4, PLAIN, all_of, digits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]


def test_what_is_offered_fits_flash_too() -> None:
    """A plan that takes more than there is does not come, and those that do are what one gets."""
    whole, *others = digits().chosen.tried
    most = max(t.flash for t in others)
    short = replace(whole, flash=most + 1)
    fastest = min(others, key=lambda t: (t.cycles or 0, t.live))
    wish = replace(digits().chosen.wish, max_flash=most)
    chosen = replace(digits().chosen, tried=(short, *others), trial=fastest, wish=wish)
    traded = all_of(chosen)
    assert all(o.cycles >= (fastest.cycles or 0) for o in traded.offers)
    assert trade_off(replace(chosen, trial=short), every=True) is None


@pytest.mark.parametrize("flash", [18_000, 16_000])
def test_with_little_flash_every_offer_is_what_its_limit_gives(flash: int) -> None:
    """Fewer than with much: bands have code of their own."""
    options = replace(PLAIN, max_flash=flash)
    compiled = driver.compile_file(DIGITS, M4, options)
    traded = offered(compiled.chosen, M4, options, every=True)
    assert traded is not None
    assert 1 < len(traded.offers) < len(all_of(digits().chosen).offers)
    for offer in traded.offers:
        made = driver.compile_file(DIGITS, M4, replace(options, max_ram=offer.max_ram))
        assert (made.package.arena_size, made.chosen.cycles) == (offer.arena, offer.cycles)
        assert made.chosen.trial.flash <= flash


def test_where_calls_decide_a_plan_that_fits_with_them_is_taken() -> None:
    """Kernels are chosen once more for as much less as all that was linked is too much."""
    free = driver.compile_file(DIGITS, M4, PLAIN).package
    whole = build_image(free).sizes.flash
    assert driver.compile_file(DIGITS, M4, replace(PLAIN, max_flash=whole)).package.flash == whole
    short = driver.compile_file(DIGITS, M4, replace(PLAIN, max_flash=whole - 1)).package
    assert short.files != free.files
    assert build_image(short).sizes.flash < whole
    assert short.flash is None or short.flash < whole


def test_within_ram_the_plan_that_fits_flash_is_taken() -> None:
    """And not the fastest, which takes more of it."""
    limit = digits().package.arena_size
    fast = driver.compile_file(DIGITS, M4, replace(PLAIN, max_ram=limit))
    own = driver.compile_file(DIGITS, M4, replace(PLAIN, max_ram=limit, max_flash=13_000))
    assert own.package.arena_size <= limit
    assert own.chosen.trial.flash <= 13_000
    assert (own.chosen.cycles or 0) > (fast.chosen.cycles or 0)


def test_rows_of_padding_count(tmp_path: Path) -> None:
    """They are constants that only bands have: a plan of whole tensors fits where none of these
    does."""
    m = OnnxModel()
    m.op("Relu", m.conv(m.conv("x", 8, 16), 16, 8), output="y")
    path = tmp_path / "net.onnx"
    path.write_bytes(m.build([("x", (1, 8, 40, 40))], ["y"]))
    free = driver.compile_file(path, M4, PLAIN)
    assert free.chosen.trial.name != "whole"
    own = free.package.weights_size + free.package.metadata["kernels"]["code"]
    assert own < free.chosen.trial.flash < own + 1500
    whole = min(t.flash for t in free.chosen.tried if t.name == "whole")
    least = min(t.flash for t in free.chosen.tried if t.name != "whole")
    short = driver.compile_file(path, M4, replace(PLAIN, max_flash=(whole + least) // 2))
    assert whole < least
    assert short.chosen.trial.name == "whole"


def test_what_exceeds_flash_is_refused_with_kernels_counted() -> None:
    least = driver.compile_file(DIGITS, M4, replace(PLAIN, max_flash=13_000)).package
    counted = least.weights_size + least.metadata["kernels"]["code"]
    with pytest.raises(PlanError, match=f"needs {counted} bytes of flash for constants and kern"):
        driver.compile_file(DIGITS, M4, replace(PLAIN, max_flash=counted - 1))
    with pytest.raises(PlanError, match="bytes of flash for constants and code, ") as caught:
        driver.compile_file(DIGITS, M4, replace(PLAIN, max_flash=counted))
    linked = int(caught.value.what.split()[1])
    made = driver.compile_file(DIGITS, M4, replace(PLAIN, max_flash=linked)).package
    assert made.weights_size == least.weights_size
    assert made.flash == linked == build_image(made).sizes.flash
    with pytest.raises(PlanError, match="flash for constants alone") as caught:
        driver.compile_file(DIGITS, M4, replace(PLAIN, search=False, max_flash=5000))
    assert "a search (no --no-search) or --optimize size may help" in caught.value.hint


@pytest.mark.parametrize("typical", [False, True])
def test_a_boards_own_flash_is_a_limit_beside_max_flash(typical: bool) -> None:
    flash = Memory("flash", "flash", 0, 13_000, typical=typical)
    board = replace(M4, memories=(*(m for m in M4.memories if m.kind == "ram"), flash))
    for limit in (None, 64 << 10):
        made = driver.compile_file(DIGITS, board, replace(PLAIN, max_flash=limit))
        assert made.chosen.trial.flash <= 13_000
    small = replace(board, memories=(board.memories[0], replace(flash, size=9_000)))
    if typical:
        assert "kernels need" in misfits(driver.compile_file(DIGITS, small, PLAIN).package)[0]
        return
    with pytest.raises(PlanError, match="flash for constants and kernels, flash has 9000"):
        driver.compile_file(DIGITS, small, PLAIN)
    assert driver.compile_file(DIGITS, small, replace(PLAIN, oversize=True)).package.files


def test_where_constants_alone_are_more_than_chips_have_kernels_are_fast() -> None:
    fast = driver.compile_file(DIGITS, M4, PLAIN).chosen
    ram = next(m for m in M4.memories if m.kind == "ram")
    for typical in (True, False):
        flash = Memory("flash", "flash", 0, 2_000, typical=typical)
        board = replace(M4, memories=(ram, flash))
        found = driver.compile_file(DIGITS, board, replace(PLAIN, oversize=True)).chosen
        assert (found.cycles == fast.cycles) == typical
