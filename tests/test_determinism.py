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

pytestmark = pytest.mark.slow

CODE = """
import hashlib, sys, midge
for path in sys.argv[2:]:
    p = midge.compile(path, target=sys.argv[1])
    print(hashlib.sha256(repr((list(p.files.items()), p.sources)).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    made = {kind: folder / f"{kind}.tflite" for kind in MODELS}
    for kind, path in made.items():
        path.write_bytes(MODELS[kind]())
    return {"digits": DIGITS, **made}


def fingerprint(path: Path, target: str, **settings: bool) -> str:
    package = midge.compile(path, target=target, **settings)
    return hashlib.sha256(repr((list(package.files.items()), package.sources)).encode()).hexdigest()


@pytest.fixture(scope="module")
def elsewhere(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The fingerprints of half of the models in one process, of half in another, each with its own
    hash seed, locale, time zone and folder."""
    found: dict[str, str] = {}
    for half, seed in enumerate(("1", "4711")):
        own = dict(list(models.items())[half::2])
        environment = {**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": "C", "TZ": "Asia/Tokyo"}
        words = [sys.executable, "-c", CODE, "cortex-m4", *map(str, own.values())]
        folder = tmp_path_factory.mktemp("elsewhere")
        done = subprocess.run(words, capture_output=True, text=True, env=environment, cwd=folder)
        assert done.returncode == 0, done.stderr
        found.update(zip(own, done.stdout.split(), strict=True))
    return found


@pytest.mark.parametrize("kind", ["digits", *MODELS])
def test_the_same_bytes_again_and_elsewhere(
    kind: str, models: dict[str, Path], elsewhere: dict[str, str]
) -> None:
    path = models[kind]
    first = fingerprint(path, "cortex-m4")
    assert fingerprint(path, "cortex-m4") == first
    assert elsewhere[kind] == first
    one, other = (fingerprint(path, t, search=False) for t in ("cortex-m4", "cortex-m3"))
    assert one != other


def test_nothing_of_this_machine_is_in_the_files(tmp_path: Path) -> None:
    path = tmp_path / "digits.tflite"
    path.write_bytes(DIGITS.read_bytes())
    for name, text in midge.compile(path).files.items():
        assert str(tmp_path) not in text, name
        assert str(Path.home()) + "/" not in text, name
