"""What kernels and constants take of flash: equal ones once, and never more than there is room for
where smaller ones exist."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from test_rank import kernel

from midge.core.types import Array
from midge.tune.flash import Flash, Moves
from midge.tune.trials import Cost, Trial

KERNEL = kernel(1).kernel


def trial(**consts: Array) -> Trial:
    return Trial(KERNEL, consts, ())


def array(size: int, value: int = 0) -> Array:
    return np.full(size, value, np.int8)


def flash(
    *choices: list[tuple[Trial, int, Mapping[str, int], str]], calls: Sequence[int] = (1, 1, 1, 1)
) -> Flash:
    """Of (trial, cycles, code, what the kernel is) of each trial."""
    return Flash(
        [[t for t, _, _, _ in own] for own in choices],
        calls,
        [[Cost(cycles, code) for _, cycles, code, _ in own] for own in choices],
        [[key for _, _, _, key in own] for own in choices],
    )


def one(
    consts: Array, code: Mapping[str, int], key: str
) -> list[tuple[Trial, int, Mapping[str, int], str]]:
    return [(trial(w=consts), 1, code, key)]


@pytest.mark.parametrize(
    ("second", "size"),
    [
        (one(array(100, 7), {"kernel": 40}, "a"), 140),
        (one(array(100, 7).reshape(10, 10), {"kernel": 40}, "a"), 140),
        (one(array(100, 8), {"kernel": 40}, "a"), 240),
        (one(array(100, 7).view(np.uint8), {"kernel": 40}, "a"), 240),
        (one(array(100, 7), {"kernel": 40}, "b"), 180),
        (one(array(100, 7), {"kernel": 40, "dot": 30}, "b"), 210),
    ],
)  # fmt: skip
def test_equal_parts_are_counted_once(
    second: list[tuple[Trial, int, Mapping[str, int], str]], size: int
) -> None:
    """As a package has them: constants by contents and type, kernels, instructions by name."""
    both = flash(one(array(100, 7), {"kernel": 40}, "a"), second)
    assert both.size((0, 0)) == size
    assert both.code((0, 0)) == size - (100 if size in (140, 180, 210) else 200)


def test_instructions_are_shared() -> None:
    code = {"kernel": 10, "dot": 30}
    assert flash(one(array(1), code, "a"), one(array(1), code, "b")).size((0, 0)) == 1 + 20 + 30


def test_what_is_shared_goes_when_all_that_share_it_go() -> None:
    """Neither alone saves anything: the large constants stay as long as one of them reads them."""
    large, small = array(1000), array(400, 1)
    bands = [(trial(w=large), 10, {"kernel": 50}, "l"), (trial(w=small), 30, {"kernel": 50}, "s")]
    both = flash(bands, bands)
    assert both.size((0, 1)) == both.size((0, 0)) + 450
    assert both.within((0, 0), 1050) == [0, 0]
    assert both.within((0, 0), 1049) == [1, 1]
    assert both.within((0, 0), 450) == [1, 1]
    assert both.within((0, 0), 449) == [1, 1], "the smallest where not even they fit"


def test_the_cheapest_byte_goes_first() -> None:
    dear = [(trial(w=array(100, 1)), 10, {}, "a"), (trial(w=array(50, 2)), 90, {}, "b")]
    cheap = [(trial(w=array(100, 3)), 10, {}, "c"), (trial(w=array(50, 4)), 20, {}, "d")]
    own = flash(dear, cheap)
    assert own.within((0, 0), 200) == [0, 0]
    assert own.within((0, 0), 150) == [0, 1]
    assert own.within((0, 0), 149) == [1, 1]
    often = flash(dear, cheap, calls=(1, 9))  # 80 cycles an inference, or 90
    assert often.within((0, 0), 150) == [1, 0]


def made(rng: random.Random) -> Flash:
    """Choices that share constants, kernels and instructions."""
    contents = [array(rng.randint(1, 200), n) for n in range(5)]
    names = {f"f{n}": rng.randint(1, 60) for n in range(3)}
    sizes = [rng.randint(1, 80) for _ in range(5)]

    def option() -> tuple[Trial, int, Mapping[str, int], str]:
        key = rng.randrange(5)
        code = {"kernel": sizes[key], **dict(rng.sample(sorted(names.items()), key % 3))}
        return trial(w=rng.choice(contents)), rng.randint(1, 99), code, str(key)

    return flash(*([option() for _ in range(rng.randint(1, 4))] for _ in range(4)))


@pytest.mark.parametrize("seed", range(40))
def test_a_limit_is_kept_or_nothing_smaller_is_one_step_away(seed: int) -> None:
    own = made(random.Random(seed))
    picks = [0] * len(own.choices)
    ways = list(itertools.product(*(range(len(c)) for c in own.choices)))
    least = min(map(own.size, ways))
    for limit in (own.size(picks), own.size(picks) - 1, (own.size(picks) + least) // 2, least - 1):
        found = own.within(picks, limit)
        size = own.size(found)
        if size > limit:
            near = (w for w in ways if sum(a != b for a, b in zip(w, found, strict=True)) == 1)
            assert all(own.size(w) >= size for w in near)
        assert size <= own.size(picks)


# The fewest bytes.


def any_moves(picks: Sequence[int], moves: Moves) -> bool:
    return True


def test_both_kinds_of_a_band_read_the_same_constants() -> None:
    """Each alone would take its own, as these are smaller for it."""
    first = [
        (trial(w=array(100, 1)), 10, {"f": 50}, "a"),
        (trial(w=array(120, 2)), 10, {"g": 40}, "b"),
    ]
    second = [
        (trial(w=array(120, 2)), 10, {"h": 30}, "c"),
        (trial(w=array(100, 1)), 10, {"i": 60}, "d"),
    ]
    own = flash(first, second)
    assert own.size((0, 0)) == 300
    assert own.smallest((0, 0), any_moves) == [1, 0]
    assert own.smallest((0, 0), lambda picks, moves: dict(moves).get(0) != 1) == [0, 1]
    assert own.smallest((0, 0), lambda picks, moves: False) == [0, 0]


def test_of_equal_bytes_the_faster_is_taken() -> None:
    slow, fast = ((trial(w=array(10, n)), cycles, {}, str(n)) for n, cycles in ((1, 90), (2, 20)))
    large = (trial(w=array(99)), 5, {}, "0")
    assert flash([large, slow, fast]).smallest([0], any_moves) == [2]


@pytest.mark.parametrize("seed", range(40))
def test_nothing_smaller_is_one_step_away(seed: int) -> None:
    rng = random.Random(seed)
    own = made(rng)
    refused = {(op, rng.randrange(4)) for op in range(4)} - {(op, 0) for op in range(4)}

    def allowed(picks: Sequence[int], moves: Moves) -> bool:
        assert all(picks[op] != i for op, i in moves)
        return not refused.intersection(moves)

    found = own.smallest([0] * 4, allowed)
    assert not refused.intersection(enumerate(found))
    for op, choices in enumerate(own.choices):
        for i in range(len(choices)):
            if (op, i) not in refused:
                other = [*found[:op], i, *found[op + 1 :]]
                assert own.size(other) >= own.size(found)
