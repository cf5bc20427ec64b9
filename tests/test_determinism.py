"""Same input and options, same bytes: in one process, in another, under another hash seed."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import midge
from conftest import DIGITS
from small_models import MODELS

CODE = """
import hashlib, sys, midge
p = midge.compile(sys.argv[1], target=sys.argv[2])
print(hashlib.sha256(repr((list(p.files.items()), p.sources)).encode()).hexdigest())
"""


def fingerprint(path: Path, target: str, **settings: bool) -> str:
    package = midge.compile(path, target=target, **settings)
    return hashlib.sha256(repr((list(package.files.items()), package.sources)).encode()).hexdigest()


def elsewhere(path: Path, target: str, seed: str, folder: Path) -> str:
    """The fingerprint in a new process with its own hash seed, locale, time zone and folder."""
    environment = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": "C", "TZ": "Asia/Tokyo"}
    words = [sys.executable, "-c", CODE, str(path), target]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("kind", ["digits", *MODELS])
def test_the_same_bytes_again_and_elsewhere(kind: str, tmp_path: Path) -> None:
    path = DIGITS
    if kind != "digits":
        path = tmp_path / f"{kind}.tflite"
        path.write_bytes(MODELS[kind]())
    first = fingerprint(path, "cortex-m4")
    assert fingerprint(path, "cortex-m4") == first
    assert elsewhere(path, "cortex-m4", "1", tmp_path) == first
    assert elsewhere(path, "cortex-m4", "4711", tmp_path) == first
    one, other = (fingerprint(path, t, search=False) for t in ("cortex-m4", "cortex-m3"))
    assert one != other


def test_nothing_of_this_machine_is_in_the_files(tmp_path: Path) -> None:
    path = tmp_path / "digits.tflite"
    path.write_bytes(DIGITS.read_bytes())
    for name, text in midge.compile(path).files.items():
        assert str(tmp_path) not in text, name
        assert str(Path.home()) + "/" not in text, name
