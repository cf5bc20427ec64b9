"""Packages that Midge can use and does not need: what they are called, and how to get them.

Hints name the packages themselves: that works in a clone as well as for a release, and nobody
installs another package that an index knows under Midge's name.
"""

from __future__ import annotations

import re
from importlib import metadata

_NEED = re.compile(
    r"""([\w.-]+)(?:\[([\w, .-]+)\])?\s*([^;]*)(?:;\s*extra == ["']([\w.-]+)["'])?"""
)


def extras() -> dict[str, dict[str, str]]:
    """Extra -> the packages that it stands for, each with the versions that will do, ">=1.2"."""
    own: dict[str, list[tuple[str, str, str]]] = {}
    for text in _needs():
        if (found := _NEED.fullmatch(text)) and found[4]:
            own.setdefault(found[4], []).append((found[1], found[2] or "", found[3].strip()))
    return {extra: _packages(extra, own) for extra in own}


def _needs() -> list[str]:
    try:
        return metadata.requires("midge") or []
    except metadata.PackageNotFoundError:  # sources that nobody installed
        return []


def _packages(extra: str, own: dict[str, list[tuple[str, str, str]]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, parts, versions in own[extra]:
        if name != "midge":
            found[name] = versions
        for part in filter(None, map(str.strip, parts.split(","))):
            found |= _packages(part, own)
    return found


def installed(package: str) -> str:
    """Its version; "" if it is not here."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def how_to_get(extra: str) -> str:
    """A command line that installs what the extra lacks, or all of it if it lacks nothing."""
    packages = extras().get(extra)
    if packages is None:
        return f"pip install '.[{extra}]' in Midge's folder"
    missing = {n: v for n, v in packages.items() if not installed(n)} or packages
    return "pip install " + " ".join(f"'{name}{versions}'" for name, versions in missing.items())
