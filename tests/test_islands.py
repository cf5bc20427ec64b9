"""Floats that become integers: ONNX Runtime's bytes, or a step apart; NumPy's are C's, always."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import Cli, unsearched
from islands import BOUNDED, EXACT, Build, Island, pooled
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
from test_onnx_quantized import onnx

pytestmark = pytest.mark.slow

SEEDS = range(16)


def made(seed: int, *builds: Build, opset: int = 17) -> tuple[bytes, Graph, dict[str, Array]]:
    island = Island(seed, opset)
    data = island.finished([build(island) for build in builds])
    return data, read(data, "island"), island.values


def differences(build: Build, seed: int, opset: int = 17) -> Array:
    """Of every element, in steps, between ONNX Runtime and NumPy after all passes."""
    data, graph, inputs = made(seed, build, opset=opset)
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


DILATED = pooled(1, 3, 12, 12, kernel_shape=[3, 2], dilations=[2, 3])


@pytest.mark.parametrize("opset", [18, 19, 22])
def test_averages_by_the_kernel_of_their_opset(opset: int) -> None:
    """From 19 on, which PyTorch exports, ONNX Runtime adds them in another order."""
    kinds = {k: b for k, b in EXACT.items() if "average" in k}
    kinds |= {"dilated": DILATED} if opset > 18 else {}
    for kind, build in kinds.items():
        for seed in SEEDS:
            assert not differences(build, seed, opset).any(), (kind, seed)


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


ON_HOST = ("--on", "host", "--no-search", "--no-prove")


def saved(path: Path, island: Island, *values: str) -> Path:
    path.write_bytes(island.finished(values))
    return path


def tied(path: Path, columns: int) -> Path:
    """A product whose first columns are multiples of half a step: there the order decides."""
    m = Island(1)
    m.dtype = np.int8
    w = m.rng.normal(0, 0.1, (256, 48))
    w[:, :columns] = 0.025 * m.rng.integers(-8, 8, (256, columns))
    x = m.through(m.input("x", (1, 256)), 0.5, np.int8(0))
    product = m.op("MatMul", x, m.const(w.astype(np.float32)))
    m.scale = 1 / 128
    return saved(path, m, m.op("Tanh", m.through(product, 0.025, np.int8(0))))


def test_verify_says_what_is_bounded_and_judges_the_rest_by_it(tmp_path: Path, midge: Cli) -> None:
    island = Island(3)
    path = saved(tmp_path / "m.onnx", island, island.op("Softmax", island.source(4, 10)))
    done = midge("verify", path, *ON_HOST, "-n", 3)
    assert done.code == 0
    found = midge("verify", path, *ON_HOST, "-n", 3, "--json").json
    (row,) = found["stages"][1]["bounded"]
    assert (row["operator"], row["elements"], row["ok"]) == ("QuantizeLinear", 120, True)
    bytes_agree = row["differing"] == 0
    assert ("byte for byte" in done.out) is bytes_agree
    assert ("none does here" in done.out) is bytes_agree
    assert row["tensor"] in done.out


def test_a_verdict_with_steps_in_it_claims_no_bytes(tmp_path: Path, midge: Cli) -> None:
    """And the outputs' distance from the framework is theirs, not what they are judged by."""
    path = tied(tmp_path / "m.onnx", 2)
    inputs = np.random.default_rng(5).normal(0, 1, (60, 1, 256)).astype(np.float32)
    np.save(tmp_path / "x.npy", inputs)
    args = ("verify", path, *ON_HOST, "-i", tmp_path / "x.npy")
    done, found = midge(*args), midge(*args, "--json").json
    assert (done.code, found["ok"]) == (0, True)
    assert "right: the framework's bytes, but for 1 tensor that its floats" in done.out
    assert "byte for byte" not in done.out + found["verdict"]
    graph = driver.load(path)
    session = OnnxRuntimeSession(path.read_bytes(), graph)
    (output,) = graph.outputs
    far = [
        evaluate(graph, {"x": x})[output].astype(int) - session.run({"x": x})[output]
        for x in inputs
    ]
    differing, furthest = np.count_nonzero(far), np.abs(far).max()
    assert differing > 0
    assert furthest > 1
    for stage in found["stages"][1:]:
        (end,) = stage["end_to_end"]
        assert (end["differing"], end["max_error"]) == (differing, furthest)
        assert "ok" not in end  # it is no judgement
        assert stage["outputs"][0]["differing"] == 0
        assert stage["ok"]
    (numpy,) = (line for line in done.out.splitlines() if line.startswith("NumPy reference"))
    (c,) = (line for line in done.out.splitlines() if line.startswith("C on this host"))
    assert numpy.split()[2:] == ["2", "880", str(differing), str(furthest), "bounded"]
    assert c.split()[4:] == ["2", "880", str(differing), str(furthest), "as", "NumPy"]
    assert f"Outputs in the end: {differing} of 2 880 elements are not the framework's" in done.out


def test_a_step_too_often_is_named(tmp_path: Path, midge: Cli) -> None:
    path = tied(tmp_path / "m.onnx", 48)
    args = ("verify", path, *ON_HOST, "-n", 20)
    done, found = midge(*args, "--layers"), midge(*args, "--json").json
    assert done.code == 1
    wrong, right = found["stages"][1]["bounded"]
    assert (wrong["ok"], right["ok"]) == (False, True)
    name, differing = wrong["tensor"], wrong["differing"]
    assert f"{name}: {differing} of 960 differ by a step, more than 1 in 50" in done.out
    rows = [line.split() for line in done.out.splitlines() if line.startswith(f"{name} ")]
    assert [name, "960", str(differing), "1", "DIFFERS"] in rows


def test_many_bounded_tensors_are_a_short_list(tmp_path: Path, midge: Cli) -> None:
    island = Island(1)
    ends = [island.op(kind, island.source(2, 8)) for kind in ("Softmax", "Sigmoid") * 5]
    path = saved(tmp_path / "m.onnx", island, *ends)
    done = midge("verify", path, *ON_HOST, "-n", 1)
    assert "and 2 more; --json lists all" in done.out
    assert sum("QuantizeLinear" in line for line in done.out.splitlines()) == 8
    assert max(map(len, done.out.splitlines())) <= 80
    found = midge("verify", path, *ON_HOST, "-n", 1, "--json").json
    assert len(found["stages"][1]["bounded"]) == 10


def test_many_that_differ_too_often_are_a_short_list(
    tmp_path: Path, midge: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    island = Island(1)
    ends = [island.op("Sigmoid", island.source(2, 8)) for _ in range(10)]
    path = saved(tmp_path / "m.onnx", island, *ends)
    run = OnnxRuntimeSession.run

    def moved(self: OnnxRuntimeSession, inputs: dict[str, Array]) -> dict[str, Array]:
        shown = run(self, inputs).items()
        ints = {n: a for n, a in shown if a.dtype.kind in "iu"}
        return {n: np.where(a > 0, a - 1, a + 1).astype(a.dtype) for n, a in ints.items()}

    monkeypatch.setattr(OnnxRuntimeSession, "run", moved)
    done = midge("verify", path, *ON_HOST, "-n", 1)
    assert done.code == 1
    assert sum("more than 1 in 50" in line for line in done.out.splitlines()) == 8
    assert "and 2 more such tensors" in done.out


def test_products_of_bytes_differ_at_ties_alone() -> None:
    """Midge adds integers, ONNX Runtime the floats that these stand for."""
    m = Island(0)
    m.dtype = np.int8
    scales = x, w, y = 0.1, 0.05, 1.0
    numbers = m.rng.integers(-128, 128, (2000, 16))
    weights = m.rng.integers(-127, 128, (16, 24))
    source = m.through(m.input("x", (2000, 16)), x, np.int8(0))
    matrix = m.real(m.const(weights.astype(np.int8)), w, np.int8(0))
    m.scale = y
    result = m.quantized(m.op("MatMul", source, matrix), y, np.int8(0))
    kind = onnx.TensorProto.INT8
    value = onnx.helper.make_tensor_value_info(result, kind, None)
    made = onnx.helper.make_graph(m.nodes, "g", m.inputs, [value], m.consts)
    imports = [onnx.helper.make_opsetid("", 17)]
    data = onnx.helper.make_model(made, opset_imports=imports, ir_version=8).SerializeToString()
    graph = read(data, "g")
    prepared = pipeline.prepare(graph).graph
    assert bounded(prepared, Path("m.onnx"))
    given = {"x": (numbers * x).astype(np.float32)}
    own = evaluate(prepared, given)[prepared.outputs[0]].astype(int)
    apart = own - OnnxRuntimeSession(data, graph).run(given)[graph.outputs[0]]
    steps = (numbers @ weights) * (scales[0] * scales[1] / scales[2])
    from_the_middle = np.abs(np.abs(steps - np.trunc(steps)) - 0.5)
    assert np.abs(apart).max() == 1
    assert np.count_nonzero(apart) <= apart.size / 50
    assert from_the_middle[apart != 0].max() < 1e-5


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
