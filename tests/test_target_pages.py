"""What pages say of targets and of memories is all there is, and works."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

import midge
from conftest import DIGITS, ROOT
from midge.run.cycles import MODELS, cycle_model
from midge.target import parse
from midge.toolchain import TOOLCHAINS


def test_all_keys_of_a_target_stand_in_a_page() -> None:
    page = (ROOT / "docs" / "command-line.md").read_text()
    text = page.partition("## A target of your own")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `\W*(\w+)\W*` \| (.+) \|$", text, re.MULTILINE))
    assert {*rows} == {*parse._KEYS, "base"}
    cycle_model("")  # finds them
    for key, words in {
        "features": parse.FEATURES,
        "arch": parse.ARCHS,
        "memories": (*parse._MEMORY_KEYS, "cost", "typical"),
        "emulator": (*parse._EMULATOR_KEYS, *MODELS),
        "qemu": (*parse._QEMU_TEXTS, *parse._QEMU_NUMBERS),
        "toolchains": TOOLCHAINS,
    }.items():
        said = re.findall(r"`\"?([\w-]+)\"?(?: = \w+)?`", rows[key])
        assert not {*words} - {*said}, key


LINK = """
MEMORY {
  ITCM (rx) : ORIGIN = 0x00000000, LENGTH = 64K
  FLASH (rx) : ORIGIN = 0x08000000, LENGTH = 1M
  RAM (rw) : ORIGIN = 0x20000000, LENGTH = 128K
}
SECTIONS {
HERE
  .text : { *(.text .text.*) } > FLASH
  .rodata : { *(.rodata .rodata.*) } > FLASH
  .bss (NOLOAD) : { *(.data .data.* .bss .bss.* COMMON) } > RAM
}
"""
MAIN = """
#include "digits.h"
static _Alignas(16) unsigned char arena[DIGITS_ARENA_SIZE];
void *memcpy(void *to, const void *from, size_t n);
extern char itcm_start, itcm_load, itcm_end;
int main(void)
{
    digits_context model;
    memcpy(&itcm_start, &itcm_load, (size_t)(&itcm_end - &itcm_start));
    return (int)digits_init(&model, arena, sizeof arena) + (int)digits_run(&model);
}
"""


@pytest.mark.skipif(not shutil.which("arm-none-eabi-gcc"), reason="no arm-none-eabi-gcc")
def test_the_linker_puts_a_package_into_tcm(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    (snippet,) = re.findall(r"```ld\n(.+?)```", page, re.DOTALL)
    midge.compile(DIGITS, "cortex-m7", name="digits", search=False, prove=False).save(tmp_path)
    (tmp_path / "board.ld").write_text(LINK.replace("HERE", snippet))
    (tmp_path / "app.c").write_text(MAIN)
    cpu = ["-mcpu=cortex-m7", "-mthumb", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard", "-O2"]
    words = ["CC=arm-none-eabi-gcc", "AR=arm-none-eabi-ar", f"CFLAGS={' '.join(cpu)}"]
    subprocess.run(["make", "-s", *words], cwd=tmp_path, check=True)
    link = ["-nostartfiles", "--specs=nosys.specs", "-Tboard.ld", "-Wl,-emain", "-oapp.elf"]
    link = ["arm-none-eabi-gcc", *cpu, "app.c", "-I.", "-L.", *link, "-ldigits"]
    subprocess.run(link, cwd=tmp_path, check=True, capture_output=True)
    elf = ELFFile(io.BytesIO((tmp_path / "app.elf").read_bytes()))
    table = elf.get_section_by_name(".symtab")
    places = {s.name: s["st_value"] for s in table.iter_symbols() if s["st_size"]}
    own = [n for n in places if n.startswith("digits_")]
    code = [n for n in own if places[n] < 0x10000]
    assert {"digits_init", "digits_run"} <= {*code}
    assert places["main"] >= 0x08000000
    functions = {s.name for s in table.iter_symbols() if s["st_info"]["type"] == "STT_FUNC"}
    assert {n for n in own if n in functions} == {*code}
    load = next(s["st_value"] for s in table.iter_symbols() if s.name == "itcm_load")
    assert load >= 0x08000000
