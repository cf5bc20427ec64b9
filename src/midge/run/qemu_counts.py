"""Exact instruction counts from QEMU, through a plugin that is compiled when first used."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from midge.core import leaving
from midge.core.errors import RunError, ToolchainError
from midge.core.package import Package
from midge.core.runner import OperatorRun
from midge.toolchain import Image, build_library

_SOURCE = Path(__file__).parent / "qemu_boards" / "count.c"
Records = NDArray[np.uint64]  # (n, 2): an address, and the instructions before it

_FILE = "counts"
_RECORD_SIZE = 16
_RAN = "midge_qemu_ran"
# Versions of the plugin interface: QEMU 9 no longer takes 1, older ones do not know 2.
_FIRST_WITH_VERSION_2 = 9


class Counts:
    """What the plugin wrote about the inferences of one session.

    An inference leaves a record where run (or each push) starts, one for each operator, and one
    where it has returned. What the hook between operators executes is left out; calling it, three
    to five instructions an operator, is not, nor some ten around the end of run.
    """

    def __init__(self, package: Package, image: Image) -> None:
        self._package = package
        start, hook, end = (
            image.symbols[name].address
            for name in (_entry(package), f"{package.name}_after_operator", _RAN)
        )
        pushes = package.pushes
        parts = [package.all_calls]
        if pushes is not None:
            parts = [pushes.calls(package, number) for number in range(pushes.count)]
        self._last = parts[-1]
        self._expected = [m for part in parts for m in (start, *[hook] * len(part))]
        self._expected.append(end)
        self._skip = (hook, hook + image.symbols[f"{package.name}_after_operator"].size)
        self._taken = 0

    def options(self, program: str) -> tuple[str, ...]:
        """Options for the QEMU `program`; none when the plugin cannot be built here."""
        plugin = _plugin(program)
        if plugin is None:
            return ()
        marks = "".join(f",mark={address:#x}" for address in dict.fromkeys(self._expected))
        skip = f"skip={self._skip[0]:#x}:{self._skip[1]:#x}"
        return ("-plugin", f"{plugin.replace(',', ',,')},out={_FILE},{skip}{marks}")

    def take(self, folder: Path) -> Records | None:
        """The records since the last call, from `folder`'s QEMU; None without a plugin."""
        path = folder / _FILE
        if not path.exists():
            return None
        try:
            records = np.fromfile(path, "<u8", offset=self._taken * _RECORD_SIZE).reshape(-1, 2)
        except OSError as error:
            raise RunError(
                f"QEMU's counts cannot be read: {error}", where=self._package.name, hint="run again"
            ) from error
        self._taken += len(records)
        return records

    def operators(self, records: Records) -> tuple[OperatorRun, ...]:
        """Each operator's instructions; RunError when `records` are not those of one inference."""
        if records[:, 0].tolist() != self._expected:
            raise RunError(
                f"{len(records)} counts of an inference that has {len(self._expected)}",
                where=self._package.name,
                hint="is every operator followed by the hook, once?",
            )
        if not self._package.operators:
            return ()
        records = records[-len(self._last) - 2 :]  # of the last push, where there are several
        # What lies between two operators belongs to the first of them, the end to the last.
        bounds = [*records[:-2, 1].tolist(), int(records[-1, 1])]
        counts = [0] * len(self._package.operators)
        for call, (begin, stop) in zip(self._last, pairwise(bounds), strict=True):
            counts[call.operator] += stop - begin
        named = zip(self._package.operators, counts, strict=True)
        return tuple(OperatorRun(operator.name, count, None) for operator, count in named)


def _entry(package: Package) -> str:
    """The function that runs an inference."""
    return f"{package.name}_{package.entry}"


@cache
def _plugin(program: str) -> str | None:
    """The compiled plugin for a QEMU, or None when there is no compiler or no known version."""
    try:
        said = leaving.run([program, "--version"], folder=Path(program).parent, timeout_s=60.0)
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = re.search(r"version (\d+)\.", said.stdout)
    if version is None:
        return None
    interface = 2 if int(version[1]) >= _FIRST_WITH_VERSION_2 else 1
    try:
        library = build_library(
            "midge_count",
            {"count.c": _SOURCE.read_text()},
            ("count.c",),
            optimize="balanced",
            defines=(f"MIDGE_PLUGIN_VERSION={interface}",),
        )
    except ToolchainError:
        return None
    return str(library)
