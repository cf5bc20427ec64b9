"""What Midge keeps on disk, damaged: entries of its cache, and the folder of a package.

A cache is made once by a compile that searches; each case works on a copy, damages files in it and
compiles again: the package must be the same. A package's folder must be written again or refused;
where it is written, what stands in it is the package.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from damaging.bytewise import BYTEWISE
from damaging.trying import Stage, WrongError
from damaging.values import listed
from midge import driver
from midge.core.folder import write_folder
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.graph.ir import Graph
from midge.target import load_target
from small_models import cnn_float, graph, two_ports

PLACES = ("cache", "folder")
SOURCES = {"ports": two_ports, "float": cnn_float}
_TEXTS = (
    b"",
    b"{}",
    b"[]",
    b"[[]]",
    b"null",
    b"0",
    b'"x"',
    b"[" * 9999,
    b"\xff\xfe",
    b'{"sha256": 1}',
)
_WHOLE = ("emptied", "JSON", "deleted", "another", "a folder", "a link", "unreadable", "edited")
_VARIABLE = "MIDGE_CACHE_DIR"
Damage = Callable[[random.Random, Path, list[Path]], None]


@dataclass(frozen=True, slots=True)
class KeptCase:
    """files: how many are damaged. kind: in which way."""

    form: str
    number: int
    kind: str
    structured: bool
    source: str
    files: int
    seed: str


def kept_case(form: str, number: int, seed: int = 0) -> KeptCase:
    """Even numbers are damaged byte by byte, odd ones as a whole."""
    rng = random.Random(f"{form} {seed} {number}")
    kind = rng.choice(_WHOLE) if number % 2 else rng.choice(sorted(BYTEWISE))
    source = rng.choice(sorted(SOURCES))
    files = rng.choice((1, 2, 9))
    return KeptCase(form, number, kind, bool(number % 2), source, files, f"{number} {seed} files")


class Kept:
    """Whole caches and packages, in a folder of its own; made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, Package] = {}
        self.models: dict[str, Graph] = {}

    def work(self, case: KeptCase) -> Callable[[Stage], None]:
        """What a case does."""
        packages = {source: self.package(source) for source in SOURCES}
        place = self.folder / "case"
        shutil.rmtree(place, ignore_errors=True)
        if case.form == "cache":
            shutil.copytree(self.folder / case.source, place)
            return lambda stage: self.compile_again(case, place, stage)
        write_folder(place, dict(packages[case.source].files), force=False)
        return lambda stage: self.write_again(case, place, stage)

    def package(self, source: str) -> Package:
        if source not in self.made:
            self.models[source] = graph(SOURCES[source](), "net")
            os.environ[_VARIABLE] = str(self.folder / source)
            self.made[source] = self.compiled(source)
        return self.made[source]

    def compiled(self, source: str) -> Package:
        options = CompileOptions(search=True, prove=True)
        return driver.compile_graph(
            self.models[source], load_target("cortex-m4"), options, model_hash="-"
        ).package

    def compile_again(self, case: KeptCase, place: Path, stage: Stage) -> None:
        stage.name = "damage"
        damage(case, place)
        os.environ[_VARIABLE] = str(place)
        stage.name = "compile"
        if self.compiled(case.source).files != self.made[case.source].files:
            raise WrongError("another package comes of the damaged cache")

    def write_again(self, case: KeptCase, place: Path, stage: Stage) -> None:
        stage.name = "damage"
        damage(case, place)
        package = self.made["float" if case.number % 3 else "ports"]
        stage.name = "write"
        write_folder(place, dict(package.files), force=case.number % 5 == 0)
        stage.name = "compare"
        for name, text in package.files.items():
            if (place / name).read_text() != text:
                raise WrongError(f"{name} is another file")


def damage(case: KeptCase, place: Path) -> None:
    """Change some of the files below a folder."""
    rng = random.Random(case.seed)
    files = sorted(p for p in place.rglob("*") if p.is_file())
    for path in rng.sample(files, min(case.files, len(files))):
        if case.kind in BYTEWISE:
            data, other = path.read_bytes(), rng.choice(files)
            if data and other.is_file():
                path.write_bytes(BYTEWISE[case.kind](rng, data, other.read_bytes() or b"x"))
        else:
            _whole(rng, case.kind, path, files)


def _whole(rng: random.Random, kind: str, path: Path, files: list[Path]) -> None:
    """A file lost, in another's place, of another kind, or with something else in it."""
    other = rng.choice(files)
    match kind:
        case "emptied":
            path.write_bytes(b"")
        case "JSON":
            path.write_bytes(rng.choice(_TEXTS))
        case "deleted":
            path.unlink()
        case "another" if other.is_file():
            path.write_bytes(other.read_bytes())
        case "a folder":
            path.unlink()
            path.mkdir()
        case "a link":
            path.unlink()
            path.symlink_to(rng.choice(("/nowhere", path.name, str(other))))
        case "unreadable":
            path.chmod(0)
        case "edited":
            lines = listed(rng, path.read_bytes().split(b"\n"))
            path.write_bytes(b"\n".join(line if line else b"" for line in lines))
