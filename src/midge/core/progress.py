"""What whoever waits is told: what is being done, how much of it is done, and how much there is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]  # what, done, in all: 0 if that is not counted


def silent(what: str, done: int, total: int) -> None:
    """Nobody waits."""
