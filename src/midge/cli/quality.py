"""How good a quantised model is: tables, and the noise of its layers as a picture."""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midge.cli.memory import STYLE, compact
from midge.cli.output import clean, shorten, table
from midge.core.errors import UsageError
from midge.core.extras import how_to_get
from midge.core.files import write_file
from midge.core.types import DType
from midge.quantize.report import Layer

_COLOURS = {DType.I8: "#4477aa", DType.I16: "#228833", None: "#bbbbbb"}
_NAMES = {DType.I8: "int8", DType.I16: "int16", None: "float"}
_WIDTH, _LINE = 8.0, 0.2  # inches


def type_name(dtype: DType | None) -> str:
    return _NAMES[dtype]


def decibels(value: float) -> str:
    """12.34 -> "12.3"; infinite: the layer is exact."""
    return "exact" if value == math.inf else f"{value:.1f}"


def layers_table(layers: Sequence[Layer]) -> Any:
    """Worst first, in 80 columns."""
    rows = [
        (
            _number(layer.where),
            shorten(layer.name, 30),
            shorten(layer.op, 17),
            type_name(layer.dtype),
            decibels(layer.signal_to_noise),
            f"{layer.largest:.3g}",
        )
        for layer in sorted(layers, key=lambda x: x.signal_to_noise)
    ]
    columns = ("#", "layer", "operator", "type", "SNR dB", "max error")
    return table(columns, rows, title="Signal to noise, worst first", right="r   rr")


def _number(where: str) -> str:
    """The operator's number in the file."""
    found = re.search(r"\d+", where)
    return found.group() if found else where


def draw(layers: Sequence[Layer], path: Path, title: str) -> None:
    """Write the layers' signal to noise, in the model's order, as an .svg or .png. UsageError for
    another suffix or no matplotlib."""
    kind = check_picture(path)
    try:
        import matplotlib
    except ImportError:
        raise UsageError(
            "pictures need matplotlib", where="--picture", hint=how_to_get("plot")
        ) from None
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of letters that the font has not
        figure = _figure(layers, title)
        metadata = {"Date": None} if kind == "svg" else {"Software": None}
        figure.savefig(buffer, format=kind, dpi=120, metadata=metadata)
    write_file(path, compact(buffer.getvalue()) if kind == "svg" else buffer.getvalue())


def check_picture(path: Path) -> str:
    """ "svg" or "png"; UsageError for another suffix."""
    kind = path.suffix.lower().lstrip(".")
    if kind not in ("svg", "png"):
        raise UsageError(f"cannot draw {path.suffix!r}", where=str(path), hint="use .svg or .png")
    return kind


def _figure(layers: Sequence[Layer], title: str) -> Any:
    """A bar for each layer; those that are exact reach the right edge, in grey hatching."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    figure = Figure(figsize=(_WIDTH, _LINE * len(layers) + 1.2), layout="constrained")
    axes = figure.subplots()
    finite = [x.signal_to_noise for x in layers if math.isfinite(x.signal_to_noise)]
    edge = max([*finite, 10.0]) * 1.08
    for y, layer in enumerate(layers):
        exact = layer.signal_to_noise == math.inf
        length = edge if exact else max(layer.signal_to_noise, 0.0)
        style = {"hatch": "////", "fill": False} if exact else {"color": _COLOURS[layer.dtype]}
        axes.barh(y, length, height=0.72, lw=0.3, **style)
        axes.text(length, y, f" {decibels(layer.signal_to_noise)}", va="center", fontsize=7)
    names = [clean(f"{shorten(x.name, 40)}  {shorten(x.op, 20)}") for x in layers]
    axes.set_yticks(range(len(layers)), names, fontsize=7)
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlim(0, edge * 1.1)
    axes.set_xlabel("signal to noise of the layer's output against the float model, dB")
    used = dict.fromkeys(x.dtype for x in layers)
    handles = [Patch(color=_COLOURS[d], label=type_name(d)) for d in used]
    axes.legend(handles=handles, loc="lower right", fontsize=7, frameon=False)
    axes.set_title(title, fontsize=10)
    return figure
