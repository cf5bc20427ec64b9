"""Commands whose reader leaves: nothing on the error stream, and the exit code of what was done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import DIGITS
from midge.cli import commands

pytestmark = pytest.mark.slow

MIDGE = (sys.executable, "-m", "midge")
QUICK = ("--no-search", "--no-prove")
# Words of each command that print much, and the exit code. A new command needs a line here.
WORDS: dict[str, tuple[tuple[object, ...], int]] = {
    "cache": (("--json",), 0),
    "compile": ((DIGITS, *QUICK, "--json"), 0),
    "doctor": ((), 0),
    "inspect": ((DIGITS, *QUICK, "--show", "c"), 0),
    "ops": (("--json",), 0),
    "profile": ((DIGITS, *QUICK), 0),
    "quantize": (("--help",), 0),
    "run": ((DIGITS, *QUICK, "--on", "host"), 0),
    "schedule": ((DIGITS, *QUICK, "conv2d_2"), 0),
    "targets": ((), 0),
    "verify": ((DIGITS, *QUICK, "--on", "host", "-n", "1"), 0),
}
OTHERS: dict[str, tuple[tuple[object, ...], int]] = {
    "version": (("--version",), 0),
    "help": (("--help",), 0),
    "help of a command": (("compile", "--help"), 0),
    "error": (("compile", "nothing.tflite"), 2),
    "error as JSON": (("compile", "nothing.tflite", "--json"), 2),
    "no such option": (("compile", "--wat", "--json"), 2),
}
ALL = {**{n: ((n, *words), code) for n, (words, code) in WORDS.items()}, **OTHERS}


def test_every_command_is_tried() -> None:
    commands.load([])
    assert set(WORDS) == set(commands.COMMANDS)


@pytest.mark.parametrize("case", [*ALL, "targets 1", "help 1", "error as JSON 1"])
def test_a_reader_that_leaves(case: str, tmp_path: Path) -> None:
    case, unbuffered = case.removesuffix(" 1"), case[-1:] if case.endswith(" 1") else ""
    words, code = ALL[case]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*MIDGE, *map(str, words)], stdout=write, stderr=subprocess.PIPE, cwd=tmp_path, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    os.close(write)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert "Broken pipe" not in done.stderr
    assert not code or "--json" in words or "rror" in done.stderr
    if case == "compile":
        assert (tmp_path / "digits_int8" / "metadata.json").is_file()


def test_both_streams_into_one_that_is_left(tmp_path: Path) -> None:
    words = f"{' '.join(MIDGE)} compile nothing.tflite 2>&1; echo $? > code"
    subprocess.run(["bash", "-c", f"({words}) | true"], cwd=tmp_path, check=True)
    assert (tmp_path / "code").read_text() == "2\n"
