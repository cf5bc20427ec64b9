"""Spaces of kernels as data: knobs with their values, points of them, goals.

A template (`lower.candidates`) knows a way to compute a kind of operator, and offers a space for a
request that it can serve. What a kernel may be is the space; what is taken without a search is
`usual`; what a point is as loops is `build`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from midge.core.errors import ScheduleError
from midge.loop.schedule.base import TextError, read_call

if TYPE_CHECKING:
    from midge.lower.candidates import Candidate

Value: TypeAlias = int | str
Values: TypeAlias = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Goal:
    """What is wanted of a kernel. optimize: "speed" (few cycles), "size" (few bytes of flash) or
    "balanced"."""

    optimize: str = "speed"

    def pick(
        self, speed: Sequence[Value], balanced: Sequence[Value], size: Sequence[Value]
    ) -> Sequence[Value]:
        """The values that this goal prefers, the best first."""
        return {"speed": speed, "balanced": balanced}.get(self.optimize, size)


@dataclass(frozen=True, slots=True)
class Point:
    """A value for each knob of a template's space, in their order. Prints as
    `arm_dsp.rows(block=2, straight=8, room=whole)`, and the text parses."""

    template: str
    values: tuple[tuple[str, Value], ...]

    def __getitem__(self, knob: str) -> Value:
        return dict(self.values)[knob]

    def number(self, knob: str) -> int:
        """The value of a knob whose values are numbers."""
        value = self[knob]
        assert isinstance(value, int), f"{knob} is {value!r}"
        return value

    def __str__(self) -> str:
        return f"{self.template}({', '.join(f'{n}={v}' for n, v in self.values)})"


def parse_point(text: str) -> Point:
    """The point that `str` printed; ScheduleError if there is none."""
    name, bracket, rest = text.partition("(")
    try:
        _, args, named = read_call(f"point{bracket}{rest}")
        if args or not all(isinstance(v, int | str) for v in named.values()):
            raise TextError("expected knob=value, separated by commas")
    except TextError as error:
        hint = "e.g. arm_dsp.rows(block=2, straight=8, room=whole)"
        raise ScheduleError(str(error), where=text, hint=hint) from None
    return Point(name.strip(), tuple(named.items()))


@dataclass(frozen=True, slots=True)
class Constraint:
    """What the values of some knobs have to do with each other. holds: of their values, in the
    order of `knobs`.  what: the rule, for people."""

    knobs: tuple[str, ...]
    holds: Callable[..., bool]
    what: str

    def broken(self, values: Values) -> bool:
        """Whether the values say so; False while one of them is open."""
        return all(k in values for k in self.knobs) and not self.holds(
            *(values[k] for k in self.knobs)
        )


class Space(ABC):
    """The points of a template for one request."""

    def __init__(
        self,
        template: str,
        knobs: Mapping[str, Sequence[Value]],
        constraints: Sequence[Constraint] = (),
    ) -> None:
        self.template = template
        self.knobs = {name: tuple(dict.fromkeys(values)) for name, values in knobs.items()}
        self.constraints = tuple(constraints)

    @abstractmethod
    def usual(self, goal: Goal) -> Iterator[Point]:
        """What is worth a try for a goal, the best first: without a search the first is taken."""

    @abstractmethod
    def build(self, point: Point) -> Candidate:
        """The loops of a point, of which steps may still be refused."""

    def point(self, **values: Value) -> Point:
        """ScheduleError for what is no point of this space."""
        made = Point(self.template, tuple((name, values[name]) for name in self.knobs))
        reason = self.refusal(made)
        if reason:
            raise ScheduleError(reason, where=str(made), hint=f"knobs: {self}")
        return made

    def refusal(self, point: Point) -> str:
        """Why `point` is none of this space; "" if it is. Takes no step."""
        values = dict(point.values)
        if point.template != self.template or list(values) != list(self.knobs):
            return f"is no point of {self.template}"
        for name, value in values.items():
            if value not in self.knobs[name]:
                return f"{name} is not {value} here"
        return next((c.what for c in self.constraints if c.broken(values)), "")

    def __contains__(self, point: Point) -> bool:
        return not self.refusal(point)

    def __len__(self) -> int:
        """Of all values with each other, whatever constraints say."""
        return prod(map(len, self.knobs.values()))

    def __iter__(self) -> Iterator[Point]:
        """Every point, the last knob changing first."""
        yield from self._completed({}, list)

    def draw(self, rng: Random) -> Point:
        """A point at random, knob by knob: values that contradict earlier ones are left out."""

        def shuffled(values: tuple[Value, ...]) -> list[Value]:
            return rng.sample(values, len(values))

        return next(self._completed({}, shuffled))

    def _completed(
        self, values: dict[str, Value], order: Callable[[tuple[Value, ...]], list[Value]]
    ) -> Iterator[Point]:
        if len(values) == len(self.knobs):
            yield Point(self.template, tuple(values.items()))
            return
        name = list(self.knobs)[len(values)]
        for value in order(self.knobs[name]):
            longer = {**values, name: value}
            if not any(c.broken(longer) for c in self.constraints):
                yield from self._completed(longer, order)

    def __str__(self) -> str:
        knobs = (f"{name} {' '.join(map(str, values))}" for name, values in self.knobs.items())
        return f"{self.template}: {', '.join(knobs)}"
