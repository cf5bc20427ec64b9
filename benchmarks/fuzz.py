"""Random TFLite and ONNX models, compiled with options that cover each other in pairs.

    python benchmarks/fuzz.py [--count 2000] [--first 0] [--jobs 2] [--minutes M] [--log FILE]

Every model is judged by its framework in NumPy, and its C by NumPy: on this host to the bit, in the
emulator for five targets. A case has its own process, 300 s and 16 GB of addresses (the emulator
reserves 1 GB for each core that it is). Prints what was found, by target and verdict, and how many
pairs of options a right package was made with; exits with 1 if anything was wrong, or failed by
anything but a MidgeError. A run goes on where the log ends; what failed is tried again.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fuzzing.check import Outcome, check
from fuzzing.models import Made
from fuzzing.onnx_graphs import random_onnx
from fuzzing.options import CHOICES, Row, covering_rows, pairs, possible_pairs
from fuzzing.tflite_graphs import random_tflite

SECONDS, BYTES = 300, 16 << 30
MAKERS = {"tflite": random_tflite, "onnx": random_onnx}


@dataclass(frozen=True)
class Case:
    format: str
    seed: int
    row: Row

    def made(self) -> Made:
        return MAKERS[self.format](self.seed)


def cases(first: int, count: int) -> Iterator[Case]:
    """Both formats in turn, every row of options in turn; what takes long, search and proof, in
    every eighth model only."""
    rows = covering_rows()
    quick = [{**row, "search": False, "prove": False} for row in rows]
    for i in range(first, first + count):
        row = rows[i // 8 % len(rows)] if i % 8 == 0 else quick[i % len(quick)]
        for format_ in MAKERS:
            yield Case(format_, i, row)


def isolated(case: Case, folder: Path) -> Outcome:
    """The case in a process of its own."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _run(case, folder, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        lines = pipe.read().decode(errors="replace").splitlines()
    _, status = os.waitpid(child, 0)
    last = lines[-1] if lines else ""
    if last.startswith("{"):
        return Outcome(**json.loads(last))
    if last == "framework":
        return Outcome("framework", f"it ends the process ({status})")
    return Outcome("internal", f"ended with status {status} while it was at: {last}")


def _run(case: Case, folder: Path, pipe: int) -> None:
    """Never returns."""
    try:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 2)
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        signal.alarm(SECONDS)
        outcome = check(
            case.made(), case.row, folder, lambda name: os.write(pipe, f"{name}\n".encode())
        )
        os.write(pipe, json.dumps(asdict(outcome)).encode())
    except BaseException as error:  # noqa: BLE001  # it must not return to the parent's code
        os.write(pipe, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)


class Tally:
    def __init__(self) -> None:
        self.verdicts: Counter[tuple[str, str]] = Counter()
        self.targets: Counter[tuple[str, str]] = Counter()
        self.covered: set[Any] = set()
        self.faults: list[str] = []
        self.refusals: Counter[str] = Counter()

    def add(self, case: Case, outcome: Outcome) -> None:
        self.verdicts[case.format, outcome.verdict] += 1
        if outcome.verdict == "right":
            used = outcome.row or case.row
            self.targets[used["target"], used["runner"]] += 1
            self.covered |= pairs(used)
        elif not outcome.ok:
            self.faults.append(f"{case.format} {case.seed}: {outcome.verdict}: {outcome.why}")
        elif outcome.verdict == "refused":
            self.refusals[outcome.why.split(": ")[0]] += 1

    def show(self, seconds: float) -> None:
        for format_ in MAKERS:
            found = {v: n for (f, v), n in sorted(self.verdicts.items()) if f == format_}
            print(f"{format_:7} {sum(found.values()):5} models: {found}")
        for (target, runner), n in sorted(self.targets.items()):
            print(f"  right on {target:14} {runner:9} {n:5}")
        possible = possible_pairs()
        print(f"pairs of options with a right package: {len(self.covered & possible)} of "
              f"{len(possible)}")  # fmt: skip
        for pair in sorted(possible - self.covered, key=repr)[:12]:
            print(f"    not: {pair}")
        print(f"refused by: {dict(self.refusals)}; {seconds:.0f} s")
        for fault in self.faults:
            print(f"FAULT {fault}")


def logged(options: argparse.Namespace) -> dict[tuple[str, int], dict[str, Any]]:
    """Of every case that has been tried, what came last."""
    found = {}
    for path in sorted(Path(options.log).parent.glob(f"{Path(options.log).name}.*")):
        for line in path.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            found[entry["format"], entry["seed"]] = entry
    return found


def part(options: argparse.Namespace, number: int) -> None:
    """Every `jobs`-th case that is not right yet, until the time is over; into the log as they
    come."""
    known = logged(options)
    deadline = time.monotonic() + 60 * options.minutes
    with (
        tempfile.TemporaryDirectory() as folder,
        open(f"{options.log}.{number}", "a", encoding="utf-8") as log,
    ):
        for i, case in enumerate(cases(options.first, options.count)):
            before = known.get((case.format, case.seed))
            tried = before is not None and before["verdict"] not in ("wrong", "internal")
            if i % options.jobs != number or tried:
                continue
            if time.monotonic() > deadline:
                break
            start = time.monotonic()
            outcome = isolated(case, Path(folder))
            seconds = round(time.monotonic() - start, 2)
            entry = {**asdict(case), **asdict(outcome), "asked": case.row, "s": seconds}
            log.write(json.dumps(entry) + "\n")
            log.flush()
            if not outcome.ok:
                print(f"{case.format} {case.seed}: {outcome.verdict}: {outcome.why}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000, help="models of each format")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--minutes", type=float, default=1e6)
    parser.add_argument("--log", default="/tmp/midge-fuzz")
    options = parser.parse_args()
    start = time.monotonic()
    print(f"{len(covering_rows())} rows of {len(CHOICES)} options", flush=True)
    import multiprocessing

    with multiprocessing.get_context("fork").Pool(options.jobs) as pool:
        pool.starmap(part, [(options, i) for i in range(options.jobs)])
    tally, known = Tally(), logged(options)
    for case in cases(options.first, options.count):
        if (entry := known.get((case.format, case.seed))) is not None:
            outcome = Outcome(entry["verdict"], entry["why"], entry["row"])
            tally.add(case, outcome)
    tally.show(time.monotonic() - start)
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(main())
