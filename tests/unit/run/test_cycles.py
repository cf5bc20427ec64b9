"""The Cortex-M3 and M4 tables, instruction by instruction, and kernels counted by hand.

A row is `machine code | assembly | cycles by hand`. The numbers of TABLE are those of the
Cortex-M4 TRM (Arm 100166), table 3-1 "Processor instruction set summary" and table 7-1 "FPU
instruction set"; what pairs of instructions save or cost is its section "Load/store timings".
"""

from __future__ import annotations

import time

import pytest

from midge.core.errors import UsageError
from midge.run.cycles import BlockCost, Settings, cycle_model

TABLE = """
0846     | mov r0, r1 | 1
40f2e830 | movw r0, #1000 | 1
c0f2e830 | movt r0, #1000 | 1
01eb0200 | add r0, r1, r2 | 1
0ff20200 | adr r0, . + 4 | 1
41eb0200 | adc r0, r1, r2 | 1
a1f10100 | sub r0, r1, #1 | 1
c1f10100 | rsb r0, r1, #1 | 1
01fb02f0 | mul r0, r1, r2 | 1
01fb0230 | mla r0, r1, r2, r3 | 1
01fb1230 | mls r0, r1, r2, r3 | 1
82fb0301 | smull r0, r1, r2, r3 | 1
a2fb0301 | umull r0, r1, r2, r3 | 1
c2fb0301 | smlal r0, r1, r2, r3 | 1
e2fb0301 | umlal r0, r1, r2, r3 | 1
01f30700 | ssat r0, #8, r1 | 1
81f30800 | usat r0, #8, r1 | 1
8842     | cmp r0, r1 | 1
01ea0200 | and r0, r1, r2 | 1
21ea0200 | bic r0, r1, r2 | 1
6fea0100 | mvn r0, r1 | 1
0842     | tst r0, r1 | 1
4fea8100 | lsl r0, r1, #2 | 1
41fa02f0 | asr r0, r1, r2 | 1
4feaf100 | ror r0, r1, #3 | 1
4fea3100 | rrx r0, r1 | 1
b1fa81f0 | clz r0, r1 | 1
4868     | ldr r0, [r1, #4] | 2
8858     | ldr r0, [r1, r2] | 2
31f8020b | ldrh r0, [r1], #2 | 2
11f9010d | ldrsb r0, [r1, #-1]! | 2
0248     | ldr r0, [pc, #8] | 2
0ec8     | ldm r0!, {r1, r2, r3} | 4
4860     | str r0, [r1, #4] | 1
01f8010b | strb r0, [r1], #1 | 1
41f82200 | str r0, [r1, r2, lsl #2] | 2
06c0     | stm r0!, {r1, r2} | 3
30b5     | push {r4, r5, lr} | 4
30bc     | pop {r4, r5} | 3
d2e90001 | ldrd r0, r1, [r2] | 3
c2e90001 | strd r0, r1, [r2] | 3
51e8000f | ldrex r0, [r1] | 2
08b2     | sxth r0, r1 | 1
c8b2     | uxtb r0, r1 | 1
c1f38200 | ubfx r0, r1, #2, #3 | 1
61f38400 | bfi r0, r1, #2, #3 | 1
08ba     | rev r0, r1 | 1
00bf     | nop | 1
c1ea0200 | pkhbt r0, r1, r2 | 1
91fa12f0 | qadd16 r0, r1, r2 | 1
81fa02f0 | sadd8 r0, r1, r2 | 1
a1fa82f0 | sel r0, r1, r2 | 1
21fb0230 | smlad r0, r1, r2, r3 | 1
c2fbc301 | smlald r0, r1, r2, r3 | 1
11fb2230 | smlatb r0, r1, r2, r3 | 1
31fb0230 | smlawb r0, r1, r2, r3 | 1
51fb12f0 | smmulr r0, r1, r2 | 1
21fb02f0 | smuad r0, r1, r2 | 1
21fa82f0 | sxtab16 r0, r1, r2 | 1
c1fa52f0 | uqsub8 r0, r1, r2 | 1
71fb0230 | usada8 r0, r1, r2, r3 | 1
e2fb6301 | umaal r0, r1, r2, r3 | 1
b0eee00a | vabs.f32 s0, s1 | 1
30ee810a | vadd.f32 s0, s1, s2 | 1
b4ee600a | vcmp.f32 s0, s1 | 1
bdeee00a | vcvt.s32.f32 s0, s1 | 1
80ee810a | vdiv.f32 s0, s1, s2 | 14
b0ec030a | vldmia r0!, {s0, s1, s2} | 4
90ed000a | vldr s0, [r0] | 2
90ed000b | vldr d0, [r0] | 3
b0ee600a | vmov.f32 s0, s1 | 1
00ee100a | vmov s0, r0 | 2
51ec100a | vmov r0, r1, s0, s1 | 2
f1ee10fa | vmrs apsr_nzcv, fpscr | 1
20ee810a | vmul.f32 s0, s1, s2 | 1
00ee810a | vmla.f32 s0, s1, s2 | 3
a0ee810a | vfma.f32 s0, s1, s2 | 3
90ee810a | vfnms.f32 s0, s1, s2 | 3
b1ee600a | vneg.f32 s0, s1 | 1
2ded028a | vpush {s16, s17} | 3
bdec028b | vpop {d8} | 3
b1eee00a | vsqrt.f32 s0, s1 | 14
80ed000b | vstr d0, [r0] | 3
30eec10a | vsub.f32 s0, s1, s2 | 1
"""

# The cycles of a branch that is not taken; P more when it is.
BRANCHES = """
fee7     | b . | 1
fed0     | beq . | 1
00f002f8 | bl .+8 | 1
7047     | bx lr | 1
9847     | blx r3 | 1
10b1     | cbz r0, .+8 | 1
dfe800f0 | tbb [pc, r0] | 2
dfe810f0 | tbh [pc, r0, lsl #1] | 2
10bd     | pop {r4, pc} | 3
5df804fb | ldr pc, [sp], #4 | 2
90e80280 | ldm r0, {r1, pc} | 3
f746     | mov pc, lr | 1
"""

M3_MULTIPLIES = """
01fb0230 | mla r0, r1, r2, r3 | 2
01fb1230 | mls r0, r1, r2, r3 | 2
82fb0301 | smull r0, r1, r2, r3 | 5
a2fb0301 | umull r0, r1, r2, r3 | 5
c2fb0301 | smlal r0, r1, r2, r3 | 7
e2fb0301 | umlal r0, r1, r2, r3 | 7
01fb02f0 | mul r0, r1, r2 | 1
"""

DOT_PRODUCT = """
10f9013b | ldrsb r3, [r0], #1 | 2
11f9014b | ldrsb r4, [r1], #1 | 1  behind a load
13fb0422 | smlabb r2, r3, r4, r2 | 1
013d     | subs r5, #1 | 1
f7d1     | bne 1b | 1
"""

COPY = """
51f8043b | ldr r3, [r1], #4 | 2
013a     | subs r2, #1 | 1
40f8043b | str r3, [r0], #4 | 1
f9d1     | bne 1b | 1
"""

FULLY_CONNECTED = """
50f8044b | ldr r4, [r0], #4 | 2
51f8045b | ldr r5, [r1], #4 | 1  behind a load
2ffa94f6 | sxtb16 r6, r4, ror #8 | 1
2ffa84f4 | sxtb16 r4, r4 | 1
2ffa95f7 | sxtb16 r7, r5, ror #8 | 1
2ffa85f5 | sxtb16 r5, r5 | 1
24fb0522 | smlad r2, r4, r5, r2 | 1
26fb0722 | smlad r2, r6, r7, r2 | 1
9842     | cmp r0, r3 | 1
edd1     | bne 1b | 1
"""

FLOAT = """
d0ed000a | vldr s1, [r0] | 2
91ed001a | vldr s2, [r1] | 1  behind a load
a0ee810a | vfma.f32 s0, s1, s2 | 3
60ee811a | vmul.f32 s3, s1, s2 | 1
31eea02a | vadd.f32 s4, s3, s1 | 2  waits for s3
a0ee812a | vfma.f32 s4, s1, s2 | 3  s4 is only added to: no wait
f1eec22a | vsqrt.f32 s5, s4 | 15  waits for s4
c2ed002a | vstr s5, [r2] | 2  waits for s5
0430     | adds r0, #4 | 1
9842     | cmp r0, r3 | 1
ecd1     | bne 1b | 1
"""

CONDITIONAL = """
8842     | cmp r0, r1 | 1
b4bf     | ite lt | 0  folded: the instruction before it has 16 bits
0846     | movlt r0, r1 | 1
00eb8100 | addge r0, r0, r1, lsl #2 | 1
08bf     | it eq | 1  not folded: behind a 32-bit instruction
0022     | moveq r2, #0 | 1
7047     | bx lr | 1
"""

CALL = """
70b5     | push {r4, r5, r6, lr} | 5
82b0     | sub sp, #8 | 1
0190     | str r0, [sp, #4] | 2  its address comes from the ALU
00f000f8 | bl 1f | 1
"""

RETURN = """
02b0     | add sp, #8 | 1
70bd     | pop {r4, r5, r6, pc} | 5
"""

DIVISION_AND_ADDRESSES = """
90fbf1f2 | sdiv r2, r0, r1 | 6
01fb1203 | mls r3, r1, r2, r0 | 1
b2fbf3f2 | udiv r2, r2, r3 | 6
55f82240 | ldr r4, [r5, r2, lsl #2] | 3  its index comes from the ALU
2668     | ldr r6, [r4] | 2  its address comes from the load: no pipelining
6768     | ldr r7, [r4, #4] | 1
af50     | str r7, [r5, r2] | 1  a register offset, but behind a load
af50     | str r7, [r5, r2] | 2
d4e90001 | ldrd r0, r1, [r4] | 3
dfe800f0 | tbb [pc, r0] | 2
"""

KERNELS = {
    "dot product": (DOT_PRODUCT, 6),
    "copy": (COPY, 5),
    "fully connected": (FULLY_CONNECTED, 11),
    "float": (FLOAT, 32),
    "conditional": (CONDITIONAL, 6),
    "call": (CALL, 9),
    "return": (RETURN, 6),
    "division and addresses": (DIVISION_AND_ADDRESSES, 27),
}


def rows(table: str) -> list[tuple[bytes, str, int]]:
    """(machine code, assembly, cycles) of each row."""
    parts = [[part.strip() for part in line.split("|")] for line in table.strip().splitlines()]
    return [(bytes.fromhex(code), text, int(cycles.split()[0])) for code, text, cycles in parts]


def machine_code(table: str) -> bytes:
    return b"".join(code for code, _, _ in rows(table))


def cost(code: bytes, cpu: str = "cortex-m4", settings: Settings | None = None) -> BlockCost:
    model = cycle_model(cpu, settings)
    assert model is not None
    result = model.block(code, 0)
    assert model.unknown == set()
    return result


def ids(table: str) -> list[str]:
    return [text for _, text, _ in rows(table)]


@pytest.mark.parametrize(("code", "text", "cycles"), rows(TABLE), ids=ids(TABLE))
def test_m4_instruction_costs_what_the_manual_says(code: bytes, text: str, cycles: int) -> None:
    assert cost(code) == BlockCost(1, cycles, 0), text


@pytest.mark.parametrize(("code", "text", "cycles"), rows(BRANCHES), ids=ids(BRANCHES))
def test_m4_branch_costs_a_refill_more_when_taken(code: bytes, text: str, cycles: int) -> None:
    assert cost(code) == BlockCost(1, cycles, 2), text
    assert cost(code, settings=Settings(refill=3)) == BlockCost(1, cycles, 3), text


@pytest.mark.parametrize("name", KERNELS)
def test_m4_kernel_equals_the_hand_count(name: str) -> None:
    table, total = KERNELS[name]
    counted = rows(table)
    assert sum(cycles for _, _, cycles in counted) == total
    code, before = b"", 0
    for number, (encoding, text, cycles) in enumerate(counted, start=1):
        code += encoding
        measured = cost(code)
        assert (measured.instructions, measured.cycles - before) == (number, cycles), text
        before = measured.cycles


def test_only_the_last_instruction_decides_what_a_taken_branch_adds() -> None:
    assert cost(machine_code(DOT_PRODUCT)).taken == 2
    assert cost(machine_code(DOT_PRODUCT)[:-2]).taken == 0


@pytest.mark.parametrize(("code", "text", "cycles"), rows(M3_MULTIPLIES), ids=ids(M3_MULTIPLIES))
def test_m3_multiplies_take_longer(code: bytes, text: str, cycles: int) -> None:
    assert cost(code, "cortex-m3").cycles == cycles, text


def test_m3_does_not_pipeline_a_load_that_updates_its_base() -> None:
    loads = machine_code(DOT_PRODUCT)[:8]
    assert cost(loads).cycles == 3
    assert cost(loads, "cortex-m3").cycles == 4


def test_settings_change_division_refill_and_flash() -> None:
    divide = bytes.fromhex("90fbf1f2")
    assert cost(divide, settings=Settings(divide=12)).cycles == 12
    literal_and_branch = bytes.fromhex("0248 7047")  # ldr r0, [pc, #8]; bx lr
    assert cost(literal_and_branch, settings=Settings(flash_wait_states=5)) == BlockCost(2, 8, 7)


def test_a_negative_setting_is_refused() -> None:
    with pytest.raises(UsageError, match="refill is -1"):
        Settings(refill=-1)


def test_unknown_instructions_count_one_cycle_and_are_recorded() -> None:
    model = cycle_model("cortex-m4")
    assert model is not None
    assert model.block(bytes.fromhex("ffffffff 00bf"), 0) == BlockCost(2, 2, 0)
    assert model.unknown == {".inst"}


def test_a_cpu_without_a_model_has_none() -> None:
    assert cycle_model("rv32imac") is None
    assert cycle_model("") is None


def test_empty_code_costs_nothing() -> None:
    assert cost(b"") == BlockCost(0, 0, 0)


def test_forty_kilobytes_take_well_under_half_a_second() -> None:
    # The bound is ten times what it takes: a machine under load must not fail it.
    body = machine_code(TABLE)
    start = time.perf_counter()
    cost(body * (40_000 // len(body)))
    assert time.perf_counter() - start < 0.5
