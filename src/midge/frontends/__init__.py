"""Model files to graphs. A frontend is one file: it registers the formats that it reads."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from midge.core.errors import ModelError, UsageError
from midge.core.files import check_regular
from midge.core.registry import Registry, import_all
from midge.graph.ir import Graph


@dataclass(frozen=True, slots=True)
class Frontend:
    """read: (bytes of the file, name for the graph) -> Graph; ModelError if that is impossible.
    matches: whether a file's first bytes look like this format."""

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool]
    read: Callable[[bytes, str], Graph]


FRONTENDS: Registry[Frontend] = Registry("model format", ModelError)


SAVED_MODEL = "saved_model.pb"  # in the folder that TensorFlow saves a model as


def read_file(path: Path) -> bytes:
    """The bytes of a model file, of a SavedModel's folder as a zip; UsageError if they cannot be
    read."""
    check_regular(path)
    try:
        if (path / SAVED_MODEL).is_file():
            return _packed(path)
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read the model: {error.strerror or error}",
            where=str(path),
            hint="give the path of a file that exists and may be read",
        ) from None


def _packed(folder: Path) -> bytes:
    """The files of a folder, stored in order and without times."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            file.writestr(info, path.read_bytes())
    return out.getvalue()


def parse(data: bytes, path: Path, name: str) -> Graph:
    """The graph in the bytes of the file `path`, in whichever format it is, called `name`."""
    import_all(sys.modules[__name__])
    frontends = [FRONTENDS[n] for n in FRONTENDS]
    for frontend in frontends:
        if frontend.matches(data) or path.suffix.lower() in frontend.suffixes:
            return _read(frontend, data, path, name)
    known = ", ".join(s for f in frontends for s in f.suffixes)
    raise ModelError("unknown model format", where=str(path), hint=f"known: {known}")


def _read(frontend: Frontend, data: bytes, path: Path, name: str) -> Graph:
    """What is wrong with the model as a whole is said of its file."""
    try:
        return frontend.read(data, name)
    except ModelError as error:
        if error.where != name:
            raise
        raise ModelError(error.what, where=path.name, hint=error.hint) from None
