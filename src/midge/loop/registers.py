"""Registers that the assembler of instructions may not touch."""

from __future__ import annotations

import re
from dataclasses import replace

from midge.loop.instruction import Instruction

_ALL = (*(f"r{i}" for i in range(13)), "lr")
_LIST = re.compile(r"\{([^}]*)\}")


def uses(instruction: Instruction, register: str) -> bool:
    """Whether its assembler names `register`."""
    return any(re.search(rf"\b{register}\b", line) for line in instruction.asm)


def without(instruction: Instruction, register: str) -> Instruction | None:
    """The same with another register in the place of `register`; None if there is none free.

    A load or store of several registers takes them in the order of their numbers: the other one has
    to have the same place in every list.
    """
    if not uses(instruction, register):
        return instruction
    operands = {f"r{i}" for i in range(len(instruction.meaning.params))}
    free = [r for r in _ALL if r not in operands and r != "r7" and not uses(instruction, r)]
    # Beyond r7 all instructions have 32 bits, as those of the register that goes.
    for other in sorted(free, key=lambda r: _ALL.index(r) < 8):
        lines = tuple(re.sub(rf"\b{register}\b", other, line) for line in instruction.asm)
        if all(map(_ascends, lines)):
            return replace(instruction, asm=lines)
    return None


def _ascends(line: str) -> bool:
    """Whether the registers in braces, if there are any, have ascending numbers."""
    found = _LIST.search(line)
    names = [n.strip() for n in found[1].split(",")] if found else []
    numbers = [_ALL.index(n) for n in names if n in _ALL]
    return numbers == sorted(set(numbers))
