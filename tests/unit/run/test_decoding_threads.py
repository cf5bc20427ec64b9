"""Machine code is read by several threads at once: trials are measured side by side."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

from midge.run.cycles import thumb
from midge.run.machine_code import disassemble, disassembler

_IT, _ADDS = bytes.fromhex("08bf"), bytes.fromhex("0130")  # it eq; adds r0, #1


def encodings(count: int) -> list[bytes]:
    """Every other one begins an IT block."""
    rng = Random(1)
    plain = [(0x3000 | rng.randrange(0x1000)).to_bytes(2, "little") for _ in range(count)]
    blocks = [(0xBF08 | rng.randrange(14) << 4).to_bytes(2, "little") for _ in range(count)]
    return [code for pair in zip(plain, blocks, strict=True) for code in pair]


def test_each_thread_has_an_engine_of_its_own() -> None:
    both = threading.Barrier(2)

    def engine(_: int) -> object:
        disassembler("arm")
        both.wait(10)
        return disassembler("arm")

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(engine, range(2))
    assert first is not second
    assert disassembler("arm") is disassembler("arm")
    assert disassembler("arm") is not disassembler("riscv")


def test_what_one_thread_reads_is_nothing_to_another() -> None:
    codes = encodings(400)
    decode = thumb._decode_one.__wrapped__
    alone = [decode(code) for code in codes]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [decode(code) for code in codes], range(8)))
    assert all(own == alone for own in found)


def test_an_it_block_reaches_no_further_than_its_code() -> None:
    assert [i.mnemonic for i in disassemble(_IT + _ADDS, 0, "arm")] == ["it", "addeq"]
    assert [i.mnemonic for i in disassemble(_IT, 0, "arm")] == ["it"]
    assert [i.mnemonic for i in disassemble(_ADDS, 0, "arm")] == ["adds"]
