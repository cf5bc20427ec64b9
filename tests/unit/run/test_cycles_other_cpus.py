"""The tables of the small (M0, M0+) and of the newer (M33, M7) CPUs, and loops counted by hand."""

from __future__ import annotations

import pytest

from midge.run.cycles import BlockCost, Settings, cycle_model

# machine code | assembly | cycles, from the Cortex-M0+ TRM (DDI 0484), table 3-1.
M0PLUS = """
0120     | movs r0, #1 | 1
8818     | adds r0, r1, r2 | 1
4843     | muls r0, r1, r0 | 1
4868     | ldr r0, [r1, #4] | 2
8856     | ldrsb r0, [r1, r2] | 2
0860     | str r0, [r1] | 2
06c8     | ldm r0!, {r1, r2} | 3
06c0     | stm r0!, {r1, r2} | 3
10b5     | push {r4, lr} | 3
10bc     | pop {r4} | 2
48b2     | sxtb r0, r1 | 1
c046     | nop | 1
bff35f8f | dmb | 3
"""

# machine code | assembly | cycles on the M0+ when taken | cycles on the M0 when taken (DDI 0432)
M0_BRANCHES = """
fee7     | b . | 2 | 3
fed1     | bne . | 2 | 3
00f002f8 | bl .+8 | 3 | 4
7047     | bx lr | 2 | 3
10bd     | pop {r4, pc} | 5 | 6
f746     | mov pc, lr | 2 | 3
"""

DOT_PRODUCT = bytes.fromhex("10f9013b 11f9014b 13fb0422 013d f7d1")
FULLY_CONNECTED = bytes.fromhex(
    "50f8044b 51f8045b 2ffa94f6 2ffa84f4 2ffa95f7 2ffa85f5 24fb0522 26fb0722 9842 edd1"
)


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def cost(code: bytes, cpu: str, settings: Settings | None = None) -> BlockCost:
    model = cycle_model(cpu, settings)
    assert model is not None
    result = model.block(code, 0)
    assert model.unknown == set()
    return result


@pytest.mark.parametrize(("code", "text", "cycles"), cells(M0PLUS))
def test_m0plus_instruction_costs_what_the_manual_says(code: str, text: str, cycles: str) -> None:
    assert cost(bytes.fromhex(code), "cortex-m0plus") == BlockCost(1, int(cycles), 0), text


@pytest.mark.parametrize(("code", "text", "m0plus", "m0"), cells(M0_BRANCHES))
def test_taken_branches_of_m0_and_m0plus(code: str, text: str, m0plus: str, m0: str) -> None:
    for cpu, total in (("cortex-m0plus", m0plus), ("cortex-m0", m0)):
        measured = cost(bytes.fromhex(code), cpu)
        assert measured.cycles + measured.taken == int(total), text


def test_m0plus_loop_by_hand() -> None:
    # ldrb r3, [r0, r5] 2; ldrb r4, [r1, r5] 2; muls r3, r4 1; adds r2, r3 1; subs r5, #1 1;
    # bne 1, and 1 more when taken
    loop = bytes.fromhex("435d 4c5d 6343 d218 013d f9d1")
    assert cost(loop, "cortex-m0plus") == BlockCost(6, 8, 1)


def test_m33_dot_product_by_hand() -> None:
    # ldrsb 0, ldrsb 1, smlabb 3 (a factor arrives two cycles after its load), subs 4,
    # bne paired with subs: no cycle, but it waits for the flags when taken
    assert cost(DOT_PRODUCT, "cortex-m33") == BlockCost(5, 5, 2)


def test_m33_chains_sums_but_not_factors() -> None:
    smlad = "20fb0122"  # smlad r2, r0, r1, r2
    mul = "02fb01f3"  # mul r3, r2, r1: its factor is the sum
    assert cost(bytes.fromhex(smlad * 2), "cortex-m33").cycles == 2
    assert cost(bytes.fromhex(smlad + mul), "cortex-m33").cycles == 3


def test_m33_needs_two_more_cycles_between_floating_point_sums() -> None:
    vfma = "a0ee810a"  # vfma.f32 s0, s1, s2
    other = "a0ee812a"  # vfma.f32 s4, s1, s2
    for second in (vfma, other):
        assert cost(bytes.fromhex(vfma + second), "cortex-m33").cycles == 4
        assert cost(bytes.fromhex(vfma + "00bf 00bf" + second), "cortex-m33").cycles == 4


def test_m33_load_multiple_takes_a_cycle_a_register() -> None:
    assert cost(bytes.fromhex("0ec8"), "cortex-m33").cycles == 3  # ldm r0!, {r1, r2, r3}


def test_m7_issues_independent_instructions_in_pairs() -> None:
    pair = "01eb0200 04eb0503"  # add r0, r1, r2; add r3, r4, r5
    chain = "00eb0500"  # add r0, r0, r5
    same = "01eb0200"  # add r0, r1, r2
    assert cost(bytes.fromhex(pair * 4), "cortex-m7").cycles == 4
    assert cost(bytes.fromhex(chain * 8), "cortex-m7").cycles == 8
    assert cost(bytes.fromhex(same * 8), "cortex-m7").cycles == 8


def test_m7_has_one_multiplier_and_one_store_port() -> None:
    multiplies = "01fb02f0 04fb05f3"  # mul r0, r1, r2; mul r3, r4, r5
    stores = "4860 5368"  # str r0, [r1, #4]; ldr r3, [r2, #4]
    assert cost(bytes.fromhex(multiplies), "cortex-m7").cycles == 2
    assert cost(bytes.fromhex(stores), "cortex-m7").cycles == 1
    assert cost(bytes.fromhex("4860 5360"), "cortex-m7").cycles == 2  # two stores


def test_m7_moves_two_registers_a_cycle() -> None:
    assert cost(bytes.fromhex("0ec8"), "cortex-m7").cycles == 2  # ldm r0!, {r1, r2, r3}
    assert cost(bytes.fromhex("d2e90001"), "cortex-m7").cycles == 1  # ldrd r0, r1, [r2]


def test_m7_is_between_half_and_all_of_an_m4() -> None:
    for kernel in (DOT_PRODUCT, FULLY_CONNECTED):
        m4, m7 = cost(kernel, "cortex-m4").cycles, cost(kernel, "cortex-m7").cycles
        assert m4 / 2 <= m7 < m4
