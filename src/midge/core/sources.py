"""Midge's own sources, as a part of what a remembered result rests on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable


@cache
def digest_of(*packages: str) -> str:
    """A hash of every file of some packages and what is in them, templates too, but not of what
    Python makes of them."""
    digest = hashlib.sha256()
    for package in packages:
        for name, entry in _files(files(package), package):
            digest.update(f"{name}\n".encode() + entry.read_bytes())
    return digest.hexdigest()


def _files(folder: Traversable, name: str) -> Iterator[tuple[str, Traversable]]:
    for entry in sorted(folder.iterdir(), key=lambda e: e.name):
        own = f"{name}/{entry.name}"
        if entry.is_file():
            yield own, entry
        elif entry.name != "__pycache__":
            yield from _files(entry, own)
