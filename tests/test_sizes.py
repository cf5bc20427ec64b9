"""Sizes as people write them mean the same wherever one is taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import midge as midge_package
from conftest import DIGITS, Cli
from midge.core.cache_upkeep import cache_limit
from midge.core.errors import MidgeError
from midge.core.options import byte_size, pool_sizes
from midge.core.settings import options_of
from midge.core.sizes import size_in
from midge.target.parse import parse_target, read_table

RIGHT = {
    "0": 0, "65536": 65536, "0065536": 65536, "64K": 65536, "64k": 65536, "64KB": 65536,
    "64kB": 65536, "64KiB": 65536, " 64 KB ": 65536, "65536B": 65536, "1M": 1 << 20,
    "1MiB": 1 << 20, "1mb": 1 << 20, "0.5M": 1 << 19, "1.5MB": 3 << 19, "4.5K": 4608,
    "4.50K": 4608, "64.0": 64, "0.0009765625K": 1, "2G": 2 << 30, "1.5GiB": 3 << 29,
}  # fmt: skip
WRONG = (
    "",
    "K",
    "B",
    "-1K",
    "+4",
    "4,5K",
    ".5K",
    "4.K",
    "64Q",
    "64KK",
    "64iB",
    "1e3",
    "0x10",
    "٣K",
)
BROKEN = (
    "0." + "0" * 40 + "1K",
    "0.3K",
    "1.5",
    "1.00000000000000000000000000000000000001M",
    "0." + "1" * 5000 + "G",
)

BOARD = """
name = "board"
description = "a board"
arch = "arm"
cpu = "cortex-m4"
memories = [
    {name = "flash", kind = "flash", start = 0, size = "SIZE"},
    {name = "ram", kind = "ram", start = 0xF0000000, size = 1},
]
"""


def limit_of(text: str, patch: pytest.MonkeyPatch) -> int:
    patch.setenv("MIDGE_CACHE_LIMIT", text)
    return cache_limit()


def flash_of(text: str) -> int:
    return parse_target(read_table(BOARD.replace("SIZE", text), "x"), "x").memories[0].size


# Every place that takes a size.
READERS: dict[str, Callable[[str, pytest.MonkeyPatch], int | None]] = {
    "option": lambda text, patch: byte_size(text, "--max-ram"),
    "pool": lambda text, patch: pool_sizes([f"a={text}"], "--pool")[0][1],
    "Python": lambda text, patch: options_of({"max_ram": text}).max_ram,
    "Python pool": lambda text, patch: options_of({"pools": {"a": text}}).pools[0][1],
    "target": lambda text, patch: flash_of(text),
    "cache": limit_of,
}


@pytest.mark.parametrize("text", RIGHT)
def test_sizes(text: str) -> None:
    assert size_in(text) == RIGHT[text]


@pytest.mark.parametrize("reader", READERS)
def test_every_place_takes_every_spelling(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, size in RIGHT.items():
        if size and size < 1 << 31:
            assert READERS[reader](text, monkeypatch) == size, text


@pytest.mark.parametrize("reader", READERS)
def test_every_place_refuses_what_is_none(reader: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in (*WRONG, *BROKEN, "9" * 5000):
        if text or reader not in ("cache", "pool"):  # nothing there: no limit, and no size
            with pytest.raises(MidgeError) as error:
                READERS[reader](text, monkeypatch)
            assert error.value.hint
            assert ("no whole number of bytes" in error.value.what) == (text in BROKEN), text


def test_the_python_interface_takes_texts() -> None:
    package = midge_package.compile(
        DIGITS, max_ram="64KB", max_flash="0.5M", search=False, prove=False
    )
    options = package.metadata["options"]
    assert (options["max_ram"], options["max_flash"]) == (65536, 1 << 19)


def test_a_limit_with_a_point(midge: Cli) -> None:
    words = ("compile", DIGITS, "--no-search", "--no-prove", "--name", "d", "--max-ram")
    assert midge(*words, "0.1KB").code == 2
    assert midge(*words, "4.5KB", "--json").json["options"]["max_ram"] == 4608
