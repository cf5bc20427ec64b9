"""The options of a compilation: every command takes all of them, and Python the same."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge as midge_package
from conftest import DIGITS, Cli
from midge import driver
from midge.cli import commands
from midge.core.errors import PlanError, UsageError
from midge.core.options import CompileOptions, flags, input_shapes
from midge.core.settings import options_of
from midge.target import load_target
from onnx_builder import OnnxModel
from stream_nets import Net, chain

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

INPUT = "serving_default_keras_tensor_18:0"
COMMANDS = ("compile", "inspect", "profile", "run", "schedule", "verify")
# Words of a command line for each option, and what it is then. A new option needs a line here.
SAID: dict[str, tuple[list[str], Any]] = {
    "name": (["--name", "net"], "net"),
    "shapes": (["--shape", f"{INPUT}=1,8,8,1"], ((INPUT, (1, 8, 8, 1)),)),
    "optimize": (["-O", "size"], "size"),
    "search": (["--no-search"], False),
    "prove": (["--no-prove"], False),
    "static_arena": (["--static-arena"], True),
    "max_ram": (["--max-ram", "64K"], 65536),
    "max_flash": (["--max-flash", "1M"], 1 << 20),
    "oversize": (["--oversize"], True),
    "bands": (["--whole-tensors"], False),
    "stream_input": (["--stream-input"], True),
    "stream_time": (["--stream-time=0"], 0),
    "pools": (["--pool", "a=1K", "--pool", "b=8K"], (("a", 1024), ("b", 8192))),
    "hot_weights": (["--pool", "a=16K", "--hot-weights"], True),
    "reserve": (["--reserve", "R9"], ("r9",)),
    "unroll": (["--unroll"], True),
    "channels_last": (["--channels-last"], True),
    "check_memory": (["--check-memory"], True),
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[CompileOptions]:
    """The options that reach the compiler; nothing is compiled."""
    found: list[CompileOptions] = []

    def compile_file(path: Path, target: Any, options: CompileOptions, progress: Any) -> None:
        found.append(options)
        raise PlanError("stop", where="here")

    monkeypatch.setattr(driver, "compile_file", compile_file)
    return found


def compiling() -> set[str]:
    """The commands whose function takes what a compilation needs."""
    commands.load([])  # all of them
    parameters = {n: inspect.signature(f).parameters for n, f in commands.COMMANDS.items()}
    return {n for n, own in parameters.items() if "target" in own}


def test_every_command_that_compiles_is_tried() -> None:
    assert compiling() == set(COMMANDS)


def test_every_option_is_tried() -> None:
    assert list(SAID) == list(flags()) == [f.name for f in fields(CompileOptions)]


@pytest.mark.parametrize("option", SAID)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_every_option(
    midge: Cli, asked: list[CompileOptions], command: str, option: str
) -> None:
    words, value = SAID[option]
    assert midge(command, DIGITS, *words).code == 3
    (options,) = asked
    assert getattr(options, option) == value
    others = {f.name for f in fields(options)} - {option, "pools"}
    assert all(getattr(options, n) == getattr(CompileOptions(), n) for n in others)


@pytest.fixture
def model(tmp_path: Path) -> Callable[[str], Path]:
    """A model for which the option means something."""

    def find(option: str) -> Path:
        if option != "stream_time":
            return DIGITS
        path = tmp_path / "frames.midge"
        midge_package.save(chain(Net(True, 3)), path)
        return path

    return find


@pytest.mark.parametrize("option", SAID)
def test_verify_is_right_with_every_option(
    midge: Cli, model: Callable[[str], Path], option: str
) -> None:
    words = [*SAID[option][0], *([] if option == "search" else ["--no-search"])]
    words += ["--no-prove"] if option not in ("prove", "optimize") else []
    result = midge("verify", model(option), "--on", "host,emulator", "-n", "1", *words)
    assert result.code == 0, result.out + result.err


@pytest.mark.parametrize("option", ["channels_last", "pools", "stream_time", "check_memory"])
@pytest.mark.parametrize("command", ["profile", "run", "schedule", "inspect", "compile"])
def test_commands_carry_options_out(
    midge: Cli, model: Callable[[str], Path], tmp_path: Path, command: str, option: str
) -> None:
    words = [*SAID[option][0], "--no-search"]
    if command == "compile":
        words += ["-o", str(tmp_path / "out")]
    assert midge(command, model(option), *words).code == 0


@pytest.fixture
def cube(tmp_path: Path) -> Path:
    """An image in and an image out, as many channels as rows and columns: shapes alone do not say
    where the channels are."""
    model = OnnxModel()
    y = model.op("Relu", model.conv("x", 6, 6))
    path = tmp_path / "cube.onnx"
    path.write_bytes(model.build([("x", (1, 6, 6, 6))], [y]))
    return path


@pytest.mark.parametrize("command", ["run", "profile", "verify"])
def test_channels_last_reaches_the_ends(midge: Cli, cube: Path, command: str) -> None:
    result = midge(command, cube, "--channels-last", "--no-search", "--json")
    assert result.code == 0, result.out
    options = CompileOptions(search=False, channels_last=True)
    made = driver.compile_file(cube, load_target("cortex-m4"), options)
    assert made.turned == {"x", *made.model.outputs}


# From Python.


def test_python_takes_the_same_by_name() -> None:
    for name, (_, value) in SAID.items():
        values = {name: value} if name != "hot_weights" else {name: value, "pools": {"a": 16384}}
        assert getattr(options_of(values), name) == value
    parameters = inspect.signature(midge_package.compile).parameters
    assert [n for n in parameters if n in flags()] == list(flags())
    assert all(name in (midge_package.compile.__doc__ or "") for name in flags())


def test_settings_change_options() -> None:
    base = CompileOptions(optimize="size", pools=(("a", 4),))
    assert options_of({"bands": False}, base) == CompileOptions(
        optimize="size", pools=(("a", 4),), bands=False
    )
    assert options_of({"pools": {"b": 8}}, base).pools == (("b", 8),)
    package = midge_package.compile(DIGITS, options=base, pools=None, name="net", search=False)
    assert package.name == "net"
    assert package.metadata["options"]["optimize"] == "size"


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"stream_tiem": 1}, "did you mean stream_time"),
        ({"wat": 1}, "unknown option"),
        ({"max_ram": 64.5}, "not int or None"),
        ({"max_ram": True}, "not int or None"),
        ({"bands": 1}, "not bool"),
        ({"optimize": "fast"}, "speed, balanced, size"),
        ({"optimize": None}, "not str"),
        ({"max_ram": -1}, "no number of bytes"),
        ({"max_ram": "64Q"}, "not a size"),
        ({"max_ram": 1 << 32}, "more than 32 bits address"),
        ({"max_flash": 1 << 99}, "more than 32 bits address"),
        ({"pools": {"a": 1 << 31}}, "together at most"),
        ({"pools": {"a": 1 << 30, "b": 1 << 30}}, "together at most"),
        ({"stream_time": -1}, "no number of frames"),
        ({"pools": {"a": 0}}, "no bytes"),
        ({"pools": [("a",)]}, "names and bytes"),
        ({"shapes": {"a": (-1, 2)}}, "names and shapes"),
        ({"shapes": {"a": 2}}, "names and shapes"),
        ({"shapes": {"": (2,)}}, "names and shapes"),
        ({"pools": [("a", "b")]}, "not a size"),
        ({"stream_input": True, "stream_time": 0}, "not both"),
        ({"check_memory": True, "stream_time": 0}, "not checked"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        options_of(values)


def test_metadata_say_how_it_was_compiled() -> None:
    package = midge_package.compile(
        DIGITS, search=False, channels_last=True, max_ram=np.int64(50000)
    )
    described = package.metadata["options"]
    assert list(described) == list(flags())
    assert described["channels_last"] is True
    assert described["max_ram"] == 50000


def test_what_python_gives_is_told_by_its_type() -> None:
    assert options_of({"max_ram": "64K"}).max_ram == 65536
    wrong: Any = midge_package
    for call, match in (
        (lambda: wrong.compile(DIGITS, options={"optimize": "size"}), "options: .* CompileOptions"),
        (lambda: wrong.compile(b"abc"), "model: is bytes"),
        (lambda: wrong.compile(DIGITS, 7), "target: is int"),
        (lambda: wrong.quantize(5, {}), "model: is int"),
        (lambda: wrong.load(b"abc"), "path: is bytes"),
        (lambda: wrong.save(DIGITS, "digits.midge"), "model: is"),
        (lambda: wrong.save(wrong.load(DIGITS), 3), "path: is int"),
        (lambda: wrong.run("x", {}), "package: is str"),
    ):
        with pytest.raises(UsageError, match=match):
            call()


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        (["x=1,2", "x=1,2"], "names 'x' twice"),
        (["x=1,2", " x =3,4"], "names 'x' twice"),
        (["x=\uff11,2"], "is not NAME=SIZE"),
        (["x=1,,2"], "is not NAME=SIZE"),
        (["x=-1"], "is not NAME=SIZE"),
        (["x=1.0"], "is not NAME=SIZE"),
        (["=1,2"], "is not NAME=SIZE"),
        (["x"], "is not NAME=SIZE"),
    ],
)
def test_shapes_that_are_none(texts: list[str], match: str) -> None:
    with pytest.raises(UsageError, match=match):
        input_shapes(texts, "--shape")
    assert input_shapes(["a=b=1, 2", "s="], "--shape") == (("a=b", (1, 2)), ("s", ()))
