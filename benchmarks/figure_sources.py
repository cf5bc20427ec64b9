"""Where figures come from: what is measured for a key of figures.json.

The first word of a key says how, the others what:

    run MODEL [OPTION...]        as `midge run` prints it
    trade MODEL                  the plan that is taken, the smallest and the fastest
    kinds                        operators of the int8 models by kind, by bench.py
    trees CASE                   a forest of trees.py
    twins MODEL, methods MODEL   a model quantised by Midge, by quantize_twins.py
    cost NETWORK [OPTION...]     what compiling takes, by cost.py
    networks                     five networks trained in PyTorch, by examples/pytorch
    console COMMAND [| head -N]  what a command prints

A model is a file, or the name of one in ../shared/models.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from midge.core.errors import MidgeError, UsageError
from midge.core.extras import installed
from midge.core.version import version

HERE = Path(__file__).parent
ROOT = HERE.parent
SHARED = ROOT.parent / "shared" / "models"
KEPT = "arena stack cycles instructions constants code flash".split()
INT8 = ("kws_int8", "vww_int8", "resnet_int8", "ad_int8", "sww_int8")

Source = Callable[[str], Any]


def measure(key: str) -> Any:
    """The figures that belong to `key`, as JSON has them."""
    kind, _, what = key.partition(" ")
    if kind not in SOURCES:
        raise UsageError("is no source of figures", where=key, hint=f"one of {', '.join(SOURCES)}")
    if lacking := missing(key):
        raise UsageError(f"needs {lacking}", where=key, hint="pip install '.[train]'")
    return _rounded(SOURCES[kind](what))


def _rounded(found: Any) -> Any:
    match found:
        case dict():
            return {name: _rounded(n) for name, n in found.items()}
        case list():
            return [_rounded(n) for n in found]
        case float():
            return round(found, 3)
    return found


def missing(key: str) -> str:
    """What has to be installed for `key`; "" if nothing."""
    needed = ("torch", "onnxscript", "sktime") if key == "networks" else ()
    return ", ".join(n for n in needed if not installed(n))


def pins() -> dict[str, str]:
    """The packages that figures rest on, in the versions of pyproject.toml's extra `figures`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["optional-dependencies"]["figures"]
    return dict(p.split("==") for p in listed if "==" in p)


@cache
def versions() -> Mapping[str, str]:
    """Of everything that figures rest on, as it is here."""
    clang = _output([sys.executable, "-m", "ziglang", "cc", "--version"])
    number = re.search(r"clang version ([\d.]+)", clang)
    return {
        "midge": version(), **{name: installed(name) for name in pins()},
        "clang": number[1] if number else "",
    }  # fmt: skip


def check_versions() -> None:
    """UsageError if figures measured here would rest on other versions than the pinned ones."""
    other = {n: v for n, v in pins().items() if versions()[n] != v}
    if other:
        have = ", ".join(f"{n} {versions()[n] or 'is missing'}" for n in other)
        wanted = " ".join(f"{n}=={v}" for n, v in other.items())
        hint = f"pip install {wanted}; or change the extra `figures` and measure everything"
        raise UsageError(f"figures would rest on {have}", where="pyproject.toml", hint=hint)


def _run(what: str) -> dict[str, int | None]:
    model, *options = shlex.split(what)
    words = ["run", str(path_of(model)), *options, "--no-operators", "--json"]
    found = json.loads(_midge(words))
    macs = sum(op["macs"] for op in found["operators"])
    return {**{name: found[name] for name in KEPT}, "macs": macs}


def _trade(model: str) -> dict[str, Any]:
    found = json.loads(_midge(["compile", str(path_of(model)), "--dry-run", "--json"]))
    plans = found["trade_off"]["plans"] if found["trade_off"] else []
    taken = next(
        (p for p in plans if p["taken"]), {"arena": found["arena"]["size"], "cycles": None}
    )
    ends = {
        "taken": taken,
        "smallest": min(plans, key=lambda p: p["arena"], default=taken),
        "fastest": min(plans, key=lambda p: p["cycles"], default=taken),
    }  # fmt: skip
    return {name: {n: plan[n] for n in ("arena", "cycles")} for name, plan in ends.items()}


def path_of(model: str) -> Path:
    """`model` as a file here, else in ../shared/models."""
    path = ROOT / model
    path = path if path.is_file() else SHARED / f"{model}.tflite"
    if not path.is_file():
        raise UsageError(f"no model {model}", where=str(SHARED), hint="figures are of these models")
    return path


def _kinds(_: str) -> dict[str, dict[str, float]]:
    """Kind -> operators, cycles and instructions per unit, the least and the most of these."""
    models = [str(path_of(m)) for m in INT8]
    found: dict[str, list[dict[str, Any]]] = {}
    for result in _script("bench.py", [*models, "--no-operators"]):
        for op in result["operators"]:
            found.setdefault(op["kind"], []).append(op)
    return {
        kind.replace(" ", "_"): _per_unit(operators) for kind, operators in sorted(found.items())
    }


def _per_unit(operators: list[dict[str, Any]]) -> dict[str, float]:
    units = [op["model_macs"] or op["elements"] for op in operators]
    each = [op["cycles"] / n for op, n in zip(operators, units, strict=True)]
    total = {f: sum(op[f] for op in operators) / sum(units) for f in ("cycles", "instructions")}
    return {
        "operators": len(operators), **total, "least": min(each), "most": max(each),
    }  # fmt: skip


def _trees(case: str) -> Any:
    (found,) = _script("trees.py", [case])
    return found


def _twins(model: str) -> Any:
    (found,) = _script("quantize_twins.py", [model])
    for maker in ("midge", "shipped"):
        del found[maker]["seconds"]
    return found


def _methods(model: str) -> Any:
    (found,) = _script("quantize_twins.py", ["--methods", model])
    return found


def _cost(what: str) -> dict[str, Any]:
    network, *options = what.split()
    path = SHARED / f"{network}.tflite"
    words = [str(path) if path.is_file() else network, *options]
    (found,) = _script("cost.py", words).values()
    if isinstance(found, str):
        raise MidgeError(found, where=f"cost.py {what}", hint="run it alone")
    return found


def _networks(_: str) -> dict[str, Any]:
    folder = ROOT / "examples" / "pytorch"
    with tempfile.TemporaryDirectory() as nets:
        _output([sys.executable, str(folder / "train.py"), nets])
        rows = _script(folder / "table.py", [nets])
    return {"torch": installed("torch").partition("+")[0], "rows": rows}


def _console(what: str) -> dict[str, str]:
    """The command as typed, and what it prints in a folder that holds the examples."""
    command, _, most = what.partition(" | head -")
    with tempfile.TemporaryDirectory() as folder:
        for path in (ROOT / "examples", *SHARED.glob("nas_*.tflite")):
            (Path(folder) / path.name).symlink_to(path)
        said = _midge(shlex.split(command)[1:], Path(folder)).strip("\n")
    lines = [line.rstrip() for line in said.splitlines()]
    lines = [*lines[: int(most)], "..."] if most else lines
    return {"text": "\n".join([f"$ {command}", *lines])}


def _midge(words: list[str], folder: Path = ROOT) -> str:
    return _output([sys.executable, "-m", "midge", *words], folder)


def _script(name: str | Path, words: list[str]) -> Any:
    """What a script writes to its --json file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        _output([sys.executable, str(HERE / name), *words, "--json", str(path)])
        return json.loads(path.read_text())


def _output(command: list[str], folder: Path = ROOT) -> str:
    env = {**os.environ, "COLUMNS": "80"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
        raise MidgeError("\n".join(said), where=shlex.join(command), hint="run it alone")
    return done.stdout


SOURCES: Mapping[str, Source] = {
    "run": _run, "trade": _trade, "kinds": _kinds, "trees": _trees, "twins": _twins,
    "methods": _methods, "cost": _cost, "networks": _networks, "console": _console,
}  # fmt: skip
