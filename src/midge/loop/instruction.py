"""An instruction of a target, or a whole library kernel: its meaning beside its C spelling."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from midge.loop.ir import Func


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a use `Instr(name, windows)` does and how C says it.

    meaning: the specification, with one parameter per operand; what `Tensorize` matches and
    `evaluate` runs.
    c: the statement in C; `{param}` stands for a pointer to the first element of that operand. ""
    for an instruction with a body: a call of the function that is made of it.
    header: the C header that the instruction needs, "" for none.
    cycles: a rough cost for choosing between instructions; None if unknown.
    asm: for an instruction with a body, assembler lines that find the operands' addresses in r0,
    r1, ... and may change every register but sp, which they leave as it was. Where the
    compiler cannot take them, `meaning` is spelled in C.
    note: of an instruction with a body, for the reader of the C.
    needs: preprocessor condition under which `asm` can be used.
    cpu: condition that tells a CPU which it is made for, however it is compiled for; "": `needs`.
    """

    name: str
    meaning: Func
    c: str = ""
    header: str = ""
    cycles: int | None = None
    asm: tuple[str, ...] = ()
    needs: str = ""
    cpu: str = ""
    note: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        assert not (self.c and self.asm), f"{self.name}: either a statement or a body"
        assert bool(self.asm) == bool(self.needs), f"{self.name}: assembler needs a condition"


def merged(tables: Iterable[Mapping[str, Instruction]]) -> dict[str, Instruction]:
    """All instructions of several kernels by name; two of one name must be the same."""
    found: dict[str, Instruction] = {}
    for table in tables:
        for name, instruction in table.items():
            known = found.setdefault(name, instruction)
            assert known is instruction or known == instruction, (
                f"two instructions are called {name}"
            )
    return found
