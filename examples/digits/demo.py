"""Compile the digits model, run it on an emulated Cortex-M4, and compare with the framework.

Everything a user would do, in order: compile, save, verify, run on held-out digits.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.panel import Panel
from rich.progress import track
from rich.text import Text

import midge
from midge.cli.app import run as midge_command
from midge.core.options import CompileOptions
from midge.driver import compile_file
from midge.oracle import oracle_for
from midge.run import RUNNERS
from midge.target import load_target

HERE = Path(__file__).parent
MODEL = HERE / "digits_int8.tflite"
SHADES = " .:-=+*#%@"
SHOWN = 8


def quantized(images: np.ndarray, package: midge.Package) -> list[np.ndarray]:
    """Grey levels 0..16 as the model's int8 input, by the scale that the package states."""
    port = package.inputs[0]
    assert port.type.quant is not None
    scale, zero = port.type.quant.scale[0], port.type.quant.zero_point[0]
    values = np.clip(np.round(images / 16.0 / scale) + zero, -128, 127).astype(np.int8)
    return [v.reshape(port.type.shape) for v in values]


def drawing(image: np.ndarray) -> str:
    """8x8 grey levels as two characters each."""
    return "\n".join("".join(SHADES[int(p) * 9 // 16] * 2 for p in row) for row in image)


def main() -> int:
    console = Console(highlight=False, width=min(Console().width, 80))
    console.rule(f"[bold]midge compile examples/digits/{MODEL.name}")
    out = Path("out") / "digits"
    if (code := midge_command(["compile", str(MODEL), "-o", str(out), "--name", "digits"])) != 0:
        return code
    console.rule("[bold]midge verify")
    code = midge_command(["verify", str(MODEL), "--name", "digits", "--count", "20"])
    if code != 0:
        return code
    console.rule("[bold]midge run")
    midge_command(["run", str(MODEL), "--name", "digits"])
    console.rule("[bold]360 held-out digits on the emulated Cortex-M4")
    return held_out(console)


def held_out(console: Console) -> int:
    """Accuracy on the board and in the framework; a difference is a failure."""
    compiled = compile_file(MODEL, load_target("cortex-m4"), CompileOptions(name="digits"))
    package = compiled.package
    data = np.load(HERE / "heldout.npz")
    images, labels = data["images"], data["labels"]
    inputs = quantized(images, package)
    name, answer = package.inputs[0].name, package.outputs[0].name
    session = RUNNERS["emulator"].load(package, toolchain=None, optimize="speed")
    runs = [session.run({name: x}) for x in track(inputs, "on the board", console=console)]
    session.close()
    scores = [run.outputs[answer].reshape(-1) for run in runs]
    said = np.array([int(s.argmax()) for s in scores])
    show(console, images[:SHOWN], labels[:SHOWN], said[:SHOWN])
    right = int((said == labels).sum())
    console.print(f"board:     {right} of {len(labels)} right, {100 * right / len(labels):.1f} %")
    oracle = oracle_for(MODEL)
    assert oracle is not None
    if (reason := oracle.available()) is not None:
        console.print(f"framework: {reason}", markup=False)
        return 0
    framework = oracle.load(MODEL, compiled.model)
    theirs = [framework.run({name: x})[answer].reshape(-1) for x in inputs]
    same = sum(np.array_equal(a, b) for a, b in zip(scores, theirs, strict=True))
    correct = int((np.array([int(t.argmax()) for t in theirs]) == labels).sum())
    console.print(
        f"framework: {correct} of {len(labels)} right, {100 * correct / len(labels):.1f} %"
    )
    console.print(f"same bytes for {same} of {len(labels)} digits")
    cycles = runs[0].cycles or 0
    console.print(
        f"{cycles} cycles a digit (estimated): {cycles / 120e3:.1f} ms at 120 MHz; "
        f"arena {package.arena_size} bytes"
    )
    return 0 if same == len(labels) and right == correct else 1


def show(console: Console, images: np.ndarray, labels: np.ndarray, said: np.ndarray) -> None:
    """A few digits with what the board said."""
    panels = []
    for image, label, answer in zip(images, labels, said, strict=True):
        style = "green" if answer == label else "red"
        text = Text(drawing(image), style=style)
        title = f"board says {answer}" + ("" if answer == label else f", is {label}")
        panels.append(Panel(text, title=title, title_align="left", width=20))
    console.print(Columns(panels, width=20, padding=(0, 0)))


if __name__ == "__main__":
    sys.exit(main())
