"""The arena over time as a picture: bytes upwards, calls to the right, an area for each row."""

from __future__ import annotations

import colorsys
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from midge.cli.output import number
from midge.codegen.picture import Area, Picture, Track, joined, picture_of
from midge.core.errors import UsageError
from midge.core.extras import how_to_get
from midge.core.files import write_file
from midge.core.types import Array
from midge.driver import Compiled

Colour = tuple[float, float, float]
Box = tuple[float, float, float, float]  # left, right, low, high

_WIDTH, _ARENA_HEIGHT, _LINE = 10.5, 4.6, 0.17  # inches: all, the arena, an operator
_THICK = 0.36  # half of a bar of an operator, in lines
_THIN = 4  # points: lower areas get no lines between them
_MOMENTS = 1200  # in time that can be told apart
_LIGHTNESS = (0.66, 0.76, 0.6, 0.82, 0.71)
_GREY = "#d4d4d4"
STYLE: Any = {
    "svg.hashsalt": "midge",  # the same names of clips in every run
    "svg.fonttype": "none",  # text stays text: small, and can be searched
    "font.family": "sans-serif",
    "font.size": 8,
    "text.parse_math": False,  # a $ in a name is a $
    "hatch.linewidth": 0.4,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(compiled: Compiled, path: Path) -> None:
    """Write the arena over time as an .svg or .png. UsageError for another suffix or no
    matplotlib."""
    picture = picture_of(compiled.program, compiled.arena)
    title = f"{compiled.package.name} on {compiled.package.target.name}"
    save(lambda: _figure(picture, title), path, "--memory")


def save(figure: Callable[[], Any], path: Path, option: str) -> None:
    """Write a figure, made in Midge's style, as an .svg or .png: the same bytes every time.
    UsageError for another suffix or no matplotlib."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("svg", "png"):
        raise UsageError(f"cannot draw {path.suffix!r}", where=str(path), hint="use .svg or .png")
    try:
        import matplotlib
    except ImportError:
        raise UsageError(
            "pictures need matplotlib", where=option, hint=how_to_get("plot")
        ) from None
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure().savefig(buffer, format=kind, dpi=120, metadata=metadata)
    write_file(path, compact(buffer.getvalue()) if kind == "svg" else buffer.getvalue())


# With more than two decimals: a tenth of a point is enough, and a third of the bytes.
_COORDINATE = re.compile(rb"-?\d+\.\d{3,}")


def compact(svg: bytes) -> bytes:
    """A picture of matplotlib with fewer decimals."""
    return _COORDINATE.sub(_rounded, svg)


def _rounded(found: re.Match[bytes]) -> bytes:
    return f"{float(found[0]):.1f}".rstrip("0").rstrip(".").encode()


def _figure(picture: Picture, title: str) -> Any:
    """The arena, and below it when each operator runs."""
    from matplotlib.figure import Figure

    below = _LINE * (len(picture.all_tracks) + 1)
    figure = Figure(figsize=(_WIDTH, _ARENA_HEIGHT + below + 1.0), layout="constrained")
    arena, strip = figure.subplots(
        2, 1, sharex=True, height_ratios=(_ARENA_HEIGHT, below), gridspec_kw={"hspace": 0.02}
    )
    colours = [colour_of(i) for i in range(len(picture.tracks))]
    _arena(arena, picture, colours)
    _strip(strip, picture, colours)
    _peak(arena, strip, picture)
    arena.set_title(f"{title}: {number(picture.size)} bytes of arena", pad=22, fontsize=10)
    return figure


def colour_of(i: int) -> Colour:
    """Of the i-th tensor: neighbours differ in hue (by the golden angle) and in lightness."""
    return colorsys.hls_to_rgb((0.58 + i * 0.381966) % 1.0, _LIGHTNESS[i % 5], 0.6)


def _arena(axes: Any, picture: Picture, colours: Sequence[Colour]) -> None:
    """What lies where: an area for the rows of a tensor that live alike, grey for scratch."""
    from matplotlib.patches import PathPatch

    for track, colour in zip(picture.tracks, colours, strict=True):
        boxes = _boxes(picture, track)
        if boxes:
            edge = _edge(picture, boxes, colour)
            axes.add_patch(PathPatch(_outline(boxes), fc=colour, snap=False, **edge))
    if picture.scratch is not None:
        path = _outline(_boxes(picture, picture.scratch))
        axes.add_patch(PathPatch(path, fc=_GREY, ec="#8a8a8a", lw=0, hatch="//////", snap=False))
    axes.set_xlim(0, max(len(picture.alive), 1))
    axes.set_ylim(0, max(picture.size, 1) * 1.02)
    axes.yaxis.set_major_formatter(lambda value, _: number(int(value)))
    axes.set_ylabel("bytes of the arena")
    axes.tick_params(axis="x", bottom=False, labelbottom=False)
    _bounds(axes, picture)
    for name, x, y in _names(picture):
        axes.text(x, y, name, ha="center", va="center", fontsize=7, zorder=4)


def _edge(picture: Picture, boxes: Sequence[Box], colour: Colour) -> dict[str, Any]:
    """White lines between areas, thin where there are many; none where they would hide them."""
    point = picture.size / (_ARENA_HEIGHT * 72)
    if min(high - low for _, _, low, high in boxes) < _THIN * point:
        return {"ec": colour, "lw": 0.15}
    return {"ec": "white", "lw": 0.6 if len(picture.alive) < 60 else 0.25}


def _boxes(picture: Picture, track: Track) -> list[Box]:
    """The areas of a track, joined where nobody sees that they begin or end at different times."""
    unit = max(len(picture.alive), 1) / _MOMENTS
    seen = (
        Area(a.offset, a.size, round(a.start / unit) * unit, round(a.stop / unit) * unit)
        for a in track.areas
    )
    return [(a.start, a.stop, a.offset, a.offset + a.size) for a in joined(seen)]


def _outline(boxes: Sequence[Box]) -> Any:
    """Rectangles as one path."""
    from matplotlib.path import Path as Outline

    corners, codes = [], []
    for left, right, low, high in boxes:
        corners += [(left, low), (left, high), (right, high), (right, low), (left, low)]
        codes += [Outline.MOVETO, *[Outline.LINETO] * 3, Outline.CLOSEPOLY]
    return Outline(corners, codes)


def _bounds(axes: Any, picture: Picture) -> None:
    """The size of the arena and what no plan is below, as lines with their numbers at the right."""
    same = picture.size == picture.bound
    note = f"{number(picture.size)}\nno plan\nis below" if same else number(picture.size)
    axes.axhline(picture.size, color="black", lw=0.9)
    _beside(axes, picture.size, note, "top" if same else "bottom")
    if not same:
        axes.axhline(picture.bound, color="black", lw=0.9, ls=(0, (4, 3)))
        _beside(axes, picture.bound, f"{number(picture.bound)}\nno plan\nis below", "top")


def _beside(axes: Any, y: float, text: str, side: str) -> None:
    axes.annotate(
        text, (1, y), xycoords=("axes fraction", "data"), xytext=(4, 0), fontsize=7,
        textcoords="offset points", va=side, ha="left", annotation_clip=False,
    )  # fmt: skip


def _peak(arena: Any, strip: Any, picture: Picture) -> None:
    """A line through both parts at the busiest call."""
    if not picture.alive:
        return
    at, calls = picture.peak + 0.5, len(picture.alive)
    for axes in (arena, strip):
        axes.axvline(at, color="black", lw=0.7, ls=":", zorder=3)
    side = "left" if at < calls / 3 else "right" if at > calls * 2 / 3 else "center"
    arena.annotate(
        f"peak: {number(picture.most)} bytes alive in call {picture.peak}, {picture.by}",
        (at, picture.size * 1.02), xytext=(0, 7), textcoords="offset points",
        ha=side, fontsize=8, annotation_clip=False,
    )  # fmt: skip


def _strip(axes: Any, picture: Picture, colours: Sequence[Colour]) -> None:
    """A line for each tensor: when calls write it, and how much of it is alive at most."""
    from matplotlib.patches import PathPatch

    tracks = picture.all_tracks
    for line, track in enumerate(tracks):
        colour = colours[line] if line < len(colours) else _GREY
        calls = track.writes if track is not picture.scratch else _used(track)
        bars = [(a, b, line - _THICK, line + _THICK) for a, b in _spans(calls)]
        if bars:
            axes.add_patch(PathPatch(_outline(bars), fc=colour, lw=0, snap=False))
        of = "" if track is picture.scratch else f" of {number(track.size)}"
        axes.annotate(
            f"{number(track.most)}{of}", (1, line), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", va="center", fontsize=7,
            annotation_clip=False,
        )  # fmt: skip
    axes.set_ylim(len(tracks) - 0.4, -0.6)
    labels = axes.set_yticks(range(len(tracks)), [t.title for t in tracks], fontsize=7)
    for tick, colour in zip(labels, colours, strict=False):
        swatch = {"boxstyle": "square,pad=0.25", "fc": colour, "ec": "none"}
        tick.label1.set_bbox(swatch)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(
        "calls; below the arena: when each operator runs, and how many bytes of what it writes are "
        "alive at once"
    )


def _used(track: Track) -> tuple[int, ...]:
    return tuple(at for at, alive in enumerate(track.alive) if alive)


def _spans(calls: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Half-open spans of calls that follow each other."""
    first = 0
    for i, call in enumerate(calls):
        if i + 1 == len(calls) or calls[i + 1] != call + 1:
            yield calls[first], call + 1
            first = i + 1


# Of the arena's picture, in which room for a name is looked for: a letter wide, half a line high.
_CELLS = (160, 64)


def _names(picture: Picture) -> Iterator[tuple[str, float, float]]:
    """(name, x, y) where a tensor's area has room for its name."""
    calls = max(len(picture.alive), 1)
    top = picture.size * 1.02
    owners = _owners(picture, calls, top)
    for i, track in enumerate(picture.tracks):
        place = _room(owners == i, len(track.title) + 2, 2)
        if place is not None:
            x, y = place
            yield track.title, x * calls / _CELLS[0], y * top / _CELLS[1]


def _owners(picture: Picture, calls: int, top: float) -> Array:
    """Which track is seen in each cell; -1 for none."""
    owners = np.full(_CELLS, -1)
    tracks = [*enumerate(picture.tracks)]
    if picture.scratch is not None:
        tracks.append((-1, picture.scratch))
    for i, track in tracks:
        for a in track.areas:
            left, right = (round(v * _CELLS[0] / calls) for v in (a.start, a.stop))
            low, high = (round(v * _CELLS[1] / top) for v in (a.offset, a.offset + a.size))
            owners[left:right, low:high] = i
    return owners


def _room(mine: Array, width: int, height: int) -> tuple[float, float] | None:
    """The middle of the place for width x height cells that is nearest to the middle of `mine`."""
    sums = np.zeros((mine.shape[0] + 1, mine.shape[1] + 1), np.int64)
    sums[1:, 1:] = mine.cumsum(0).cumsum(1)
    inside = (
        sums[width:, height:] - sums[:-width, height:] - sums[width:, :-height]
        + sums[:-width, :-height]
    )  # fmt: skip
    x, y = np.nonzero(inside == width * height)
    if not len(x):
        return None
    mean_x, mean_y = (float(v.mean()) for v in np.nonzero(mine))
    centre_x, centre_y = x + width / 2, y + height / 2
    # A cell is about twice as high as wide in the eye.
    best = int((((centre_x - mean_x) / 2) ** 2 + (centre_y - mean_y) ** 2).argmin())
    return float(centre_x[best]), float(centre_y[best])
