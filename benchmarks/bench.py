"""What Midge's code costs, beside the peers': per operator, and instructions, cycles, arena, stack,
flash of whole models.

    python benchmarks/bench.py [--target cortex-m4] [--optimize speed] [--no-operators]
                               [--json FILE] [MODEL ...]

Without models: the digits model and every int8 model of ../shared/models that is there. A ratio
below 1 means that Midge needs less than that peer. What an operator costs is told per
multiply-accumulate (MAC) that the model asks for, whether Midge computes it or saw that it need
not; of one without, per element of its output.
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

from midge.cli.output import number, shorten, table
from midge.core.files import write_file
from midge.core.options import GOALS, CompileOptions
from midge.data import random_inputs
from midge.driver import Compiled, compile_file
from midge.graph.ir import OPS, Graph, Node
from midge.loop.program import Operation
from midge.run import RUNNERS
from midge.target import load_target

HERE = Path(__file__).parent
SHARED = HERE.parents[1] / "shared" / "models"
FIGURES = ("instructions", "cycles", "arena", "stack", "flash")
PEERS_TARGET = "cortex-m4"  # what all figures in peers.toml are of
PEER = "tflm"  # whose operators are known

Result = dict[str, Any]
Known = dict[str, list[float]]  # kind -> least and most


def measure(path: Path, target: str, toolchain: str | None, optimize: str, search: bool) -> Result:
    """One inference of the model at `path`, and its operators."""
    start = time.perf_counter()
    compiled = compile_file(
        path, load_target(target), CompileOptions(search=search, optimize=optimize)
    )
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
            {
                "name": op.name,
                "macs": op.macs,
                **as_modelled(compiled, op),
                "instructions": cost.instructions,
                "cycles": cost.cycles,
            }
            for op, cost in zip(compiled.program.operations, run.operators, strict=True)
        ],
    }


def as_modelled(compiled: Compiled, op: Operation) -> Result:
    """What the model says of an operator.

    kind: its name in peers.toml, where operators of one kind cost alike; with "+add" if an addition
    is fused into it.  model_macs: as it stands in the model.  elements: of its output there.
    """
    graph = compiled.graph
    mine = [node for node in graph.nodes if node.src in op.src.split(", ")]
    anchor = next((node for node in mine if OPS[node.op].macs is not None), None)
    output = graph.types[mine[-1].outputs[0]] if mine else compiled.program.types[op.output]
    if anchor is None:
        return {"kind": op.kinds[0].lower(), "model_macs": 0, "elements": output.elements}
    count = OPS[anchor.op].macs
    assert count is not None
    inputs, outputs = ([graph.types[v] for v in part] for part in (anchor.inputs, anchor.outputs))
    fused = "+add" if any(node.op == "add" for node in mine) else ""
    return {
        "kind": _kind(anchor, graph) + fused,
        "model_macs": count(inputs, outputs),
        "elements": output.elements,
    }


def _kind(anchor: Node, graph: Graph) -> str:
    weights = graph.types[anchor.inputs[1]].shape
    match anchor.op:
        case "depthwise_conv2d":
            return f"depthwise {weights[1]}x{weights[2]}"
        case "conv2d" if anchor.inputs[0] in graph.inputs:
            return "first conv"
        case "conv2d" if weights[1:3] == (1, 1):
            return "pointwise of 8" if weights[3] == 8 else "pointwise"
        case "conv2d":
            return f"conv {weights[1]}x{weights[2]}"
    return anchor.op


def with_ratios(result: Result, peers: dict[str, Any]) -> Result:
    """`result` with what each peer needs and Midge's share of it."""
    known = peers.get(result["model"], {})
    ratios = {
        name: {f: round(result[f] / figures[f], 3) for f in FIGURES if f in figures and result[f]}
        for name, figures in known.items()
        if isinstance(figures, dict)
    }
    return {**result, "peers": known, "ratios": ratios}


def units(op: Result) -> int:
    """Multiply-accumulates, or elements where there are none."""
    return int(op["model_macs"] or op["elements"])


def per_unit(operators: list[Result], figure: str) -> str:
    """Instructions or cycles of `operators` per unit."""
    if any(op[figure] is None for op in operators):
        return "-"
    return f"{sum(op[figure] for op in operators) / sum(map(units, operators)):.2f}"


def of_peer(op: Result, known: Known) -> tuple[float, float] | None:
    """Least and most instructions per unit that the peer takes, or None if that is not known."""
    first, *fused = op["kind"].split("+")
    if not known.keys() >= {first, *fused}:
        return None
    more = sum(known[kind][0] for kind in fused) * op["elements"] / units(op)
    least, most = known[first]
    return least + more, most + more


def between(least: float, most: float) -> str:
    text = f"{least:.1f}-{most:.1f}"
    return text if f"{least:.1f}" != f"{most:.1f}" else f"{least:.1f}"


def operator_table(result: Result, known: Known) -> Any:
    """Every operator of a model."""
    operators = result["operators"]
    spent = [op["instructions"] if op["cycles"] is None else op["cycles"] for op in operators]
    rows = [
        (
            op["name"], shorten(op["kind"], 14), number(op["model_macs"] or None),
            f"{100 * n / max(sum(spent), 1):.1f}", per_unit([op], "cycles"),
            per_unit([op], "instructions"),
            between(*peer) if (peer := of_peer(op, known)) else "-",
        )
        for op, n in zip(operators, spent, strict=True)
    ]  # fmt: skip
    columns = ("operator", "kind", "MACs", "%", "cycles", "instr", PEER)
    return table(columns, rows, title=f"{result['model']}, per MAC of the model", right="  rrrrr")


def kind_table(results: list[Result], known: Known) -> Any:
    """The operators of all models by kind, as far as the peer's are known."""
    found: dict[str, list[Result]] = {}
    for op in (op for result in results for op in result["operators"]):
        found.setdefault(op["kind"], []).append(op)
    rows = []
    for kind, operators in sorted(found.items()):
        peer = [p for op in operators if (p := of_peer(op, known))]
        if peer:
            each = [op["instructions"] / units(op) for op in operators]
            rows.append(
                (
                    kind, str(len(operators)), per_unit(operators, "cycles"),
                    per_unit(operators, "instructions"), between(min(each), max(each)),
                    between(min(least for least, _ in peer), max(most for _, most in peer)),
                )
            )  # fmt: skip
    columns = ("kind", "operators", "cycles", "instr", "least-most", PEER)
    return table(columns, rows, title="All models, per MAC of the model", right=" rrrrr")


def show(results: list[Result], known: Known, title: str, each: bool) -> None:
    """Print everything; `each`: also every operator of each model."""
    out = Console(highlight=False, width=max(Console().width, 80))
    for result in results if each else ():
        out.print(operator_table(result, known))
        out.print()
    if known:
        out.print(kind_table(results, known))
        out.print()
    costs = ("MACs", "instr", "cycles", "arena", "stack", "weights", "code")
    rows = [
        (
            r["model"].removesuffix("_int8"), number(r["macs"]), number(r["instructions"]),
            number(r["cycles"]), number(r["arena"]), number(r["stack"]), number(r["weights"]),
            number(r["code"]),
        )
        for r in results
    ]  # fmt: skip
    out.print(table(("model", *costs), rows, title=title, right=" rrrrrrr"))
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
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("models", nargs="*", type=Path)
    parser.add_argument("--target", default=PEERS_TARGET)
    parser.add_argument("--search", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--toolchain")
    parser.add_argument("--optimize", default="speed", choices=GOALS)
    parser.add_argument("--no-operators", action="store_true", help="leave out single operators")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    options = parser.parse_args()
    own = HERE.parent / "examples" / "digits" / "digits_int8.tflite"
    models = options.models or [own, *sorted(SHARED.glob("*_int8.tflite"))]
    peers = tomllib.loads((HERE / "peers.toml").read_text())
    if options.target != PEERS_TARGET:
        peers = {}
    settings = (options.target, options.toolchain, options.optimize, options.search)
    results = [with_ratios(measure(m, *settings), peers) for m in models]
    title = f"{options.target}, --optimize {options.optimize}"
    show(results, peers.get("operators", {}).get(PEER, {}), title, not options.no_operators)
    if options.json:
        write_file(options.json, json.dumps(results, indent=2).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
