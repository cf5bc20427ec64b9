"""Which plans there are to have instead: the least RAM, the fewest cycles, and what lies between.

Each is what `--max-ram` with the limit beside it gives: `cascading.choose` looks first at the
fastest plan that may fit, so a limit is offered only where that one is placed within it, and soon.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from midge.cascading import Chosen
from midge.codegen.arrange import calls_of, layout_of
from midge.core.options import CompileOptions
from midge.core.target import Target
from midge.core.trade_off import Offer, TradeOff
from midge.plan.arena import prepare
from midge.plan.offsets import reach
from midge.ranking import Trial, excess, within

# Above the bytes that are alive at once, in per cent: limits within which a plan is looked for.
_ROOM = (0, 1, 2, 4, 8)


def trade_off(
    chosen: Chosen, unit: str = "cycles", most: int | None = None, *, every: bool = False
) -> TradeOff | None:
    """What was chosen beside the smallest and the fastest plan, or beside every one that is worth
    it; None if other plans, or what they cost, are not known, or not even this one fits flash.
    most: bytes that are there."""
    if chosen.cycles is None or not chosen.complete or excess(chosen.trial, chosen.wish):
        return None
    taken = Offer(chosen.arena.size, chosen.cycles, None, chosen.trial.name)
    front = _Front(chosen, tuple(_best(chosen)), most)
    found = front.offers() if every else front.ends(taken)
    least = min((t.live for t in front.trials), default=taken.arena)
    return TradeOff.of(taken, list(found), min(least, taken.arena), unit)


def offered(
    chosen: Chosen, target: Target, options: CompileOptions, *, every: bool = False
) -> TradeOff | None:
    """As `trade_off`, for a target with memories; None also where the options say how much RAM it
    may be, or have it laid out otherwise."""
    if options.max_ram is not None or options.pools or options.check_memory:
        return None
    most = None if options.oversize else target.limit("ram")
    unit = "cycles" if "cycles" in target.emulator else "instructions"
    return trade_off(chosen, unit, most, every=every)


def _best(chosen: Chosen) -> Iterator[Trial]:
    """The trials that flash has room for and a limit can give, the fastest first."""
    able = (t for t in chosen.tried if not excess(t, chosen.wish))
    for trial in sorted(able, key=lambda t: (t.cycles or 0, t.live)):
        if _first(chosen, trial.live) is trial:
            yield trial


def _first(chosen: Chosen, limit: int) -> Trial | None:
    """The trial that is placed first where the arena may have `limit` bytes."""
    return next(iter(within(chosen.tried, replace(chosen.wish, max_ram=limit))), None)


@dataclass(frozen=True, slots=True)
class _Front:
    """trials: each with less memory and more cycles than the one before."""

    chosen: Chosen
    trials: tuple[Trial, ...]
    most: int | None

    def offers(self) -> Iterator[Offer]:
        return self._placed(range(len(self.trials)))

    def ends(self, taken: Offer) -> Iterator[Offer]:
        """The fastest and the smallest one that is placed, as far as they are not what is taken."""
        fast = [i for i, t in enumerate(self.trials) if (t.cycles or 0) < taken.cycles]
        small = [i for i, t in enumerate(self.trials) if t.live < taken.arena]
        for numbers in (fast, reversed(small)):
            found = next(self._placed(numbers), None)
            if found is not None:
                yield found

    def _placed(self, numbers: Iterable[int]) -> Iterator[Offer]:
        return (offer for i in numbers if (offer := self._offer(i)) is not None)

    def _offer(self, number: int) -> Offer | None:
        """The trial within the first limit that it is placed in."""
        trial = self.trials[number]
        program = trial.lowered.program(trial.picks)
        layout = layout_of(program)
        peak_within = reach(prepare(layout, calls_of(program, layout)).buffers())
        found: Offer | None = None
        for limit in self._limits(number):
            if found is not None and limit >= found.arena:
                continue
            peak = peak_within(limit)
            if peak is None:
                break
            found = Offer(peak, trial.cycles or 0, limit, trial.name)
        while found is not None and found.max_ram != found.arena:
            peak = peak_within(found.arena)
            if peak is None:
                break
            found = replace(found, arena=peak, max_ram=found.arena)
        return found

    def _limits(self, number: int) -> Iterator[int]:
        """Limits for which this trial is the first to be placed, falling."""
        live = self.trials[number].live
        last = [self.trials[number - 1].live - 1] if number else []
        last += [self.most] if self.most is not None else []
        limits = [live * (100 + more) // 100 for more in _ROOM]
        top = min([*last, limits[-1]])
        yield from sorted({limit for limit in (*limits, top) if limit <= top}, reverse=True)
