"""The float twins of the MLPerf Tiny models quantised by Midge, beside the int8 models shipped.

    python benchmarks/quantize_twins.py [--count 200] [--samples 100] [--no-search] [--json FILE]
                                        [--methods] [MODEL ...]

Inputs are those of `twin_inputs.py`, others for calibration than for the comparison. Per model:
bytes of the .tflite file, of constants and of arena, estimated cycles on a Cortex-M4; in how many
inputs the greatest output is at the same place; signal to noise of the outputs against the float
model, in dB. `--methods`: instead, that signal to noise by the method that chooses the ranges, with
bias correction and without.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from twin_inputs import inputs_of

from midge import driver
from midge.cli.output import number, table
from midge.core.files import write_file
from midge.core.options import CompileOptions
from midge.core.types import Array
from midge.data import random_inputs
from midge.export.tflite import write
from midge.graph.evaluate import evaluate_all
from midge.graph.ir import Graph
from midge.quantize.calibrate import runnable
from midge.quantize.options import METHODS, Options
from midge.quantize.quantizer import build, learn, quantize
from midge.quantize.report import as_inputs, as_real, decibels
from midge.run import RUNNERS
from midge.target import load_target

SHARED = Path(__file__).parents[2] / "shared" / "models"
MODELS = ("kws", "vww", "resnet", "ad", "hello_world")


@dataclass(frozen=True, slots=True)
class Figures:
    """One of a pair. agreement: with the float model, of `count` inputs."""

    model: str
    maker: str
    file: int
    constants: int
    arena: int
    cycles: int
    agreement: int
    snr_db: float
    seconds: float


def outputs_of(graph: Graph, samples: list[dict[str, Array]]) -> Array:
    """Real numbers, [samples, elements]."""
    plain = runnable(graph)
    (name,) = graph.outputs
    found = [evaluate_all(plain, as_inputs(graph, s))[name] for s in samples]
    return np.stack([as_real(f, graph.types[name]).reshape(-1) for f in found]).astype(np.float64)


def by_method(model: str, count: int) -> dict[str, tuple[float, float]]:
    """By method, dB with bias correction and without; `count` inputs, and as many to calibrate."""
    floats = driver.load(SHARED / f"{model}_float.tflite")
    learned = learn(floats, samples_for(floats, inputs_of(model, count, 1)), Options())
    samples = samples_for(floats, inputs_of(model, count, 2))
    want = outputs_of(floats, samples)

    def noise(method: str, corrected: bool) -> float:
        graph = build(learned, Options(method=method, bias_correction=corrected)).graph
        have = outputs_of(graph, samples)
        return decibels(float((want**2).sum()), float(((want - have) ** 2).sum()))

    return {method: (noise(method, True), noise(method, False)) for method in METHODS}


def samples_for(graph: Graph, arrays: Array) -> list[dict[str, Array]]:
    (name,) = graph.inputs
    return [{name: a.reshape(graph.types[name].shape)} for a in arrays]


def cost(graph: Graph, search: bool) -> tuple[int, int, int]:
    """Bytes of constants, of arena, and cycles."""
    made = driver.compile_graph(graph, load_target("cortex-m4"), CompileOptions(search=search))
    session = RUNNERS["emulator"].load(made.package, toolchain=None, optimize=None)
    run = session.run(random_inputs(made.model, 1, 0)[0])
    session.close()
    return made.package.weights_size, made.package.arena_size, run.cycles or 0


def compare(model: str, count: int, samples: int, search: bool) -> tuple[Figures, Figures, int]:
    """Midge's, the shipped one, and the inputs in which those two agree."""
    floats = driver.load(SHARED / f"{model}_float.tflite")
    shipped = driver.load(SHARED / f"{model}_int8.tflite")
    calibration = samples_for(floats, inputs_of(model, samples, 1))
    arrays = inputs_of(model, count, 2)
    start = time.perf_counter()
    own = quantize(floats, calibration, Options()).graph
    seconds = time.perf_counter() - start
    want = outputs_of(floats, samples_for(floats, arrays))
    figures, answers = [], []
    for maker, graph in (("Midge", own), ("shipped", shipped)):
        have = outputs_of(graph, samples_for(graph, arrays))
        size = (
            len(write(graph)) if graph is own else (SHARED / f"{model}_int8.tflite").stat().st_size
        )
        constants, arena, cycles = cost(graph, search)
        noise = decibels(float((want**2).sum()), float(((want - have) ** 2).sum()))
        figures.append(
            Figures(
                model, maker, size, constants, arena, cycles, same(want, have), noise,
                seconds if graph is own else 0.0,
            )
        )  # fmt: skip
        answers.append(have)
    return figures[0], figures[1], same(*answers)


def same(a: Array, b: Array) -> int:
    """In how many rows the greatest element is at the same place."""
    return int((a.argmax(1) == b.argmax(1)).sum())


def show(pairs: list[tuple[Figures, Figures, int]], count: int, out: Console) -> None:
    rows: list[tuple[str, ...]] = []
    for own, shipped, both in pairs:
        for f in (own, shipped):
            agreement = f"{f.agreement} / {count}" if f.model != "hello_world" else "-"
            rows.append(
                (
                    f.model, f.maker, number(f.file), number(f.constants), number(f.arena),
                    number(f.cycles), agreement, f"{f.snr_db:.1f}",
                    str(both) if f is own and f.model != "hello_world" else "",
                )
            )  # fmt: skip
    columns = ("model", "by", "file", "const", "arena", "cycles", "argmax", "SNR dB", "both")
    out.print(table(columns, rows, right="  rrrrrrr"))
    out.print(
        "argmax: as the float model; both: Midge's as the shipped one. Calibration: "
        + ", ".join(f"{own.model} {own.seconds:.1f} s" for own, _, _ in pairs)
    )


def show_methods(found: dict[str, dict[str, tuple[float, float]]], out: Console) -> None:
    rows = [
        (model, *(f"{corrected:.1f} ({plain:.1f})" for corrected, plain in by.values()))
        for model, by in found.items()
    ]
    title = "SNR dB, with bias correction (without)"
    out.print(table(("model", *METHODS), rows, title=title, right=" rrrr"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--count", type=int, default=200, help="inputs that are compared")
    parser.add_argument("--samples", type=int, default=100, help="inputs for calibration")
    parser.add_argument("--no-search", action="store_true", help="take the first kernels")
    parser.add_argument("--methods", action="store_true", help="compare ways to choose ranges")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    args = parser.parse_args()
    if not SHARED.is_dir():
        print(f"{SHARED} is not there", file=sys.stderr)
        return 2
    out = Console(width=100, highlight=False)
    found: list[Any]
    if args.methods:
        methods = {m: by_method(m, args.samples) for m in args.models}
        show_methods(methods, out)
        found = list(methods.values())
    else:
        pairs = [compare(m, args.count, args.samples, not args.no_search) for m in args.models]
        show(pairs, args.count, out)
        found = [
            {"midge": asdict(own), "shipped": asdict(shipped), "both": both}
            for own, shipped, both in pairs
        ]
    if args.json is not None:
        write_file(args.json, (json.dumps(found, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
