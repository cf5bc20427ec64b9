"""The spelling of micro-kernels: the shortest form that holds the number."""

from __future__ import annotations

import pytest

from midge.kernels.arm import assembler as asm


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (0, ["mov r0, r1"]),
        (1, ["addw r0, r1, #1"]),
        (-1, ["subw r0, r1, #1"]),
        (4095, ["addw r0, r1, #4095"]),
        (-4095, ["subw r0, r1, #4095"]),
        (4096, ["movw r2, #4096", "add r0, r1, r2"]),
        (-4096, ["movw r2, #4096", "sub r0, r1, r2"]),
        (65536, ["movw r2, #0", "movt r2, #1", "add r0, r1, r2"]),
    ],
)
def test_sums(value: int, lines: list[str]) -> None:
    assert asm.add("r0", "r1", value, "r2") == lines


def test_nothing_is_added_in_place() -> None:
    assert asm.add("r0", "r0", 0, "r2") == []


@pytest.mark.parametrize(
    ("value", "lines"),
    [
        (0, ["movw r0, #0"]),
        (65535, ["movw r0, #65535"]),
        (65536, ["movw r0, #0", "movt r0, #1"]),
        (0xFFFF8001, ["movw r0, #32769", "movt r0, #65535"]),
    ],
)
def test_constants(value: int, lines: list[str]) -> None:
    assert asm.constant("r0", value) == lines


def test_operands_in_memory() -> None:
    assert asm.at("r1", 0) == "[r1]"
    assert asm.at("r1", 4095) == "[r1, #4095]"
    for offset in (-1, 4096):
        with pytest.raises(AssertionError, match="does not fit"):
            asm.at("r1", offset)
    assert asm.store("strb", "r0", "r1", 4095, "r2") == ["strb r0, [r1, #4095]"]
    assert asm.store("strb", "r0", "r1", 4096, "r2") == ["movw r2, #4096", "strb r0, [r1, r2]"]


def test_shifts() -> None:
    assert [asm.shifted(up) for up in (0, 1, -1)] == ["", ", lsl #1", ", asr #1"]


def test_limits_are_compared_where_they_limit() -> None:
    assert asm.clamp("r0", -128, 127) == []
    assert asm.clamp("r0", -127, 127) == ["cmp r0, #-127", "it lt", "movlt r0, #-127"]
    assert asm.clamp("r0", -128, 126) == ["cmp r0, #126", "it gt", "movgt r0, #126"]
