"""A cache of its own, entries for it, and what may happen to their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from midge.core.cache import digest

KEY = digest(["key"])


def build(folder: Path) -> None:
    (folder / "a").write_text("hello")
    (folder / "deep").mkdir()
    (folder / "deep" / "b").write_bytes(bytes(3000))


def whole(path: Path) -> bool:
    return (path / "a").read_text() == "hello" and (path / "deep" / "b").read_bytes() == bytes(3000)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flipped": flip, "shortened": shorten, "emptied": lambda path: path.write_bytes(b""),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"\n"), "deleted": Path.unlink,
    "JSON": lambda path: path.write_text("[[]]"), "deep": lambda path: path.write_text("[" * 9999),
}  # fmt: skip


def no_home() -> Path:
    raise RuntimeError("Could not determine home directory.")
