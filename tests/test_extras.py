"""Optional packages: what pyproject.toml lists is what `midge doctor` says, and hints work in a
clone as well as for a release."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import midge as package
from conftest import DIGITS, ROOT, Cli
from midge.cli.commands import doctor
from midge.core import extras
from midge.core.errors import UsageError
from midge.oracle.litert import LiteRT
from midge.oracle.onnxruntime import OnnxRuntime
from midge.oracle.pytorch import PyTorch

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LISTED: dict[str, list[str]] = PROJECT["optional-dependencies"]


@pytest.fixture(autouse=True)
def the_lists_of_this_tree(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of a build that is older than pyproject.toml."""
    needs = [f'{p}; extra == "{extra}"' for extra, own in LISTED.items() for p in own]
    monkeypatch.setattr(metadata, "requires", lambda name: [*PROJECT["dependencies"], *needs])


def test_every_extra_is_known_with_all_of_its_packages() -> None:
    found = extras.extras()
    assert list(found) == list(LISTED)
    assert found["verify"] == {"ai-edge-litert": ">=2.1", "onnxruntime": ">=1.20"}
    assert {"torch", "tensorflow", "onnxscript"} <= set(found["train"])
    assert "midge" not in {p for own in found.values() for p in own}


def test_doctor_lists_every_extra_and_what_it_adds(
    midge: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {c["name"]: c for c in midge("doctor", "--json").json if c["kind"] == "extra"}
    assert list(found) == list(LISTED)
    assert all(c["adds"] for c in found.values())
    assert set(doctor._EXTRA_ADDS) == set(LISTED)
    monkeypatch.setattr(extras, "installed", lambda name: "")
    monkeypatch.setattr(doctor, "installed", lambda name: "")
    shown = midge("doctor").out
    assert "  torch: pip install 'torch>=2.6'\n" in shown
    tables = shown.partition("To get what is missing")[0]
    assert all(len(line) <= 80 for line in tables.splitlines())


def test_a_hint_names_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "installed", lambda name: "" if name == "onnxruntime" else "1")
    assert extras.how_to_get("verify") == "pip install 'onnxruntime>=1.20'"
    monkeypatch.setattr(extras, "installed", lambda name: "")
    assert extras.how_to_get("plot") == "pip install 'matplotlib>=3.8'"


def test_hints_where_a_package_is_missing(midge: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "installed", lambda name: "")
    monkeypatch.setattr("midge.oracle.litert.find_spec", lambda name: None)
    monkeypatch.setattr("midge.oracle.onnxruntime.find_spec", lambda name: None)
    monkeypatch.setattr("midge.oracle.pytorch.find_spec", lambda name: None)
    for oracle, wanted in ((LiteRT(), "litert"), (OnnxRuntime(), "onnx"), (PyTorch(), "torch")):
        assert f"pip install '{'ai-edge-' if wanted == 'litert' else ''}" in str(oracle.available())
        assert wanted in str(oracle.available())
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(UsageError) as error:
        package.from_torch(None, ())
    assert error.value.hint == "pip install 'torch>=2.6'"
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    words = ("inspect", DIGITS, "--no-search", "--no-prove", "--memory", "a.svg")
    assert "pip install 'matplotlib>=3.8'" in midge(*words).err


def test_nothing_says_to_install_midge_from_an_index() -> None:
    """It is on none before its release, and what an index has under its name is another's."""
    folders = ("src", "tests", "docs", "examples", "benchmarks")
    texts = [p for f in folders for kind in ("md", "py") for p in (ROOT / f).rglob(f"*.{kind}")]
    own = [p for p in (*texts, ROOT / "README.md") if p != Path(__file__)]
    assert len(own) > 100
    for path in own:
        found = re.search(r"pip install\s+'?\"?midge\b", path.read_text())
        assert found is None, f"{path}: {found and found[0]}"
