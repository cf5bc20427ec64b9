"""Reads and compiles a damaged file in a process of its own, with caps on time and memory."""

from __future__ import annotations

import json
import math
import os
import resource
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

import numpy as np

from midge import driver
from midge.core.errors import MidgeError, UsageError
from midge.core.options import CompileOptions
from midge.core.types import DType
from midge.data import random_inputs
from midge.frontends import parse
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.target import load_target

SPACE = 4 << 30  # bytes of address space, the interpreter and its libraries included
RESIDENT = 1 << 30  # bytes that a case may take beyond what the process had
# With the emulator or TensorFlow, which reserve address space that they do not use.
WIDE_SPACE = 16 << 30
CPU_S = 20
PATIENCE_S = 120  # by the clock, for a process that does not answer
_SMALL = 1 << 16  # elements of a model that is also run
OPTIONS = CompileOptions(search=False, prove=False)
GOOD = ("refused", "accepted", "unread")


@dataclass(frozen=True, slots=True)
class Outcome:
    """verdict: refused by a MidgeError, accepted, or a fault: internal, time, memory, wrong.
    stage: the last one that was begun, read, compile or run. detail: of an error."""

    verdict: str
    stage: str
    detail: str
    seconds: float


class Expired(BaseException):
    """The time of a case is up. No Exception, so that nothing takes it for damage of the file."""


class Stage:
    """What is being done."""

    name = "read"


def compiled(data: bytes, form: str, stage: Stage) -> None:
    """Read, compile and, where it is small, run. Raises what these raise."""
    graph = parse(data, Path(f"model.{form}"), "model")
    stage.name = "check"
    check_numbers(graph)
    stage.name = "compile"
    driver.compile_graph(graph, load_target("cortex-m4"), OPTIONS, model_hash="-")
    if sum(t.elements for t in graph.types.values()) <= _SMALL:
        stage.name = "run"
        with np.errstate(all="ignore"):
            evaluate(graph, random_inputs(graph, 1, 0)[0])


class WrongError(Exception):
    """Something was accepted that no model can mean."""


def check_numbers(graph: Graph) -> None:
    """Raises WrongError for scales that are no positive numbers, for zero points that no element
    can have and for inputs and outputs without elements."""
    for name, t in graph.types.items():
        if t.quant is not None:
            if not all(math.isfinite(s) and s > 0 for s in t.quant.scale):
                raise WrongError(f"{name!r} has scale {t.quant.scale}")
            if not all(_in_range(z, t.dtype) for z in t.quant.zero_point):
                raise WrongError(f"{name!r} has zero point {t.quant.zero_point}")
    for name in (*graph.inputs, *graph.outputs):
        if graph.types[name].elements == 0:
            raise WrongError(f"{name!r} has no elements")


def _in_range(zero: int, dtype: DType) -> bool:
    return not dtype.is_integer or dtype.min <= zero <= dtype.max


def attempt(work: Callable[[Stage], None]) -> Outcome:
    """Does `work` in this process; it never raises."""
    stage = Stage()
    start = time.process_time()
    verdict, detail = "accepted", ""
    before = _resident()
    try:
        work(stage)
    except MidgeError as error:
        verdict, detail = _refused(error), str(error)
    except Expired:
        verdict, detail = "time", f"more than {CPU_S} s"
    except WrongError as error:
        verdict, detail = "wrong", str(error)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is a fault
        verdict, detail = "internal", _described(error)
    if verdict in GOOD and _resident() - before > RESIDENT:
        verdict, detail = "memory", f"{(_resident() - before) >> 20} MB; {detail}"
    return Outcome(verdict, stage.name, detail, time.process_time() - start)


def _refused(error: MidgeError) -> str:
    """An error that hides that memory or stack ran out is none that a user can mend."""
    if isinstance(error, UsageError) and "need TensorFlow" in error.what:
        return "unread"
    hidden = isinstance(error.__cause__, MemoryError | RecursionError)
    return "memory" if hidden or "MemoryError" in str(error) else "refused"


def _described(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if "midge" in f.filename] or frames
    place = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in own[-1:-4:-1])
    return f"{type(error).__name__}: {error!s:.200} ({place})"


def _resident() -> int:
    """The most bytes that this process has had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def forked(work: Callable[[Stage], None], space: int = SPACE) -> Outcome:
    """`attempt` in a process of its own, which ends whatever happens."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            _limit(space)
            with os.fdopen(writing, "w") as out:
                out.write(json.dumps(asdict(attempt(work))))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    return _awaited(child, reading)


def _awaited(child: int, reading: int) -> Outcome:
    with os.fdopen(reading) as answer:
        ready, _, _ = select.select([answer], [], [], PATIENCE_S)
        if not ready:
            os.kill(child, signal.SIGKILL)
        text = answer.read()
    _, status = os.waitpid(child, 0)
    if not ready:
        return Outcome("time", "?", f"no answer in {PATIENCE_S} s", PATIENCE_S)
    if not text:
        return Outcome("killed", "?", f"status {os.waitstatus_to_exitcode(status)}", 0.0)
    return Outcome(**json.loads(text))


def _limit(space: int) -> None:
    def expired(signum: int, frame: FrameType | None) -> None:
        raise Expired

    # Midge's own warnings are for people; any other one is a computation that nobody meant.
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPROF, expired)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
