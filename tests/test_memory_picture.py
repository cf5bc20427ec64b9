"""The picture of the arena: what it shows is what was planned, in SVG and in 80 columns."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from conftest import DIGITS, NO_SEARCH, Cli
from midge import driver
from midge.codegen.picture import Picture, Track, picture_of, timeline
from midge.core.errors import UsageError
from midge.core.options import CompileOptions
from midge.core.types import Array
from midge.driver import Compiled
from midge.target import load_target

MODES = {
    "whole": CompileOptions(search=False, prove=False, bands=False),
    "bands": NO_SEARCH,
    "streamed": CompileOptions(search=False, prove=False, stream_input=True),
}
BLOCKS = " \u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"


@cache
def digits(mode: str) -> Compiled:
    return driver.compile_file(DIGITS, load_target("cortex-m4"), MODES[mode])


def picture(mode: str) -> Picture:
    compiled = digits(mode)
    return picture_of(compiled.program, compiled.arena)


def drawn(mode: str, path: Path) -> bytes:
    pytest.importorskip("matplotlib", reason="needs pip install '.[plot]'")
    from midge.cli.memory import draw

    draw(digits(mode), path)
    return path.read_bytes()


def texts(svg: bytes) -> list[str]:
    """What is written in a picture."""
    name = "{http://www.w3.org/2000/svg}text"
    return ["".join(e.itertext()).strip() for e in ElementTree.fromstring(svg).iter(name)]


# What is shown.


def test_the_models_are_what_the_tests_need() -> None:
    assert not any(op.bands for op in digits("whole").program.operations)
    assert any(op.bands for op in digits("bands").program.operations)
    assert digits("streamed").program.arriving
    assert any(track.most < track.size for track in picture("bands").tracks)


@pytest.mark.parametrize("mode", MODES)
def test_areas_are_the_bytes_of_the_plan(mode: str) -> None:
    arena = digits(mode).arena
    shape = (len(arena.calls) * arena.steps, arena.size)
    planned, seen = np.zeros(shape, bool), np.zeros(shape, bool)
    for buffer in arena.buffers:
        for p in buffer.pieces:
            at = arena.plan.offsets[buffer.name] + p.offset
            planned[p.start : p.stop, at : at + p.size] = True
    for track in picture(mode).all_tracks:
        for a in track.areas:
            start, stop = round(a.start * arena.steps), round(a.stop * arena.steps)
            seen[start:stop, a.offset : a.offset + a.size] = True
    assert (seen == planned).all()


@pytest.mark.parametrize("mode", MODES)
def test_tracks_count_what_areas_show(mode: str) -> None:
    compiled = digits(mode)
    for track in picture(mode).all_tracks:
        alive = _bytes(track, len(track.alive), compiled.arena.size)
        assert (alive <= np.array(track.alive)).all()
        assert alive.max() <= track.most <= track.size
    assert any((_bytes(t, len(t.alive), compiled.arena.size) == t.alive).all()
               for t in picture(mode).tracks)  # fmt: skip


def _bytes(track: Track, calls: int, size: int) -> Array:
    """Bytes of a track's areas in the middle of each call."""
    used = np.zeros((calls, size), bool)
    for a in track.areas:
        middle = np.arange(calls) + 0.5
        used[(a.start <= middle) & (middle < a.stop), a.offset : a.offset + a.size] = True
    return used.sum(axis=1)


@pytest.mark.parametrize("mode", MODES)
def test_the_peak_is_the_busiest_call(mode: str) -> None:
    arena, seen = digits(mode).arena, picture(mode)
    assert seen.most == max(arena.live) <= seen.bound <= seen.size
    assert arena.live[seen.peak] == seen.most
    assert seen.peak == arena.plan.busiest // arena.steps
    operations = digits(mode).program.operations
    stage = arena.calls[seen.peak].stage - len(digits(mode).program.arriving)
    assert seen.by == operations[stage].name


def test_operators_write_in_their_calls() -> None:
    for mode in MODES:
        seen = picture(mode)
        writes = sorted(at for track in seen.tracks for at in track.writes)
        assert writes == list(range(len(seen.alive)))
    assert len(picture("streamed").tracks[0].writes) == 8  # rows of the input
    assert picture("bands").tracks[0].writes == ()


# As text.


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("mode", MODES)
def test_the_timeline_keeps_to_its_width(mode: str, width: int) -> None:
    compiled = digits(mode)
    lines = timeline(compiled.program, compiled.arena, width).splitlines()
    assert max(map(len, lines)) == width
    assert len(lines) == len(picture(mode).all_tracks) + 3


@pytest.mark.parametrize("mode", MODES)
def test_the_timeline_says_what_there_is(mode: str) -> None:
    compiled, seen = digits(mode), picture(mode)
    text = timeline(compiled.program, compiled.arena)
    lines = text.splitlines()
    for line, track in zip(lines[1:], seen.all_tracks, strict=False):
        assert line.startswith(f"{track.title} ")
        assert max(map(BLOCKS.find, line)) == 8, "its most bytes fill the line's height"
        assert f"{track.most:,}".replace(",", " ") in line
    assert lines[0].endswith("most   size")
    assert f"{len(seen.alive)} calls" in lines[0]
    assert f"the peak: call {seen.peak}, {seen.by}" in lines[-1]
    assert lines[-2].endswith(f"{seen.size:,}".replace(",", " "))
    assert lines[-1].index("^") >= lines[-2].index(" ")


def test_the_input_melts_away() -> None:
    compiled = digits("bands")
    line = timeline(compiled.program, compiled.arena).splitlines()[1]
    heights = [BLOCKS.index(c) for c in line[len("depthwise_conv2d_1 ") :] if c in BLOCKS]
    first = heights[: heights.index(0)]
    assert first == sorted(first, reverse=True)
    assert len(set(first)) > 4


@pytest.mark.parametrize("options", [[], ["--whole-tensors"], ["--stream-input"]])
def test_inspect_fits_80_columns(midge: Cli, options: list[str]) -> None:
    result = midge("inspect", DIGITS, "--no-search", *options)
    assert result.code == 0
    assert max(map(len, result.out.splitlines())) <= 80
    assert "Arena: " in result.out
    how = "one after the other" if "--whole-tensors" in options else "band by band, interleaved"
    assert how in result.out


# As a picture.


@pytest.mark.parametrize("mode", MODES)
def test_the_svg_names_tensors_peak_and_bound(mode: str, tmp_path: Path) -> None:
    seen = picture(mode)
    found = texts(drawn(mode, tmp_path / "a.svg"))
    assert {t.title for t in seen.all_tracks} <= set(found)
    peak = f"peak: {seen.most:,} bytes alive in call {seen.peak}, {seen.by}".replace(",", " ", 1)
    assert peak in found
    assert f"digits_int8 on cortex-m4: {seen.size:,} bytes of arena".replace(",", " ") in found
    assert any("no plan" in text for text in found)
    assert f"{seen.tracks[1].most:,} of 1 024".replace(",", " ") in found
    assert "bytes of the arena" in found


def test_the_svg_has_an_area_for_every_tensor(tmp_path: Path) -> None:
    svg = drawn("bands", tmp_path / "a.svg").decode()
    fills = set(re.findall(r"fill: (#[0-9a-f]{6})", svg))
    assert len(fills) >= len(picture("bands").all_tracks)
    assert "<pattern" in svg, "scratch memory is hatched"
    assert not re.search(r'<path d="[^"]*\d\.\d{3}', svg), "coordinates are rounded"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_same_plan_gives_the_same_bytes(mode: str, suffix: str, tmp_path: Path) -> None:
    first = drawn(mode, tmp_path / f"a.{suffix}")
    assert first == drawn(mode, tmp_path / f"b.{suffix}")
    assert len(first) < 150_000


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    from midge.cli.memory import draw

    with pytest.raises(UsageError, match=r"cannot draw '\.gif'"):
        draw(digits("whole"), tmp_path / "a.gif")
    assert not list(tmp_path.iterdir())


# In the package's README.


def test_the_readme_explains_bands() -> None:
    readme = digits("bands").package.files["README.md"]
    assert "Operators are computed by bands" in readme
    assert "| offset | bytes | alive | tensor | written by | last read by |" in readme
    rows = re.findall(r"^\| \d+ \| (\d+) \| (\d+) \| `", readme, re.MULTILINE)
    assert all(int(alive) <= int(size) for size, alive in rows)
    assert any(int(alive) < int(size) for size, alive in rows)
    assert "by bands" not in digits("whole").package.files["README.md"]


def test_the_readme_says_how_rows_are_fed() -> None:
    readme = digits("streamed").package.files["README.md"]
    assert "digits_int8_feed_rows(&model, next_row(), 1U);" in readme
    assert "The input comes row by row" in readme
    assert "row by row" not in digits("bands").package.files["README.md"]


@pytest.mark.parametrize("mode", MODES)
def test_the_readme_shows_the_timeline(mode: str) -> None:
    compiled = digits(mode)
    (text,) = re.findall(r"```text\n(.*?)\n```", compiled.package.files["README.md"], re.DOTALL)
    assert text == timeline(compiled.program, compiled.arena)
