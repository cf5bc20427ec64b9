"""Targets are data: those shipped are sound, and mistakes in a file are told where they are."""

from __future__ import annotations

from pathlib import Path

import pytest

import midge.target
from midge.core.errors import TargetError
from midge.target import TARGETS, load_target
from midge.target.parse import parse_target
from midge.toolchain import TOOLCHAINS

GOOD = """
name = "board"
description = "a board"
arch = "arm"
cpu = "cortex-m4"
features = ["dsp"]

[[memories]]
name = "flash"
kind = "flash"
start = 0x08000000
size = "512K"

[[memories]]
name = "sram"
kind = "ram"
start = 0x20000000
size = 65536

[toolchains]
zig = ["-mcpu=cortex_m4"]

[emulator]
model = "UC_CPU_ARM_CORTEX_M4"
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text)
    return path


def test_every_file_is_a_target_of_its_name() -> None:
    files = sorted(path.stem for path in Path(midge.target.__file__).parent.glob("*.toml"))
    assert list(TARGETS) == files
    assert all(TARGETS[name].name == name for name in TARGETS)
    assert {"host", "cortex-m0plus", "cortex-m4", "cortex-m55", "rv32imac"} <= set(files)


@pytest.mark.parametrize("name", list(TARGETS))
def test_toolchains_of_targets_exist_and_fit(name: str) -> None:
    target = TARGETS[name]
    assert target.toolchains
    for toolchain in target.toolchains:
        assert target.arch in TOOLCHAINS[toolchain].archs


def test_a_users_own_file(tmp_path: Path) -> None:
    target = load_target(write(tmp_path, GOOD))
    assert target.name == "board"
    assert target.features == {"dsp"}
    flash, ram = target.memory("flash"), target.memory("ram")
    assert flash is not None
    assert flash.size == 512 * 1024
    assert ram is not None
    assert (ram.name, ram.start, ram.size) == ("sram", 0x20000000, 65536)
    assert target.toolchains == {"zig": ("-mcpu=cortex_m4",)}


def test_a_board_on_the_base_of_a_target(tmp_path: Path) -> None:
    text = 'name = "mine"\nbase = "cortex-m4"\ndescription = "my board"\nfeatures = ["dsp"]\n'
    target = load_target(str(write(tmp_path, text)))
    base = load_target("cortex-m4")
    assert target.name == "mine"
    assert target.features == {"dsp"}
    assert (target.memories, target.toolchains) == (base.memories, base.toolchains)


def test_an_unknown_name_suggests() -> None:
    with pytest.raises(TargetError, match="did you mean cortex-m4"):
        load_target("cortex-m44")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="cannot be read"):
        load_target(tmp_path / "none.toml")


# What is wrong: the message, a text of the file above, and what stands there instead.
MISTAKES = {
    "not TOML": ("is not TOML", 'name = "board"', "name = [["),
    "endless number": ("is not TOML", 'name = "board"', "name = " + "9" * 5000),
    "endless size": ("expected a number", '"512K"', f'"{"9" * 5000}K"'),
    "unknown key": (
        'unknown key "fetures".*\n.*did you mean "features"',
        "features =",
        "fetures =",
    ),
    "missing key": ('misses "cpu"', 'cpu = "cortex-m4"\n', ""),
    "wrong type": ("expected text, got 3", 'cpu = "cortex-m4"', "cpu = 3"),
    "wrong architecture": ("'avr' is not one of arm, riscv, host", 'arch = "arm"', 'arch = "avr"'),
    "unknown feature": ("unknown feature 'dps'", '"dsp"', '"dps"'),
    "wrong size": ("memories\\[0\\]\\.size: expected a number", '"512K"', '"512KQ"'),
    "no whole bytes": ("memories\\[0\\]\\.size: .* no whole number of bytes", '"512K"', '"0.3K"'),
    "empty memory": ("memories\\[1\\]\\.size: is empty", "65536", "0"),
    "overlap": ("flash and sram overlap", "0x20000000", "0x08000100"),
    "wrong kind": ("memories\\[1\\]\\.kind: 'rom' is not one of", 'kind = "ram"', 'kind = "rom"'),
    "twice": ("two memories are called 'flash'", 'name = "sram"', 'name = "flash"'),
    "unknown memory key": (
        'memories\\[0\\]: unknown key "origin"',
        "start = 0x08000000",
        "origin = 0x08000000",
    ),
    "no RAM": ('no memory of kind "ram"', 'kind = "ram"', 'kind = "flash"'),
    "flags that are text": (
        "toolchains.zig: expected a list",
        '["-mcpu=cortex_m4"]',
        '"-mcpu=cortex_m4"',
    ),
    "emulator without model": (
        'emulator: misses "model"',
        'model = "UC_CPU_ARM_CORTEX_M4"',
        'cycles = "cortex-m4"',
    ),
    "incomplete qemu": (
        'qemu: misses "system"',
        "[emulator]",
        '[qemu]\nmachine = "virt"\n[emulator]',
    ),
    "bad name": ("is not a target name", 'name = "board"', 'name = "My Board"'),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_place(mistake: str, tmp_path: Path) -> None:
    message, text, instead = MISTAKES[mistake]
    assert text in GOOD
    path = write(tmp_path, GOOD.replace(text, instead, 1))
    with pytest.raises(TargetError, match=message) as caught:
        load_target(path)
    assert str(path) in caught.value.where


def test_a_base_that_is_not_there(tmp_path: Path) -> None:
    path = write(tmp_path, 'base = "cortex-m99"\nname = "x"\n')
    with pytest.raises(TargetError, match="no target 'cortex-m99'"):
        load_target(path)


@pytest.mark.parametrize(
    ("cpu", "more", "hint"),
    [
        ("cortex-m0plus", "", 'base = "cortex-m0plus"'),
        ("cortex-m85", "", "leave it out, or give toolchains and emulator"),
        ("cortex-m85", "[emulator]\n", "or give toolchains"),
    ],
)
def test_a_cpu_that_its_base_is_not_for(cpu: str, more: str, hint: str, tmp_path: Path) -> None:
    text = f'name = "x"\nbase = "cortex-m4"\ncpu = "{cpu}"\n'
    with pytest.raises(TargetError, match='those of base = "cortex-m4"') as caught:
        load_target(write(tmp_path, text + more))
    assert caught.value.hint.endswith(hint)
    own = '[toolchains]\nzig = ["-mcpu=cortex_m85"]\n[emulator]\n'
    assert load_target(write(tmp_path, text + own)).cpu == cpu
    same = text.replace(cpu, "cortex-m4")
    assert load_target(write(tmp_path, same)).cpu == "cortex-m4"


def test_a_board_needs_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match='misses "name"'):
        load_target(write(tmp_path, 'base = "cortex-m4"\ndescription = "x"\n'))


def test_a_host_needs_no_memories() -> None:
    table = {"name": "pc", "description": "x", "arch": "host", "cpu": "x"}
    assert parse_target(table, "x").memories == ()
