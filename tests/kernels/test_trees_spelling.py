"""How trees that vote are spelled: loads, registers, and where branches lead."""

from __future__ import annotations

import re

import numpy as np
import pytest

from midge.kernels.arm_dsp.trees_asm import Votes, _Registers, _sizes, _Writer, assembler
from midge.kernels.arm_dsp.trees_branches import Branches, Item


def writer(load: str = "ldrb", size: int = 1, scratch: int = 3) -> _Writer:
    votes = Votes((1,), ((0, -1, -2, 0),), (0,), 2, 200, 1, load, size, signed=False)
    return _Writer(votes, _Registers({}, ("r5", "r6", "r7")[:scratch]))


@pytest.mark.parametrize(
    ("load", "register", "feature", "text", "size"),
    [
        ("ldrb", "r2", 0, "ldrb r2, [r0, #0]", 2),
        ("ldrb", "r2", 31, "ldrb r2, [r0, #31]", 2),
        ("ldrb", "r2", 32, "ldrb r2, [r1, #0]", 2),
        ("ldrb", "r2", 63, "ldrb r2, [r1, #31]", 2),
        ("ldrb", "r2", 64, "ldrb.w r2, [r0, #64]", 4),
        ("ldrb", "r2", 130, "ldrb.w r2, [r0, #130]", 4),
        ("ldrb", "r8", 5, "ldrb.w r8, [r0, #5]", 4),
        ("ldrsb", "r2", 5, "ldrsb.w r2, [r0, #5]", 4),
        ("ldrh", "r7", 31, "ldrh r7, [r0, #62]", 2),
        ("ldrh", "r7", 64, "ldrh.w r7, [r0, #128]", 4),
        ("ldrsh", "r2", 33, "ldrsh.w r2, [r1, #2]", 4),
    ],
)
def test_loads_of_two_bytes(load: str, register: str, feature: int, text: str, size: int) -> None:
    """Of what is not extended by its sign, to a low register, from 32 elements on."""
    made = writer(load, 2 if "h" in load else 1)
    made.load(register, feature)
    assert [(item.text, item.size) for item in made.made.items] == [(text, size)]


@pytest.mark.parametrize("scratch", [1, 2, 3])
def test_registers_hold_the_features_that_were_asked_for_last(scratch: int) -> None:
    made = writer(scratch=scratch)
    held: dict[str, int] = {}
    known: tuple[tuple[int, str], ...] = ()
    asked: list[int] = []
    for feature in map(int, np.random.default_rng(scratch).integers(0, 5, 300)):
        before = len(made.made.items)
        register, known, there = made.asked(feature, known, -1)
        for item in made.made.items[before:]:
            loaded, place = re.findall(r" (r\d), .*#(\d+)", item.text)[0]
            held[loaded] = int(place)
        assert there == (feature in asked[-scratch:])
        assert there == (len(made.made.items) == before)
        asked = [*(f for f in asked if f != feature), feature]
        assert held[register] == feature
        assert known == tuple((f, r) for f in asked[-scratch:] for r in held if held[r] == f)


def test_splits_of_subtrees() -> None:
    """Of leaves, which count from the end, there are none."""
    splits = ((0, 1, 3, 0), (0, -1, 2, 0), (0, -2, -3, 0), (0, -3, -1, 0))
    votes = Votes((1,) * 4, splits, (0,), 3, 9, 1, "ldrb", 1, signed=False)
    assert _sizes(votes).tolist() == [4, 2, 1, 1, 0, 0, 0]


def test_labels_are_numbered_as_they_stand() -> None:
    splits = ((0, 1, 3, 0), (0, -1, 2, 0), (0, -2, -3, 0), (0, -3, -1, 0))
    lines = assembler(Votes((1,) * 4, splits, (0, ~1), 3, 9, 1, "ldrb", 1, signed=False))
    labels = [line for line in lines if line.endswith(":")]
    assert labels == [f"{n}:" for n in range(1, len(labels) + 1)]
    used = {m[1] for line in lines if (m := re.fullmatch(r"\S+ (?:\w+, )?(\d+)[bf]", line))}
    assert {f"{n}:" for n in used} == {*labels}


# Branches.


def code(label: int = -1) -> Item:
    return Item("code", "nop", 2, label)


def test_labels_have_places() -> None:
    made = Branches([Item("jump", target=0), code(), code(label=0), code()])
    assert made.settle() == 8
    assert made.places == {0: 2}
    assert made.items[0].goal == 2


def split(target: int, goal: int) -> Item:
    return Item("split", cond="ls", register="r2", target=target, goal=goal)


@pytest.mark.parametrize(
    ("item", "arrives"),
    [
        (code(), True),
        (Item("jump", target=0, goal=1), True),
        (Item("jump", target=0, goal=2), False),
        (Item("jump", target=~0, goal=2), True),
        (Item("jump", target=~0, goal=3), False),
        (Item("jump", target=~0, goal=4), False),  # jumps lead to no other
        (split(0, 1), True),
        (split(0, 0), False),
        (split(~0, 2), True),
        (split(~0, 3), False),
        (split(~0, 4), True),
        (split(~1, 4), False),
        (split(~1, 3), True),
    ],
)
def test_where_branches_lead(item: Item, arrives: bool) -> None:
    """Item 1 has a label, 2 and 3 are blocks of classes 0 and 1, 4 jumps to class 0."""
    items = [code(), code(label=0), code(), code(), Item("jump", target=~0, goal=2)]
    assert Branches(items, {0: [2], 1: [3]}, {0: 1}).arrives(item) == arrives


def test_forms_of_branches() -> None:
    def forms(item: Item, distance: int) -> list[str]:
        return [*Branches().forms(item, distance, free=True)]

    zero = Item("split", cond="eq", register="r2")
    every = ["zero", "narrow", "wide"]
    for distance, found in ((3, every[1:]), (4, every), (130, every), (131, every[1:])):
        assert forms(zero, distance) == found, distance
    for other in (
        Item("split", cond="eq", register="r2", threshold=1),
        Item("split", cond="eq", register="r8"),
        Item("split", cond="le", register="r2"),
    ):
        assert forms(other, 100) == every[1:], other
    jump = Item("jump")
    for distance, found in ((4, every[1:]), (2046, every[1:]), (2047, every[2:])):
        assert forms(jump, distance) == found, distance
