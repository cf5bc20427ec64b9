"""midge run: what it shows, what it writes, and what it refuses before it compiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import DIGITS, Cli
from onnx_builder import OnnxModel

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]


@pytest.mark.parametrize(
    "name", ["file", "allow_pickle", "a/../b.npy", "", "\u5165", "a\0b", "n" * 70_000]
)
def test_outputs_are_in_the_file_under_their_names(midge: Cli, tmp_path: Path, name: str) -> None:
    """Or, where no file can have them, by their number."""
    m = OnnxModel()
    m.op("Relu", "x", output=name or "y")
    m.op("Neg", "x", output="output_0")
    path = tmp_path / "net.onnx"
    path.write_bytes(m.build([("x", (1, 4))], [name or "y", "output_0"]))
    np.save(tmp_path / "x.npy", np.array([[1, -2, 3, -4]], np.float32))
    words = ("--on", "host", "--no-search", "--no-prove", "-i", "x.npy", "-o", "out.npz")
    result = midge("run", path, *words)
    assert result.code == 0, result.err
    safe = "\0" not in name and len(name) < 1000
    assert ("it is output_0_ there" in result.err) == (not safe)
    found = np.load(tmp_path / "out.npz")
    assert found[(name or "y") if safe else "output_0_"].tolist() == [[1, 0, 3, 0]]
    assert found["output_0"].tolist() == [[-1, 2, -3, 4]]


def test_a_run_that_counts_nothing_says_nothing_of_it(midge: Cli) -> None:
    result = midge("run", DIGITS, "--on", "host", "--no-search")
    assert result.code == 0
    assert "arena" in result.out
    assert "exact" not in result.out
    assert "exact" in midge("run", DIGITS, "--no-search", "--no-prove").out


def test_run_counts_per_operator(midge: Cli) -> None:
    answer = midge("run", DIGITS, "--json").json
    assert answer["instructions"] > 1000
    assert answer["cycles"] > answer["instructions"] * 0.8
    assert sum(o["instructions"] for o in answer["operators"]) <= answer["instructions"]
    assert answer["arena"] == 3584
    assert len(answer["outputs"]) == 1


@pytest.mark.parametrize("command", ["run", "verify"])
@pytest.mark.parametrize(
    ("values", "labels", "said"),
    [
        (np.zeros((1, 8, 8, 1), np.float32), None, ("is float32", "int8[1, 8, 8, 1]")),
        (np.zeros((3, 3), np.float32), None, ("is float32", "int8[1, 8, 8, 1]")),
        (np.zeros((3, 3), np.int8), None, ("has shape [3, 3]", "[1, 8, 8, 1]")),
        (np.zeros((2, 8, 8, 1), np.int8), [1, 2, 3], ("3 labels for 2 inputs",)),
        (np.zeros((2, 8, 8, 1), np.int8), [1, 10], ("label 10", "from 0 to 9")),
    ],
)
def test_what_does_not_fit_is_refused_before_compiling(
    command: str,
    values: np.ndarray,
    labels: list[int] | None,
    said: tuple[str, ...],
    midge: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def compiled(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(f"midge.cli.commands.{command}.compile_model", compiled)
    np.save(tmp_path / "x.npy", values)
    words: list[object] = [command, DIGITS, "-i", "x.npy"]
    if labels is not None:
        np.save(tmp_path / "y.npy", np.array(labels))
        words += ["--accuracy", "y.npy"]
    result = midge(*words)
    assert result.code == 2
    assert all(text in " ".join(result.err.split()) for text in said), result.err


@pytest.mark.parametrize("words", [("compile",), ("run", "-o", "y.npz"), ("verify",), ("inspect",)])
def test_a_folder_is_no_model(words: tuple[str, ...], midge: Cli, tmp_path: Path) -> None:
    result = midge(*words, tmp_path)
    assert result.code == 2
    assert f"error: {tmp_path}: cannot read the model: a folder" in result.err
    assert "no SavedModel" in " ".join(result.err.split())


def test_inputs_that_are_not_there(midge: Cli) -> None:
    result = midge("run", DIGITS, "-i", "nosuch.npy")
    assert result.code == 2
    assert "nosuch.npy: cannot be read" in result.err
    assert "hint: give the path of a file" in result.err


def test_one_input_is_one(midge: Cli) -> None:
    words = ("verify", DIGITS, "--on", "host", "--no-search", "--no-prove", "-n")
    assert "digits_int8, 1 input " in midge(*words, "1").out
    assert "digits_int8, 2 inputs " in midge(*words, "2").out
