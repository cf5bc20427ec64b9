"""Package -> linked image or shared library. Builds are kept by the hash of all that goes in."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from midge.core import leaving
from midge.core.cache import digest, entry
from midge.core.errors import ToolchainError, UsageError
from midge.core.files import cannot_write
from midge.core.package import Package
from midge.core.target import Target
from midge.toolchain.base import TOOLCHAINS, Found, Job, Toolchain
from midge.toolchain.command import OPTIMIZE
from midge.toolchain.image import Image, read_image
from midge.toolchain.linker import linker_script

# The order in which compilers for this machine are looked for: the fastest to start first.
HOST_TOOLCHAINS = ("gcc", "clang", "zig")

_BARE = Path(__file__).parent / "bare"
_BARE_SOURCE = "memory.c"
_BARE_OBJECT = "memory.o"
_INCLUDES = "midge_bare"
_SCRIPT = "image.ld"
_HOST = {"speed": "balanced"}  # what a package asks for -> what is enough for this machine
# Part of every key: raise it when flags change that are not in a Job.
_FORMAT = "1"


@dataclass(frozen=True, slots=True)
class Selected:
    """A toolchain that was found, and the flags that select the CPU with it."""

    toolchain: Toolchain
    found: Found
    flags: tuple[str, ...] = ()


def select(name: str | None, choices: Mapping[str, tuple[str, ...]], *, where: str) -> Selected:
    """Toolchain `name`, or the first of `choices` (name -> flags) that is on this machine.

    UsageError for a name that nobody knows, ToolchainError when it is not a choice or not here, or
    none is; `where` is for whom.
    """
    if name is not None and name not in choices:
        TOOLCHAINS[name]  # an unknown name is told apart from one that does not fit
        known = ", ".join(choices) or "none"
        raise ToolchainError(f"has no flags for {name}", where=where, hint=f"it has: {known}")
    if not choices:
        hint = "name one with its flags in [toolchains]"
        raise ToolchainError("no toolchain builds for it", where=where, hint=hint)
    wanted = [TOOLCHAINS[n] for n in ([name] if name is not None else choices)]
    for toolchain in wanted:
        found = toolchain.find()
        if found is not None:
            return Selected(toolchain, found, tuple(choices[toolchain.name]))
    hint = "; or ".join(toolchain.install for toolchain in wanted)
    missing = ", ".join(toolchain.name for toolchain in wanted)
    raise ToolchainError(f"not found: {missing}", where=where, hint=hint)


def _for_target(name: str | None, target: Target) -> Selected:
    """The toolchain for a target, with flags that keep its reserved registers."""
    selected = select(name, target.toolchains, where=f"target {target.name}")
    flags = selected.flags
    for register in target.reserved:
        flags = selected.toolchain.keeping(flags, register)
    return replace(selected, flags=flags)


def found_build(target: Target, optimize: str) -> tuple[str, ...]:
    """All that an image for `target` depends on beside its sources: the toolchain with its version
    and flags, and what is linked to it."""
    selected = _for_target(None, target)
    flags = (*selected.flags, *OPTIMIZE[_known(optimize)])
    bare = [part for name, text in sorted(_bare_files().items()) for part in (name, text)]
    return (_FORMAT, selected.toolchain.name, selected.found.version, " ".join(flags), *bare)


def compiler_of(target: Target, optimize: str) -> str:
    """For people: the toolchain that an image for `target` is built by, e.g. "zig 0.14.0 -O3"."""
    selected = _for_target(None, target)
    numbers = re.findall(r"\d+(?:\.\d+)+", selected.found.version)
    version = max(numbers, key=lambda n: n.count("."), default=selected.found.version)
    return " ".join((selected.toolchain.name, version, *OPTIMIZE[_known(optimize)]))


def build_image(
    package: Package,
    *,
    toolchain: str | None = None,
    optimize: str | None = None,
    defines: Sequence[str] = (),
    sources: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    script: str | None = None,
    warnings_as_errors: bool = False,
    work_dir: Path | None = None,
) -> Image:
    """A bare-metal ELF of `package` for its target.

    toolchain: its name, or None for the first of the target's that is here.
    optimize: "speed" (-O3), "size" (-Os), "balanced" (-O2) or "debug" (-O1 -g).
    defines: "NAME" or "NAME=value".  sources: more files, name -> text; C files are compiled.
    script: a linker script of your own, else one without start-up code that keeps the package's
    init and run.  work_dir: build there, leave everything to be looked at, and do not cache.
    Raises ToolchainError, and TargetError for a target without memories.
    """
    target = package.target
    selected = _for_target(toolchain, target)
    entries = ("init", package.entry, *(("reset", "frames_missing") if package.pushes else ()))
    entries += tuple(f"use_{name}" for name, _, _ in package.pools[1:])
    roots = tuple(f"{package.name}_{entry}" for entry in entries)
    files = {
        **package.files,
        **(sources or {}),
        **_bare_files(),
        _SCRIPT: script or linker_script(target, roots),
    }
    job = Job(
        folder=Path(),
        sources=(*package.sources, *_c_files(sources), _BARE_OBJECT),
        output=f"{package.name}.elf",
        optimize=_known(optimize or package.optimize),
        script=_SCRIPT,
        flags=(*selected.flags, *flags),
        link_flags=target.toolchains.get("zig", ()),
        defines=tuple(defines),
        includes=(".", _INCLUDES),
        strict=warnings_as_errors,
    )
    path = _build(selected, job, files, work_dir)
    return read_image(path, selected.toolchain.name, selected.found.version, package.weights_size)


def build_shared(
    package: Package,
    *,
    toolchain: str | None = None,
    optimize: str | None = None,
    defines: Sequence[str] = (),
    sources: Mapping[str, str] | None = None,
    flags: Sequence[str] = (),
    warnings_as_errors: bool = False,
    work_dir: Path | None = None,
) -> Path:
    """A shared library of `package` for this machine, whatever its target; options as above, but
    -O2 where nobody asks for more: nothing is measured here, and -O3 takes gcc twice as long.

    `flags` may ask for sanitizers; this machine's Python must then be able to load them.
    """
    return build_library(
        package.name,
        {**package.files, **(sources or {})},
        (*package.sources, *_c_files(sources)),
        toolchain=toolchain,
        optimize=optimize or _HOST.get(package.optimize, package.optimize),
        defines=defines,
        flags=flags,
        warnings_as_errors=warnings_as_errors,
        work_dir=work_dir,
    )


def build_library(
    name: str,
    files: Mapping[str, str],
    sources: Sequence[str],
    *,
    toolchain: str | None = None,
    optimize: str = "speed",
    defines: Sequence[str] = (),
    flags: Sequence[str] = (),
    warnings_as_errors: bool = False,
    work_dir: Path | None = None,
) -> Path:
    """A shared library of plain C `sources` among `files` (name -> text) for this machine."""
    selected = select(toolchain, dict.fromkeys(HOST_TOOLCHAINS, ()), where="this machine")
    job = Job(
        folder=Path(),
        sources=tuple(sources),
        output=f"{name}.so",
        optimize=_known(optimize),
        flags=tuple(flags),
        defines=tuple(defines),
        includes=(".",),
        strict=warnings_as_errors,
    )
    return _build(selected, job, files, work_dir)


def _known(optimize: str) -> str:
    if optimize not in OPTIMIZE:
        known = ", ".join(OPTIMIZE)
        raise UsageError("unknown optimisation", where=optimize, hint=f"one of: {known}")
    return optimize


def _c_files(sources: Mapping[str, str] | None) -> tuple[str, ...]:
    return tuple(name for name in sources or {} if name.endswith(".c"))


def _bare_files() -> dict[str, str]:
    headers = {f"{_INCLUDES}/{path.name}": path.read_text() for path in sorted(_BARE.glob("*.h"))}
    return {**headers, _BARE_SOURCE: (_BARE / _BARE_SOURCE).read_text()}


def _build(selected: Selected, job: Job, files: Mapping[str, str], work_dir: Path | None) -> Path:
    """The output file: from the cache, or compiled into it (or into `work_dir`)."""
    if work_dir is not None:
        try:
            _compile(selected, job, files, work_dir)
        except OSError as error:
            raise cannot_write(work_dir, error) from None
        return work_dir / job.output

    def build(folder: Path) -> None:
        work = folder / "work"
        _compile(selected, job, files, work)
        (work / job.output).rename(folder / job.output)
        shutil.rmtree(work, ignore_errors=True)

    return entry("build", _key(selected, job, files), build) / job.output


def _compile(selected: Selected, job: Job, files: Mapping[str, str], folder: Path) -> None:
    """Compile in `folder`; OSError when the files cannot be written there."""
    with leaving.whole():  # a folder that is being taken away would be made once more
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
    if _BARE_OBJECT in job.sources:
        _add_bare_object(selected, job, folder)
    selected.toolchain.compile(selected.found, replace(job, folder=folder))


def _add_bare_object(selected: Selected, job: Job, folder: Path) -> None:
    """What every image is linked to takes a compiler longer than many a network: it is compiled
    once for all images with these flags."""
    own = Job(
        folder=Path(),
        sources=(_BARE_SOURCE,),
        output=_BARE_OBJECT,
        optimize=job.optimize,
        flags=job.flags,
        includes=(_INCLUDES,),
        strict=job.strict,
        link=False,
    )
    made = _build(selected, own, _bare_files(), None)
    try:
        shutil.copyfile(made, folder / _BARE_OBJECT)
    except FileNotFoundError:  # another process has emptied the cache
        selected.toolchain.compile(selected.found, replace(own, folder=folder))


def _key(selected: Selected, job: Job, files: Mapping[str, str]) -> str:
    compiler = (_FORMAT, selected.toolchain.name, str(selected.found.path), selected.found.version)
    named = [part for name in sorted(files) for part in (name, files[name])]
    return digest((*compiler, repr(job), *named))
