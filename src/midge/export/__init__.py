"""Graphs to model files. A format is one file of this folder: it registers what it writes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from midge.core.errors import UsageError
from midge.core.files import write_file
from midge.core.registry import Registry, import_all
from midge.graph.ir import Graph


@dataclass(frozen=True, slots=True)
class Writer:
    """write: a graph at the model level -> the bytes of a file; ModelError if the format has no
    word for something in it."""

    name: str
    suffixes: tuple[str, ...]
    write: Callable[[Graph], bytes]


WRITERS: Registry[Writer] = Registry("format to write", UsageError)


def writer_for(path: Path) -> Writer:
    """The writer of the format that the suffix of `path` means; UsageError if there is none."""
    import_all(sys.modules[__name__])
    writers = [WRITERS[n] for n in WRITERS]
    for writer in writers:
        if path.suffix.lower() in writer.suffixes:
            return writer
    known = ", ".join(s for w in writers for s in w.suffixes)
    raise UsageError(f"cannot write {path.suffix!r} files", where=str(path), hint=f"use {known}")


def save(graph: Graph, path: Path) -> int:
    """Write `graph` in the format that the file's suffix means; the number of bytes."""
    data = writer_for(path).write(graph)
    write_file(path, data)
    return len(data)
