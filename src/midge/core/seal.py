"""metadata.json lists all files of its package with their hashes: so Midge knows its own.

The hash of metadata.json itself is of its text with zeros in the place of that hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

METADATA = "metadata.json"
_KEY = "sha256"
_PART = 1 << 20
_ZEROS = "0" * 64
_HASH = re.compile(r"[0-9a-f]{64}")


def hash_of(data: bytes | str) -> str:
    """SHA-256 in hexadecimal."""
    return hash_of_parts((data,)) if isinstance(data, str) else hashlib.sha256(data).hexdigest()


def hash_of_parts(parts: Iterable[str]) -> str:
    """That of the texts one after the other; a part of a long one at a time."""
    digest = hashlib.sha256()
    for part in parts:
        for start in range(0, len(part), _PART):
            digest.update(part[start : start + _PART].encode())
    return digest.hexdigest()


def sealed(metadata: Mapping[str, Any], files: Mapping[str, str]) -> dict[str, Any]:
    """`metadata` with the hashes of `files` and its own."""
    hashes = {name: hash_of(text) for name, text in files.items()}
    open_ = {**metadata, _KEY: {**hashes, METADATA: _ZEROS}}
    return {**metadata, _KEY: {**hashes, METADATA: hash_of(text_of(open_))}}


def text_of(metadata: Mapping[str, Any]) -> str:
    """metadata.json."""
    return json.dumps(metadata, indent=2) + "\n"


def listed(text: str) -> dict[str, str]:
    """The hashes of a metadata.json by file, without its own; {} if it is not Midge's or was
    edited."""
    hashes = hashes_in(text, _KEY)
    own = hashes.pop(METADATA, "")
    return hashes if own and hash_of(text.replace(own, _ZEROS)) == own else {}


def hashes_in(text: str, key: str) -> dict[str, str]:
    """File -> hash under `key` of a JSON text; {} unless that is what stands there."""
    try:
        found = json.loads(text)[key]
        right = all(map(_is_hash, found.values())) and all(map(is_plain, found))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}
    return dict(found) if right else {}


def is_plain(name: str) -> bool:
    """Whether `name` is a path to a file below the folder, and nowhere else."""
    parts = PurePosixPath(name).parts
    strange = {"/", ".", ".."} & {*parts} or any(c in name for c in "\\:\0")
    return bool(parts) and "/".join(parts) == name and not strange


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and _HASH.fullmatch(value) is not None
