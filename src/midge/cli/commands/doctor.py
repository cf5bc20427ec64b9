"""midge doctor: what was found on this machine, and what each missing thing would add."""

from __future__ import annotations

import re
from dataclasses import dataclass

from midge.cli.arguments import Json
from midge.cli.commands import command
from midge.cli.output import console, print_json, table
from midge.core.extras import extras, how_to_get, installed


@dataclass(frozen=True, slots=True)
class Check:
    """kind: "toolchain", "runner" or "extra".  found: version or versions, "" if missing.
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
_EXTRA_ADDS = {
    "verify": "midge verify against LiteRT and ONNX Runtime",
    "plot": "pictures: of the memory plan, of layers' errors",
    "torch": "midge.from_torch, and midge verify of .pt2",
    "keras": "Keras models and SavedModels",
    "trees": "midge.from_sklearn",
    "train": "the training scripts in examples/",
    "figures": "the figures of README and docs, measured again",
    "dev": "the tests",
}


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
    for extra, packages in extras().items():
        versions = {name: installed(name) for name in packages}
        complete = all(versions.values())
        texts = ", ".join(f"{name} {version}" for name, version in versions.items())
        adds, get = _EXTRA_ADDS.get(extra, ""), how_to_get(extra)
        found.append(Check("extra", extra, texts if complete else "", adds, get))
    return found


def _short(check: Check) -> str:
    """The version number in what a compiler says of itself; how many packages, of an extra."""
    numbers = re.findall(r"\d+(?:\.\d+)+", check.found)
    if check.kind == "extra" and "," in check.found:
        return f"{check.found.count(',') + 1} packages"
    return max(numbers, key=lambda n: n.count("."), default=check.found)


@command("doctor")
def doctor_command(as_json: Json = False) -> None:
    """Say which compilers, emulators and extras are here, and what the others would add."""
    found = checks()
    if as_json:
        print_json([{k: getattr(c, k) for k in Check.__slots__} for c in found])
        return
    out = console()
    for kind, title in (("toolchain", "compilers"), ("runner", "runners"), ("extra", "extras")):
        rows = [(c.name, _short(c) or "missing", c.adds) for c in found if c.kind == kind]
        out.print(table((title, "found", "adds"), rows))
        out.print()
    missing = [c for c in found if not c.found]
    if missing:
        out.print("To get what is missing:")
        for c in missing:
            out.print(f"  {c.name}: {c.install}", soft_wrap=True)
