"""midge doctor: what was found on this machine, and what each missing thing would add."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

from midge.cli.arguments import Json
from midge.cli.commands import command
from midge.cli.output import console, print_json, table


@dataclass(frozen=True, slots=True)
class Check:
    """kind: "toolchain", "runner" or "extra".  found: version or place, "" if missing.
    adds: what it is good for.  install: how to get it."""

    kind: str
    name: str
    found: str
    adds: str
    install: str


_RUNNER_ADDS = {
    "host": "results of the C on this machine",
    "emulator": "exact instructions, estimated cycles, stack, per operator",
    "qemu": "a whole system: Cortex-M55, start-up code, semihosting",
}
_EXTRAS = (
    ("ai_edge_litert", "ai-edge-litert", "midge verify against the framework", "midge[verify]"),
    ("matplotlib", "matplotlib", "pictures of the memory plan", "midge[plot]"),
)


def checks() -> list[Check]:
    """Everything that Midge can use and whether it is here."""
    from midge.run import RUNNERS
    from midge.toolchain import TOOLCHAINS

    found: list[Check] = []
    for name in TOOLCHAINS:
        tool = TOOLCHAINS[name]
        here = tool.find()
        adds = f"builds for {', '.join(sorted(tool.archs))}"
        found.append(Check("toolchain", name, here.version if here else "", adds, tool.install))
    for name in RUNNERS:
        reason = RUNNERS[name].available()
        adds = _RUNNER_ADDS.get(name, "")
        found.append(Check("runner", name, "" if reason else "ready", adds, reason or ""))
    for module, package, adds, extra in _EXTRAS:
        found.append(
            Check("extra", package, _version(module, package), adds, f"pip install '{extra}'")
        )
    return found


def _version(module: str, package: str) -> str:
    if find_spec(module) is None:
        return ""
    try:
        return version(package)
    except PackageNotFoundError:
        return "found"


def _short(found: str) -> str:
    """The version number in what a compiler says of itself."""
    numbers = re.findall(r"\d+(?:\.\d+)+", found)
    return max(numbers, key=lambda n: n.count("."), default=found)


@command("doctor")
def doctor_command(as_json: Json = False) -> None:
    """Say which compilers, emulators and extras are here, and what the others would add."""
    found = checks()
    if as_json:
        print_json([{k: getattr(c, k) for k in Check.__slots__} for c in found])
        return
    out = console()
    for kind, title in (("toolchain", "compilers"), ("runner", "runners"), ("extra", "extras")):
        rows = [(c.name, _short(c.found) or "missing", c.adds) for c in found if c.kind == kind]
        out.print(table((title, "found", "adds"), rows))
        out.print()
    missing = [c for c in found if not c.found]
    if missing:
        out.print("To get what is missing:")
        for c in missing:
            out.print(f"  {c.name}: {c.install}", soft_wrap=True)
