"""Machine code cut into instructions, and those as text."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Isa = Literal["arm", "riscv"]


@dataclass(frozen=True, slots=True)
class Instruction:
    """`size` bytes at `address` that read `mnemonic operands`.

    target: where a branch or call with a constant target goes; it is not among `operands` then.
    """

    address: int
    size: int
    mnemonic: str
    operands: str
    target: int | None = None


def thumb_sizes(code: bytes) -> Iterator[int]:
    """Bytes of each instruction in Thumb code: 4 where the first halfword starts 0b11101 or more.

    Source: Armv7-M Architecture Reference Manual, section A5.1.
    """
    at = 0
    while at < len(code):
        size = 4 if code[at + 1] >> 3 >= 0b11101 else 2
        yield size
        at += size


def riscv_sizes(code: bytes) -> Iterator[int]:
    """Bytes of each instruction in RISC-V code: 4 where the two lowest bits are set, else 2.

    Source: The RISC-V Instruction Set Manual, volume I, section 1.5.
    """
    at = 0
    while at < len(code):
        size = 4 if code[at] & 0b11 == 0b11 else 2
        yield size
        at += size


def disassemble(code: bytes, address: int, isa: Isa) -> Iterator[Instruction]:
    """The instructions of `code`, which starts at `address`; ".inst" where Capstone knows none."""
    sizes = thumb_sizes if isa == "arm" else riscv_sizes
    engine, at = disassembler(isa), 0
    while at < len(code):
        # In one go as far as it gets: an IT instruction changes how those behind it read.
        for found in engine.disasm(code[at:], address + at):
            yield _instruction(found, isa)
            at += found.size
        if at < len(code):
            size = next(sizes(code[at:]))
            yield Instruction(address + at, size, ".inst", _word(code[at : at + size], isa))
            at += size


def _word(code: bytes, isa: Isa) -> str:
    """An encoding as manuals write it: Thumb in halfwords, the first one first."""
    if isa == "arm":
        return "0x" + "".join(code[i : i + 2][::-1].hex() for i in range(0, len(code), 2))
    return "0x" + code[::-1].hex()


_own = threading.local()


def disassembler(isa: Isa) -> Any:
    """Capstone's engine for it, one for each thread: an engine keeps the IT block that it is in,
    and calls of it run side by side."""
    known: dict[Isa, Any] = _own.__dict__.setdefault("engines", {})
    if isa not in known:
        known[isa] = _engine(isa)
    return known[isa]


def _engine(isa: Isa) -> Any:
    import capstone

    if isa == "arm":
        mode = capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS
        engine = capstone.Cs(capstone.CS_ARCH_ARM, mode)
    else:
        mode = capstone.CS_MODE_RISCV32 | capstone.CS_MODE_RISCVC
        engine = capstone.Cs(capstone.CS_ARCH_RISCV, mode)
    engine.detail = True
    return engine


def _instruction(found: Any, isa: Isa) -> Instruction:
    import capstone

    jumps = found.group(capstone.CS_GRP_JUMP) or found.group(capstone.CS_GRP_CALL)
    operands = found.operands
    if not jumps or not operands or operands[-1].type != capstone.CS_OP_IMM:
        return Instruction(found.address, found.size, found.mnemonic, found.op_str)
    # Capstone gives the place itself on Arm, how far away it is on RISC-V.
    target = operands[-1].imm + (found.address if isa == "riscv" else 0)
    others = found.op_str.rpartition(",")[0]
    return Instruction(found.address, found.size, found.mnemonic, others, target & 0xFFFF_FFFF)
