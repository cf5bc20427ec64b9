"""RAM against cycles: plans that a model can have, as a value that is told and drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Offer:
    """A plan: bytes of its arena, cycles of its kernels. max_ram: the limit (`--max-ram`) that
    gives just this plan; None for the one that is taken without."""

    arena: int
    cycles: int
    max_ram: int | None
    plan: str


@dataclass(frozen=True, slots=True)
class TradeOff:
    """offers: the fastest first. No plan that is offered needs as much RAM and as many cycles as
    another one; what is taken is always among them.  least: bytes that no plan that was tried is
    below.  unit: what is counted as cycles."""

    offers: tuple[Offer, ...]
    least: int
    unit: str = "cycles"

    @staticmethod
    def of(taken: Offer, others: Sequence[Offer], least: int, unit: str) -> TradeOff:
        """Of what is taken, and of the others those that are better in something."""
        offers: list[Offer] = []
        for offer in sorted((taken, *others), key=lambda o: (o.cycles, o.arena, o is not taken)):
            if offer is taken or all(o.arena > offer.arena for o in offers):
                offers.append(offer)
        return TradeOff(tuple(offers), least, unit)

    @property
    def taken(self) -> Offer:
        return next(o for o in self.offers if o.max_ram is None)

    @property
    def smallest(self) -> Offer:
        return min(self.offers, key=lambda o: (o.arena, o.cycles))

    @property
    def fastest(self) -> Offer:
        return self.offers[0]

    def more(self, offer: Offer) -> str:
        """How many more cycles than the fastest it takes, e.g. "+7.5 %"; "" for none."""
        extra = 100 * (offer.cycles - self.fastest.cycles) / max(self.fastest.cycles, 1)
        return f"+{extra:.1f} %" if offer.cycles > self.fastest.cycles else ""

    def roles(self, offer: Offer) -> str:
        """What it is among all: "fastest", "taken", "smallest", or several; "" for others."""
        ends = {"fastest": self.fastest, "smallest": self.smallest, "taken": self.taken}
        return ", ".join(role for role, own in ends.items() if own is offer)

    def lines(self) -> list[str]:
        """The fastest, what is taken and the smallest; nothing where these are one."""
        shown = [(self.roles(o), o) for o in self.offers if self.roles(o)]
        if len(shown) == 1:
            return []
        cells = [(r, _number(o.arena), _number(o.cycles), self.more(o), how(o)) for r, o in shown]
        wide = [max(len(row[i]) for row in cells) for i in range(4)]
        return [
            f"{role:<{wide[0]}}  {ram:>{wide[1]}} bytes  {cycles:>{wide[2]}} {self.unit}"
            f"  {more:>{wide[3]}}  {option}".rstrip()
            for role, ram, cycles, more, option in cells
        ]

    def told(self) -> list[str]:
        """All that a summary says: nothing where there is nothing to trade."""
        lines = [f"  {line}" for line in self.lines()]
        return [self.title(), *lines, *filter(None, [self.bound()])] if lines else []

    def title(self) -> str:
        """What the numbers are."""
        return f"RAM against {self.unit} of the kernels, as measured one by one in the emulator:"

    def bound(self) -> str:
        """How far the smallest one is from what no plan can be below; "" if it is that."""
        if self.smallest.arena == self.least:
            return ""
        return (
            f"A lower --max-ram is tried for longer; none below {_number(self.least)} can be met."
        )

    def described(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "unit": self.unit,
            "least": self.least,
            "plans": [{**asdict(o), "taken": o is self.taken} for o in self.offers],
        }


def how(offer: Offer) -> str:
    """The option that gives it."""
    return "" if offer.max_ram is None else f"--max-ram {offer.max_ram}"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")
