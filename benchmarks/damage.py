"""Damages models of every format and what Midge keeps on disk: each case must compile, or be
refused by a MidgeError.

    python benchmarks/damage.py [--cases 500] [--jobs 2] [--log FILE] [FORMAT ...]
    python benchmarks/damage.py --show --log FILE       what a run, also a stopped one, has found
    python benchmarks/damage.py --case FORMAT:N         write that file and do it here

Half of the cases are damaged byte by byte; in the others what contains them is whole and one
thing in it has another value. Each is read, compiled and, where it is small, run in NumPy, in a
process with 20 s of CPU and 4 GiB of address space. Case N of a format is the same in every run.
Keras models are read by TensorFlow only: without it their cases count as unread.
Prints a table by format, kind and verdict; exits with 1 if anything is a fault.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

from damaging import trying  # noqa: E402
from damaging.cases import FORMATS, case  # noqa: E402
from damaging.kept import PLACES, Kept, kept_case  # noqa: E402
from damaging.sources import sources  # noqa: E402
from midge import driver  # noqa: E402

VERDICTS = ("refused", "accepted", "unread", "internal", "time", "memory", "killed", "wrong")
ALL = (*FORMATS, *PLACES)


def try_part(form: str, numbers: Sequence[int], seed: int, log: Path) -> None:
    """Cases of a format, one after the other; a line of the log for each."""
    driver.load_operators()
    if form == "keras":
        with contextlib.suppress(ImportError):
            importlib.import_module("tensorflow")
    _warm(form)
    with log.open("a") as out, tempfile.TemporaryDirectory() as folder:
        kept = Kept(Path(folder)) if form in PLACES else None
        for number in numbers:
            made = kept_case(form, number, seed) if kept else case(form, number, seed)
            work = kept.work(made) if kept else _work(made)
            space = trying.WIDE_SPACE if form in ("cache", "keras") else trying.SPACE
            found = trying.forked(work, space)
            line = {
                "form": form, "number": number, "kind": made.kind, "structured": made.structured,
                "source": made.source, "verdict": found.verdict, "stage": found.stage,
                "detail": found.detail, "seconds": round(found.seconds, 3),
            }  # fmt: skip
            out.write(json.dumps(line) + "\n")
            out.flush()


def _warm(form: str) -> None:
    """Read and compile whole files, so that the cases have everything imported and remembered."""
    for _, data in sources(form) if form not in (*PLACES, "keras") else ():
        found = trying.attempt(partial(trying.compiled, data, form))
        assert found.verdict == "accepted", found


def _work(made: Any) -> Any:
    return partial(trying.compiled, made.data, made.form)


def run(forms: Sequence[str], options: argparse.Namespace) -> None:
    """What the log does not have yet, or as a fault."""
    done = {
        (line["form"], line["number"])
        for line in _lines(options.log)
        if line["verdict"] in trying.GOOD
    }
    for form in forms:
        todo = [n for n in range(options.first, options.first + options.cases)
                if (form, n) not in done]  # fmt: skip
        workers = [
            multiprocessing.get_context("fork").Process(
                target=try_part, args=(form, todo[i :: options.jobs], options.seed, options.log)
            )
            for i in range(options.jobs)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if any(worker.exitcode for worker in workers):
            sys.exit(f"{form}: a worker has failed")


def _lines(log: Path) -> list[dict[str, Any]]:
    """The last line of each case."""
    lines = map(json.loads, log.read_text().splitlines() if log.is_file() else [])
    return [*{(line["form"], line["number"]): line for line in lines}.values()]


def show(log: Path) -> int:
    """The table of a log, and its faults; how many there are."""
    lines = _lines(log)
    used = [v for v in VERDICTS if any(x["verdict"] == v for x in lines)]
    print(f"{'format':10}{'kind':18}{'cases':>7}" + "".join(f"{v:>10}" for v in used))
    for form in [f for f in ALL if any(x["form"] == f for x in lines)]:
        own = [x for x in lines if x["form"] == form]
        for structured, kind in sorted({(x["structured"], x["kind"]) for x in own}):
            mine = [x for x in own if (x["structured"], x["kind"]) == (structured, kind)]
            _row(form, f"{' ' if structured else '*'} {kind}", mine, used)
        for half, structured in (("bytes", False), ("structure", True)):
            _row(form, half, [x for x in own if x["structured"] is structured], used)
        stages = sorted(Counter(x["stage"] for x in own).items())
        print(f"{form:10}the last stage begun: {', '.join(f'{s} {n}' for s, n in stages)}")
    _row("all", "", lines, used)
    seconds = [x["seconds"] for x in lines]
    print(f"*: byte by byte. {len(lines)} cases, {sum(seconds):.0f} s of CPU, "
          f"the slowest {max(seconds, default=0):.1f} s")  # fmt: skip
    faults = [x for x in lines if x["verdict"] not in trying.GOOD]
    for x in faults:
        print(f"{x['form']}:{x['number']} {x['kind']} of {x['source']}: {x['verdict']} "
              f"({x['stage']}) {x['detail']}")  # fmt: skip
    return len(faults)


def _row(form: str, kind: str, lines: Sequence[dict[str, Any]], used: Sequence[str]) -> None:
    counts = Counter(x["verdict"] for x in lines)
    print(f"{form:10}{kind:18}{len(lines):7}" + "".join(f"{counts[v]:10}" for v in used))


def one(name: str, seed: int) -> None:
    """Write a case and do it in this process."""
    form, _, number = name.partition(":")
    if form in PLACES:
        with tempfile.TemporaryDirectory() as folder:
            made = kept_case(form, int(number), seed)
            print(made)
            Kept(Path(folder)).work(made)(trying.Stage())
        return
    found = case(form, int(number), seed)
    path = Path(f"case-{form}-{number}.{form}")
    path.write_bytes(found.data)
    print(f"{path}: {found.kind} of {found.source}")
    trying.compiled(found.data, form, trying.Stage())
    print("compiled")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=", ".join(ALL))
    parser.add_argument("--cases", type=int, default=500, help="of each format")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--log", type=Path, help="a line a case; only faults are repeated")
    parser.add_argument("--show", action="store_true")
    parser.add_argument("--case", metavar="FORMAT:N")
    options = parser.parse_args()
    if options.case:
        one(options.case, options.seed)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        options.log = options.log or Path(folder) / "log"
        start = time.monotonic()
        if not options.show:
            run(options.formats or ALL, options)
            print(f"{time.monotonic() - start:.0f} s")
        return 1 if show(options.log) else 0


if __name__ == "__main__":
    sys.exit(main())
