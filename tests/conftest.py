"""What all tests share: goldens, a cache folder of their own, and the models they run."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from midge.core.options import CompileOptions
from ordering import pytest_collection_modifyitems  # noqa: F401  # a hook of pytest's

# The same examples in every run; `pytest --hypothesis-profile=default` looks for others.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "examples" / "digits" / "digits_int8.tflite"
NOBODY = 65534  # a user without rights
SHARED = ROOT.parent / "shared" / "models"

# The tests compare with oracles of their own.
NO_SEARCH = CompileOptions(search=False, prove=False)


def unsearched(**options: Any) -> CompileOptions:
    return replace(NO_SEARCH, **options)


Golden = Callable[[str], None]


def pytest_collection_finish() -> None:
    """What is there now stays, and tests make much that is in no cycle: looking for garbage as
    often as usual takes a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def pytest_sessionfinish() -> None:
    """pytest looks for garbage twice before it ends: once is enough for all that is here."""
    gc.collect()
    gc.freeze()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden")


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Builds start from an empty cache and leave the user's alone; workers of one run share it, and
    so do the processes that they start the bytecode of what they import."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "midge-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MIDGE_CACHE_DIR", str(folder))
        patch.setenv("PYTHONPYCACHEPREFIX", str(folder.with_name("bytecode")))
        patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
        yield folder


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that no other test has, empty."""
    from midge.core import cache

    monkeypatch.setenv("MIDGE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("MIDGE_CACHE_LIMIT", raising=False)
    monkeypatch.setattr(cache, "_own", [])
    return tmp_path / "cache"


@pytest.fixture
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For modules that test what is done with a compiled model, often the same one."""
    from compilations import once
    from midge import driver

    monkeypatch.setattr(driver, "compile_graph", once(driver.compile_graph))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compare text with tests/golden/<module>/<test>.txt; `--update-golden` rewrites the file."""
    name = re.sub(r"[^\w.-]+", "_", request.node.name).strip("_")
    path = Path(__file__).parent / "golden" / request.path.stem / f"{name}.txt"

    def check(actual: str) -> None:
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(actual, encoding="utf-8", newline="\n")
        assert path.is_file(), "no golden yet: run with --update-golden and review it"
        expected = path.read_text(encoding="utf-8")
        assert actual == expected, "run with --update-golden and review the diff"

    return check


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user of this machine reaches."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Without root's rights, which no mode withstands."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture(scope="session")
def digits() -> Path:
    """The model that is checked in."""
    return DIGITS


@pytest.fixture(scope="session")
def shared_model() -> Callable[[str], Path]:
    """A file of ../shared/models by its stem; skips where that folder is not there."""

    def find(stem: str) -> Path:
        path = SHARED / f"{stem}.tflite"
        if not path.is_file():
            pytest.skip(f"{path} is not here: the shared models lie beside the repository")
        return path

    return find


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Result]


@pytest.fixture
def midge(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Cli:
    """A command line in a folder of its own, at a terminal of 80 columns."""
    from midge.cli.app import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")

    def call(*args: object) -> Result:
        code = run([str(a) for a in args])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err or "--debug" in args
        return Result(code, captured.out, captured.err)

    return call
