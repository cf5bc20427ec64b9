"""The command line: exit codes, JSON, messages, and tables that fit a terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import DIGITS, NO_SEARCH, Cli
from midge.core.errors import RunError
from midge.graph.ir import OPS
from small_models import cnn_int8, two_ports

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

COMMANDS = (
    "compile", "doctor", "inspect", "ops", "profile", "run", "schedule", "targets", "verify",
)  # fmt: skip


@pytest.fixture
def ports(tmp_path: Path) -> Path:
    """A model with two inputs, "left" i8[1x4x6] and "right" i8[6], and two outputs."""
    path = tmp_path / "ports.tflite"
    path.write_bytes(two_ports())
    return path


@pytest.fixture
def wrong_softmax(monkeypatch: pytest.MonkeyPatch) -> str:
    """The reference of what ends the digits model is off by one; returns its node's output."""
    from midge import driver

    graph = driver.load(DIGITS)
    node = graph.nodes[-1]
    last = driver.compile_graph(graph, driver_target(), NO_SEARCH).plain.nodes[-1]
    right = OPS[last.op]

    def reference(inputs: Any, attrs: Any) -> Any:
        return tuple(y ^ 1 for y in right.reference(inputs, attrs))

    monkeypatch.setitem(OPS._items, last.op, replace(right, reference=reference))
    return node.outputs[0]


def driver_target() -> Any:
    from midge.target import load_target

    return load_target("cortex-m4")


# Exit codes.


def test_success_is_0(midge: Cli, tmp_path: Path) -> None:
    result = midge("compile", DIGITS, "--name", "digits")
    assert (result.code, result.err) == (0, "")
    assert (tmp_path / "digits" / "digits.c").is_file()


def test_a_difference_is_1(midge: Cli, wrong_softmax: str) -> None:
    result = midge("verify", DIGITS, "--on", "host", "--count", "3")
    assert result.code == 1
    assert "DIFFERS" in result.out
    assert "wrong" in result.out


def test_layers_names_the_first_operator_that_differs(
    midge: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = OPS["max_pool2d"] if "max_pool2d" in used_ops() else OPS["conv2d"]

    def reference(inputs: Any, attrs: Any) -> Any:
        return tuple(y + 64 * (np.arange(y.size) % 2 == 0).reshape(y.shape).astype(y.dtype)
                     for y in right.reference(inputs, attrs))  # fmt: skip

    monkeypatch.setitem(OPS._items, right.name, replace(right, reference=reference))
    from midge import driver

    graph = driver.load(DIGITS)
    first = next(n for n in graph.nodes if n.op == right.name)
    result = midge("verify", DIGITS, "--on", "host", "--count", "3", "--layers", "--json")
    assert result.code == 1
    stages = {s["name"]: s for s in result.json["stages"]}
    bad = stages["host"] if result.json["against"] == "reference" else stages["reference"]
    assert bad["first_difference"] == first.where
    text = midge("verify", DIGITS, "--on", "host", "--count", "3", "--layers").out
    assert f"First difference on {bad['title']}: {first.where}" in text


def used_ops() -> set[str]:
    from midge import driver

    return {n.op for n in driver.load(DIGITS).nodes}


@pytest.mark.parametrize(
    "args",
    [
        ["nonsense"],
        ["compile"],
        ["compile", DIGITS, "--bogus"],
        ["compile", "/no/such.tflite"],
        ["compile", DIGITS, "--name", "9 lives"],
        ["run", DIGITS, "--on", "mainframe"],
        ["run", DIGITS, "--count", "0"],
        ["run", DIGITS, "--count", "many"],
        ["run", DIGITS, "--on", ","],
        ["run", DIGITS, "--on", "host", "--toolchain", "zigg"],
        ["profile", DIGITS, "--toolchain", ""],
        ["compile", DIGITS, "--target", "cortex-m44"],
        ["compile", DIGITS, "--target", "/dev/zero.toml"],
        ["compile", DIGITS, "--reserve", "r10"],
        ["compile", "/dev/zero"],
        ["run", DIGITS, "--input", "/dev/zero"],
        ["run", DIGITS, "--count", "9999999999999999"],
        ["run", DIGITS, "--seed", "-1"],
        ["verify", DIGITS, "--seed", "-1"],
        ["compile", DIGITS, "--pool", "a=9223372036854775808"],
        ["compile", DIGITS, "--max-flash", f"{'9' * 5000}M"],
        ["run", DIGITS, "--optimize", "best"],
        ["run", DIGITS, "--input", "/no/such.npy"],
        ["verify", DIGITS, "--on", "hots"],
        ["inspect", DIGITS, "--show", "everything"],
        ["inspect", DIGITS, "--memory", "plan.gif"],
        ["profile", DIGITS, "--asm", "conv2d_9"],
        ["profile", DIGITS, "--asm", "1", "--on", "qemu"],
        ["profile", DIGITS, "--on", "host"],
        ["schedule", DIGITS, "99"],
    ],
    ids=lambda a: "_".join(Path(str(x)).name for x in a)[:60],
)
def test_wrong_usage_is_2(midge: Cli, args: list[str]) -> None:
    result = midge(*args)
    assert (result.code, result.out) == (2, "")
    assert result.err
    answer = midge(*args, "--json")
    assert answer.code == 2
    assert set(answer.json["error"]) == {"what", "where", "hint"}
    assert answer.json["error"]["what"]


def test_pipes_are_not_waited_for(midge: Cli, tmp_path: Path) -> None:
    for name in ("pipe", "pipe.toml"):
        os.mkfifo(tmp_path / name)
    quick = ("--no-search", "--no-prove")
    for words in (
        ("inspect", "pipe"),
        ("run", DIGITS, "-i", "pipe", *quick),
        ("inspect", DIGITS, "-t", "pipe.toml"),
    ):
        result = midge(*words)
        assert result.code == 2
        assert "is no regular file" in result.err


def test_a_model_that_cannot_be_compiled_is_3(midge: Cli, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(DIGITS.read_bytes()[:5000])
    result = midge("compile", broken)
    assert (result.code, result.out) == (3, "")
    assert result.err.startswith("error: broken.tflite: ")
    assert " hint: " in result.err
    assert midge("compile", broken, "--json").json["error"]["where"] == "broken.tflite"
    assert not (tmp_path / "broken").exists()


def test_a_runner_that_fails_is_4(midge: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from midge.run.host import HostSession

    def fails(*_: object, **__: object) -> None:
        raise RunError("the process died", where="digits", hint="look at it")

    monkeypatch.setattr(HostSession, "run", fails)
    result = midge("run", DIGITS, "--on", "host")
    assert result.code == 4
    assert result.err == "error: digits: the process died\n hint: look at it\n"


def test_a_toolchain_for_another_machine_is_4(midge: Cli) -> None:
    result = midge("run", DIGITS, "--toolchain", "gcc")
    assert result.code == 4
    assert "target cortex-m4: has no flags for gcc" in result.err


def test_a_bug_is_70_and_says_so(midge: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from midge import driver

    def broken(*_: object, **__: object) -> None:
        raise AssertionError("two and two")

    monkeypatch.setattr(driver, "compile_file", broken)
    result = midge("compile", DIGITS)
    assert result.code == 70
    assert "internal error (AssertionError: two and two)" in result.err
    assert "Traceback" in midge("compile", DIGITS, "--debug").err


def test_debug_shows_the_traceback_of_a_users_error(midge: Cli) -> None:
    result = midge("--debug", "compile", "/no/such.tflite")
    assert result.code == 2
    assert "Traceback" in result.err
    assert "error: /no/such.tflite: cannot read the model" in result.err


def test_it_is_the_same_in_a_process(tmp_path: Path) -> None:
    def process(*args: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "midge", *args]
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)

    assert process("--version").stdout.startswith("midge ")
    done = process("compile", str(DIGITS), "-o", "out", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["folder"] == "out"
    failed = process("compile", "missing.tflite")
    assert (failed.returncode, failed.stdout) == (2, "")
    assert failed.stderr.splitlines()[0].startswith("error: missing.tflite:")


# Hints.


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["compile", DIGITS, "--target", "cortex-m44"], "did you mean cortex-m4"),
        (["run", DIGITS, "--toolchain", "zigg"], "did you mean zig?"),
        (["run", DIGITS, "--on", "emulater"], "did you mean emulator?"),
        (["run", DIGITS, "--optimize", "fast"], "one of speed, balanced, size, debug"),
        (["inspect", DIGITS, "--show", "grpah"], "one of model, graph, plain, loops, c"),
        (["compile", DIGITS, "--name", "no-dash"], "e.g. 'no_dash'"),
    ],
)
def test_typos_get_a_suggestion(midge: Cli, args: list[str], hint: str) -> None:
    result = midge(*args)
    assert result.code in (2, 3, 4)
    assert hint in result.err


# Every command.


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_a_command_does(midge: Cli, command: str) -> None:
    result = midge(command, "--help")
    assert result.code == 0
    assert f"midge {command}" in result.out or f" {command} [OPTIONS]" in result.out
    assert "--json" in result.out


@pytest.mark.parametrize(
    "args",
    [
        ["compile", DIGITS], ["inspect", DIGITS], ["inspect", DIGITS, "--show", "graph"],
        ["run", DIGITS], ["run", DIGITS, "--on", "host"], ["verify", DIGITS, "--count", "2"],
        ["verify", DIGITS, "--count", "2", "--layers"], ["profile", DIGITS], ["schedule", DIGITS],
        ["targets"], ["ops"], ["doctor"],
    ],
    ids=lambda a: "_".join(Path(str(x)).name for x in a)[:60],
)  # fmt: skip
def test_tables_fit_80_columns_and_json_parses(midge: Cli, args: list[str]) -> None:
    result = midge(*args)
    assert result.code == 0
    assert result.out.strip()
    if args[0] != "doctor" and "--show" not in args:  # a path or a graph may be long
        tables = [line for line in result.out.splitlines() if "] = [" not in line]
        wide = [line for line in tables if len(line) > 80]
        assert not wide, wide[0]
    answer = midge(*args, "--json")
    assert answer.code == 0
    assert answer.json


def test_run_writes_every_output(midge: Cli, ports: Path, tmp_path: Path) -> None:
    assert midge("run", ports, "--count", "3", "-o", "y.npz").code == 0
    with np.load(tmp_path / "y.npz") as outputs:
        assert {n: outputs[n].shape for n in outputs} == {
            "sum": (3, 1, 4, 6), "product": (3, 1, 4, 6),
        }  # fmt: skip


def test_verify_takes_npy_and_npz(midge: Cli, ports: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    left = rng.integers(-128, 128, (5, 1, 4, 6), np.int8)
    right = rng.integers(-128, 128, (5, 6), np.int8)
    np.savez(tmp_path / "named.npz", left=left, right=right)
    np.savez(tmp_path / "counted.npz", input_0=left, input_1=right)
    for name in ("named.npz", "counted.npz"):
        answer = midge("verify", ports, "--on", "host", "--input", name, "--json")
        assert (answer.code, answer.json["inputs"]) == (0, 5)
    np.save(tmp_path / "digits.npy", rng.integers(-128, 128, (3, 8, 8, 1), np.int8))
    answer = midge("verify", DIGITS, "--on", "host", "--input", "digits.npy", "--json")
    assert (answer.code, answer.json["inputs"]) == (0, 3)


def test_inputs_that_do_not_fit_are_explained(midge: Cli, ports: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((1, 4, 6), np.int8))
    assert "give an npz with left, right" in midge("verify", ports, "-i", "one.npy").err
    np.savez(tmp_path / "half.npz", left=np.zeros((1, 4, 6), np.int8))
    assert "has no array 'right'" in midge("verify", ports, "-i", "half.npz").err
    np.savez(tmp_path / "type.npz", left=np.zeros((1, 4, 6)), right=np.zeros(6, np.int8))
    assert "the model takes int8" in midge("verify", ports, "-i", "type.npz").err
    np.savez(
        tmp_path / "count.npz", left=np.zeros((3, 1, 4, 6), np.int8), right=np.zeros(6, np.int8)
    )
    assert "different counts" in midge("verify", ports, "-i", "count.npz").err
    np.save(tmp_path / "shape.npy", np.zeros((9, 9), np.int8))
    assert "[1, 8, 8, 1], or a batch" in midge("verify", DIGITS, "-i", "shape.npy").err
    (tmp_path / "text.npy").write_text("these are no numbers")
    assert "cannot be read as npy or npz" in midge("run", DIGITS, "-i", "text.npy").err
    np.save(tmp_path / "none.npy", np.zeros((0, 8, 8, 1), np.int8))
    assert "holds an empty batch" in midge("run", DIGITS, "-i", "none.npy").err


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_the_picture_of_the_arena_is_always_the_same(
    midge: Cli, suffix: str, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="needs pip install '.[plot]'")
    assert midge("inspect", DIGITS, "--memory", f"a.{suffix}").code == 0
    assert midge("inspect", DIGITS, "--memory", f"b.{suffix}").code == 0
    data = (tmp_path / f"a.{suffix}").read_bytes()
    assert data == (tmp_path / f"b.{suffix}").read_bytes()
    assert b"<svg" in data if suffix == "svg" else data.startswith(b"\x89PNG")
    assert sorted(p.name for p in tmp_path.iterdir()) == [f"a.{suffix}", f"b.{suffix}"]


def test_inspect_prints_every_stage(midge: Cli, tmp_path: Path) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(cnn_int8())
    starts = {"model": "graph net(", "graph": "graph net(", "plain": "graph net(", "loops": "func "}
    for stage, start in starts.items():
        assert midge("inspect", path, "--show", stage).out.startswith(start)
    assert "midge_status net_run(" in midge("inspect", path, "--show", "c").out


def test_compile_does_not_replace_a_file_that_is_not_its_own(midge: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("three years of work")
    (tmp_path / "out" / "README.md").write_text("how to read it")
    result = midge("compile", DIGITS, "-o", "out")
    assert result.code == 2
    assert "README.md" in result.err
    assert "--force" in result.err
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"thesis.txt", "README.md"}
    assert (tmp_path / "out" / "README.md").read_text() == "how to read it"
    assert midge("compile", DIGITS, "-o", "out", "--force").code == 0
    assert (tmp_path / "out" / "thesis.txt").read_text() == "three years of work"
    assert midge("compile", DIGITS, "-o", "out").code == 0


def test_require_framework(midge: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from midge.oracle.litert import LiteRT

    monkeypatch.setattr(LiteRT, "available", lambda self: "not installed: pip install it")
    result = midge("verify", DIGITS, "--on", "host", "--count", "1")
    assert result.code == 0
    assert "self-check only" in result.out
    assert "No framework has judged it:\nLiteRT reference kernels: not installed" in result.out
    required = midge("verify", DIGITS, "--on", "host", "--count", "1", "--require-framework")
    assert required.code == 2
    assert "pip install it" in required.err
