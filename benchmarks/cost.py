"""What compiling costs: CPU time and memory of networks that are large in one way each.

    python benchmarks/cost.py [NAME or FILE...] [--no-search] [--again] [--verify]
                              [--target cortex-m4] [--limit GB] [--json FILE]

Each network is made from a seed, or is a file, and is compiled in a process of its own, with an
empty cache: CPU seconds (of the compilers that measuring calls too), the most memory that Midge
held at once, and what of it is above an interpreter with Midge loaded, per byte of weights.
`--again` compiles it a second time, in another process with the same cache. `--verify` computes one
input in NumPy, in C on this host and in the emulator too. C MB: the most that a process held that
Midge started, or Midge when it started that.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np

from midge import driver, verify
from midge.core.files import write_file
from midge.core.options import CompileOptions
from midge.data import random_inputs
from midge.target import load_target
from onnx_builder import OnnxModel
from tflite_builder import TFLiteModel

MB = 1 << 20
CONV = {"padding": 0, "dilationHFactor": 1, "dilationWFactor": 1}


def chain(count: int) -> bytes:
    """Elementwise operators one after the other, on 64 floats."""
    m, x = OnnxModel(), "x"
    factor, term = m.const(np.full(64, 1.01)), m.const(np.full(64, 0.1))
    for i in range(count):
        x = [
            lambda v: m.op("Relu", v),
            lambda v: m.op("Add", v, term),
            lambda v: m.op("Mul", v, factor),
        ][i % 3](x)
    return m.build([("x", [1, 64])], [x])


def convolutions(count: int) -> bytes:
    """Half as many convolutions as operators, each with its Relu, on 8 x 8 pixels of 4 channels."""
    m, x = OnnxModel(), "x"
    for _ in range(count // 2):
        x = m.op("Relu", m.conv(x, 4, 4))
    return m.build([("x", [1, 4, 8, 8])], [x])


def dense_float(size: int) -> bytes:
    """A layer with `size` bytes of weights."""
    n = size // 4 // 1024
    m = OnnxModel()
    y = m.op("Gemm", "x", m.weights(1024, n), m.weights(1024), transB=1)
    return m.build([("x", [1, n])], [y])


def lstm(steps: int) -> bytes:
    """16 units on 8 features."""
    m = OnnxModel(opset=14)
    y = m.op("LSTM", "x", m.weights(1, 64, 8), m.weights(1, 64, 16), hidden_size=16)
    return m.build([("x", [steps, 1, 8])], [y])


class Quantized:
    """A TFLite model of int8 layers with random weights."""

    def __init__(self) -> None:
        self.m, self.rng = TFLiteModel(), np.random.default_rng(0)

    def weights(self, shape: tuple[int, ...], axis: int = 0) -> int:
        values = self.rng.integers(-127, 128, shape).astype(np.int8)
        return self.m.const(values, [0.01 / values[0].size ** 0.5] * shape[axis], axis=axis)

    def bias(self, count: int, scale: float) -> int:
        return self.m.const(self.rng.integers(-99, 99, count).astype(np.int32), [scale] * count)

    def conv(self, x: int, size: int, ic: int, oc: int, k: int, stride: int, relu: int = 3) -> int:
        out = -(-size // stride)
        y = self.m.value((1, out, out, oc), "int8", 0.02, -128 if relu else 0)
        inputs = [x, self.weights((oc, k, k, ic)), self.bias(oc, 0.0001)]
        fields = {"strideH": stride, "strideW": stride, "fusedActivationFunction": relu}
        self.m.op("CONV_2D", inputs, [y], "Conv2DOptions", **CONV, **fields)
        return y

    def depthwise(self, x: int, size: int, channels: int, stride: int) -> int:
        out = -(-size // stride)
        y = self.m.value((1, out, out, channels), "int8", 0.02, -128)
        inputs = [x, self.weights((1, 3, 3, channels), 3), self.bias(channels, 0.0001)]
        fields = {"strideH": stride, "strideW": stride, "fusedActivationFunction": 3}
        kind = "DEPTHWISE_CONV_2D"
        self.m.op(kind, inputs, [y], "DepthwiseConv2DOptions", depthMultiplier=1, **CONV, **fields)
        return y

    def dense(self, x: int, n: int, count: int) -> int:
        y = self.m.value((1, count), "int8", 0.1, 0)
        inputs = [x, self.weights((count, n)), self.bias(count, 0.0001)]
        self.m.op("FULLY_CONNECTED", inputs, [y], "FullyConnectedOptions")
        return y


def dense_int8(size: int) -> bytes:
    """A layer with `size` bytes of weights."""
    q = Quantized()
    return q.m.build([q.dense(q.m.input((1, size // 1024), "int8", 0.02, 0), size // 1024, 1024)])


# Of each group of blocks in MobileNetV2: expansion, channels, blocks, stride of the first.
BLOCKS = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip


def mobilenet(width: float, size: int = 224) -> bytes:
    """MobileNetV2 (Sandler et al., arXiv 1801.04381, table 2) as TensorFlow Lite quantises it."""

    def channels(count: float) -> int:
        near = max(8, int(count * width + 4) // 8 * 8)
        return near + 8 if near < 0.9 * count * width else near

    q = Quantized()
    ic = channels(32)
    x = q.conv(q.m.input((1, size, size, 3), "int8", 1 / 128, 0), size, 3, ic, 3, 2)
    size = -(-size // 2)
    for expansion, count, blocks, first in BLOCKS:
        for block in range(blocks):
            stride, oc = first if block == 0 else 1, channels(count)
            y, middle = x, expansion * ic
            if expansion > 1:
                y = q.conv(y, size, ic, middle, 1, 1)
            y = q.depthwise(y, size, middle, stride)
            size = -(-size // stride)
            y = q.conv(y, size, middle, oc, 1, 1, 0)
            if stride == 1 and ic == oc:
                total = q.m.value((1, size, size, oc), "int8", 0.02, 0)
                q.m.op("ADD", [x, y], [total], "AddOptions")
                y = total
            x, ic = y, oc
    last = channels(1280) if width > 1 else 1280
    x = q.conv(x, size, ic, last, 1, 1)
    mean = q.m.value((1, last), "int8", 0.02, -128)
    axes = q.m.const(np.array([1, 2], np.int32))
    q.m.op("MEAN", [x, axes], [mean], "ReducerOptions", keepDims=False)
    scores = q.m.value((1, 1000), "int8", 1 / 256, -128)
    q.m.op("SOFTMAX", [q.dense(mean, last, 1000)], [scores], "SoftmaxOptions", beta=1.0)
    return q.m.build([scores])


def large_image(size: int) -> bytes:
    """Three convolutions on `size` x `size` pixels."""
    q = Quantized()
    x = q.conv(q.m.input((1, size, size, 3), "int8", 1 / 128, 0), size, 3, 8, 3, 1)
    x = q.conv(x, size, 8, 8, 3, 1)
    return q.m.build([q.conv(x, size, 8, 4, 3, 1)])


NETWORKS: dict[str, Callable[[], bytes]] = {
    "chain_1200.onnx": lambda: chain(1200),
    "convs_1200.onnx": lambda: convolutions(1200),
    "dense_10mb.tflite": lambda: dense_int8(10 * MB),
    "dense_10mb_float.onnx": lambda: dense_float(10 * MB),
    "lstm_200.onnx": lambda: lstm(200),
    "mobilenet_v2_035_224.tflite": lambda: mobilenet(0.35),
    "mobilenet_v2_224.tflite": lambda: mobilenet(1.0),
    "image_500.tflite": lambda: large_image(500),
}


def used(who: int) -> tuple[float, int]:
    """CPU seconds, and bytes held at most."""
    found = resource.getrusage(who)
    return found.ru_utime + found.ru_stime, found.ru_maxrss * 1024


def compile_one(path: Path, target: str, search: bool, verifies: bool) -> dict[str, Any]:
    """What compiling `path` costs, in this process."""
    driver.load_operators()
    (started, empty), (before, _) = used(resource.RUSAGE_SELF), used(resource.RUSAGE_CHILDREN)
    options = CompileOptions(search=search)
    found = driver.compile_file(path, load_target(target), options)
    (cpu, most), (others, child) = used(resource.RUSAGE_SELF), used(resource.RUSAGE_CHILDREN)
    row = {
        "cpu": cpu - started + others - before, "rss": most, "empty": empty, "child": child,
        "arena": found.package.arena_size, "weights": found.package.weights_size,
        "operators": len(found.package.operators),
        "c": sum(map(len, found.package.files.values())),
    }  # fmt: skip
    if verifies:
        verdict = verify.verify(
            found, path.with_suffix(".none"), [random_inputs(found.model, 1, 0)[0]]
        )
        assert verdict.ok
        (then, most), (later, child) = used(resource.RUSAGE_SELF), used(resource.RUSAGE_CHILDREN)
        row |= {"verify_cpu": then - cpu + later - others, "verify_rss": most, "child": child}
    return row


def measure(name: str, args: argparse.Namespace) -> dict[str, Any] | str:
    """The row of a network, from a process of its own; a text if it has none."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(name).name
        path.write_bytes(NETWORKS[name]() if name in NETWORKS else Path(name).read_bytes())
        row = measured(path, args)
        if args.again and isinstance(row, dict):
            second = measured(path, args)
            row["again"] = second["cpu"] if isinstance(second, dict) else 0.0
    return row


def measured(path: Path, args: argparse.Namespace) -> dict[str, Any] | str:
    command = [sys.executable, __file__, "--one", str(path), "--target", args.target]
    command += ["--no-search"] * args.no_search + ["--verify"] * args.verify
    env = {**os.environ, "MIDGE_CACHE_DIR": str(path.parent / "cache")}

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (args.limit << 30, args.limit << 30))

    done = subprocess.run(
        command, env=env, capture_output=True, text=True, check=False, preexec_fn=limit
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def line(name: str, row: dict[str, Any]) -> str:
    share = (row["rss"] - row["empty"]) / max(row["weights"], 1)
    text = f"{name:28} {row['operators']:6} {row['weights']:9} {row['arena']:8} {row['c']:9}"
    text += f" {row['cpu']:7.1f} {row['rss'] / MB:7.0f} {row['child'] / MB:7.0f}"
    text += f" {share:8.1f}" if row["weights"] >= MB else f" {'':8}"
    text += f" {row['again']:7.1f}" if "again" in row else ""
    if "verify_cpu" in row:
        text += f" {row['verify_cpu']:7.1f} {row['verify_rss'] / MB:7.0f}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help=", ".join(NETWORKS))
    parser.add_argument("--no-search", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--verify", action="store_true")
    parser.add_argument("--target", default="cortex-m4")
    parser.add_argument("--limit", type=int, default=16, help="GB of addresses")
    parser.add_argument("--json", type=Path, help="write the figures to this file, by network")
    parser.add_argument("--one", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one is not None:
        print(json.dumps(compile_one(args.one, args.target, not args.no_search, args.verify)))
        return 0
    head = f"{'network':28} {'ops':>6} {'weights':>9} {'arena':>8} {'C':>9} {'CPU s':>7}"
    head += f" {'MB':>7} {'C MB':>7} {'MB/MB':>8}" + "   again" * args.again
    print(head + " verify s      MB" * args.verify)
    rows: dict[str, dict[str, Any] | str] = {}
    for name in args.names or NETWORKS:
        full = next((n for n in NETWORKS if n.partition(".")[0] == name), name)
        shown = Path(full).name
        row = rows[shown] = measure(full, args)
        print(f"{shown:28} {row}" if isinstance(row, str) else line(shown, row), flush=True)
    if args.json is not None:
        write_file(args.json, (json.dumps(rows, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
