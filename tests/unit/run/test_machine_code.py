"""Machine code cut into instructions, and disassembled."""

from __future__ import annotations

from midge.run.machine_code import Isa, disassemble, riscv_sizes, thumb_sizes

# nop; bl; push; ldrd (32 bits); b
THUMB = bytes.fromhex("00bf fff7feff 10b5 d0e90001 fee7")
# c.nop; addi (32 bits); c.ret
RISCV = bytes.fromhex("0100 13050500 8280")


def texts(code: str, isa: Isa, address: int = 0x1000) -> list[str]:
    found = disassemble(bytes.fromhex(code), address, isa)
    return [f"{i.mnemonic} {i.operands}".strip() for i in found]


def test_sizes_of_instructions() -> None:
    assert list(thumb_sizes(THUMB)) == [2, 4, 2, 4, 2]
    assert list(riscv_sizes(RISCV)) == [2, 4, 2]


def test_every_instruction_has_its_address_and_size() -> None:
    for code, isa, sizes in ((THUMB, "arm", thumb_sizes), (RISCV, "riscv", riscv_sizes)):
        found = list(disassemble(code, 0x1000, isa))
        assert [i.size for i in found] == list(sizes(code))
        assert [i.address for i in found] == [
            0x1000 + sum(i.size for i in found[:n]) for n in range(len(found))
        ]


def test_targets_are_addresses() -> None:
    def target(code: str, isa: Isa) -> int | None:
        (instruction,) = disassemble(bytes.fromhex(code), 0x1000, isa)
        return instruction.target

    assert target("fee7", "arm") == 0x1000  # b .
    assert target("fff7fcff", "arm") == 0xFFC  # bl .-4
    assert target("10b1", "arm") == 0x1008  # cbz r0, .+8
    assert target("7047", "arm") is None  # bx lr
    assert target("e315b5fe", "riscv") == 0xFEA  # bne a0, a1, .-22
    assert target("75fd", "riscv") == 0xFFC  # c.bnez a0, .-4
    assert target("8280", "riscv") is None  # c.jr ra
    assert texts("10b1", "arm") == ["cbz r0"]
    assert texts("e315b5fe", "riscv") == ["bne a0, a1"]


def test_an_it_block_reads_with_its_conditions() -> None:
    assert texts("08bf 0020", "arm") == ["it eq", "moveq r0, #0"]


def test_what_is_no_instruction_is_shown_as_it_is() -> None:
    assert texts("00bf 80f700a0 00bf", "arm") == ["nop", ".inst 0xf780a000", "nop"]
    assert texts("0100 ffffffff 0100", "riscv") == ["c.nop", ".inst 0xffffffff", "c.nop"]
