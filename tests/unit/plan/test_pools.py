"""Pools: everything fits, accesses cost the least, and what does not fit is said."""

from __future__ import annotations

import random
import sys
from collections.abc import Mapping, Sequence
from itertools import product
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import buffers, check, optimum

from midge.core.errors import PlanError
from midge.plan import pools as planning
from midge.plan.offsets import Buffer, Piece
from midge.plan.pools import Pool, PoolPlan, plan_pools

FAST, SLOW = Pool("fast", 64, 1.0), Pool("slow", 1024, 3.0)


def check_pools(
    given: Sequence[Buffer],
    pools: Sequence[Pool],
    weights: Mapping[str, float],
    result: PoolPlan,
) -> None:
    """Every buffer in one pool, every pool a valid plan that fits, and the cost is right."""
    assert result.pools.keys() == {b.name for b in given}
    assert [*result.plans] == [p.name for p in pools]
    cost = {p.name: p.cost for p in pools}
    for pool in pools:
        check([b for b in given if result.pools[b.name] == pool.name], result.plans[pool.name])
        assert pool.size is None or result.plans[pool.name].peak <= pool.size
    spent = sum(weights.get(name, 0) * cost[at] for name, at in result.pools.items())
    assert result.cost == pytest.approx(spent)


def least_cost(
    given: Sequence[Buffer],
    pools: Sequence[Pool],
    weights: Mapping[str, float],
    fixed: Mapping[str, str],
) -> float:
    """By trying all choices; inf if none fits."""
    best = inf
    for choice in product(pools, repeat=len(given)):
        cost = sum(weights[b.name] * p.cost for b, p in zip(given, choice, strict=True))
        if cost >= best or any(
            fixed.get(b.name, p.name) != p.name for b, p in zip(given, choice, strict=True)
        ):
            continue
        inside = {
            pool: [b for b, p in zip(given, choice, strict=True) if p is pool] for pool in pools
        }
        if all(p.size is None or optimum(own) <= p.size for p, own in inside.items()):
            best = cost
    return best


small_pools = st.lists(
    st.tuples(st.one_of(st.integers(0, 12), st.none()), st.integers(0, 4)), min_size=1, max_size=3
).map(lambda rows: [Pool(f"p{i}", size, cost) for i, (size, cost) in enumerate(rows)])


@given(
    buffers(5),
    small_pools,
    st.lists(st.integers(0, 9), min_size=5, max_size=5),
    st.lists(st.sampled_from([None, None, None, 0, 1, 2]), min_size=5, max_size=5),
)
@settings(max_examples=80)
def test_against_brute_force(
    given: list[Buffer], pools: list[Pool], accesses: list[int], bound: list[int | None]
) -> None:
    weights = {b.name: float(n) for b, n in zip(given, accesses, strict=False)}
    fixed = {
        b.name: pools[k].name
        for b, k in zip(given, bound, strict=False)
        if k is not None and k < len(pools)
    }
    best = least_cost(given, pools, weights, fixed)
    if best == inf:
        with pytest.raises(PlanError, match="bytes are missing"):
            plan_pools(given, pools, weights, fixed)
        return
    result = plan_pools(given, pools, weights, fixed)
    check_pools(given, pools, weights, result)
    assert result.cost == pytest.approx(best)
    assert result.proven
    assert all(result.pools[name] == pool for name, pool in fixed.items())


def solids(count: int, seed: int) -> tuple[list[Buffer], dict[str, float]]:
    rng = random.Random(seed)
    made, weights = [], {}
    for i in range(count):
        start = rng.randrange(40)
        made.append(
            Buffer.solid(f"b{i}", 4 * rng.randrange(1, 60), start, start + rng.randrange(1, 9))
        )
        weights[f"b{i}"] = rng.randrange(1000)
    return made, weights


def spent_without(count: int, seed: int, pools: Sequence[Pool]) -> float:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "ortools.sat.python", None)
        given, weights = solids(count, seed)
        result = plan_pools(given, pools, weights, effort=0.1)
        check_pools(given, pools, weights, result)
        assert not result.proven
        return result.cost


@pytest.mark.parametrize("count", [40, 100])
def test_many_buffers_in_three_pools(count: int) -> None:
    pools = [Pool("tcm", 8 * count, 1), Pool("sram", 32 * count, 2.5), Pool("dram", None, 20)]
    given, weights = solids(count, 7)
    result = plan_pools(given, pools, weights, effort=0.1)
    check_pools(given, pools, weights, result)
    everything_far = 20 * sum(weights.values())
    assert result.cost <= spent_without(count, 7, pools) < 1.2 * result.cost < everything_far / 2


def test_what_is_used_most_by_a_byte_is_near() -> None:
    given = [Buffer.solid(name, 64, 0, 1) for name in "abc"]
    result = plan_pools(given, [SLOW, FAST], {"a": 5, "b": 9, "c": 1})
    assert result.pools == {"a": "slow", "b": "fast", "c": "slow"}
    assert result.cost == 9 + 3 * 6
    assert result.proven


def test_one_after_the_other_in_the_near_one() -> None:
    given = [Buffer.solid(f"b{i}", 64, i, i + 1) for i in range(5)]
    result = plan_pools(given, [SLOW, FAST], {b.name: 1 for b in given})
    assert {*result.pools.values()} == {"fast"}
    assert result.plans["slow"].offsets == {}


def test_many_buffers_at_all_times() -> None:
    """Live bytes alone decide: too many for offsets and pools at once."""
    given = [Buffer.solid(f"long{i}", 64, 0, 90) for i in range(2)]
    given += [Buffer.solid(f"short{i}", 64, i, i + 1) for i in range(90)]
    weights = {b.name: float(i) for i, b in enumerate(given)}
    pools = [Pool("near", 128, 1.0), Pool("far", None, 2.0)]
    result = plan_pools(given, pools, weights)
    check_pools(given, pools, weights, result)
    assert {b.name for b in given if result.pools[b.name] == "far"} == {"long0"}
    assert result.proven


def test_what_nobody_reads_goes_to_the_first_pool() -> None:
    result = plan_pools([Buffer.solid("a", 8, 0, 1)], [SLOW, FAST], {})
    assert result.pools == {"a": "slow"}


def test_a_fixed_buffer_stays() -> None:
    given = [Buffer.solid(name, 64, 0, 1) for name in "ab"]
    result = plan_pools(given, [FAST, SLOW], {"a": 9, "b": 1}, {"b": "fast"})
    assert result.pools == {"a": "slow", "b": "fast"}


NEAR = Pool("near", 80, 1.0)


def crossing() -> list[Buffer]:
    """Two whose live bytes fit in 80, but not they themselves: they meet half way."""
    up = Buffer("up", tuple(Piece(16 * i, 16, i, i + 1) for i in range(5)))
    down = Buffer("down", tuple(Piece(16 * i, 16, 4 - i, 5 - i) for i in range(5)))
    return [up, down]


def test_live_bytes_that_fit_are_not_enough() -> None:
    given, weights = crossing(), {"up": 2.0, "down": 1.0}
    assert optimum(given) == 96
    result = plan_pools(given, [NEAR, SLOW], weights)
    check_pools(given, [NEAR, SLOW], weights, result)
    assert result.pools == {"up": "near", "down": "slow"}
    assert result.proven


def test_live_bytes_that_fit_are_not_enough_without_the_solver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "ortools.sat.python", None)
    weights = {"up": 2.0, "down": 1.0}
    result = plan_pools(crossing(), [NEAR, SLOW], weights)
    check_pools(crossing(), [NEAR, SLOW], weights, result)
    assert not result.proven


def test_too_many_to_place_at_once() -> None:
    given = crossing() + [Buffer.solid(f"b{i}", 64, 5 + i, 6 + i) for i in range(70)]
    weights = {b.name: 1.0 for b in given}
    result = plan_pools(given, [NEAR, SLOW], weights)
    check_pools(given, [NEAR, SLOW], weights, result)
    assert not result.proven
    assert result.cost < 3 * len(given)


def test_offsets_found_with_the_pools_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where planning a pool alone would not find as good ones."""
    given = [*crossing(), Buffer.solid("beside", 32, 0, 5)]
    assert optimum(given) > 112
    pools = [Pool("near", 112, 1.0), SLOW]
    weights = {"up": 2.0, "down": 1.0, "beside": 2.0}
    found = planning.plan

    def careless(own: Sequence[Buffer], **options: float) -> object:
        result = found(own)
        if len(own) < 2:
            return result
        worse = {name: offset + 64 for name, offset in result.offsets.items()}
        return type(result)(worse, result.peak + 64, result.lower_bound, result.busiest, False)

    monkeypatch.setattr(planning, "plan", careless)
    result = plan_pools(given, pools, weights)
    check_pools(given, pools, weights, result)
    assert result.pools == {"up": "near", "down": "slow", "beside": "near"}


def test_what_is_missing_is_said() -> None:
    given = [
        Buffer.solid("small", 40, 0, 9),
        Buffer.solid("large", 900, 2, 3),
        Buffer.solid("larger", 1000, 4, 5),
        Buffer.solid("more", 200, 2, 3),
    ]
    with pytest.raises(PlanError) as caught:
        plan_pools(given, [FAST, SLOW], {})
    assert caught.value.where == "memory slow"
    assert caught.value.what == (
        "76 bytes are missing: 1100 are needed at once, of 1024; most of them by large, 900"
    )
    assert caught.value.hint


def test_fixed_buffers_that_do_not_fit_are_said() -> None:
    given = [Buffer.solid("a", 40, 0, 1), Buffer.solid("b", 32, 0, 1)]
    with pytest.raises(PlanError, match=r"memory fast: 8 bytes are missing.* by a, 40"):
        plan_pools(given, [FAST, SLOW], {}, {"a": "fast", "b": "fast"})


def test_no_buffers() -> None:
    result = plan_pools([], [FAST, SLOW], {})
    assert (result.pools, result.cost, result.proven) == ({}, 0, True)
    assert [p.peak for p in result.plans.values()] == [0, 0]


def test_the_order_of_buffers_does_not_matter() -> None:
    given, weights = solids(40, 3)
    pools = [Pool("tcm", 300, 1), Pool("dram", None, 20)]
    assert plan_pools(given[::-1], pools, weights, effort=0.1) == plan_pools(
        given, pools, weights, effort=0.1
    )


@pytest.mark.parametrize("wrong", [{"z": "fast"}, {"a": "near"}])
def test_fixing_what_is_not_there(wrong: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="fixed"):
        plan_pools([Buffer.solid("a", 8, 0, 1)], [FAST], {}, wrong)
