"""What the micro-kernels' assembler is written with."""

from __future__ import annotations

import hashlib

# Thumb-2, with the DSP instructions; `MIDGE_ARM_DSP_ASM` of midge_compiler.h asks the compiler.
NEEDS = "MIDGE_ARM_DSP_ASM"
_MOST_OFFSET = 4095


def name_of(kind: str, shape: object) -> str:
    """A short name that is unique for the frozen dataclass `shape`: what differs in meaning or
    spelling differs in its fields."""
    return f"{kind}_{hashlib.sha256(repr(shape).encode()).hexdigest()[:6]}"


def add(target: str, source: str, value: int, spare: str) -> list[str]:
    """target = source + value; `spare` is a register that may be overwritten."""
    if value == 0:
        return [] if target == source else [f"mov {target}, {source}"]
    if abs(value) <= _MOST_OFFSET:
        return [f"{'add' if value > 0 else 'sub'}w {target}, {source}, #{abs(value)}"]
    return [
        *constant(spare, abs(value)),
        f"{'add' if value > 0 else 'sub'} {target}, {source}, {spare}",
    ]


def constant(target: str, value: int) -> list[str]:
    """target = value, 0 <= value < 2^32."""
    lines = [f"movw {target}, #{value & 0xFFFF}"]
    return lines if value < 1 << 16 else [*lines, f"movt {target}, #{value >> 16}"]


def at(base: str, offset: int) -> str:
    """An operand base + offset, 0 <= offset <= 4095."""
    assert 0 <= offset <= _MOST_OFFSET, f"offset {offset} does not fit"
    return f"[{base}, #{offset}]" if offset else f"[{base}]"


def store(op: str, value: str, base: str, offset: int, spare: str) -> list[str]:
    """Store `value` at base + offset; `spare` may be overwritten."""
    if offset <= _MOST_OFFSET:
        return [f"{op} {value}, {at(base, offset)}"]
    return [*constant(spare, offset), f"{op} {value}, [{base}, {spare}]"]


def shifted(up: int) -> str:
    """The end of an instruction whose last operand is shifted left by `up`, or right."""
    if up == 0:
        return ""
    return f", lsl #{up}" if up > 0 else f", asr #{-up}"


def clamp(register: str, low: int, high: int) -> list[str]:
    """`register`, which is in -128..127, limited to low..high."""
    lines = []
    if low > -128:
        lines += [f"cmp {register}, #{low}", "it lt", f"movlt {register}, #{low}"]
    if high < 127:
        lines += [f"cmp {register}, #{high}", "it gt", f"movgt {register}, #{high}"]
    return lines
