"""Model files to graphs. A frontend is one file: it registers the formats that it reads."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from midge.core.errors import ModelError, UsageError
from midge.core.files import check_regular
from midge.core.registry import Registry, import_all
from midge.frontends.shapes import Shapes
from midge.graph.ir import Graph


@dataclass(frozen=True, slots=True)
class Frontend:
    """read: (bytes of the file, name for the graph, shapes of inputs that it leaves open) -> Graph;
    ModelError if that is impossible, UsageError for shapes of what is no input or no such one.
    matches: whether a file's first bytes look like this format.
    parts: (bytes, path) -> other files that the model lies in.  gathered: (bytes, path) -> bytes
    that have them all.  offered: whether a user is told that it can be given."""

    name: str
    suffixes: tuple[str, ...]
    matches: Callable[[bytes], bool]
    read: Callable[[bytes, str, Shapes], Graph]
    parts: Callable[[bytes, Path], Sequence[Path]] = lambda data, path: ()
    gathered: Callable[[bytes, Path], bytes] = lambda data, path: data
    offered: bool = True


FRONTENDS: Registry[Frontend] = Registry("model format", ModelError)


SAVED_MODEL = "saved_model.pb"  # in the folder that TensorFlow saves a model as


def read_file(path: Path) -> bytes:
    """The bytes of a model, whichever files it lies in: of a SavedModel's folder as a zip.
    UsageError if they cannot be read, ModelError for other files that are not as it says."""
    data = _read_bytes(path)
    frontend = _frontend(data, path)
    return data if frontend is None else frontend.gathered(data, path)


def model_files(path: Path) -> Sequence[Path]:
    """The files that a model lies in; a path that is none stands for itself. UsageError for a
    folder that is no SavedModel."""
    if path.is_dir():  # all that is in it
        _check_saved(path)
        return [path]
    try:
        data = _read_bytes(path)
    except UsageError:
        return [path]
    frontend = _frontend(data, path)
    return [path] if frontend is None else [path, *frontend.parts(data, path)]


def usual_name(path: Path) -> Path:
    """The path with a suffix of the format that the file has, if it has another or none."""
    frontend = _frontend(_read_bytes(path), path) if path.is_file() else None
    if frontend is None or path.suffix.lower() in frontend.suffixes:
        return path
    return path.with_suffix(frontend.suffixes[0])


def _read_bytes(path: Path) -> bytes:
    check_regular(path)
    try:
        if path.is_dir():
            _check_saved(path)
            return _packed(path)
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read the model: {error.strerror or error}",
            where=str(path),
            hint="give the path of a file that exists and may be read",
        ) from None


def _check_saved(folder: Path) -> None:
    if not (folder / SAVED_MODEL).is_file():
        raise UsageError(
            f"cannot read the model: a folder without {SAVED_MODEL}, so no SavedModel",
            where=str(folder),
            hint="give the path of a model file, or of the folder that TensorFlow wrote",
        )


def _packed(folder: Path) -> bytes:
    """The files of a folder, stored in order and without times."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            info = zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0))
            file.writestr(info, path.read_bytes())
    return out.getvalue()


def parse(data: bytes, path: Path, name: str, shapes: Shapes = MappingProxyType({})) -> Graph:
    """The graph in the bytes of the file `path`, in whichever format it is, called `name`.
    shapes: of inputs where the file leaves dimensions open."""
    if not data:
        raise ModelError("the file is empty", where=str(path), hint="get it again or export again")
    frontend = _frontend(data, path)
    if frontend is not None:
        return _read(frontend, data, path, name, shapes)
    known = ", ".join(s for n in FRONTENDS if FRONTENDS[n].offered for s in FRONTENDS[n].suffixes)
    raise ModelError("unknown model format", where=str(path), hint=f"known: {known}")


def _frontend(data: bytes, path: Path) -> Frontend | None:
    """Whoever reads that; None if nobody does."""
    import_all(sys.modules[__name__])
    frontends = [FRONTENDS[n] for n in FRONTENDS]
    alike = [f for f in frontends if f.matches(data)]
    named = [f for f in frontends if path.suffix.lower() in f.suffixes]
    return next(iter((*alike, *named)), None)


def _read(frontend: Frontend, data: bytes, path: Path, name: str, shapes: Shapes) -> Graph:
    """What is wrong with the model as a whole is said of its file."""
    try:
        return frontend.read(data, name, shapes)
    except ModelError as error:
        if error.where != name:
            raise
        raise ModelError(error.what, where=path.name, hint=error.hint) from None
