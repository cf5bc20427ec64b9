"""RAM against cycles as a curve: in characters, and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from midge.cli.memory import colour_of, save
from midge.cli.output import number
from midge.core.trade_off import Offer, TradeOff, how

_ROWS = 12
_APART = 0.03  # of the width, from name to name
_PLAN, _TAKEN, _LINE = "o", "*", "."


def curve(traded: TradeOff, width: int = 80) -> str:
    """The plans in at most `width` columns: bytes to the right, cycles upwards. The line is what a
    limit in between gives."""
    offers = traded.offers
    most, least = (number(f(o.cycles for o in offers)) for f in (max, min))
    room = max(len(most), len(least))
    columns = width - room - 2
    rams = [o.arena for o in offers]
    across = [_scaled(ram, min(rams), max(rams), columns - 1) for ram in rams]
    cycles = [o.cycles for o in offers]
    down = [_ROWS - 1 - _scaled(c, min(cycles), max(cycles), _ROWS - 1) for c in cycles]
    grid = [[" "] * columns for _ in range(_ROWS)]
    for x, y, end in zip(across, down, [columns, *across], strict=False):
        grid[y][x:end] = _LINE * (end - x)
    for offer, x, y in sorted(
        zip(offers, across, down, strict=True), key=lambda p: p[0] is traded.taken
    ):
        grid[y][x] = _TAKEN if offer is traded.taken else _PLAN
    names = [most, *[""] * (_ROWS - 2), least]
    rows = [f"{n:>{room}} |{''.join(r)}".rstrip() for n, r in zip(names, grid, strict=True)]
    left, right = number(min(rams)), f"{number(max(rams))} bytes of RAM"
    below = f"{'':{room}}  {left}{right:>{columns - len(left)}}"
    return "\n".join([f"{traded.unit:>{room}}", *rows, f"{'':{room}} +{'-' * columns}", below])


def _scaled(value: int, low: int, high: int, last: int) -> int:
    """Its place among 0 ... last."""
    return (value - low) * last // max(high - low, 1)


def rows_of(traded: TradeOff) -> list[tuple[str, ...]]:
    """Each plan with what it costs, what it is and how to get it."""
    return [
        (
            number(o.arena),
            number(o.cycles),
            traded.more(o),
            o.plan,
            how(o) or f"{_TAKEN} as it is",
        )
        for o in traded.offers
    ]


def draw(traded: TradeOff, path: Path, title: str) -> None:
    """Write the curve as an .svg or .png. UsageError as of `save`."""
    save(lambda: _figure(traded, title), path, "--trade-off")


def _figure(traded: TradeOff, title: str) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 4.6), layout="constrained")
    axes = figure.subplots()
    offers = traded.offers
    end = 1.15 * max(o.arena for o in offers)
    rams = [end, *(o.arena for o in offers)]
    cycles = [offers[0].cycles, *(o.cycles for o in offers)]
    axes.step(rams, cycles, where="pre", color="#8a8a8a", lw=0.9, zorder=1)
    for kind, own in enumerate(([o for o in offers if o is not traded.taken], [traded.taken])):
        places = [o.arena for o in own], [o.cycles for o in own]
        axes.scatter(*places, s=30, color=[colour_of(kind)], zorder=2)
    for o in _named(traded, end):
        axes.annotate(
            how(o) or f"{number(o.arena)} as it is", (o.arena, o.cycles), xytext=(3, 5),
            textcoords="offset points", fontsize=7, rotation=40,
        )  # fmt: skip
    spread = max(max(cycles) - min(cycles), 1)
    axes.set_xlim(0, end)
    axes.set_ylim(min(cycles) - 0.1 * spread, max(cycles) + 0.35 * spread)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: number(int(value)))
    axes.set_xlabel("bytes of RAM")
    axes.set_ylabel(f"{traded.unit} of the kernels")
    axes.set_title(title, fontsize=10)
    return figure


def _named(traded: TradeOff, end: float) -> Iterator[Offer]:
    """Those that have room for a name: the ends, what is taken, and what is apart from the last."""
    last = 2 * end
    for offer in traded.offers:
        if traded.roles(offer) or last - offer.arena > _APART * end < offer.arena - _low(traded):
            last = offer.arena
            yield offer


def _low(traded: TradeOff) -> int:
    return traded.smallest.arena
