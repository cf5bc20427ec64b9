"""Spaces of kernels: points, their text, what contradicts, drawing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midge.core.errors import ScheduleError
from midge.lower.candidates import Candidate
from midge.lower.space import Constraint, Goal, Point, Space, Value, parse_point

SOURCE = Path(__file__).parents[3] / "src" / "midge"


class Toy(Space):
    """Blocks whose sums have to fit registers."""

    def __init__(self, most: int = 8) -> None:
        knobs: dict[str, tuple[Value, ...]] = {
            "channels": (1, 2, 4, 8), "pixels": (1, 2, 4), "form": ("rows", "planes"),
        }  # fmt: skip
        rules = (
            Constraint(("channels", "pixels"), lambda c, p: c * p <= most, "sums fit registers"),
            Constraint(("pixels", "form"), lambda p, f: f == "rows" or p == 1, "planes alone"),
        )
        super().__init__("toy.blocks", knobs, rules)

    def usual(self, goal: Goal) -> Iterator[Point]:
        for channels in goal.pick((4, 2), (2,), (1,)):
            yield self.point(channels=channels, pixels=1, form="rows")

    def build(self, point: Point) -> Candidate:
        raise NotImplementedError


def test_points_are_what_no_rule_forbids() -> None:
    space = Toy()
    found = [dict(p.values) for p in space]
    want = [
        {"channels": c, "pixels": p, "form": f}
        for c in (1, 2, 4, 8) for p in (1, 2, 4) for f in ("rows", "planes")
        if c * p <= 8 and (f == "rows" or p == 1)
    ]  # fmt: skip
    assert found == want
    assert len(space) == 24


def test_every_point_prints_and_parses() -> None:
    for point in Toy():
        assert parse_point(str(point)) == point
    assert str(next(iter(Toy()))) == "toy.blocks(channels=1, pixels=1, form=rows)"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("toy.blocks(channels=9, pixels=1, form=rows)", "channels is not 9 here"),
        ("toy.blocks(channels=8, pixels=2, form=rows)", "sums fit registers"),
        ("toy.blocks(channels=1, pixels=2, form=planes)", "planes alone"),
        ("toy.blocks(channels=1, pixels=2)", "is no point of toy.blocks"),
        ("toy.other(channels=1, pixels=2, form=rows)", "is no point of toy.blocks"),
    ],
)
def test_what_is_no_point_is_told(text: str, what: str) -> None:
    point = parse_point(text)
    assert what in Toy().refusal(point)
    assert point not in Toy()
    if len(point.values) == 3 and point.template == "toy.blocks":
        with pytest.raises(ScheduleError, match=what):
            Toy().point(**dict(point.values))


@pytest.mark.parametrize(
    "text", ["", "toy", "toy(", "toy(1)", "toy(a=1", "toy(a=(1, 2))", "toy(a=!)"]
)
def test_text_that_is_no_point_is_refused(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse_point(text)


@given(st.integers(0, 1 << 30), st.integers(1, 32))
def test_what_is_drawn_is_a_point(seed: int, most: int) -> None:
    space = Toy(most)
    assert space.draw(Random(seed)) in space


def test_every_point_is_drawn_at_times() -> None:
    space, rng = Toy(), Random(0)
    assert {space.draw(rng) for _ in range(500)} == set(space)


def test_goals_differ_in_what_is_usual_alone() -> None:
    first = {g: next(Toy().usual(Goal(g)))["channels"] for g in ("speed", "balanced", "size")}
    assert first == {"speed": 4, "balanced": 2, "size": 1}


@pytest.mark.parametrize(
    "path",
    [p for folder in ("kernels", "lower") for p in sorted((SOURCE / folder).rglob("*.py"))],
    ids=lambda p: str(p.relative_to(SOURCE)),
)
def test_nothing_else_asks_for_the_goal(path: Path) -> None:
    """What a kernel may be is the same whatever is wanted of it."""
    tree = ast.parse(path.read_text())
    allowed = {
        n
        for own in ast.walk(tree)
        if isinstance(own, ast.FunctionDef) and own.name in ("usual", "pick")
        for n in ast.walk(own)
    }
    asked = [n for n in ast.walk(tree) if isinstance(n, ast.Attribute) and n.attr == "optimize"]
    assert not [n.lineno for n in asked if n not in allowed]
