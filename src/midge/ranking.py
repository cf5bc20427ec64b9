"""Which of several plans is wanted: the least memory at little cost, or the fastest that fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from midge.lower.lower import Lowered

WHOLE = "whole"  # the plan without bands
SLOWER = 1.05  # of the cycles without bands, what those of a cascade may be unless asked for more
MUCH_SLOWER = 1.1  # what they may be where that saves much RAM:
MUCH_LESS = 2 / 3  # of the arena that one has otherwise, and that is larger than
SMALL = 8192  # bytes
OF_RAM = 3  # bytes of flash, where that counts, are worth one of RAM
_WORTH = 0.9  # of the arena without bands, what that of a cascade must be at most
_MOST_PLACED = 5  # plans that are placed before one is given up that could just fit


@dataclass(frozen=True, slots=True)
class Wish:
    """max_ram: bytes of the arena that are enough; the fastest plan within them is wanted. None:
    the least memory at little cost in cycles.  arriving: inputs that come row by row.  bands:
    False for whole tensors only.  hop: frames that are taken at a time, by a program that keeps
    rows from one time to the next; 0: as few as possible, None: no such program.  max_flash: bytes
    of flash that there are.  small: whether flash counts beside RAM."""

    max_ram: int | None = None
    arriving: frozenset[str] = frozenset()
    bands: bool = True
    hop: int | None = None
    max_flash: int | None = None
    small: bool = False


@dataclass(frozen=True, slots=True)
class Trial:
    """A plan. live: bytes at its busiest moment.  flash: bytes of its constants, of its kernels as
    far as they were measured, and about those of their calls.  code: of its kernels, if they were.
    """

    name: str
    live: int
    cycles: int | None
    lowered: Lowered = field(repr=False)
    picks: tuple[int, ...] = field(repr=False)
    flash: int = 0
    code: int | None = None


def within(trials: Sequence[Trial], wish: Wish, every: bool = False) -> list[Trial]:
    """The trials that may fit `wish.max_ram`, the fastest first: those of whole tensors where these
    may, unless `every` is asked for."""
    if wish.max_ram is None:
        return []
    if wish.arriving:
        trials = _by_bands(trials)
    elif not every and trials[0].live <= wish.max_ram:
        trials = [t for t in trials if t.name == WHOLE]
    fitting = [t for t in trials if t.live <= wish.max_ram]
    return sorted(fitting, key=lambda t: (excess(t, wish), _cost(t), t.live))


def excess(trial: Trial, wish: Wish) -> int:
    """Bytes of flash that it takes beyond what there is."""
    return 0 if wish.max_flash is None else max(0, trial.flash - wish.max_flash)


def _by_bands(trials: Sequence[Trial]) -> list[Trial]:
    return [t for t in trials if not t.name.startswith(WHOLE)]


def ranked(trials: Sequence[Trial], wish: Wish, every: bool = False) -> list[Trial]:
    """The trials in the order in which they are wanted; the last one is what there is if none
    fits."""
    whole = trials[0]
    fastest = within(trials, wish, every)
    if wish.arriving:
        trials = _by_bands(trials)
    if wish.max_ram is not None:
        least = min(trials, key=lambda t: (t.live, excess(t, wish), _cost(t)))
        return [*fastest[:_MOST_PLACED], least]
    trials = _by_flash(trials, wish)
    whole = whole if whole in trials else min(trials, key=_cost)
    fast = min(map(_cost, trials)) if wish.arriving else _cost(whole)
    best = _least(trials, fast * SLOWER, wish)
    if not wish.arriving and best.live > whole.live * _WORTH:
        best = _smallest(trials, whole)
    less = _least(trials, fast * MUCH_SLOWER, wish)
    much = best.live > SMALL and less.live <= best.live * MUCH_LESS
    return [less if much else best]


def _by_flash(trials: Sequence[Trial], wish: Wish) -> list[Trial]:
    """Those that flash has room for; those that need least where it has for none."""
    least = min(excess(t, wish) for t in trials)
    return [t for t in trials if excess(t, wish) == least]


def _least(trials: Sequence[Trial], cycles: float, wish: Wish) -> Trial:
    """The least memory at so many cycles."""
    cheap = [t for t in trials if t.cycles is None or t.cycles <= cycles]
    return min(cheap, key=lambda t: (OF_RAM * t.live + wish.small * t.flash, _cost(t)))


def _smallest(trials: Sequence[Trial], whole: Trial) -> Trial:
    """The plan of whole tensors, with the least scratch memory that costs little."""
    own = [t for t in trials if t.name == whole.name]
    cheap = [t for t in own if whole.cycles is not None and _cost(t) <= whole.cycles * 1.01]
    return min(cheap or [whole], key=lambda t: (t.live, _cost(t)))


def _cost(trial: Trial) -> int:
    return trial.cycles or 0
