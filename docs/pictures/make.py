"""Draws the pictures of docs/memory.md from what Midge plans for the models of MLPerf Tiny.

    PYTHONPATH=src .venv/bin/python docs/pictures/make.py [FOLDER OF MODELS]

The models (kws_int8.tflite, vww_int8.tflite) lie in ../shared/models beside the repository by
default. Needs matplotlib: pip install '.[plot]'.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from midge import driver
from midge.cli.memory import STYLE, colour_of, compact, draw
from midge.codegen.arrange import layout_of
from midge.core.options import CompileOptions
from midge.driver import Compiled
from midge.plan.arena import Layout
from midge.plan.rows import Life, Stage
from midge.target import load_target

HERE = Path(__file__).parent
MODELS = HERE.parents[2] / "shared" / "models"
PLANS = {
    "kws_whole": ("kws_int8", CompileOptions(bands=False)),
    "kws_bands": ("kws_int8", CompileOptions()),
    "vww_bands": ("vww_int8", CompileOptions()),
    "vww_streamed": ("vww_int8", CompileOptions(stream_input=True)),
}


def main(models: Path) -> None:
    for name, (model, options) in PLANS.items():
        path = models / f"{model}.tflite"
        compiled = driver.compile_file(path, load_target("cortex-m4"), options)
        draw(compiled, HERE / f"{name}.svg")
        print(f"{name}: {compiled.arena.size} bytes")
        if name == "kws_bands":
            draw_rows(compiled, HERE / "kws_rows.svg")


def draw_rows(compiled: Compiled, path: Path) -> None:
    """Every row of the images in the middle of an inference: gone, alive, or still to come."""
    layout, arena = layout_of(compiled.program), compiled.arena
    images = [name for name, s in layout.streams.items() if s.height > 1]
    at = _moment(compiled, layout)
    call = arena.calls[at]
    stage = layout.stages[call.stage]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for column, name in enumerate(images):
            touched = _touched(stage, call.band, name)
            _column(axes, column, arena.lives[name], at, touched)
        producers = {op.output: op.name for op in compiled.program.operations}
        titles = [
            producers.get(name, "input").replace("depthwise_", "depthwise_\n") for name in images
        ]
        axes.set_xticks([i + 0.4 for i in range(len(images))], titles, fontsize=7)
        axes.xaxis.tick_top()
        axes.set_yticks([0, 1], ["first row", "last row"], fontsize=7)
        axes.tick_params(length=0)
        axes.set_xlim(-0.1, len(images))
        axes.set_ylim(1.01, -0.01)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.set_title(_caption(stage, call.band, at, len(arena.calls)), fontsize=9, pad=12)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    path.write_bytes(compact(buffer.getvalue()))


def _moment(compiled: Compiled, layout: Layout) -> int:
    """The call in the middle of those of the operator in the middle that reads several rows."""
    depthwise = [
        i for i, s in enumerate(layout.stages)
        if len(s.bands) > 1 and s.reads and s.name.startswith("depthwise")
    ]  # fmt: skip
    wanted = depthwise[len(depthwise) // 2]
    calls = [at for at, call in enumerate(compiled.arena.calls) if call.stage == wanted]
    return calls[len(calls) // 2]


def _touched(stage: Stage, band: int, name: str) -> range:
    """The rows of a stream that a call reads or writes."""
    if stage.writes == name:
        return range(*stage.bands[band])
    return next((range(*r.needs[band]) for r in stage.reads if r.stream == name), range(0))


def _column(axes: Any, column: int, lives: tuple[Life, ...], at: int, touched: range) -> None:
    height = 1 / len(lives)
    for row, life in enumerate(lives):
        gone, coming = life.death < at, life.birth > at
        face = "#e4e4e4" if gone else "white" if coming else colour_of(column)
        edge, width = ("black", 1.3) if row in touched else ("#b8b8b8", 0.4)
        axes.add_patch(
            Rectangle(
                (column, row * height), 0.8, height * 0.86,
                fc=face, ec=edge, lw=width, zorder=2 if row in touched else 1,
            )
        )  # fmt: skip


def _caption(stage: Stage, band: int, at: int, calls: int) -> str:
    read = stage.reads[0].needs[band]
    made = stage.bands[band]
    return (
        f"call {at} of {calls}: {stage.name} makes {_rows(*made)} from {_rows(*read)} (framed)\n"
        "grey: gone; in colour: in the arena; white: not there yet"
    )


def _rows(start: int, stop: int) -> str:
    return f"row {start}" if stop == start + 1 else f"rows {start} to {stop - 1}"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else MODELS)
