"""A register that is reserved is written by nobody: neither by kernels nor by compilers."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import midge
from cascade_nets import Net, check, net
from conftest import DIGITS, unsearched
from midge import driver
from midge.core.errors import TargetError
from midge.core.package import Package
from midge.data import random_inputs
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.registers import uses, without
from midge.run import RUNNERS
from midge.target import load_target
from midge.toolchain import build_image


def written(package: Package, register: str) -> list[str]:
    """The instructions of the package's image that write the register."""
    from capstone import CS_ARCH_ARM, CS_MODE_MCLASS, CS_MODE_THUMB, Cs

    image = build_image(package)
    engine: Any = Cs(CS_ARCH_ARM, CS_MODE_THUMB | CS_MODE_MCLASS)
    engine.detail = True
    found = []
    for name, symbol in image.symbols.items():
        section = next((s for s in image.sections if s.executable), None)
        if symbol.kind != "func" or section is None:
            continue
        start = symbol.address - section.address
        for i in engine.disasm(section.data[start : start + symbol.size], symbol.address):
            names = {i.reg_name(r) for r in i.regs_access()[1]}
            saved = i.mnemonic.startswith(("push", "pop"))
            if {register, "sb"} & names and not saved:
                found.append(f"{name}: {i.mnemonic} {i.op_str}")
    return found


def test_nobody_writes_it() -> None:
    usual = midge.compile(DIGITS, search=False, prove=False)
    assert written(usual, "r9"), "the usual kernels need all registers"
    kept = midge.compile(DIGITS, search=False, reserve="r9")
    assert written(kept, "r9") == []
    assert not any(re.search(r"\br9\b", text) for n, text in kept.files.items() if n[-2:] == ".c")
    assert kept.metadata["options"]["reserve"] == "r9"
    (given,) = random_inputs(driver.load(DIGITS), 1, 0)
    session = RUNNERS["emulator"].load(kept)
    outputs = [list(midge.run(p, given).outputs.values()) for p in (usual, kept)]
    session.close()
    np.testing.assert_array_equal(*outputs)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_networks_without_it_are_right(seed: int) -> None:
    own = Net.of(net(300 + seed, ("int8", "float", "int16")[seed % 3]))
    made = driver.compile_graph(own.source, load_target("cortex-m4"), unsearched(reserve=("r9",)))
    assert written(made.package, "r9") == []
    check(own, made.package, RUNNERS["emulator"], seed)


@pytest.mark.parametrize(
    ("register", "target"),
    [("r7", "cortex-m4"), ("s1", "rv32imac"), ("r9", "host"), ("", "cortex-m4")],
)
def test_what_no_compiler_keeps_is_refused(register: str, target: str) -> None:
    with pytest.raises(TargetError, match="cannot be reserved"):
        midge.compile(DIGITS, target, reserve=[register])


def instruction(*asm: str) -> Instruction:
    x = ir.Param("x", midge_i8(), (1,), "inout")
    return Instruction("i", ir.Func("i", (x,), ()), asm=asm, needs="1")


def midge_i8() -> Any:
    from midge.core.types import DType

    return DType.I8


@pytest.mark.parametrize(
    ("asm", "wanted"),
    [
        (("add r0, r1",), ("add r0, r1",)),
        (("add r9, r1, r9",), ("add r8, r1, r8",)),
        (("ldm r0, {r8, r9, r10}",), None),
        (("ldm r0, {r8, r9}",), ("ldm r0, {r8, r10}",)),
        (("ldm r0, {r9, lr}", "mov r8, r10"), ("ldm r0, {r11, lr}", "mov r8, r10")),
        ((*tuple(f"mov r{i}, #1" for i in range(13)), "mov lr, r9"), None),
    ],
)
def test_another_register_takes_its_place_or_none(
    asm: tuple[str, ...], wanted: tuple[str, ...] | None
) -> None:
    found = without(instruction(*asm), "r9")
    assert (found.asm if found else None) == wanted
    assert found is None or not uses(found, "r9")
