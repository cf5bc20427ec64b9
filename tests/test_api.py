"""The Python interface: load, compile, save, run, and what they refuse."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import midge
from conftest import DIGITS, NO_SEARCH
from midge.core.types import DType, Quant, TensorType
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph, Node
from midge.target import load_target
from small_models import two_ports


@pytest.fixture(scope="module")
def package() -> midge.Package:
    return midge.compile(DIGITS, name="digits")


def zeros(package: midge.Package) -> np.ndarray:
    return np.zeros(package.inputs[0].type.shape, np.int8)


# load and compile.


def test_load_gives_a_graph_that_prints(tmp_path: Path) -> None:
    graph = midge.load(DIGITS, name="net")
    assert graph.name == "net"
    assert str(graph).startswith("graph net(")
    assert midge.load(str(DIGITS)).name == "digits_int8"


def test_a_graph_compiles_as_its_file_does() -> None:
    from_file = midge.compile(DIGITS, "cortex-m3", NO_SEARCH, name="net")
    from_graph = midge.compile(midge.load(DIGITS), "cortex-m3", NO_SEARCH, name="net")
    assert from_file.files["net.h"] == from_graph.files["net.h"]
    assert from_file.arena_size == from_graph.arena_size
    assert from_file.metadata["target"] == "cortex-m3"
    assert midge.compile(midge.load(DIGITS, name="net"), "cortex-m3", NO_SEARCH).name == "net"


def test_a_target_is_a_name_a_file_or_a_value(tmp_path: Path) -> None:
    target = load_target("cortex-m7")
    by_name, by_value = (midge.compile(DIGITS, t, NO_SEARCH) for t in ("cortex-m7", target))
    assert by_name == by_value
    source = Path(midge.__file__).parent / "target" / "cortex-m7.toml"
    mine = tmp_path / "board.toml"
    mine.write_text(source.read_text())
    assert midge.compile(DIGITS, mine, NO_SEARCH).target.cpu == target.cpu
    with pytest.raises(midge.TargetError, match="did you mean cortex-m7"):
        midge.compile(DIGITS, "cortex-m77")


def test_a_package_describes_itself(package: midge.Package) -> None:
    assert package.name == "digits"
    assert package.sources == ("digits.c", "digits_weights.c")
    assert {"digits.h", "digits.c", "metadata.json", "README.md", "Makefile"} <= set(package.files)
    assert package.inputs[0].type.shape == (1, 8, 8, 1)
    assert package.arena_size >= sum(t.type.size for t in package.inputs)
    ends = [t.offset + t.type.size for o in package.operators for t in o.outputs]
    assert max(ends) <= package.arena_size


@pytest.mark.parametrize("name", ["", "9lives", "a-b", "int", "a b", "x_", "_x", "\u00fcber"])
def test_a_name_must_be_a_c_prefix(name: str) -> None:
    with pytest.raises(midge.UsageError, match="not usable as a C prefix"):
        midge.compile(DIGITS, name=name)


@pytest.mark.parametrize(
    ("stem", "prefix"),
    [("kws int8.v2", "kws_int8_v2"), ("3d", "model_3d"), ("int", "model_int"), ("___", "model"),
     ("\u6570\u5b57", "model"), ("Midge", "model_midge")],
)  # fmt: skip
def test_a_files_name_becomes_a_prefix(stem: str, prefix: str, tmp_path: Path) -> None:
    path = tmp_path / f"{stem}.tflite"
    path.write_bytes(DIGITS.read_bytes())
    assert midge.load(path).name == prefix


def test_what_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(midge.UsageError, match="cannot read the model"):
        midge.load(tmp_path / "missing.tflite")
    with pytest.raises(midge.UsageError, match=r"cannot read the model: .* no SavedModel"):
        midge.load(tmp_path)
    (tmp_path / "notes.txt").write_text("not a model")
    with pytest.raises(midge.ModelError, match="unknown model format"):
        midge.load(tmp_path / "notes.txt")


# save.


def test_save_writes_every_file_as_it_is(package: midge.Package, tmp_path: Path) -> None:
    folder = package.save(tmp_path / "deep" / "out")
    found = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
    assert found == dict(package.files)
    assert [p.name for p in folder.parent.iterdir()] == ["out"]


def test_save_leaves_what_is_not_its_own(package: midge.Package, tmp_path: Path) -> None:
    foreign = tmp_path / "out"
    foreign.mkdir()
    package.save(str(foreign))  # an empty one
    (foreign / "metadata.json").unlink()
    (foreign / "thesis.txt").write_text("three years")
    (foreign / "README.md").write_text("three years")
    with pytest.raises(midge.UsageError, match=r"not written by Midge: README\.md"):
        package.save(foreign)
    assert (foreign / "README.md").read_text() == "three years"
    package.save(foreign, force=True)
    assert (foreign / "thesis.txt").read_text() == "three years"
    plain = tmp_path / "file"
    plain.write_text("a file")
    with pytest.raises(midge.UsageError, match="is not a folder"):
        package.save(plain, force=True)
    with pytest.raises(midge.UsageError, match="cannot be written"):
        package.save(plain / "below")


# run.


@pytest.mark.parametrize("first", ["midge.run", "midge.run.host", "midge.cli.app", "midge.api"])
def test_run_is_a_function_whatever_is_imported(first: str) -> None:
    code = f"import {first}, midge; assert callable(midge.run); from midge.run import RUNNERS"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    code = f"import midge, {first}; assert callable(midge.run); from midge.run import RUNNERS"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("on", ["host", "emulator"])
def test_run_takes_one_array_or_arrays_by_name(on: str, package: midge.Package) -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(-128, 128, (1, 8, 8, 1), np.int8)
    graph = midge.load(DIGITS)
    want = evaluate(graph, {graph.inputs[0]: x})[graph.outputs[0]]
    for inputs in (x, {package.inputs[0].name: x}):
        result = midge.run(package, inputs, on=on)
        assert isinstance(result, midge.Run)
        assert np.array_equal(result.outputs[package.outputs[0].name], want)
    assert (result.instructions is None) == (on == "host")


Wrong = tuple[Callable[[midge.Package], object], str]
WRONG: dict[str, Wrong] = {
    "shape": (lambda p: zeros(p)[0], "input"),
    "type": (lambda p: zeros(p).astype(np.float32), "input"),
    "name": (lambda p: {"nobody": zeros(p)}, "input"),
    "too many": (lambda p: {p.inputs[0].name: zeros(p), "more": zeros(p)}, "more"),
    "none": (lambda p: {}, "input"),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("on", ["host", "emulator"])
def test_wrong_inputs_are_refused(case: str, on: str, package: midge.Package) -> None:
    make, message = WRONG[case]
    with pytest.raises(midge.UsageError, match=message) as caught:
        midge.run(package, make(package), on=on)  # type: ignore[arg-type]
    assert caught.value.hint


def test_two_inputs_want_names(tmp_path: Path) -> None:
    path = tmp_path / "ports.tflite"
    path.write_bytes(two_ports())
    package = midge.compile(path)
    with pytest.raises(midge.UsageError, match="name them: left, right"):
        midge.run(package, np.zeros((1, 4, 6), np.int8))
    left, right = np.ones((1, 4, 6), np.int8), np.ones(6, np.int8)
    result = midge.run(package, {"left": left, "right": right}, on="host")
    assert {n: a.shape for n, a in result.outputs.items()} == {
        "sum": (1, 4, 6), "product": (1, 4, 6),
    }  # fmt: skip


def test_unknown_runners_and_toolchains(package: midge.Package) -> None:
    with pytest.raises(midge.UsageError, match="unknown runner"):
        midge.run(package, zeros(package), on="mainframe")
    with pytest.raises(midge.UsageError, match="unknown toolchain"):
        midge.run(package, zeros(package), toolchain="tcc")
    with pytest.raises(midge.UsageError, match="optimisation"):
        midge.run(package, zeros(package), optimize="best")


def test_inputs_are_left_as_they_were(package: midge.Package) -> None:
    x = np.full((1, 8, 8, 1), 77, np.int8)
    x.setflags(write=False)
    first = midge.run(package, x, on="host").outputs
    assert (x == 77).all()
    again = midge.run(package, np.asfortranarray(x), on="host").outputs
    assert all(np.array_equal(first[n], again[n]) for n in first)


def test_limits_say_what_is_needed_and_where(digits: Path) -> None:
    with pytest.raises(midge.PlanError) as ram:
        midge.compile(digits, max_ram=700)
    least = re.search(r"needs (\d+) bytes of RAM for the arena, 700 are allowed", str(ram.value))
    assert least is not None
    assert "the peak is at conv2d_" in ram.value.hint
    with pytest.raises(midge.PlanError, match="bytes of flash for constants and kernels"):
        midge.compile(digits, max_flash=100)
    fitting = midge.compile(digits, max_ram=int(least[1]), max_flash=1 << 20)
    assert fitting.arena_size <= int(least[1])
    assert midge.compile(digits, max_ram=3584).arena_size <= 3584


def test_a_hybrid_model_means_its_dequantised_weights_at_every_level() -> None:
    """evaluate() of the graph as it was read, without any pass."""
    types = {
        "x": TensorType((2, 3), DType.F32),
        "w": TensorType((2, 3), DType.I8, Quant((0.5, 0.25), (0, 0), 0)),
        "y": TensorType((2, 2), DType.F32),
    }
    weights = np.array([[1, -2, 3], [4, 5, -6]], np.int8)
    node = Node("dense", ("x", "w"), ("y",), {"activation": "relu"})
    graph = Graph("hybrid", ("x",), ("y",), types, {"w": weights}, (node,))
    x = np.array([[1.0, 2.0, 3.0], [-1.0, 0.5, 2.0]], np.float32)
    want = np.maximum(x @ (weights * np.array([[0.5], [0.25]], np.float32)).T, 0)
    np.testing.assert_array_equal(evaluate(graph, {"x": x})["y"], want)
