"""An instruction of a target, or a whole library kernel: its meaning beside its C spelling."""

from __future__ import annotations

from dataclasses import dataclass

from midge.loop.ir import Func


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a use `Instr(name, windows)` does and how C says it.

    meaning: the specification, with one parameter per operand; what `Tensorize` matches and
    `evaluate` runs.
    c: the statement in C; `{param}` stands for a pointer to the first element of that operand.
    header: the C header that `c` needs, "" for none.
    cycles: a rough cost for choosing between instructions; None if unknown.
    """

    name: str
    meaning: Func
    c: str
    header: str = ""
    cycles: int | None = None
