"""Which of several spellings a micro-kernel takes: at the limits where another one begins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from test_rows_depthwise import BANDS, band

from midge.kernels.arm_dsp import gemm, gemm16
from midge.kernels.arm_dsp.column import Column, _products
from midge.kernels.arm_dsp.gemm import Gemm
from midge.kernels.arm_dsp.gemm16 import Gemm16
from midge.kernels.arm_dsp.plane import Plane
from midge.kernels.arm_dsp.plane_asm import PlaneWriter
from midge.kernels.arm_dsp.plane_rows import RowsWriter, Sum, Word, inside
from midge.kernels.arm_dsp.scaling import Line
from midge.kernels.arm_dsp.window import Window
from midge.kernels.arm_fpu.products import REGISTERS, Products

PLAIN = Line(8, 0, -128, 127)


def turn_of(lines: Sequence[str]) -> list[str]:
    """The loop at label 1; nothing if there is none."""
    if "1:" not in lines:
        return []
    first = lines.index("1:")
    return [*lines[first : lines.index("bne 1b", first)]]


def loads(lines: Sequence[str]) -> int:
    return sum(line.startswith("ldr") for line in lines)


# Copies of planes.

# Rows of 15 columns: five loads.
COPIED = Plane(2, 9, 15, (20, 1, 180), 9, 15, (3, 3), (1, 1), 1, 1, -7, 2, 1, PLAIN)


@pytest.mark.parametrize("pointers", ["", "rows"])
@pytest.mark.parametrize("change", [{"top": 11}, {"top": 12}, {"left": 17}, {"left": 18}])
def test_nothing_is_copied_where_all_windows_lie_in_the_padding(
    change: dict[str, Any], pointers: Any
) -> None:
    plane = replace(COPIED, pointers=pointers)
    assert PlaneWriter(plane).copy()
    assert PlaneWriter(replace(plane, **change)).copy() == []


@pytest.mark.parametrize(
    ("width", "pitch", "rows"),
    [
        (15, 20, 3),
        (15, 1360, 3),  # 3 * 1360 + 15 = 4095
        (15, 1361, 1),
        (16, 1019, 4),
        (16, 1020, 1),  # 4 * 1020 + 16 = 4096
        (16, 2000, 1),
    ],
)
def test_rows_are_copied_as_many_at_a_time_as_offsets_reach(
    width: int, pitch: int, rows: int
) -> None:
    plane = replace(
        COPIED, width=width, out_width=width, x_strides=(pitch, 1, 9 * pitch), straight=8
    )
    pieces = {15: 5, 16: 4}[width]
    assert loads(turn_of(PlaneWriter(plane).copy())) == rows * pieces


def test_rows_by_pointers_are_written_out_if_they_are_few() -> None:
    """Four loads for each word, half-word and byte that `straight` allows."""
    plane = replace(COPIED, pointers="rows", width=16, out_width=16, straight=8)
    for height, looped in ((8, False), (9, True)):
        own = replace(plane, height=height, out_height=height)
        assert bool(turn_of(PlaneWriter(own).copy())) == looped


# Planes that are read where they lie.

DIRECT = {name: p for name, p in BANDS.items() if p.direct}


def test_pointers_move_to_the_next_channel_once() -> None:
    for name, plane in DIRECT.items():
        lines = plane.instruction().asm
        body = lines[lines.index("9:") :]
        for row in range(plane.height):
            slot = f"[sp, #{4 * row}]" if row else "[sp]"
            uses = [line.split()[0] for line in body if line.endswith(f", {slot}")]
            assert uses[-1] == "str", (name, row)
            assert set(uses[:-1]) == {"ldr"}, (name, row)


_PRODUCT = re.compile(r"sm(?:la|u)(?:l?[bt][bt]|(d|ad)) (\w+),")


def test_every_tap_inside_the_image_is_multiplied_once() -> None:
    for name, plane in DIRECT.items():
        spans = [inside(plane, o) for o in range(plane.out_width)]
        taps = sum(last - first + 1 for first, last in spans)
        found = map(_PRODUCT.match, plane.instruction().asm)
        products = sum(2 if m[1] else 1 for m in found if m)
        assert products == plane.out_height * plane.taps[0] * taps, name


class CheckedRows(RowsWriter):
    """Words that wait are in registers that no sum has until then."""

    def word_of_rows(
        self,
        first: int,
        rows: range,
        word: Word,
        spare: list[str],
        sums: dict[tuple[int, int], Sum],
    ) -> tuple[list[str], list[str]]:
        made = super().word_of_rows(first, rows, word, spare, sums)
        for row, register in zip(rows, made[1], strict=False):
            begun = (s for s in sums.values() if s.start or s.row * self.p.strides[0] < row)
            assert register not in {s.register for s in begun}, (row, word)
        return made


def test_words_that_wait_are_in_nobodys_way() -> None:
    for plane in DIRECT.values():
        assert CheckedRows(plane).lines()


def test_a_pointer_moves_with_its_last_load_if_the_offset_fits() -> None:
    for pitch, fits in ((255, True), (256, False), (300, False)):
        plane = replace(band(9, 2, pitch=pitch), direct=True)
        moves = [s for s in plane.instruction().asm if re.search(r"\], #", s)]
        assert any(s.endswith(f", #{pitch}") for s in moves) == fits


# Columns.


def test_products_of_columns_are_those_of_the_window() -> None:
    """Each tap of each output once, and nothing behind the last tap."""
    for taps in range(1, 10):
        for rows in range(1, 6):
            column = Column(4, rows, taps, 4, 1, PLAIN)
            pairs = tuple(f"p{i}" for i in range(column.pairs))
            sums = tuple(f"s{i}" for i in range(rows))
            found = []
            for word in range(column.weights):
                first = 2 * (word - column.even) + 1 if word >= column.even else 2 * word
                for op, total, pair in _products(column, word, pairs, sums):
                    halves = [(0, 0), (1, 1)] if op == "d" else [tuple("bt".index(c) for c in op)]
                    for pixel, weight in halves:
                        row, tap = int(total[1:]), first + weight
                        assert 2 * int(pair[1:]) + pixel == row + tap
                        found.append((row, tap))
            assert sorted(found) == [(r, t) for r in range(rows) for t in range(taps)]


# Blocks of channels and pixels.


@pytest.mark.parametrize("straight", [3, 4, 8])
def test_runs_are_written_out_as_long_as_they_may_be(straight: int) -> None:
    """Whose steps are too many to be written out together."""
    for steps, looped in ((straight, False), (straight + 1, True)):
        one = Gemm(1, 4, 6, 3, 40, steps, 2, 4, 1, PLAIN, straight=straight)
        two = Gemm16(2, 4, 6, 3, 40, 2 * steps, 2, 4, 1, None, straight=straight)
        for kernel in (one, two, replace(two, narrow=False)):
            assert bool(turn_of(kernel.instruction().asm)) == looped, kernel


def test_all_blocks_have_registers() -> None:
    """Of whatever fits beside the sums; few of them are used twice in a step."""
    for pairs in (1, 2, 3, 4):
        for pixels in (1, 2, 3, 4):
            if 2 * pairs * pixels <= 8:
                words = loads(step_of(gemm._Writer(Gemm(pairs, pixels, 8, 1, 0, 1, 1, 1, 1, None))))
                assert words == pairs + pixels
    for channels in (1, 2, 3, 4, 6, 8):
        for pixels in (1, 2, 3, 4):
            for long in (False, True):
                for narrow in (False, True):
                    sums = channels * pixels * (1 + long)
                    if sums > 8 or min(channels, pixels) > 2 or (narrow and channels % 2):
                        continue
                    block = Gemm16(
                        channels, pixels, 8, 1, 0, 2, 1, 1, 1, None, long=long, narrow=narrow
                    )
                    words = loads(step_of(gemm16._Writer(block)))
                    assert words == pixels + channels // (2 if narrow else 1)


def step_of(writer: gemm._Writer | gemm16._Writer) -> list[str]:
    """One word of each pixel and channel; every register that is multiplied was loaded, and not
    for something else in between."""
    lines = writer.sums() if isinstance(writer, gemm._Writer) else writer.products()
    held: dict[str, set[str]] = {}
    for line in lines:
        op, *operands = re.findall(r"[\w.]+", line.partition("[")[0])
        match op:
            case "ldr" | "ldrsh":
                held[operands[0]] = {line.partition("[")[2]}
            case "sxtb16":
                held[operands[0]] = held[operands[1]]
            case "smlad" | "smuad":
                assert held[operands[1]] != held[operands[2]]
            case "smlald":
                assert held[operands[2]] != held[operands[3]]
    return lines


# Windows of rows that lie anywhere.


@pytest.mark.parametrize(
    ("changes", "straight"),
    [
        ({"columns": 12}, True),  # 48 loads
        ({"columns": 13}, False),
        ({"columns": 12, "channels": 20}, True),
        ({"rows": 2, "columns": 6}, True),
        ({"rows": 2, "columns": 8}, False),
        ({"columns": 2, "step": 4083}, True),  # an offset of 4095
        ({"columns": 2, "step": 4084}, False),
    ],
)
def test_taps_of_rows_are_written_out_if_they_are_few_and_near(
    changes: dict[str, Any], straight: bool
) -> None:
    window = Window("max", **{"rows": 1, "columns": 1, "pitch": 0, "step": 16, "channels": 16,
                              "pointers": True, **changes})  # fmt: skip
    assert bool(turn_of(window.instruction().asm)) != straight


def test_a_run_shorter_than_a_turn_is_written_out() -> None:
    """Three pixels, then a whole turn of four, then one more."""
    for columns, loads_ in ((3, 3), (4, 4), (5, 5), (8, 4), (9, 5)):
        window = Window("max", 5, columns, 0, 16, 16, pointers=True)
        lines = window.instruction().asm
        words = [s for s in lines if re.match(r"ldr r1[01], \[r12", s)]
        assert len(words) == 5 * 4 * loads_, columns


# Float blocks.


def test_the_next_steps_values_are_loaded_ahead_if_they_have_registers() -> None:
    for pixels, channels, ahead in ((4, 4, True), (1, 8, True), (4, 5, False), (3, 6, False)):
        block = Products(pixels, channels, 2, 5, 0, 7, 300, fused=True)
        assert block.ahead == ahead
        assert not replace(block, pixels=2, channels=2, fused=False).ahead
        used = {int(n) for s in block.instruction().asm for n in re.findall(r"\bs(\d+)", s)}
        assert used <= {*range(REGISTERS)}
