"""What lies where and when, for whoever reads of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midge.codegen.arrange import writers_of
from midge.codegen.picture import CALLER, picture_of
from midge.loop.program import Program
from midge.plan.arena import Arena, Stream


def live_of(program: Program, arena: Arena) -> list[int]:
    """For each operation the most bytes that are alive during one of its calls."""
    first = len(program.arriving)
    found = [0] * len(program.operations)
    for call, live in zip(arena.calls, arena.live, strict=True):
        if call.stage >= first:
            found[call.stage - first] = max(found[call.stage - first], live)
    return found


def peak_operation(program: Program, arena: Arena) -> int:
    """The position of the operation at the peak."""
    found = live_of(program, arena)
    return found.index(max(found)) if found else 0


def tensors_of(
    program: Program, arena: Arena, streams: Mapping[str, Stream]
) -> list[dict[str, Any]]:
    """A row for each tensor and each scratch memory: offset (the lowest), size (of the tensor;
    `kept` is the most that is alive of it at once), label, who writes and who last reads it."""
    names = [CALLER] * len(program.arriving) + [op.name for op in program.operations]
    writers = writers_of(program)
    inputs = {program.buffer(v) for v in program.inputs}
    outputs = {program.buffer(v) for v in program.outputs}
    most = {track.name: track.most for track in picture_of(program, arena).tracks}
    rows = []
    for name, stream in streams.items():
        lives = arena.lives[name]
        start = min(life.birth for life in lives)
        stop = max(life.death for life in lives)
        born = CALLER if name in inputs else writers[name]
        kept = name in outputs or stop < 0
        stays = CALLER if kept else "the next push"
        ends = kept or stop >= len(arena.calls)
        rows.append(
            {
                "offset": min(arena.rows[name]),
                "size": stream.height * stream.row,
                "kept": most[name],
                "label": name,
                "born": born,
                "dies": stays if ends else names[arena.calls[stop].stage],
                "start": max(start, 0),
            }
        )
    for name, offsets in arena.scratch.items():
        offset = min(offsets)
        user = name.partition("/")[0]
        at = next(
            (i for i, call in enumerate(arena.calls) if names[call.stage] == user), len(arena.calls)
        )
        size = program.types[name].size
        rows.append(
            {"offset": offset, "size": size, "kept": size, "label": name, "born": user,
             "dies": user, "start": at}
        )  # fmt: skip
    return sorted(rows, key=lambda r: (r["start"], r["offset"]))
