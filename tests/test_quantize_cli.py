"""midge quantize: files, tables, pictures, JSON, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge
from conftest import Cli
from midge import driver, pipeline
from midge.core.types import Array, DType
from midge.frontends.tflite import read
from midge.graph.archive import pack
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.passes import run as run_passes
from small_models import cnn_float, cnn_int8
from small_models import graph as graph_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "net.tflite"
    path.write_bytes(cnn_float())
    return path


@pytest.fixture(scope="module")
def data(model: Path) -> Path:
    """30 samples."""
    rng = np.random.default_rng(0)
    path = model.parent / "calib.npz"
    np.savez(path, x=rng.standard_normal((30, 8, 6, 2)).astype(np.float32))
    return path


@pytest.fixture(scope="module")
def labels(model: Path, data: Path) -> Path:
    """What the float model says."""
    graph = driver.load(model)
    found = [int(np.argmax(_first(evaluate(graph, {"x": x[None]})))) for x in np.load(data)["x"]]
    path = model.parent / "labels.npy"
    np.save(path, np.array(found))
    return path


def _first(outputs: dict[str, Array]) -> Array:
    return next(iter(outputs.values()))


def test_both_formats_hold_the_same_model(
    midge: Cli, model: Path, data: Path, tmp_path: Path
) -> None:
    answer = midge("quantize", model, "--data", data, "-o", tmp_path / "q.midge")
    assert answer.code == 0
    assert "calibrated on 30 samples" in answer.out
    midge("quantize", model, "-d", data, "-o", tmp_path / "q.tflite")
    own, foreign = (driver.load(tmp_path / f"q.{s}") for s in ("midge", "tflite"))
    assert dict(own.types) == dict(foreign.types)
    assert {t.dtype for t in own.types.values()} >= {DType.I8, DType.I32}
    assert midge("verify", tmp_path / "q.tflite", "-n", 2, "--on", "host").code == 0


def test_a_midge_file_goes_through_every_command(
    midge: Cli, model: Path, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "q.midge"
    midge("quantize", model, "-d", data, "-o", path)
    assert midge("inspect", path).code == 0
    assert midge("run", path, "--json").json["cycles"] > 0
    verdict = midge("verify", path, "-n", 2, "--on", "host")
    assert "agrees with the framework byte for byte" in verdict.out
    assert midge("compile", path, "-o", tmp_path / "c").code == 0


def test_what_tflite_cannot_say_is_verified_without_the_framework(
    midge: Cli, tmp_path: Path
) -> None:
    (tmp_path / "plain.midge").write_bytes(pack(small_integer_graph()))
    verdict = midge("verify", tmp_path / "plain.midge", "-n", 2, "--on", "host")
    assert verdict.code == 0
    assert "cannot be written to a TFLite file" in " ".join(verdict.out.split())


def small_integer_graph() -> Graph:
    """At the plain level."""
    return pipeline.spell_out(run_passes(pipeline.MODEL_PASSES, graph_of(cnn_int8())))[0]


def test_accuracy_report_and_picture(
    midge: Cli, model: Path, data: Path, labels: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "r.svg"
    words = ["quantize", model, "-d", data, "-o", tmp_path / "q.midge", "--accuracy", labels]
    answer = midge(*words, "--report", "--picture", picture)
    assert "Top-1: 100.00 % in float" in answer.out
    assert all(len(line) <= 80 for line in answer.out.splitlines() if "Wrote" not in line)
    assert picture.read_bytes().startswith(b"<?xml")
    found = midge(*words, "--report", "--json").json
    noises = [x["snr_db"] for x in found["layers"] if x["snr_db"] is not None]
    assert noises == sorted(noises)
    assert found["top_1_before"] == 100.0
    assert found["top_1_after"] >= 80.0
    assert found["size"] == (tmp_path / "q.midge").stat().st_size


def test_layers_on_int16_and_a_budget(midge: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    words = ["quantize", model, "-d", data, "-o", tmp_path / "q.midge", "--json"]
    plain = midge(*words).json
    assert len(midge(*words, "--int16", "@0").json["int16"]) == 1
    mixed = midge(*words, "--mixed", plain["output_snr_db"] + 1.0).json
    assert mixed["within_budget"]
    assert mixed["int16"]
    assert mixed["output_snr_db"] >= plain["output_snr_db"] + 1.0
    wide = midge(*words, "--activations", "int16").json
    assert wide["output_snr_db"] > plain["output_snr_db"]


def test_float_inputs_and_outputs(midge: Cli, model: Path, data: Path, tmp_path: Path) -> None:
    midge("quantize", model, "-d", data, "-o", tmp_path / "q.tflite", "--io", "float")
    graph = read((tmp_path / "q.tflite").read_bytes(), "q")
    before = driver.load(model)
    assert (graph.inputs, graph.outputs) == (before.inputs, before.outputs)
    assert {graph.types[n].dtype for n in (*graph.inputs, *graph.outputs)} == {DType.F32}


def test_float16_weights_need_no_data(midge: Cli, model: Path, tmp_path: Path) -> None:
    answer = midge("quantize", model, "--float16-weights", "-o", tmp_path / "h.tflite")
    assert "weights in float16" in answer.out
    assert midge("verify", tmp_path / "h.tflite", "-n", 2, "--on", "host").code == 0


def test_the_same_words_write_the_same_bytes(
    midge: Cli, model: Path, data: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        for suffix in ("midge", "tflite"):
            midge("quantize", model, "-d", data, "-o", tmp_path / f"{name}.{suffix}")
    for suffix in ("midge", "tflite"):
        assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()


def test_the_interface_in_python(model: Path, data: Path, tmp_path: Path) -> None:
    graph = midge.quantize(model, np.load(data)["x"], method="minmax")
    midge.save(graph, tmp_path / "q.midge")
    assert midge.load(tmp_path / "q.midge", name=graph.name) == graph
    assert midge.compile(graph, search=False).arena_size > 0
    named = midge.quantize(midge.load(model), {"x": np.load(data)["x"]}, method="minmax")
    assert named == graph


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["--method", "best"], "one of minmax, percentile, entropy, mse"),
        (["--io", "uint8"], "one of int, int8, int16, float"),
        (["--activations", "int4"], "one of int8, int16"),
        (["--percentile", "20"], "is no percentile"),
        (["--int16", "nothing"], "no layer 'nothing'"),
        (["--picture", "x.gif"], "use .svg or .png"),
        (["-o", "x.onnx"], "cannot write '.onnx' files"),
    ],
)
def test_wrong_options_are_refused(
    midge: Cli, model: Path, data: Path, extra: list[str], expected: str
) -> None:
    answer = midge("quantize", model, "-d", data, *extra)
    assert answer.code == 2
    assert expected in " ".join(answer.err.split())


def test_data_that_does_not_fit_is_refused(
    midge: Cli, model: Path, data: Path, tmp_path: Path
) -> None:
    def refused(**arrays: Any) -> str:
        np.savez(tmp_path / "bad.npz", **arrays)
        answer = midge("quantize", model, "-d", tmp_path / "bad.npz", "-o", tmp_path / "q.midge")
        assert answer.code == 2
        assert not (tmp_path / "q.midge").exists()
        return " ".join(answer.err.split())

    assert "has shape [3, 8, 6, 1]" in refused(x=np.zeros((3, 8, 6, 1), np.float32))
    assert "is int64" in refused(x=np.zeros((3, 8, 6, 2), np.int64))
    assert "has no array 'x'" in refused(y=np.zeros((3, 8, 6, 2), np.float32))
    assert "empty batch" in refused(x=np.zeros((0, 8, 6, 2), np.float32))
    assert "needs samples" in midge("quantize", model).err


def test_labels_that_do_not_fit_are_refused(
    midge: Cli, model: Path, data: Path, tmp_path: Path
) -> None:
    path = tmp_path / "labels.npy"
    for wrong, expected in ((np.zeros(3, int), "3 labels for 30"), (np.zeros(30), "not integers")):
        np.save(path, wrong)
        answer = midge("quantize", model, "-d", data, "--accuracy", path)
        assert answer.code == 2
        assert expected in " ".join(answer.err.split())


def test_a_quantised_model_is_refused(midge: Cli, data: Path, tmp_path: Path) -> None:
    path = tmp_path / "int8.tflite"
    path.write_bytes(cnn_int8())
    np.save(tmp_path / "x.npy", np.zeros((2, 9, 7, 3), np.int8))
    answer = midge("quantize", path, "-d", tmp_path / "x.npy", "-o", tmp_path / "q.midge")
    assert answer.code == 3
    assert "quantised already" in " ".join(answer.err.split())


def test_a_quantised_model_is_told_before_its_data(midge: Cli, digits: Path, data: Path) -> None:
    result = midge("quantize", digits, "--data", data)
    assert result.code == 3
    assert "is quantised already" in result.err
    assert "--quantize-inputs" not in result.err


@pytest.mark.parametrize("budget", ["nan", "-5", "inf"])
def test_a_budget_that_is_none(midge: Cli, model: Path, data: Path, budget: str) -> None:
    result = midge("quantize", model, "--data", data, "--mixed", budget)
    assert result.code == 2
    assert "--mixed" in result.err
