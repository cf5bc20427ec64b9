"""One random model: the framework, NumPy and C agree, or somebody says why not.

    outcome = check(random_tflite(7), row, folder)

NumPy's integers are the framework's, but for those that the framework's floats decide
(`midge.oracle.steps`); C's are NumPy's, and so are the floats that they are made of.
"""

from __future__ import annotations

import contextlib
import shutil
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.models import Made
from fuzzing.options import LIMITS, SETTINGS, Row, easier
from midge import driver, pipeline
from midge.core.errors import MidgeError, PlanError, RunError, VerifyError
from midge.core.settings import options_of
from midge.core.types import Array
from midge.driver import Compiled
from midge.frontends import onnx, tflite
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.graph.islands import becoming_integers
from midge.limits import flash_of
from midge.oracle.litert import LiteRTSession
from midge.oracle.onnxruntime import OnnxRuntimeSession
from midge.oracle.steps import bounded, evaluate_beside
from midge.oracle.units import largest_value
from midge.run import RUNNERS
from midge.target import load_target
from midge.verify import difference

FLOAT_BOUND_ULP = 200.0  # of the largest value: sums over chains of operators
POOLS = {"fast": 2048, "main": 1 << 17}
GNU = "arm-none-eabi-gcc"
Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class Outcome:
    """verdict: "right"; "refused" by a MidgeError; "framework", which refuses the model; "wrong";
    "internal", another exception.  row: the options that a right package was made with."""

    verdict: str
    why: str = ""
    row: Row | None = None

    @property
    def ok(self) -> bool:
        return self.verdict not in ("wrong", "internal")


class WrongError(Exception):
    """Two results that should be one."""


def check(
    made: Made, row: Row | None, folder: Path, stage: Any = lambda name: None, count: int = 3
) -> Outcome:
    """row: options; None: NumPy only.  stage: is told what comes next.  count: of inputs."""
    try:
        return _checked(made, row, folder, stage, count)
    except WrongError as error:
        return Outcome("wrong", str(error))
    except (RunError, VerifyError) as error:  # which no model may come to
        return Outcome("internal", f"{type(error).__name__}: {error}".replace("\n", " "))
    except MidgeError as error:
        return Outcome("refused", f"{type(error).__name__}: {error}".replace("\n", " "))
    except Exception as error:  # noqa: BLE001  # whatever it is, it is a fault
        where = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(where.filename).name}:{where.lineno}"
        return Outcome("internal", f"{type(error).__name__}: {error} at {place}")


def _checked(made: Made, row: Row | None, folder: Path, stage: Any, count: int) -> Outcome:
    stage("read")
    driver.load_operators()
    graph = (tflite.read if made.format == "tflite" else onnx.read)(made.data, "model")
    sets = inputs_of(graph, made.seed, count)
    stage("framework")
    judge = LiteRTSession if made.format == "tflite" else OnnxRuntimeSession
    try:
        session = judge(made.data, graph)
        theirs = [session.run(given) for given in sets]
    except (RunError, RuntimeError, ValueError) as error:
        return Outcome("framework", " ".join(str(error).split())[:200])
    stage("numpy")
    _check_numpy(graph, folder / f"model.{made.format}", sets, theirs)
    used = _check_c(graph, row, sets, made.seed, stage) if row is not None else None
    return Outcome("right", row=used)


def _check_numpy(
    graph: Graph, path: Path, sets: Sequence[Inputs], theirs: Sequence[Inputs]
) -> None:
    """NumPy against the framework, after the passes."""
    model = pipeline.prepare(graph).graph
    loose = bounded(model, path)
    for given, values in zip(sets, theirs, strict=True):
        with np.errstate(all="ignore"):
            own, steps = evaluate_beside(model, given, values, loose)
        for name, found in steps.items():
            if not found.ok:
                what = f"{found.differing} of {found.elements} a step away"
                raise WrongError(f"numpy: {name}: {what}")
        compared("numpy", graph.outputs, [own[o] for o in model.outputs], values)


def _check_c(graph: Graph, row: Row, sets: Sequence[Inputs], seed: int, stage: Any) -> Row:
    """C against NumPy; the options it was made with."""
    runner = row["runner"]
    stage("compile")
    made, row = compiled(graph, row)
    package = made.package
    stage(f"build for {runner}")
    c = RUNNERS[runner].load(package, toolchain=compiler(row, seed), optimize=row["build"])
    stage(f"run on {runner}")
    try:
        for given in sets:
            own = {n: _last(a) if n in made.turned else a for n, a in given.items()}
            with np.errstate(all="ignore"):
                want = evaluate(made.graph, own)
            have = c.run(own).outputs
            found = [have[t.name] for t in package.outputs]
            _equal(runner, made.graph, found, [want[o] for o in made.graph.outputs])
    finally:
        c.close()
    return row


def compiler(row: Row, seed: int) -> str | None:
    """GCC, which is quick; Clang, the usual one, for every fourth model on a core of Arm's."""
    if row["runner"] == "host":
        return "gcc"
    arm = row["target"].startswith("cortex") and shutil.which(GNU) is not None
    return GNU if arm and seed % 4 else None


def _last(array: Array) -> Array:
    return np.ascontiguousarray(np.moveaxis(array, 1, -1))


def compiled(graph: Graph, row: Row) -> tuple[Compiled, Row]:
    """The package with a row's options, or those of them that the model allows, and which."""
    rows = [*easier(row)]
    for one in rows[:-1]:
        with contextlib.suppress(MidgeError):
            return _compiled(graph, one)
    return _compiled(graph, rows[-1])


def _compiled(graph: Graph, row: Row) -> tuple[Compiled, Row]:
    """max_ram and max_flash of a row are parts of what the model needs without a limit."""
    settings = {n: v for n, v in row.items() if n in SETTINGS and n not in LIMITS}
    settings["pools"] = POOLS if row["pools"] else ()
    settings["reserve"] = (row["reserve"],) if row["reserve"] else ()
    options = options_of(settings)
    target = load_target(row["target"])
    made = driver.compile_graph(graph, target, options)
    needs = {"max_ram": made.package.arena_size, "max_flash": flash_of(made.package)[0]}
    limits = {n: max(int(needs[n] * row[n]), 1) for n in LIMITS if row[n] < 1.0 and needs[n]}
    if not limits:
        return made, row
    try:
        return driver.compile_graph(graph, target, replace(options, **limits)), row
    except PlanError:
        return made, {**row, **dict.fromkeys(LIMITS, 1.0)}


def inputs_of(graph: Graph, seed: int, count: int) -> list[dict[str, Array]]:
    """Ordinary values, greater ones, and the ends of integer types."""
    rng = np.random.default_rng(seed)
    sets = []
    for k in range(count):
        given: dict[str, Array] = {}
        for name in graph.inputs:
            t = graph.types[name]
            if t.dtype.is_float:
                size = (1.0, 3.0, 0.1)[k % 3]
                given[name] = rng.normal(0, size, t.shape).astype(t.dtype.numpy)
            elif k == 1:
                given[name] = rng.choice([t.dtype.min, t.dtype.max], t.shape).astype(t.dtype.numpy)
            else:
                whole = rng.integers(t.dtype.min, t.dtype.max, t.shape, endpoint=True)
                given[name] = whole.astype(t.dtype.numpy)
        sets.append(given)
    return sets


def compared(
    who: str, names: Sequence[str], have: Sequence[Array], values: Mapping[str, Array]
) -> None:
    largest = largest_value(values)
    for name, array in zip(names, have, strict=True):
        want = values[name]
        if array.shape != want.shape:
            raise WrongError(f"{who}: {name} is {array.shape}, not {want.shape}")
        found = difference(name, want, array, largest)
        if found.differing if found.exact else found.ulp > FLOAT_BOUND_ULP:
            raise WrongError(
                f"{who}: {name}: {found.differing} of {found.elements}, by {found.max_error:.4g}"
                f" ({found.ulp:.0f} ulp)"
            )


def _equal(who: str, graph: Graph, have: Sequence[Array], want: Sequence[Array]) -> None:
    """In every bit; floats that stay floats may be fused, and added row by row."""
    decisive = becoming_integers(graph)
    names = graph.outputs
    loose = [i for i, b in enumerate(want) if b.dtype.kind == "f" and names[i] not in decisive]
    values = {names[i]: want[i] for i in loose}
    compared(who, list(values), [have[i].reshape(want[i].shape) for i in loose], values)
    for i, (name, a, b) in enumerate(zip(names, have, want, strict=True)):
        if i not in loose and not np.array_equal(
            a.reshape(b.shape), b, equal_nan=b.dtype.kind == "f"
        ):
            differing = int((a.reshape(b.shape) != b).sum())
            raise WrongError(f"{who}: {name}: {differing} of {b.size} differ from NumPy")
