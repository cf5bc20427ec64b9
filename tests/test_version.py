"""Which Midge it is, from every side; sources that nobody installed work too."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

import pytest

import midge as package
from conftest import DIGITS, ROOT, Cli
from midge.core import extras
from midge.core.version import UNKNOWN, version

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture
def not_installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def without(function: Callable[[str], Any]) -> Callable[[str], Any]:
        def find(name: str) -> Any:
            if name == "midge":
                raise metadata.PackageNotFoundError(name)
            return function(name)

        return find

    for name in ("version", "requires"):
        monkeypatch.setattr(metadata, name, without(getattr(metadata, name)))
    version.cache_clear()
    yield
    version.cache_clear()


def test_the_same_in_python_and_on_the_command_line(midge: Cli) -> None:
    assert package.__version__ == version() == VERSION
    assert "__version__" in dir(package)
    shown = midge("--version")
    assert (shown.code, shown.out) == (0, f"midge {VERSION}\n")


@pytest.mark.usefixtures("not_installed")
def test_sources_that_nobody_installed(midge: Cli) -> None:
    assert package.__version__ == UNKNOWN
    assert midge("--version").out == f"midge {UNKNOWN}\n"
    assert midge("doctor").code == 0
    assert extras.how_to_get("torch") == "pip install '.[torch]' in Midge's folder"
    compiled = package.compile(DIGITS, "host", search=False, prove=False)
    assert compiled.metadata["midge"] == UNKNOWN
