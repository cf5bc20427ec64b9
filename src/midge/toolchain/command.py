"""Command lines: the flags all C compilers share, running one, and reading its errors."""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from midge.core import leaving
from midge.core.errors import ToolchainError
from midge.toolchain.base import Found, Job

OPTIMIZE: Mapping[str, tuple[str, ...]] = {
    "speed": ("-O3",),
    "size": ("-Os",),
    "balanced": ("-O2",),
    "debug": ("-O1", "-g"),
}
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
TIMEOUT_S = 900
_ERROR_LINES = 5
_UNDEFINED = re.compile(r"undefined (?:symbol: |reference to [`'])([\w.$]+)")
_LIBM = re.compile(
    r"(a?(sin|cos|tan)h?|atan2|cbrt|ceil|copysign|erfc?|exp2?|expm1|fabs|fdim|floor|fma|fmax|fmin"
    r"|fmod|frexp|hypot|ilogb|ldexp|lgamma|l?l?r(int|ound)|log(10|1p|2|b)?|modf|nearbyint|nextafter"
    r"|pow|remainder|remquo|round|scalbl?n|sqrt|tgamma|trunc)[fl]?"
)


def c_flags(job: Job) -> list[str]:
    """What every compiler understands alike.

    C11 always, so that a build with warnings compiles the same language as one without; no errno
    from maths functions, so that `sqrtf` can be one instruction.
    """
    flags = ["-std=c11", *OPTIMIZE[job.optimize], "-fno-math-errno", *job.flags]
    flags += [f"-I{folder}" for folder in job.includes]
    flags += [f"-D{define}" for define in job.defines]
    return flags + list(STRICT if job.strict else ())


BARE_COMPILE = (
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)


def run(
    name: str, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run a compiler in `folder`, where its temporary files go too; ToolchainError when it cannot
    start or does not end."""
    try:
        own = {"LC_ALL": "C", "TMPDIR": str(folder.absolute()), **environment}
        return leaving.run(
            command, folder=folder, timeout_s=TIMEOUT_S, environment={**os.environ, **own}
        )
    except OSError as error:
        raise ToolchainError(f"does not start: {error}", where=name) from error
    except subprocess.TimeoutExpired as error:
        raise ToolchainError(
            f"did not end within {TIMEOUT_S} s", where=name, hint="build one smaller kernel"
        ) from error


def check(name: str, result: subprocess.CompletedProcess[str]) -> None:
    """ToolchainError with the file and the first errors, unless `result` is a success."""
    if result.returncode == 0:
        return
    refuse_libm(name, result)
    lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line or _UNDEFINED.search(line)]
    first = (errors or lines or [f"exit code {result.returncode}"])[:_ERROR_LINES]
    place = re.match(r"([\w./-]+\.[chS])\b", first[0])
    hint = "generated C is meant to compile everywhere: if it is unchanged, report this"
    if re.search("unknown (target )?CPU|unsupported argument|unknown argument", first[0], re.I):
        hint = "see the flags in the target's [toolchains]"
    raise ToolchainError(
        "\n".join(first),
        where=f"{name} {place[1]}" if place else name,
        hint=hint,
    )


def refuse_libm(name: str, result: subprocess.CompletedProcess[str]) -> None:
    """ToolchainError that names the first maths function that a failed link misses, if any."""
    for symbol in undefined(result):
        if _LIBM.fullmatch(symbol):
            raise ToolchainError(
                f"{symbol} is in the C maths library, which bare-metal images are built without",
                where=name,
                hint="quantise the operator that needs it, or run on the host",
            )


def undefined(result: subprocess.CompletedProcess[str]) -> list[str]:
    """Names that a failed link did not find, each once, in the order of the messages."""
    return list(dict.fromkeys(_UNDEFINED.findall(result.stderr)))


def on_path(program: str) -> Found | None:
    """A compiler on the PATH, with the first line of its --version."""
    path = shutil.which(program)
    if path is None:
        return None
    try:
        version = _version(path, os.stat(path).st_mtime_ns)
    except OSError:  # it was there a moment ago
        return None
    return Found(Path(path), version) if version else None


@functools.cache
def _version(path: str, modified_ns: int) -> str:
    """First line of `path --version`, or "" when it does not run; asked once per file."""
    try:
        result = run(path, [path, "--version"], Path(path).absolute().parent)
    except ToolchainError:
        return ""
    return result.stdout.partition("\n")[0].strip() if result.returncode == 0 else ""
