"""The arena over time: what lies where during which calls, and how much of each tensor is alive.

Time counts calls. `timeline` draws it with characters; whoever draws rectangles takes `picture_of`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from midge.codegen.arrange import layout_of, writers_of
from midge.codegen.names import port_names
from midge.loop.program import Program
from midge.plan.arena import Arena, Layout, busiest_of_calls, prepare
from midge.plan.buffers import Buffer, Piece

SCRATCH = "scratch"
CALLER = "the caller"  # of the model: who writes its inputs


@dataclass(frozen=True, slots=True)
class Area:
    """Bytes offset <= byte < offset + size of the arena during calls start <= call < stop, of which
    some begin and end within a call."""

    offset: int
    size: int
    start: float
    stop: float


@dataclass(frozen=True, slots=True)
class Track:
    """A tensor, or the scratch memory of all calls. name: of the buffer.  title: the operator that
    writes it, or the port.  size: bytes of the whole tensor.  alive: the most of its bytes that are
    in use at once in each call; rows of a band that lie between each other are in use together.
    writes: the calls that write it."""

    name: str
    title: str
    size: int
    alive: tuple[int, ...]
    writes: tuple[int, ...]
    areas: tuple[Area, ...]

    @property
    def most(self) -> int:
        """Bytes alive at once, at most."""
        return max(self.alive, default=0)


@dataclass(frozen=True, slots=True)
class Picture:
    """tracks: tensors in the order of the operators.  scratch: None if no call needs any.  alive:
    bytes of the arena in use in each call.  peak: the first call with the most of them; by: the
    operator that it is of.  bound: bytes that no plan of these rows is below."""

    tracks: tuple[Track, ...]
    scratch: Track | None
    alive: tuple[int, ...]
    size: int
    bound: int
    peak: int
    by: str

    @property
    def all_tracks(self) -> tuple[Track, ...]:
        """Tensors, and scratch memory behind them."""
        return self.tracks if self.scratch is None else (*self.tracks, self.scratch)

    @property
    def most(self) -> int:
        """Bytes alive at the peak."""
        return max(self.alive, default=0)


def picture_of(program: Program, arena: Arena) -> Picture:
    """What there is to see of `arena`, which is `program`'s."""
    layout = layout_of(program)
    titles = _titles(program)
    writes: dict[str, list[int]] = {}
    for at, call in enumerate(arena.calls):
        writes.setdefault(layout.stages[call.stage].writes, []).append(at)
    tracks = tuple(
        _track(layout, arena, name, titles[name], pieces, writes.get(name, ()))
        for name, pieces in _pieces(layout, arena).items()
    )
    alive = arena.live
    peak = alive.index(max(alive)) if alive else 0
    stages = [CALLER] * len(program.arriving) + [op.name for op in program.operations]
    by = stages[arena.calls[peak].stage] if alive else ""
    scratch = _scratch(program, layout, arena)
    return Picture(tracks, scratch, alive, arena.size, arena.plan.lower_bound, peak, by)


def _titles(program: Program) -> dict[str, str]:
    """Buffer -> the name under which it is shown."""
    titles = writers_of(program)
    for values, base in ((program.outputs, "output"), (program.inputs, "input")):
        for value, port in zip(values, port_names(base, len(values)), strict=True):
            titles[program.buffer(value)] = port
    return titles


def _pieces(layout: Layout, arena: Arena) -> dict[str, tuple[Piece, ...]]:
    """Of each tensor its bytes in the arena, in steps."""
    blocks = prepare(layout, arena.calls)
    return {
        name: tuple(
            Piece(arena.rows[name][block[0]] + p.offset, p.size, p.start, p.stop)
            for block in stream.blocks
            for p in blocks.block(stream, block)
            if p.size
        )
        for name, stream in layout.streams.items()
    }


def _track(
    layout: Layout,
    arena: Arena,
    name: str,
    title: str,
    pieces: tuple[Piece, ...],
    writes: Sequence[int],
) -> Track:
    """writes: the calls that write it."""
    steps = arena.steps
    areas = [Area(p.offset, p.size, p.start / steps, p.stop / steps) for p in pieces]
    alive = busiest_of_calls([Buffer(name, pieces)], len(arena.calls), steps)
    size = layout.streams[name].height * layout.streams[name].row
    return Track(name, title, size, alive, tuple(writes), tuple(joined(areas)))


def _scratch(program: Program, layout: Layout, arena: Arena) -> Track | None:
    alive, areas = [0] * len(arena.calls), []
    for at, call in enumerate(arena.calls):
        for name, size in layout.works[call.stage][call.band].scratch.items():
            alive[at] += size
            areas.append(Area(arena.scratch[name][call.band], size, at, at + 1))
    size = sum(program.types[name].size for name in arena.scratch)
    return Track(SCRATCH, SCRATCH, size, tuple(alive), (), tuple(joined(areas))) if areas else None


def joined(areas: Iterable[Area]) -> Iterator[Area]:
    """Areas one above the other at the same time as one."""
    last: Area | None = None
    for area in sorted(areas, key=lambda a: (a.start, a.stop, a.offset)):
        if last is None:
            last = area
            continue
        same = (last.start, last.stop) == (area.start, area.stop)
        if same and last.offset + last.size == area.offset:
            last = Area(last.offset, last.size + area.size, last.start, last.stop)
            continue
        yield last
        last = area
    if last is not None:
        yield last


_LEVELS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"  # empty to full, by eighths
_MOST_NAME = 20


def timeline(program: Program, arena: Arena, width: int = 80) -> str:
    """The tensors in at most `width` columns (60 or more): a line each, time from left to right,
    as high as the part of its most bytes that is alive."""
    picture = picture_of(program, arena)
    calls = len(picture.alive)
    tracks = [t for t in picture.all_tracks if t.size]
    labels = [_shorten(t.title, _MOST_NAME) for t in tracks]
    room = max(len(label) for label in [*labels, "all together"])
    numbers = [(_number(t.most), "" if t is picture.scratch else _number(t.size)) for t in tracks]
    total = (_number(picture.most), _number(picture.size))
    wide = [max(map(len, column)) for column in zip(*numbers, total, ("most", "size"), strict=True)]
    columns = width - room - sum(wide) - 5
    end = f"{calls} calls" if calls != 1 else "1 call"
    lines = [f"{'':<{room}} 0{end:>{columns - 1}}  {'most':>{wide[0]}}  {'size':>{wide[1]}}"]
    for label, track, (most, size) in zip(labels, tracks, numbers, strict=True):
        bar = _bar(track.alive, track.most, columns)
        lines.append(f"{label:<{room}} {bar}  {most:>{wide[0]}}  {size:>{wide[1]}}")
    bar = _bar(picture.alive, picture.size, columns)
    lines.append(f"{'all together':<{room}} {bar}  {total[0]:>{wide[0]}}  {total[1]:>{wide[1]}}")
    if calls:
        at = room + 1 + picture.peak * columns // calls
        text = f"the peak: call {picture.peak}, {picture.by}"
        before = at - len(text) - 1
        lines.append(" " * at + f"^ {text}" if before < 0 else " " * before + f"{text} ^")
    return "\n".join(line.rstrip() for line in lines)


def _bar(values: Sequence[int], full: int, columns: int) -> str:
    """The most of each of `columns` parts of `values`, in eighths of `full` rounded up."""
    count, text = len(values), ""
    for column in range(columns if count else 0):
        first = column * count // columns
        last = max((column + 1) * count // columns, first + 1)
        text += _LEVELS[-(-max(values[first:last]) * 8 // max(full, 1))]
    return f"{text:<{columns}}"


def _number(value: int) -> str:
    return f"{value:,}".replace(",", " ")


def _shorten(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}\u2026"
