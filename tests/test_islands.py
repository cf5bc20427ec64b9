"""Floats that become integers: ONNX Runtime's bytes, or a step apart; NumPy's are C's, always."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import Cli, unsearched
from islands import BOUNDED, EXACT, Build, Island
from midge import driver, pipeline
from midge.core.types import Array, DType, TensorType
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, Node
from midge.oracle.onnxruntime import OnnxRuntimeSession
from midge.oracle.steps import bounded, evaluate_beside
from midge.run import RUNNERS
from midge.run.machine_code import disassemble
from midge.target import load_target
from midge.toolchain import build_image

SEEDS = range(16)


def made(seed: int, *builds: Build) -> tuple[bytes, Graph, dict[str, Array]]:
    island = Island(seed)
    data = island.finished([build(island) for build in builds])
    return data, read(data, "island"), island.values


def differences(build: Build, seed: int) -> Array:
    """Of every element, in steps, between ONNX Runtime and NumPy after all passes."""
    data, graph, inputs = made(seed, build)
    model = pipeline.prepare(graph).graph
    (have,) = evaluate(model, inputs).values()
    want = OnnxRuntimeSession(data, graph).run(inputs)[graph.outputs[0]]
    result: Array = have.astype(int) - want.astype(int)
    return result


@pytest.mark.parametrize("kind", EXACT)
def test_the_bytes_are_onnx_runtimes(kind: str) -> None:
    for seed in SEEDS:
        assert not differences(EXACT[kind], seed).any(), seed
        _, graph, _ = made(seed, EXACT[kind])
        assert kind.startswith("global") or not bounded(
            pipeline.prepare(graph).graph, Path("m.onnx")
        )


@pytest.mark.parametrize("kind", BOUNDED)
def test_what_is_bounded_is_a_step_away(kind: str) -> None:
    """And few elements are."""
    found = np.concatenate([differences(BOUNDED[kind], seed).ravel() for seed in SEEDS])
    assert np.abs(found).max() <= 1
    assert np.count_nonzero(found) <= found.size / 50
    assert bounded(pipeline.prepare(made(0, BOUNDED[kind])[1]).graph, Path("m.onnx"))


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "rv32imac"])
def test_c_is_numpy_to_the_bit(target: str) -> None:
    """Every island, on this host and on a core, by compilers that fuse where they may."""
    kinds = EXACT | BOUNDED
    some = dict(list(kinds.items())[:: 1 if target == "cortex-m7" else 4])
    _, graph, inputs = made(7, *some.values())
    built = driver.compile_graph(graph, load_target(target), unsearched(bands=False))
    want = evaluate(built.graph, inputs)
    for runner in ("host", "emulator"):
        session = RUNNERS[runner].load(built.package, toolchain=None, optimize=None)
        have = session.run({t.name: inputs[t.name] for t in built.package.inputs}).outputs
        session.close()
        for kind, mine, theirs in zip(
            some, built.package_outputs, built.graph.outputs, strict=True
        ):
            np.testing.assert_array_equal(have[mine], want[theirs], err_msg=f"{kind}, {runner}")


def test_gcc_fuses_nothing_in_its_own_mode() -> None:
    """GCC contracts floats across statements unless it is told not to, and it is, in the source."""
    _, graph, _ = made(0, EXACT["a sum of products"])
    package = driver.compile_graph(graph, load_target("cortex-m7"), unsearched()).package
    text = package.files[f"{package.name}.c"]
    assert text.index('"midge_exact.h"') < text.index('"midge_compiler.h"')
    image = build_image(package, toolchain="arm-none-eabi-gcc")
    section = next(s for s in image.sections if s.executable)
    names = {i.mnemonic for i in disassemble(section.data, section.address, "arm")}
    assert "vmul.f32" in names
    assert not any(n.startswith(("vfma", "vfms", "vfnm")) for n in names)


def test_verify_says_what_is_bounded_and_judges_the_rest_by_it(tmp_path: Path, midge: Cli) -> None:
    island = Island(3)
    x = island.op("Softmax", island.source(4, 10))
    path = tmp_path / "m.onnx"
    path.write_bytes(island.finished([x]))
    done = midge("verify", path, "--on", "host", "-n", 3)
    assert done.code == 0
    assert "Bounded by one step" in done.out
    found = midge("verify", path, "--on", "host", "-n", 3, "--json").json["stages"][1]["bounded"]
    assert [b["elements"] for b in found] == [120]


def test_a_step_too_often_is_wrong() -> None:
    data, graph, inputs = made(0, BOUNDED["convolution"])
    model = pipeline.prepare(graph).graph
    theirs = dict(OnnxRuntimeSession(data, graph).run(inputs))
    loose = bounded(model, Path("m.onnx"))
    _, steps = evaluate_beside(model, inputs, theirs, loose)
    assert all(s.ok for s in steps.values())
    moved = {n: np.where(a > 0, a - 1, a + 1).astype(a.dtype) for n, a in theirs.items()}
    _, steps = evaluate_beside(model, inputs, moved, loose)
    assert steps
    assert not any(s.ok for s in steps.values())


def test_steps_are_found_in_the_layout_that_fits() -> None:
    """Where two layouts are within a step, the one with fewer differences is the framework's."""
    types = {n: TensorType((2, 2), DType.I8) for n in "xy"}
    graph = Graph("m", ("x",), ("y",), types, {}, (Node("copy", ("x",), ("y",)),))
    given = {"x": np.array([[4, 5], [6, 4]], np.int8)}
    shown = {"y": np.array([[4, 6], [5, 5]], np.int8)}
    values, steps = evaluate_beside(graph, given, shown, frozenset({"y"}))
    assert values["y"].tolist() == [[4, 5], [6, 5]]
    assert steps["y"].differing == 1
