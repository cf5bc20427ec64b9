"""What Midge's code costs, beside the peers': instructions, cycles, arena, stack, flash.

    python benchmarks/bench.py [--target cortex-m4] [--optimize speed] [--json FILE] [MODEL ...]

Without models: the digits model and every int8 model of ../shared/models that is there. A ratio
below 1 means that Midge needs less than that peer.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

from rich.console import Console

from midge.cli.output import number, table
from midge.core.files import write_file
from midge.data import random_inputs
from midge.driver import compile_file
from midge.run import RUNNERS
from midge.target import load_target

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared" / "models"
FIGURES = ("instructions", "cycles", "arena", "stack", "flash")


def measure(path: Path, target: str, toolchain: str | None, optimize: str) -> dict[str, Any]:
    """One inference of the model at `path`, and its operators."""
    start = time.perf_counter()
    compiled = compile_file(path, load_target(target))
    seconds = time.perf_counter() - start
    package = compiled.package
    session = RUNNERS["emulator"].load(package, toolchain=toolchain, optimize=optimize)
    run = session.run(random_inputs(compiled.model, 1, 0)[0])
    sizes = session.sizes
    session.close()
    assert sizes is not None
    return {
        "model": path.stem,
        "macs": sum(op.macs for op in package.operators),
        "instructions": run.instructions,
        "cycles": run.cycles,
        "arena": package.arena_size,
        "lower_bound": compiled.arena.plan.lower_bound,
        "stack": run.stack,
        "weights": package.weights_size,
        "code": sizes.code,
        "flash": sizes.flash,
        "compile_s": round(seconds, 3),
        "operators": [
            {"name": op.name, "macs": op.macs, "instructions": r.instructions, "cycles": r.cycles}
            for op, r in zip(package.operators, run.operators, strict=True)
        ],
    }


def with_ratios(result: dict[str, Any], peers: dict[str, Any]) -> dict[str, Any]:
    """`result` with what each peer needs and Midge's share of it."""
    known = peers.get(result["model"], {})
    ratios = {
        name: {f: round(result[f] / figures[f], 3) for f in FIGURES if f in figures and result[f]}
        for name, figures in known.items()
        if isinstance(figures, dict)
    }
    return {**result, "peers": known, "ratios": ratios}


def show(results: list[dict[str, Any]], title: str) -> None:
    out = Console(highlight=False, width=max(Console().width, 100))
    costs = ("MACs", "instructions", "cycles", "cyc/MAC", "arena", "stack", "weights", "code")
    rows = [
        (
            r["model"], number(r["macs"]), number(r["instructions"]), number(r["cycles"]),
            f"{(r['cycles'] or 0) / max(r['macs'], 1):.2f}", number(r["arena"]),
            number(r["stack"]), number(r["weights"]), number(r["code"]),
        )
        for r in results
    ]  # fmt: skip
    out.print(table(("model", *costs), rows, title=title, right=" rrrrrrrr"))
    rows = [
        (r["model"], peer, *(f"{ratios[f]:.2f}" if f in ratios else "-" for f in FIGURES))
        for r in results
        for peer, ratios in r["ratios"].items()
    ]
    if rows:
        out.print()
        heading = "Midge's share of the peer's figure (below 1 is less)"
        out.print(table(("model", "peer", *FIGURES), rows, title=heading, right="  rrrrr"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--toolchain")
    parser.add_argument("--optimize", default="speed")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    options = parser.parse_args()
    own = HERE.parent / "examples" / "digits" / "digits_int8.tflite"
    models = options.models or [own, *sorted(SHARED.glob("*_int8.tflite"))]
    peers = tomllib.loads((HERE / "peers.toml").read_text())
    results = [
        with_ratios(measure(m, options.target, options.toolchain, options.optimize), peers)
        for m in models
    ]
    show(results, f"{options.target}, --optimize {options.optimize}")
    if options.json:
        write_file(options.json, json.dumps(results, indent=2).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
