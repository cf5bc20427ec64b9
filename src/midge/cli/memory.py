"""The arena over time, as text for a terminal and as a picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from midge.cli.output import number, shorten
from midge.core.errors import UsageError
from midge.core.files import write_file
from midge.driver import Compiled


@dataclass(frozen=True, slots=True)
class Block:
    """A tensor's place: bytes [offset, offset + size) during operators [start, stop)."""

    name: str
    offset: int
    size: int
    start: int
    stop: int


def blocks(compiled: Compiled) -> list[Block]:
    """Every tensor in the arena, in order of birth."""
    arena, types = compiled.arena, compiled.program.types
    made = [
        Block(name, arena.offsets[name], types[name].size, start, stop)
        for name, (start, stop) in arena.lifetimes.items()
    ]
    return sorted(made, key=lambda b: (b.start, b.offset))


_SHADES = "\u2588\u2593\u2592\u2591"


def timeline(compiled: Compiled, width: int) -> str:
    """One line an operator: the arena from left to right, each tensor in a shade of its own."""
    made = blocks(compiled)
    size = max(compiled.arena.size, 1)
    labels = [op.name for op in compiled.program.operations]
    room = max(len(label) for label in labels) if labels else 4
    room = min(room, 24)
    columns = max(width - room - 13, 16)
    shade = {b.name: _SHADES[i % len(_SHADES)] for i, b in enumerate(made)}
    live = compiled.arena.live
    lines = [f"The arena, {number(compiled.arena.size)} bytes from left to right:"]
    for step, label in enumerate(labels):
        row = [" "] * columns
        for b in made:
            if b.start <= step < b.stop:
                first = b.offset * columns // size
                last = max((b.offset + b.size) * columns // size, first + 1)
                row[first:last] = shade[b.name] * (last - first)
        peak = " <" if step == live.index(max(live)) else ""
        text = f"{shorten(label, room):<{room}} |{''.join(row)[:columns]}|{number(live[step]):>8}"
        lines.append(text + peak)
    bound = compiled.arena.plan.lower_bound
    lines.append(f"< is the peak; no plan of whole tensors is below {number(bound)} bytes.")
    return "\n".join(lines)


def draw(compiled: Compiled, path: Path) -> None:
    """Write the timeline as an .svg or .png. UsageError for another suffix or no matplotlib."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("svg", "png"):
        raise UsageError(f"cannot draw {path.suffix!r}", where=str(path), hint="use .svg or .png")
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle
    except ImportError:
        raise UsageError(
            "pictures need matplotlib", where="--memory", hint="pip install 'midge[plot]'"
        ) from None
    made = blocks(compiled)
    steps = max(len(compiled.program.operations), 1)
    figure = Figure(figsize=(max(6.0, 0.45 * steps + 2.0), 4.5), layout="constrained")
    axes = figure.add_subplot()
    colours = matplotlib.colormaps["tab20"]
    for i, b in enumerate(made):
        axes.add_patch(
            Rectangle(
                (b.start, b.offset), b.stop - b.start, b.size,
                facecolor=colours(i % 20), edgecolor="white", linewidth=1.0,
            )
        )  # fmt: skip
    live = compiled.arena.live
    peak = live.index(max(live)) if live else 0
    axes.axvspan(peak, peak + 1, facecolor="none", edgecolor="black", linestyle="--", linewidth=1.0)
    axes.annotate(
        f"peak {number(max(live, default=0))} B", (peak + 0.5, compiled.arena.size),
        xytext=(0, 6), textcoords="offset points", ha="center", annotation_clip=False, fontsize=8,
    )  # fmt: skip
    axes.set_xlim(0, steps)
    axes.set_ylim(0, max(compiled.arena.size, 1) * 1.02)
    names = [op.name for op in compiled.program.operations]
    axes.set_xticks([i + 0.5 for i in range(len(names))], names, rotation=90, fontsize=7)
    axes.set_ylabel("offset in the arena, bytes")
    axes.set_title(f"{compiled.package.name}: arena of {number(compiled.arena.size)} bytes", pad=16)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "midge"}):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    write_file(path, buffer.getvalue())
