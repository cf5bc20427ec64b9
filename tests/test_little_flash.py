"""Flash that is short: of the plans those are taken, and offered, that have room in it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from conftest import DIGITS
from midge import driver
from midge.trade_off import offered, trade_off
from test_trade_off import M4, PLAIN, all_of, digits

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]


def test_what_is_offered_fits_flash_too() -> None:
    """A plan that takes more than there is does not come, and those that do are what one gets."""
    whole, *others = digits().chosen.tried
    short = replace(whole, excess=1)
    fastest = min(others, key=lambda t: (t.cycles or 0, t.live))
    chosen = replace(digits().chosen, tried=(short, *others), trial=fastest)
    traded = all_of(chosen)
    assert all(o.cycles >= (fastest.cycles or 0) for o in traded.offers)
    assert trade_off(replace(chosen, trial=short), every=True) is None


@pytest.mark.parametrize("flash", [15_000, 13_000])
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
        assert not made.chosen.trial.excess


def test_within_ram_the_plan_that_fits_flash_is_taken() -> None:
    """And not the fastest, which takes more of it."""
    limit = digits().package.arena_size
    fast = driver.compile_file(DIGITS, M4, replace(PLAIN, max_ram=limit))
    own = driver.compile_file(DIGITS, M4, replace(PLAIN, max_ram=limit, max_flash=13_000))
    assert own.package.arena_size <= limit
    assert not own.chosen.trial.excess
    assert (own.chosen.cycles or 0) > (fast.chosen.cycles or 0)
