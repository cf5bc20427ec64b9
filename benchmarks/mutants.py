"""Breaks the preconditions of kernels, fusion and passes one by one, and counts which breaks fail a
test.

    python benchmarks/mutants.py count                what there is to break
    python benchmarks/mutants.py trace                which test runs which line (once)
    python benchmarks/mutants.py run [--only TEXT]    break, test, write benchmarks/mutants.json
    python benchmarks/mutants.py show                 the survivors

A precondition is what keeps a rule from being applied: the test of an `if` that only leaves
(`return`, `continue`, `raise`), a condition with a name, what a function `-> bool` returns, what a
comprehension filters by; in passes and fusion the test of every `if`. It is broken by leaving out a
part of it, by < for <= and the other way round, by constants that are one more or twice as large.
Each mutant runs in a process of its own, on the tests that run its line, the fastest first, until
one fails. One that survives is listed in mutants.json; `argued` there says why it may.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "midge"
RESULTS = ROOT / "benchmarks" / "mutants.json"
TRACE = ROOT / ".cache" / "mutants-trace.json"
FILES = (
    *sorted((SOURCE / "kernels").rglob("*.py")), SOURCE / "lower" / "fuse.py",
    *sorted((SOURCE / "passes").glob("*.py")),
)  # fmt: skip
SECONDS = 100.0  # that a mutant may live
MOST = 60  # tests of a mutant
JOBS = 2
BASE = Path(tempfile.gettempdir()) / "midge-mutants"
PYTEST = ("-q", "-p", "no:cacheprovider")
# Tests that judge: those of kernels, passes and whole small networks.
JUDGES = (
    "kernels/test_*.py", "unit/passes/test_*.py", "unit/lower/test_*.py", "test_passes.py",
    "test_fuse.py", "test_move_transposes.py", "test_concats.py", "test_cascades.py",
    "test_inplace.py", "test_random_graphs.py", "test_onnx_quantized.py", "test_quantizer.py",
    "test_quantize_rules.py", "test_trees*.py", "test_frontend_onnx.py", "test_package_c.py",
    "test_real_networks.py",
)  # fmt: skip

_STRICT = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


@dataclass(frozen=True)
class Mutant:
    """`before` in lines `line` to `stop` of `file` becomes `after`; number: among the file's."""

    file: str
    line: int
    stop: int
    number: int
    before: str
    after: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}: {self.before} -> {self.after}"


def mutants_of(path: Path) -> list[tuple[Mutant, ast.Module]]:
    """All mutants of a file, each with the module as it is then."""
    tree = ast.parse(path.read_text())
    found = []
    for place, refuses in _preconditions(tree, path):
        for after in _broken(place, refuses):
            changed = copy.deepcopy(tree)
            target = _same(tree, changed, place)
            _Replace(target, copy.deepcopy(after)).visit(changed)
            ast.fix_missing_locations(changed)
            file = str(path.relative_to(SOURCE))
            texts = (ast.unparse(place), ast.unparse(after))
            stop = place.end_lineno or place.lineno
            found.append((Mutant(file, place.lineno, stop, len(found), *texts), changed))
    return found


def _preconditions(tree: ast.Module, path: Path) -> Iterator[tuple[ast.expr, bool]]:
    """Conditions, and whether something is refused where they hold."""
    every = "kernels" not in path.parts
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and _is_bool(function.returns):
            for node in ast.walk(function):
                if isinstance(node, ast.Return) and isinstance(
                    node.value, ast.BoolOp | ast.Compare
                ):
                    yield node.value, False
    for node in ast.walk(tree):
        match node:
            case ast.If(test, [ast.Return() | ast.Continue() | ast.Raise() | ast.Break()], []):
                yield test, True
            case ast.If(test) if every:
                yield test, False
            case ast.Assign(_, (ast.BoolOp() | ast.Compare()) as value):
                yield value, False
            case ast.comprehension(_, _, conditions):
                yield from ((c, False) for c in conditions)


def _is_bool(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Name) and annotation.id == "bool"


def _broken(place: ast.expr, refuses: bool) -> Iterator[ast.expr]:
    """What may stand in the place of a condition."""
    if not isinstance(place, ast.BoolOp):
        yield ast.Constant(not refuses)
    for node in ast.walk(place):
        if isinstance(node, ast.BoolOp):
            for i in range(len(node.values)):
                rest = [v for j, v in enumerate(node.values) if j != i]
                less = rest[0] if len(rest) == 1 else ast.BoolOp(node.op, rest)
                yield _with(place, node, less)
        elif isinstance(node, ast.Compare):
            yield from _compared(place, node)


def _compared(place: ast.expr, node: ast.Compare) -> Iterator[ast.expr]:
    for i, op in enumerate(node.ops):
        if type(op) in _STRICT:
            ops = [*node.ops[:i], _STRICT[type(op)](), *node.ops[i + 1 :]]
            yield _with(place, node, ast.Compare(node.left, ops, node.comparators))
    for part in (node.left, *node.comparators):
        for c in ast.walk(part):
            if isinstance(c, ast.Constant) and type(c.value) is int:
                yield _with(place, c, ast.Constant(c.value + 1))
                if c.value not in (0, 1):
                    yield _with(place, c, ast.Constant(2 * c.value))


def _with(place: ast.expr, old: ast.AST, after: ast.expr) -> ast.expr:
    if old is place:
        return after
    changed = copy.deepcopy(place)
    result: ast.expr = _Replace(_same(place, changed, old), after).visit(changed)
    return result


def _same(tree: ast.AST, other: ast.AST, node: ast.AST) -> ast.AST:
    """The node of `other`, a copy of `tree`, that is where `node` is."""
    pairs = zip(ast.walk(tree), ast.walk(other), strict=True)
    return next(b for a, b in pairs if a is node)


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


# Which test runs which line.


class Tracer:
    """A pytest plugin: lines of the files that each test runs, and how long it takes."""

    def __init__(self) -> None:
        self.files = {str(path): str(path.relative_to(SOURCE)) for path in FILES}
        self.found: dict[str, dict[str, Any]] = {}

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        lines: dict[str, set[int]] = {}

        def local(frame: FrameType, event: str, arg: object) -> Any:
            if event == "line":
                lines[self.files[frame.f_code.co_filename]].add(frame.f_lineno)
            return local

        def entered(frame: FrameType, event: str, arg: object) -> Any:
            name = frame.f_code.co_filename
            if name not in self.files:
                return None
            lines.setdefault(self.files[name], set()).add(frame.f_lineno)
            return local

        start = time.process_time()
        sys.settrace(entered)
        yield
        sys.settrace(None)
        seconds = time.process_time() - start
        own = {name: sorted(found) for name, found in lines.items()}
        self.found[item.nodeid] = {"seconds": round(seconds, 3), "lines": own}


def trace(tests: Sequence[str]) -> None:
    """Run the tests in two processes, and write what they found."""
    files = [str(p) for t in tests for p in sorted((ROOT / "tests").glob(t))]
    parts = [files[i::JOBS] for i in range(JOBS)]
    TRACE.parent.mkdir(exist_ok=True)
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(lambda i: _child("_trace", str(i), *parts[i]), range(JOBS)))
    merged: dict[str, Any] = {}
    for i in range(JOBS):
        merged |= json.loads(_part(i).read_text())
    TRACE.write_text(json.dumps(merged))
    print(f"{len(merged)} tests")


def _base(name: str) -> Path:
    """A folder for what tests leave; those in one share a cache of builds."""
    folder = BASE / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _part(i: int) -> Path:
    return TRACE.with_suffix(f".{i}.json")


def _trace_part(i: int, files: Sequence[str]) -> None:
    tracer = Tracer()
    pytest.main([*PYTEST, f"--basetemp={_base(f'trace{i}') / 'x'}", *files], plugins=[tracer])
    _part(i).write_text(json.dumps(tracer.found))


def _child(*words: str, seconds: float | None = None) -> int:
    """This script in a process of its own, which can be ended with all that it started."""
    environment = {**os.environ, "PYTEST_XDIST_WORKER": "gw0", "PYTHONHASHSEED": "0"}
    process = subprocess.Popen(
        [sys.executable, __file__, *words], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return -1
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


# Breaking.


def judges(mutant: Mutant, lines: range, known: dict[str, Any]) -> list[str]:
    """The tests that run the mutant's lines, the fastest first."""
    able = [
        (own["seconds"], test)
        for test, own in known.items()
        if any(line in lines for line in own["lines"].get(mutant.file, ()))
    ]
    return [test for _, test in sorted(able)[:MOST]]


def _die(file: str, number: int, tests: Sequence[str]) -> int:
    """0 if the tests pass with this mutant in the place of what it mutates."""
    path = SOURCE / file
    code = compile(mutants_of(path)[number][1], str(path), "exec")
    usual = SourceFileLoader.get_code

    def get_code(self: SourceFileLoader, name: str) -> Any:
        return code if self.path == str(path) else usual(self, name)

    SourceFileLoader.get_code = get_code  # type: ignore[method-assign]
    base = _base("runs") / str(os.getpid())
    try:
        return int(pytest.main([*PYTEST, "-x", f"--basetemp={base}", *tests]))
    finally:
        shutil.rmtree(base, ignore_errors=True)


def run(only: str, seconds: float) -> None:
    """Break one after the other; what is known of a mutant whose file is as it was is kept."""
    known = json.loads(TRACE.read_text())
    results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {"mutants": {}}
    old = results["mutants"]
    todo = []
    for path in FILES:
        for mutant, _ in mutants_of(path):
            if only in mutant.file and old.get(mutant.name, {}).get("state") in (None, "lived"):
                todo.append(mutant)
    stop = time.monotonic() + seconds

    def one(mutant: Mutant) -> tuple[Mutant, dict[str, Any]] | None:
        if time.monotonic() > stop:
            return None
        tests = judges(mutant, range(mutant.line, mutant.stop + 1), known)
        if not tests:
            return mutant, {"state": "lived", "by": "no test runs it"}
        code = _child("_die", mutant.file, str(mutant.number), *tests, seconds=SECONDS)
        return mutant, {"state": "lived" if code == 0 else "died", "tests": len(tests)}

    with ThreadPoolExecutor(JOBS) as pool:
        for done in pool.map(one, todo):
            if done is None:
                continue
            mutant, outcome = done
            argued = old.get(mutant.name, {}).get("argued")
            old[mutant.name] = {**outcome, **({"argued": argued} if argued else {})}
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    summary(results)


def summary(results: dict[str, Any]) -> None:
    own = results["mutants"].values()
    lived = [m for m in own if m["state"] == "lived"]
    argued = sum("argued" in m for m in lived)
    print(f"{len(own)} mutants, {len(own) - len(lived)} died, {len(lived)} lived, {argued} argued")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("verb", choices=["count", "trace", "run", "show", "_trace", "_die"])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--only", default="", help="files whose name has this in it")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after that")
    args = parser.parse_args()
    match args.verb:
        case "count":
            for path in FILES:
                print(f"{len(mutants_of(path)):5} {path.relative_to(SOURCE)}")
        case "trace":
            trace(args.words or JUDGES)
        case "run":
            run(args.only, args.seconds)
        case "show":
            for name, m in json.loads(RESULTS.read_text())["mutants"].items():
                if m["state"] == "lived" and args.only in name:
                    print(name, "|", m.get("argued", m.get("by", "")))
            summary(json.loads(RESULTS.read_text()))
        case "_trace":
            _trace_part(int(args.words[0]), args.words[1:])
        case "_die":
            file, number, *tests = args.words
            sys.exit(_die(file, int(number), tests))


if __name__ == "__main__":
    main()
