"""Who judges: the framework, as far as it can and may, and what `midge verify` says of that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from conftest import NO_SEARCH, Cli
from midge import driver
from midge.data import random_inputs
from midge.oracle import oracle_for
from midge.oracle.onnx_departures import BASE, OVERFLOW, TWO_SCORES, UNSCORED, departures
from midge.run import RUNNERS
from midge.target import load_target
from midge.verify import Verdict, _nobody, verify
from onnx_builder import OnnxModel
from small_models import CONV, SAME, builder
from torch_cases import stored
from tree_models import FEATURES, Grown, by_onnxruntime, evaluated, features, loaded, model

pytestmark = pytest.mark.usefixtures("compiled_once")

QUICK = ("--on", "host", "--no-search", "-n", "3")
TORCH = {case.name: case for case in stored()}


def verdict(path: Path, *, inputs: Any = None, layers: bool = False) -> Verdict:
    """Of a file, compiled for this host."""
    compiled = driver.compile_file(path, load_target("host"), NO_SEARCH)
    sets = random_inputs(compiled.model, 3, 0) if inputs is None else inputs
    return verify(compiled, path, sets, runners=("host",), layers=layers)


@pytest.fixture
def pt2(tmp_path: Path) -> Path:
    path = tmp_path / "conv.pt2"
    path.write_bytes(TORCH["conv_core"].program)
    return path


def test_the_framework_is_that_of_what_is_in_the_file(
    digits: Path, tmp_path: Path, midge: Cli
) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs pip install '.[verify]'")
    path = tmp_path / "digits.bin"
    path.write_bytes(digits.read_bytes())
    found = midge("verify", path, *QUICK, "--json")
    assert (found.code, found.json["against"]) == (0, "framework")


# PyTorch.


def test_without_its_framework_it_is_a_self_check(
    midge: Cli, pt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle = oracle_for(pt2)
    assert oracle is not None
    monkeypatch.setattr(type(oracle), "available", lambda self: "not installed: get it")
    result = midge("verify", pt2, *QUICK)
    assert result.code == 0
    assert "self-check only: agrees with Midge's own NumPy reference" in result.out
    assert "right" not in result.out
    assert "not installed: get it" in result.out
    (row,) = (line for line in result.out.splitlines() if line.startswith("PyTorch  "))
    assert row.split() == ["PyTorch", "skipped"]
    required = midge("verify", pt2, *QUICK, "--require-framework")
    assert required.code == 2
    assert "PyTorch: not installed: get it" in required.err
    assert midge("verify", pt2, *QUICK, "--json").json["self_check_only"] is True


def test_what_cannot_run_the_c_is_said_below_the_table(
    midge: Cli, pt2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "no C compiler: install zig, or gcc, or clang, and put it where it is found"
    monkeypatch.setattr(type(RUNNERS["host"]), "available", lambda self: why)
    result = midge("verify", pt2, *QUICK)
    assert result.code == 1
    lines = result.out.splitlines()
    assert lines[lines.index("C on this host did not run:") + 1] == why
    assert any(line.startswith("not run: no C ran") for line in lines)
    assert not midge("verify", pt2, *QUICK, "--json").json["ok"]
    (row,) = (line for line in lines if line.startswith("C on this host  "))
    assert row.split()[4:] == ["skipped"]


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (("--on", ","), "names no runner"),
        (("--on", "board"), "unknown runner"),
        (("--on", "host", "--toolchain", "nope"), "unknown toolchain"),
    ],
)
def test_unknown_places_and_compilers_are_wrong_usage(
    midge: Cli, pt2: Path, options: tuple[str, ...], what: str
) -> None:
    result = midge("verify", pt2, *options)
    assert result.code == 2
    assert what in result.err


@pytest.mark.parametrize("name", sorted(TORCH))
def test_pytorch_runs_what_is_stored(name: str, tmp_path: Path) -> None:
    """Its operators one after the other, without its own loader: what it computed for the case."""
    pytest.importorskip("torch", reason="pip install '.[torch]'")
    case, path = TORCH[name], tmp_path / "case.pt2"
    path.write_bytes(case.program)
    graph = driver.load(path)
    oracle = oracle_for(path)
    assert oracle is not None
    found = oracle.load(path, graph).run({graph.inputs[0]: case.x})
    for value, want in zip(graph.outputs, case.outputs, strict=True):
        np.testing.assert_allclose(found[value], want, rtol=1e-5, atol=2e-6)


def test_pytorch_judges(midge: Cli, pt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="pip install '.[torch]'")
    result = midge("verify", pt2, *QUICK, "--require-framework")
    assert result.code == 0
    assert "right: agrees with the framework" in result.out
    right = verdict(pt2, layers=True)
    assert right.judged
    assert right.ok

    def wrong(self: Any, inputs: Any) -> Any:
        return {name: array + 1 for name, array in run(self, inputs).items()}

    from midge.oracle.pytorch import PyTorchSession

    run = PyTorchSession.run
    monkeypatch.setattr(PyTorchSession, "run", wrong)
    assert midge("verify", pt2, *QUICK).code == 1


# Frameworks that refuse.


def test_a_refused_model_is_a_skipped_stage(midge: Cli, tmp_path: Path) -> None:
    """LiteRT takes no convolution without a bias; NumPy against C goes on."""
    m = builder()
    x = m.input((1, 4, 4, 2), "int8", 0.1, 0, name="x")
    y = m.value((1, 4, 4, 3), "int8", 0.1, 0, name="y")
    w = m.const(np.ones((3, 1, 1, 2), np.int8), [0.1] * 3, axis=0)
    m.op("CONV_2D", [x, w], [y], "Conv2DOptions", padding=SAME, **CONV)
    path = tmp_path / "bare.tflite"
    path.write_bytes(m.build([y]))
    found = verdict(path)
    assert not found.judged
    assert found.ok
    assert found.stages[0].skipped.startswith("LiteRT refuses the model: ")
    result = midge("verify", path, *QUICK)
    assert result.code == 0
    assert "self-check only" in result.out
    assert midge("verify", path, *QUICK, "--require-framework").code == 2


def gather(tmp_path: Path) -> Path:
    m = OnnxModel()
    m.op("Gather", m.weights(11, 6), "x", output="y")
    path = tmp_path / "gather.onnx"
    path.write_bytes(m.build([("x", (1, 5))], ["y"], dtype="i64"))
    return path


def test_a_refused_input_is_a_skipped_stage(midge: Cli, tmp_path: Path) -> None:
    path = gather(tmp_path)
    found = verdict(path, inputs=[{"x": np.full((1, 5), 99)}])
    assert not found.judged
    assert "ONNX Runtime refuses an input" in found.stages[0].skipped
    assert "out of" in found.stages[0].skipped
    np.save(tmp_path / "x.npy", np.full((1, 5), 99))
    assert midge("verify", path, *QUICK, "-i", tmp_path / "x.npy").code == 0


def test_a_refused_input_of_litert(tmp_path: Path) -> None:
    m = builder()
    table = m.const(np.ones((4, 2), np.float32))
    x, y = m.input((3,), "int32", name="x"), m.value((3, 2), "float32", name="y")
    m.op("GATHER", [table, x], [y], "GatherOptions")
    path = tmp_path / "gather.tflite"
    path.write_bytes(m.build([y]))
    assert verdict(path).judged
    found = verdict(path, inputs=[{"x": np.full(3, 9, np.int32)}])
    assert "LiteRT refuses an input" in found.stages[0].skipped


# Operators without a reference kernel.


def test_operators_that_the_reference_lacks_have_another_judge(midge: Cli, tmp_path: Path) -> None:
    """The quantised convolution beside them keeps the reference, whose bytes are the promise."""
    rng, m = np.random.default_rng(0), builder()
    x = m.input((1, 9, 9, 4), "int8", 0.05, -3, name="x")
    a = m.value((1, 9, 9, 8), "int8", 0.043, 5)
    weights = rng.integers(-127, 128, (8, 3, 3, 4)).astype(np.int8)
    w = m.const(weights, rng.uniform(0.001, 0.01, 8).tolist(), axis=0)
    bias = m.const(rng.integers(-900, 900, 8).astype(np.int32), [0.0005] * 8)
    m.op("CONV_2D", [x, w, bias], [a], "Conv2DOptions", padding=SAME, **CONV)
    b, c, d, y = (m.value((1, 9, 9, 8), "float32") for _ in range(4))
    m.op("DEQUANTIZE", [a], [b], version=2)
    m.op("ELU", [b], [c])
    m.op("EXP", [c], [d], "ExpOptions")
    m.op("ROUND", [d], [y])
    path = tmp_path / "elu.tflite"
    path.write_bytes(m.build([y, a]))
    found = verdict(path, layers=True)
    assert found.judged
    assert found.ok, [s.first_difference for s in found.stages]
    assert len(found.stages[1].layers) >= 3
    (note,) = found.stages[0].notes
    assert note.startswith("ELU, ROUND: ")
    assert "default" in midge("verify", path, *QUICK).out


# Where frameworks depart from the specification.


def trees(tmp_path: Path, kind: str, outputs: list[str], attributes: Any) -> Path:
    path = tmp_path / "trees.onnx"
    path.write_bytes(model(kind, outputs, attributes))
    return path


def test_two_scores_are_not_judged_by_onnxruntime(midge: Cli, tmp_path: Path) -> None:
    grown = Grown(3, targets=(0, 1), all_targets=True).grow(6, 4).attributes("class")
    attributes = grown | {"classlabels_int64s": (0, 1)}
    path = trees(tmp_path, "TreeEnsembleClassifier", ["label", "scores"], attributes)
    found = verdict(path)
    assert not found.judged
    assert found.ok
    assert found.stages[0].skipped == TWO_SCORES
    assert "ONNX's reference" in " ".join(midge("verify", path, *QUICK).out.split())


def test_a_base_value_of_a_target_without_leaves(midge: Cli, tmp_path: Path) -> None:
    """The other outputs of the model are judged all the same."""
    grown = Grown(2, targets=(0,)).grow(3, 2).attributes("target")
    attributes = grown | {"n_targets": 2, "base_values": (1.0, 0.5)}
    path = trees(tmp_path, "TreeEnsembleRegressor", ["y"], attributes)
    assert verdict(path).stages[0].skipped == BASE
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **attributes
    )
    m = OnnxModel()
    m.domains["ai.onnx.ml"] = 3
    m.nodes.append(node)
    m.op("Neg", "y", output="n")
    m.op("Relu", "x", output="z")
    path.write_bytes(m.build([("x", (1, FEATURES))], ["z", "y", "n"]))
    found = verdict(path)
    assert found.judged
    assert found.ok
    assert found.stages[0].apart == {"y": BASE}
    text = " ".join(midge("verify", path, *QUICK).out.split())
    assert "y is judged by the NumPy reference: ONNX Runtime gives 0" in text
    assert "right: agrees with the framework" in text


@pytest.mark.parametrize(
    ("weights", "how"), [((-0.5, -0.25), UNSCORED), ((0.5, 0.25), ""), ((0.0, 0.25), "")]
)
def test_classes_that_no_leaf_names(tmp_path: Path, weights: Any, how: str) -> None:
    grown = Grown(5, targets=(0, 1), weights=weights).grow(2, 2).attributes("class")
    attributes = grown | {"classlabels_int64s": (0, 1, 2)}
    found = verdict(trees(tmp_path, "TreeEnsembleClassifier", ["label", "scores"], attributes))
    assert found.stages[0].skipped == how
    assert found.ok


@pytest.mark.parametrize("norm", ["MAX", "L1", "L2"])
def test_normalizers_are_onnxruntimes(norm: str) -> None:
    x = np.concatenate([features(20), [[-3, -1, -2, -4], [0, 0, 0, 0], [-1, 0, -2, -3]]])
    data = model("Normalizer", ["y"], {"norm": norm})
    x = x.astype(np.float32)
    found, want = evaluated(loaded(data), x)["y"], by_onnxruntime(data, x)["y"]
    np.testing.assert_allclose(found, want, rtol=3e-7, atol=1e-40)


@pytest.mark.parametrize("kind", ["ReduceProd", "ReduceSumSquare", "ReduceL1", "ReduceMax"])
@pytest.mark.parametrize("code", [1, 6, 7])
def test_sums_that_overflow_are_judged_by_the_reference(kind: str, code: int) -> None:
    """Of integers; of floats, and where nothing overflows, the framework judges."""
    node = helper.make_node(kind, ["x"], ["y"])
    ends = [helper.make_tensor_value_info(n, code, [3]) for n in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:]))
    judged = {} if code == 1 or kind == "ReduceMax" else {"y": OVERFLOW}
    assert departures(model) == judged


def test_a_format_of_no_framework_says_so() -> None:
    words = _nobody(Path("net.keras"))
    assert words == "no framework is asked of .keras files, only of .midge, .onnx, .pt2, .tflite"
