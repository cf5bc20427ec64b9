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
Each mutant lives in a fork of a process that has imported everything and run nothing, on the tests
that run its line, the deadliest, its file's own, the fastest, the broadest and then the others,
until one fails.
One that survives is listed in mutants.json; `argued` there says why it may.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from coverage import Coverage

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "midge"
RESULTS = ROOT / "benchmarks" / "mutants.json"
TRACE = ROOT / ".cache" / "mutants-trace.json"
FILES = (
    *sorted((SOURCE / "kernels").rglob("*.py")), SOURCE / "lower" / "fuse.py",
    *sorted((SOURCE / "passes").glob("*.py")),
)  # fmt: skip
SECONDS, TIMES = 20.0, 4.0  # how long a mutant may live: so long, and so often what its tests take
MOST, LONGEST = 100, 60.0  # tests of a mutant, and how many seconds they may take together
JOBS = 2
BASE = Path(tempfile.gettempdir()) / "midge-mutants"
TODO, FOUND = BASE / "todo.json", BASE / "found.json"
PYTEST = ("-q", "-p", "no:cacheprovider")
DEADLY = 5  # tests in which most of a file's mutants died, tried first
FAST = 5.0  # seconds of the fastest tests, tried next
# Then those that see most for their time: what may break -> tests of nothing else.
BROAD = {
    "kernels/": ("tests/kernels/test_offers.py::test_candidates",),
    "passes/": (
        "tests/unit/passes/test_near_misses.py", "tests/unit/passes/test_random_graphs.py",
    ),
}  # fmt: skip
# Tests that judge: those of kernels, passes and whole small networks.
JUDGES = (
    "kernels/test_*.py", "unit/passes/test_*.py", "unit/lower/test_*.py", "test_passes.py",
    "test_fuse.py", "test_move_transposes.py", "test_concats.py", "test_cascades.py",
    "test_inplace.py", "test_small_models.py", "test_onnx_quantized.py", "test_quantizer.py",
    "test_quantize_rules.py", "test_trees*.py", "test_frontend_onnx.py", "test_package_c.py",
    "test_real_networks.py", "test_islands.py", "ops/test_*.py",
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


def mutants_of(path: Path) -> list[Mutant]:
    """All mutants of a file."""
    file = str(path.relative_to(SOURCE))
    return [
        Mutant(
            file, place.lineno, place.end_lineno or place.lineno, number, ast.unparse(place),
            ast.unparse(after),
        )
        for number, (place, after) in enumerate(_breaks(ast.parse(path.read_text()), path))
    ]  # fmt: skip


def broken_module(mutant: Mutant) -> ast.Module:
    """The module of a mutant's file as it is with it."""
    path = SOURCE / mutant.file
    tree = ast.parse(path.read_text())
    place, after = list(_breaks(tree, path))[mutant.number]
    _Replace(place, after).visit(tree)
    return ast.fix_missing_locations(tree)


def _breaks(tree: ast.Module, path: Path) -> Iterator[tuple[ast.expr, ast.expr]]:
    """Preconditions, and what may stand in their place."""
    for place, refuses in _preconditions(tree, path):
        yield from ((place, after) for after in _broken(place, refuses))


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
    """A pytest plugin: lines of the files that each test runs, and how long it takes. Only tests
    that pass judge."""

    def __init__(self) -> None:
        self.lines = Coverage(data_file=None, include=[*map(str, FILES)], config_file=False)
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.lines.start()
        self.lines.switch_context(item.nodeid)
        start = time.monotonic()
        yield
        self.seconds[item.nodeid] = round(time.monotonic() - start, 3)
        self.lines.stop()

    def found(self) -> dict[str, Any]:
        """Test -> seconds, and file -> lines."""
        data = self.lines.get_data()
        lines: dict[str, defaultdict[str, list[int]]] = {
            test: defaultdict(list) for test in self.seconds if test not in self.failed
        }
        for path in data.measured_files():
            name = str(Path(path).relative_to(SOURCE))
            for line, tests in data.contexts_by_lineno(path).items():
                for test in lines.keys() & tests:
                    lines[test][name].append(line)
        return {t: {"seconds": self.seconds[t], "lines": own} for t, own in lines.items()}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.failed.add(report.nodeid)


def trace(tests: Sequence[str]) -> None:
    """Run the tests in two processes, and write what they found beside what is known of others."""
    files = _files(tests)
    TRACE.parent.mkdir(exist_ok=True)
    parts = [files[i::JOBS] for i in range(min(JOBS, len(files)))]
    _together("_trace", parts)
    traced = {str(Path(file).relative_to(ROOT)) for file in files}
    known = json.loads(TRACE.read_text()) if TRACE.is_file() else {}
    merged = {t: own for t, own in known.items() if t.partition("::")[0] not in traced}
    for i in range(len(parts)):
        merged |= json.loads(_part(TRACE, i).read_text())
    TRACE.write_text(json.dumps(merged))
    print(f"{len(merged)} tests, {sum('lines' in t and bool(t['lines']) for t in merged.values())} "
          "of them run lines of these files")  # fmt: skip


def _files(tests: Sequence[str]) -> list[str]:
    return [str(p) for t in tests for p in sorted((ROOT / "tests").glob(t))]


def _base(name: str) -> Path:
    """A folder for what tests leave; those in one share a cache of builds."""
    folder = BASE / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _part(path: Path, i: int) -> Path:
    return path.with_suffix(f".{i}.json")


def _trace_part(i: int, files: Sequence[str]) -> None:
    tracer = Tracer()
    pytest.main([*PYTEST, f"--basetemp={_base(f'trace{i}') / 'x'}", *files], plugins=[tracer])
    _part(TRACE, i).write_text(json.dumps(tracer.found()))


def _together(verb: str, words: Sequence[Sequence[str]]) -> None:
    """This script with `verb`, once for each of `words`, at the same time."""
    environment = {**os.environ, "PYTEST_XDIST_WORKER": "gw0", "PYTHONHASHSEED": "0"}

    def child(i: int) -> None:
        with open(BASE / f"{verb}{i}.log", "w", encoding="utf-8") as log:
            subprocess.run(
                [sys.executable, __file__, verb, str(i), *words[i]], cwd=ROOT, env=environment,
                stdout=log, stderr=log, check=True,
            )  # fmt: skip

    BASE.mkdir(exist_ok=True)
    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(child, range(len(words))))


# Breaking.


class Breaker:
    """A pytest plugin: in the place of running the tests, it breaks the code in forks of this
    process, one after the other, and runs there the tests that run the broken line."""

    def __init__(
        self, todo: Sequence[Mutant], known: Mapping[str, Any], log: Path, longest: float
    ) -> None:
        self.todo, self.known, self.log, self.longest = todo, known, log, longest
        self.kills: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.functions: Functions = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        for path in FILES:
            importlib.import_module(".".join(path.relative_to(SOURCE.parent).with_suffix("").parts))
        for module in {item.module for item in session.items}:
            getattr(module, "before_breaking", lambda: None)()
        items = {item.nodeid: item for item in session.items}
        self.known = {test: own for test, own in self.known.items() if test in items}
        # Looked for once: a child that walks through all objects has to copy them.
        gc.unfreeze()  # the tests' own freezing hides functions
        self.functions = functions_by_code()
        gc.freeze()
        code, by = self.lived([items[t] for t in quickest(self.known, 20)], None, 300)
        if code:
            raise pytest.UsageError(f"{by} fails before anything is broken")
        with self.log.open("w", encoding="utf-8") as log:
            for mutant in self.todo:
                log.write(json.dumps([mutant.name, self.outcome(mutant, items)]) + "\n")
                log.flush()
        return True

    def outcome(self, mutant: Mutant, items: Mapping[str, pytest.Item]) -> dict[str, Any]:
        tests = self.judges(mutant)
        if not tests:
            return {"state": "lived", "by": "no test runs it"}
        seconds = SECONDS + TIMES * sum(self.known[t]["seconds"] for t in tests)
        code, by = self.lived([items[t] for t in tests], mutant, seconds)
        match code:
            case 0:
                return {"state": "lived", "tests": len(tests)}
            case _Exit.OUTSIDE:
                return {"state": "lived", "by": "not in a function"}
            case _:
                self.kills[mutant.file][by] += 1
                return {"state": "died", "by": by}

    def judges(self, mutant: Mutant) -> list[str]:
        """The tests that run the mutant's lines: those in which others of its file died, then those
        that are called like it, the fastest, broad ones, and the others."""
        lines = range(mutant.line, mutant.stop + 1)
        able = {
            test: own
            for test, own in self.known.items()
            if any(line in lines for line in own["lines"].get(mutant.file, ()))
        }
        first = [t for t, _ in self.kills[mutant.file].most_common(DEADLY) if t in able]
        called = f"/test_{Path(mutant.file).stem}.py::"
        own = {test: able[test] for test in able if called in test}
        for group in (quickest(own, self.longest), quickest(able, FAST)):
            first += [t for t in group if t not in first]
        for part, tests in BROAD.items():
            broad = {test for test in able if test.startswith(tests)}
            first += sorted(broad - {*first}) if mutant.file.startswith(part) else []
            able = {test: own for test, own in able.items() if test not in broad}
        others = {test: own for test, own in able.items() if test not in first}
        return [*first, *quickest(others, self.longest)]

    def lived(
        self, items: Sequence[pytest.Item], mutant: Mutant | None, seconds: float
    ) -> tuple[int, str]:
        """0, or how it ended; and the test that it ended in."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            os.setsid()
            _live(items, mutant, self.functions, writing)
        os.close(writing)
        code = _waited(child, seconds)
        with os.fdopen(reading, "rb") as pipe:
            tests = pipe.read().decode().split("\n")
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        return code, tests[-1] + (" (endless)" if code == _Exit.ENDLESS else "")


class _Exit:
    FAILED, OUTSIDE, ENDLESS = 1, 3, 4


def _waited(child: int, seconds: float) -> int:
    stop = time.monotonic() + seconds
    pause = 0.005
    while time.monotonic() < stop:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) and (
                os.waitstatus_to_exitcode(status) % 256 or 1
            )
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return _Exit.ENDLESS


Functions = Mapping[CodeType, Sequence[FunctionType]]


def functions_by_code() -> Functions:
    """All functions of the files."""
    files = {*map(str, FILES)}
    found: defaultdict[CodeType, list[FunctionType]] = defaultdict(list)
    for function in gc.get_objects():
        if isinstance(function, FunctionType) and function.__code__.co_filename in files:
            found[function.__code__].append(function)
    return found


def _live(
    items: Sequence[pytest.Item], mutant: Mutant | None, functions: Functions, pipe: int
) -> None:
    """Never returns: ends with 0 if all the tests pass."""
    code = _Exit.FAILED
    try:
        if mutant is not None and not break_code(mutant, functions):
            os._exit(_Exit.OUTSIDE)
        for item, following in zip(items, [*items[1:], None], strict=True):
            os.write(pipe, f"\n{item.nodeid}".encode())
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if item.session.testsfailed:
                os._exit(_Exit.FAILED)
        code = 0
    finally:
        os._exit(code)


def quickest(tests: Mapping[str, Any], longest: float) -> list[str]:
    """MOST of them, and no more than `longest` seconds together but for the first."""
    found, total = [], 0.0
    for seconds, test in sorted((own["seconds"], test) for test, own in tests.items())[:MOST]:
        total += seconds
        if found and total > longest:
            break
        found.append(test)
    return found


def break_code(mutant: Mutant, functions: Functions) -> bool:
    """Give the functions of the mutant's file its code. False if it is in none."""
    path = SOURCE / mutant.file
    old = compile(ast.parse(path.read_text()), str(path), "exec")
    found = False
    for before, after in _pairs(old, compile(broken_module(mutant), str(path), "exec")):
        for function in functions.get(before, ()) if before != after else ():
            function.__code__ = after
            found = True
    return found


def _pairs(old: CodeType, new: CodeType) -> Iterator[tuple[CodeType, CodeType]]:
    """Functions and classes of the same place in both, as far as both have them."""
    yield old, new
    places: defaultdict[tuple[str, int], list[list[CodeType]]] = defaultdict(lambda: [[], []])
    for which, code in enumerate((old, new)):
        for const in code.co_consts:
            if isinstance(const, CodeType):
                places[const.co_name, const.co_firstlineno][which].append(const)
    for one, other in places.values():
        if len(one) == len(other):
            for a, b in zip(one, other, strict=True):
                yield from _pairs(a, b)


def run(only: str, longest: float) -> None:
    """Break one after the other, those first that were not tried yet; what died once is not tried
    again."""
    results = _results()
    states = {name: m["state"] for name, m in results["mutants"].items()}
    wanted = [m.name for m in every() if only in m.file and states.get(m.name) != "died"]
    todo = sorted(wanted, key=lambda name: name in states)
    BASE.mkdir(exist_ok=True)
    for i in range(JOBS):
        _part(TODO, i).write_text(json.dumps(todo[i::JOBS]))
    _together("_run", [[str(longest)]] * JOBS)
    keep(results)


def _results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
    return {"mutants": {}} | found


def every() -> list[Mutant]:
    return [mutant for path in FILES for mutant in mutants_of(path)]


def _run_part(i: int, longest: float) -> None:
    mutants = {m.name: m for m in every()}
    todo = [mutants[name] for name in json.loads(_part(TODO, i).read_text())]
    if not todo:
        _part(FOUND, i).write_text("")
        return
    broken = {m.file for m in todo}
    traced = json.loads(TRACE.read_text())
    known = {test: own for test, own in traced.items() if broken & own["lines"].keys()}
    files = sorted({test.partition("::")[0] for test in known})
    breaker = Breaker(todo, known, _part(FOUND, i), longest)
    base = _base("runs") / str(i)
    code = pytest.main([*PYTEST, f"--basetemp={base}", *files], plugins=[breaker])
    if code not in (0, 5):
        sys.exit(int(code))


def keep(results: dict[str, Any]) -> None:
    """What was found, among the results; what is no mutant any more goes."""
    old = results["mutants"]
    for i in range(JOBS):
        for line in _part(FOUND, i).read_text().splitlines():
            name, outcome = json.loads(line)
            argued = old.get(name, {}).get("argued")
            old[name] = {**outcome, **({"argued": argued} if argued else {})}
    results["mutants"] = {m.name: old[m.name] for m in every() if m.name in old}
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    summary(results)


def summary(results: dict[str, Any]) -> None:
    own = results["mutants"].values()
    lived = [m for m in own if m["state"] == "lived"]
    argued = sum("argued" in m for m in lived)
    print(f"{len(own)} mutants, {len(own) - len(lived)} died, {len(lived)} lived, {argued} argued")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("verb", choices=["count", "trace", "run", "keep", "show", "_trace", "_run"])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--only", default="", help="files whose name has this in it")
    parser.add_argument("--longest", type=float, default=LONGEST, help="seconds of tests of each")
    args = parser.parse_args()
    match args.verb:
        case "count":
            for path in FILES:
                print(f"{len(mutants_of(path)):5} {path.relative_to(SOURCE)}")
        case "trace":
            trace(args.words or JUDGES)
        case "run":
            run(args.only, args.longest)
        case "keep":
            keep(_results())
        case "show":
            for name, m in _results()["mutants"].items():
                if m["state"] == "lived" and args.only in name:
                    print(name, "|", m.get("argued", m.get("by", "")))
            summary(_results())
        case "_trace":
            _trace_part(int(args.words[0]), args.words[1:])
        case "_run":
            _run_part(int(args.words[0]), float(args.words[1]))


if __name__ == "__main__":
    main()
