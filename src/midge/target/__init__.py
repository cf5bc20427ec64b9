"""Targets: one TOML file each beside this page, or a user's own file.

name = "my-board"                 # every key but `base` is checked by `parse.py`
base = "cortex-m4"                # optional: start from this target, then replace whole keys
description = "..."
arch = "arm"                      # arm, riscv or host
cpu = "cortex-m4"
features = ["dsp", "fpu"]         # what kernels may use
[[memories]]                      # the first of a kind is where things go
name = "sram"
kind = "ram"                      # or "flash"
start = 0x20000000
size = "128K"                     # or a number of bytes
typical = true                    # of chips with this CPU, not of one board: more is no error
[toolchains]                      # the flags that select this CPU, preferred toolchain first
zig = ["-target", "thumb-freestanding-eabihf", "-mcpu=cortex_m4+vfp4d16sp"]
[emulator]                        # optional: Unicorn's CPU and a cycle model
model = "UC_CPU_ARM_CORTEX_M4"
cycles = "cortex-m4"
[qemu]                            # optional: the machine, and where its memories are
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midge.core.damage import damage
from midge.core.errors import TargetError
from midge.core.files import check_regular
from midge.core.registry import Registry
from midge.core.target import Memory, Target
from midge.target.parse import FEATURES, parse_target, read_table

__all__ = ["FEATURES", "TARGETS", "Memory", "Target", "load_target"]

_FOLDER = Path(__file__).parent

TARGETS: Registry[Target] = Registry("target", TargetError)


def load_target(name_or_path: str | Path) -> Target:
    """A target by its name, or from a TOML file: anything that ends in ".toml".

    TargetError when the name is unknown, or says what is wrong in the file.
    """
    if Path(name_or_path).suffix != ".toml":
        try:
            return TARGETS[str(name_or_path)]
        except TargetError as error:
            hint = f'{error.hint}; of a chip or a board: a .toml with base = "cortex-m4" or another'
            raise TargetError(error.what, where=error.where, hint=hint) from None
    return _load(Path(name_or_path), str(name_or_path))


def _load(path: Path, where: str) -> Target:
    table = read_table(_text(path, where), where)
    base = table.pop("base", None)
    if base is None:
        return parse_target(table, where)
    if not isinstance(base, str) or base not in TARGETS:
        known = ", ".join(TARGETS)
        raise TargetError(f"no target {base!r}", where=f"{where}: base", hint=f"known: {known}")
    under = read_table(_text(_FOLDER / f"{base}.toml", base), base)
    del under["name"]  # a target of its own needs a name of its own
    _check_cpu(table, under, base, where)
    return parse_target({**under, **table}, where)


def _check_cpu(table: Mapping[str, Any], under: Mapping[str, Any], base: str, where: str) -> None:
    """TargetError for a CPU that what is taken from the base is not for."""
    cpu = table.get("cpu", under["cpu"])
    taken = [key for key in ("toolchains", "emulator") if key in under and key not in table]
    if cpu == under["cpu"] or not taken:
        return
    hint = f'base = "{cpu}"' if cpu in TARGETS else f"leave it out, or give {' and '.join(taken)}"
    what = f'is {cpu!r}, but {" and ".join(taken)} are those of base = "{base}"'
    raise TargetError(what, where=f"{where}: cpu", hint=hint)


def _text(path: Path, where: str) -> str:
    check_regular(path)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else damage(error)
        raise TargetError(
            f"cannot be read: {why}", where=where, hint="give the path of a TOML file"
        ) from error


for _path in sorted(_FOLDER.glob("*.toml")):
    TARGETS.add(_path.stem, _load(_path, _path.name))
