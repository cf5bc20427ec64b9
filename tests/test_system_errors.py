"""What the system refuses is told as an error that says where and what to do, never as a bug."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import midge
from conftest import DIGITS, Cli, as_nobody
from midge.cli import app
from midge.core import leaving
from midge.frontends import keras
from midge.run import RUNNERS
from midge.toolchain import TOOLCHAINS, build_image
from tiny_package import some_input, tiny_package

pytestmark = pytest.mark.slow

MIDGE = (sys.executable, "-m", "midge")


def refused(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words",
    [("targets",), ("targets", "--json"), ("ops", "--json"), ("run", "nothing.onnx", "--json")],
)
def test_output_that_nobody_takes(words: tuple[str, ...], unbuffered: str) -> None:
    own = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*MIDGE, *words], stdout=full, stderr=subprocess.PIPE, text=True, env=own
        )
    assert done.returncode == (2 if words[0] == "run" else 4)
    assert done.stderr.startswith("error: standard output: the system refuses: No space left")
    assert "hint:" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_errors_that_nobody_takes(tmp_path: Path) -> None:
    """What is said beside an answer ends nothing."""
    model = tmp_path / "digits.tflite"
    model.write_bytes(DIGITS.read_bytes())
    for words, code in ((("compile", model.name, "--no-search"), 0), (("run", "nothing.onnx"), 2)):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*MIDGE, *words], stderr=full, cwd=tmp_path, check=False)
        assert done.returncode == code
    assert (tmp_path / "digits" / "metadata.json").is_file()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_is_closed(unbuffered: str) -> None:
    words, pipe = [*MIDGE, "ops", "--json"], subprocess.PIPE
    own = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with subprocess.Popen(words, stdout=pipe, stderr=pipe, env=own) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    done = subprocess.run(["sh", "-c", f"{' '.join(MIDGE)} targets >&-"], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_refusal_that_nobody_expected(midge: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/somewhere")

    monkeypatch.setattr("midge.cli.commands.targets._as_json", refuse)
    found = midge("targets", "--json")
    assert found.code == 4
    assert found.json["error"]["where"] == "/somewhere"
    assert "Permission denied" in found.json["error"]["what"]


@pytest.mark.parametrize("json", [(), ("--json",)])
def test_ctrl_c_in_a_process_that_looks_after_signals_itself(
    json: tuple[str, ...], midge: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("midge.cli.commands.targets._as_json", interrupt)
    monkeypatch.setattr("midge.cli.commands.targets.table", interrupt)
    found = midge("targets", *json)
    assert (found.code, found.out) == (130, "")
    assert app.flushed(130) == 130


def test_a_model_or_target_that_cannot_be_read(open_folder: Path) -> None:
    path = open_folder / "model.tflite"
    path.write_bytes(DIGITS.read_bytes())
    path.chmod(0)
    with as_nobody(), pytest.raises(midge.UsageError, match=r"Permission denied\n  hint: give"):
        midge.load(path)
    with pytest.raises(midge.UsageError, match=r"No such file or directory\n  hint: give"):
        midge.load(open_folder / "nothing.tflite")
    with pytest.raises(midge.TargetError, match=r"cannot be read: .*\n  hint: give"):
        midge.compile(DIGITS, str(open_folder / "nothing.toml"))


def test_a_work_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(midge.UsageError, match=r"cannot be written: .*\n  hint: "):
        build_image(tiny_package("cortex-m4"), work_dir=tmp_path / "file" / "below")


@pytest.mark.parametrize("on", ["host", "qemu"])
def test_runners_without_room_for_temporary_files(on: str, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = RUNNERS[on]
    if runner.available() is not None:
        pytest.skip(f"{on} is not on this machine")
    package = tiny_package("cortex-m4")
    runner.load(package, toolchain=None, optimize=None).close()  # the build is cached by now
    monkeypatch.setattr(leaving, "temporary_folder", refused)
    with pytest.raises(midge.RunError, match=r"No space left on device.*\n  hint: let TMPDIR"):
        runner.load(package, toolchain=None, optimize=None)


def test_a_session_removes_its_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    session = RUNNERS["host"].load(tiny_package("cortex-m4"), toolchain=None, optimize=None)
    session.run({"x": some_input()})
    session.close()
    assert [*tmp_path.iterdir()] == []


def test_a_compiler_that_is_gone_when_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: str(tmp_path / name))
    assert TOOLCHAINS["gcc"].find() is None


def test_a_current_folder_that_is_gone(tmp_path: Path) -> None:
    script = f"mkdir gone && cd gone && rmdir ../gone && exec {' '.join(MIDGE)} compile {DIGITS}"
    words = ["sh", "-c", f"{script} --no-search"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: digits_int8: cannot be written: No such file")


class Converter:
    """TensorFlow's, as far as it is needed."""

    @staticmethod
    def from_keras_model(model: bytes) -> SimpleNamespace:
        return SimpleNamespace(convert=lambda: model)


def tensorflow(load: Callable[..., object]) -> SimpleNamespace:
    return SimpleNamespace(
        lite=SimpleNamespace(TFLiteConverter=Converter),
        keras=SimpleNamespace(models=SimpleNamespace(load_model=load)),
    )


def test_keras_models_go_through_a_temporary_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    fake = tensorflow(lambda path, **_: path.read_bytes())
    monkeypatch.setattr(keras, "_tensorflow", lambda name: fake)
    monkeypatch.setattr(keras, "_of_one", lambda tf, model: model)
    assert keras.converted(b"PK\3\4 a model", "m") == b"PK\3\4 a model"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", refused)
        with pytest.raises(midge.UsageError, match=r"No space left on device\n  hint: let TMPDIR"):
            keras.converted(b"PK\3\4 a model", "m")
    fake.keras.models.load_model = refused
    with pytest.raises(midge.ModelError, match=r"TensorFlow refuses the model \(OSError"):
        keras.converted(b"PK\3\4 a model", "m")
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(leaving, "temporary_folder", refused)
    with pytest.raises(midge.UsageError, match=r"No space left on device\n  hint: let TMPDIR"):
        keras.converted(b"PK\3\4 a model", "m")
