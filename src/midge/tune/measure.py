"""Trials side by side in one package: one build and one run measure them all, and compare what
each leaves with what the plain loops leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from midge.codegen.arrange import arrange
from midge.codegen.c import instruction_name
from midge.codegen.metadata import Origin
from midge.codegen.package import make_package
from midge.core.errors import RunError
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.core.runner import Run
from midge.core.target import Target
from midge.core.types import Array, DType, TensorType
from midge.loop import ir
from midge.loop.program import BandCall, BandRows, Bands, Kernel, Operation, Program
from midge.plan.buffers import Buffer, Plan
from midge.run import RUNNERS
from midge.run.emulator import EmulatorSession
from midge.toolchain import build_image
from midge.tune import constants
from midge.tune.trials import KERNEL, Cost, Match, Trial, Unfit, bodies_of

_NAME = "trial"
# Of the largest result of the plain loops, by how much a float may differ that is added up in
# another order. A product that is missing or read elsewhere differs by far more.
_FLOAT_ERROR = 2.0**-12

_BUDGET = 10_000_000
_HARD, _SOFT = 8, 256  # blocks of a turn; floats may be computed without an FPU

Outcome = Cost | Unfit


def measure(
    matches: Sequence[Match],
    target: Target,
    optimize: str,
    on: str = "emulator",
    thorough: bool = False,
) -> list[list[Outcome]]:
    """What each trial of each match costs, or why it cannot be taken. on: the runner; "host" runs
    the C that instructions mean, and finds no costs.  thorough: on more inputs.

    RunError or ToolchainError if not even the plain loops of a match build and run.
    """
    try:
        return _together(matches, target, optimize, on, thorough)
    except RunError as error:
        number = sum(len(m.trials) for m in matches)
        if number == 0:
            raise
        if number == 1:
            _together([Match((), m.plain) for m in matches], target, optimize, on, thorough)
            reason = f"{error.where}: {error.what}".splitlines()[0]
            return [[Unfit(reason)] * len(m.trials) for m in matches]
    return [
        [measure([Match((t,), m.plain)], target, optimize, on, thorough)[0][0] for t in m.trials]
        for m in matches
    ]


def _together(
    matches: Sequence[Match], target: Target, optimize: str, on: str, thorough: bool
) -> list[list[Outcome]]:
    bench = Bench(matches, thorough)
    package = bench.package(target, optimize)
    runs, costs, sizes = (_emulated if on == "emulator" else _on_host)(bench, package)
    found: list[list[Outcome]] = []
    for plain, *others in bench.lanes:
        found.append([])
        for lane in others:
            wrong = [_difference(r.outputs[plain.y], r.outputs[lane.y]) for r in runs]
            reason = next((w for w in wrong if w), "")
            cost = _cost(lane, costs[lane.number], sizes) if costs else Cost(0, {})
            found[-1].append(Unfit(reason) if reason else cost)
    return found


_Ran = tuple[list[Run], list[int], dict[str, int]]


def _emulated(bench: Bench, package: Package) -> _Ran:
    """Runs on all inputs, what each operator spent in the first, and the bytes of every function.

    What calls the operators is not theirs: it depends on who else is on the bench.
    """
    image = build_image(package)
    caller = image.symbols[f"{_NAME}_run"]
    around = range(caller.address, caller.address + caller.size)
    session = EmulatorSession(package, image, bench.budget)
    try:
        first, *others = bench.inputs()
        profile = session.profile(first)
        runs = [profile.run, *(session.run(given) for given in others)]
    finally:
        session.close()
    own = []
    for number, run in enumerate(profile.run.operators):
        spent = run.instructions if run.cycles is None else run.cycles
        assert spent is not None, "the emulator counts"
        own.append(spent - profile.spent_in(number, around) + _CALL)
    symbols = image.symbols.items()
    return runs, own, {name: symbol.size for name, symbol in symbols if symbol.kind == "func"}


def _on_host(bench: Bench, package: Package) -> _Ran:
    session = RUNNERS["host"].load(package)
    try:
        return [session.run(given) for given in bench.inputs()], [], {}
    finally:
        session.close()


def _difference(plain: Array, found: Array) -> str:
    """How a result differs from that of the plain loops; "" if it does not."""
    # Where elements lie apart, only some parameters count what follows the last one.
    size = min(plain.size, found.size)
    plain, found = plain[:size], found[:size]
    if not np.issubdtype(plain.dtype, np.floating):
        wrong = plain != found
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            a, b = plain.astype(np.float64), found.astype(np.float64)
            finite = np.abs(a[np.isfinite(a)])
            near = np.abs(a - b) <= _FLOAT_ERROR * finite.max(initial=0.0)
            wrong = ~(near | (a == b) | (np.isnan(a) & np.isnan(b)))
    if not wrong.any():
        return ""
    first = int(np.flatnonzero(wrong)[0])
    return (
        f"differs from its plain loops in {int(wrong.sum())} of {plain.size} elements, first in "
        f"[{first}]: {found[first]} for {plain[first]}"
    )


_CALL = 8  # at least what a call with its arguments takes
_GUARD = 16  # bytes, a multiple of every alignment


def _apart(buffers: Sequence[Buffer]) -> Plan:
    """Every buffer has bytes of its own, with some of nobody's before and behind."""
    offsets = {}
    end = _GUARD
    for b in buffers:
        offsets[b.name] = end
        end += -(-max(p.end for p in b.pieces) // _GUARD) * _GUARD + _GUARD
    return Plan(offsets, end, end, 0, False)


@dataclass(frozen=True, slots=True)
class Lane:
    """A trial on the bench: its position among all, and the value that it leaves."""

    trial: Trial
    number: int
    y: str


@dataclass(slots=True)
class Bench:
    """A program that runs the plain loops and the trials of each match one after the other, on the
    same inputs. Matches share the memory of their inputs; results lie apart from everything, so
    that what a trial must not touch is seen to be as before."""

    matches: Sequence[Match]
    thorough: bool = False
    lanes: list[list[Lane]] = field(default_factory=list)
    consts: dict[str, Array] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    shared: dict[str, TensorType] = field(default_factory=dict)  # input -> the largest of them
    kernels: list[Kernel] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not any(p.mode == "in" for m in self.matches for p in m.plain.kernel.func.params):
            self.shared["in_unread"] = TensorType((1,), DType.I8)  # a package has an input
        for number, match in enumerate(self.matches):
            order = _inputs_of(match.plain)
            plain = self.lane(match.plain, number, order)
            same = match.plain.kernel.func
            others = (
                plain if t.kernel.func == same and not t.consts else self.lane(t, number, order)
                for t in match.trials
            )
            self.lanes.append([plain, *others])

    def lane(self, trial: Trial, match: int, order: Mapping[str, int]) -> Lane:
        number = len(self.operations)
        name = f"k{number}"
        args, scratch = [], []
        rows: list[BandRows | None] = []
        for p, value in zip(trial.kernel.func.params, trial.args, strict=True):
            own = f"{name}_{p.name}"
            rows.append(None)
            if p.mode == "const":
                self.consts[own] = trial.consts[p.name]
                self.types[own] = TensorType((max(p.elements, 1),), p.dtype)
            elif p.rows:
                own = f"image{order[value]}_{match}_{p.dtype.value}"
                height = prod(p.shape[: p.rows])
                shape = (1, height, 1, prod(p.shape[p.rows :]))
                self.shared[own] = TensorType(shape, p.dtype)
                rows[-1] = BandRows(1, 0, height, pointers=True)
            elif p.mode == "in":
                own = f"in{order[value]}_{p.dtype.value}"
                known = self.shared.get(own)
                most = max(known.elements if known else 1, p.elements)
                self.shared[own] = TensorType((most,), p.dtype)
            else:
                scratch += [own] if p.mode == "scratch" else []
                self.types[own] = TensorType((max(p.elements, 1),), p.dtype)
            args.append(own)
        self.kernels.append(replace(trial.kernel, func=replace(trial.kernel.func, name=name)))
        operation = Operation(
            name, name, tuple(args), args[-1], ("TRIAL",), "", 0, (), tuple(scratch)
        )
        self.operations.append(_by_rows(operation, rows))
        return Lane(trial, number, args[-1])

    def package(self, target: Target, optimize: str) -> Package:
        outputs = tuple(op.output for op in self.operations)
        program = Program(
            _NAME, tuple(self.shared), outputs, {**self.types, **self.shared}, self.consts, {},
            tuple(self.kernels), tuple(self.operations),
        )  # fmt: skip
        arena = arrange(program, _apart)
        options = CompileOptions(optimize=optimize)
        return make_package(program, arena, target, options, Origin(), constants=constants.files)

    @property
    def budget(self) -> int:
        """Basic blocks after which a run is endless: no trial takes more than a few times the
        turns of the loops of all."""
        params = [p for kernel in self.kernels for p in kernel.func.params]
        most = _SOFT if any(p.dtype.is_float for p in params) else _HARD
        return _BUDGET + most * sum(_turns(kernel.func.body) for kernel in self.kernels)

    def inputs(self) -> list[dict[str, Array]]:
        """Random ones of each type, then such of its ends only; if `thorough`, all least and all
        greatest besides."""
        kinds = (_random, _ends, _least, _greatest)[: 4 if self.thorough else 2]
        return [{n: make(t, _rng(n, t)) for n, t in self.shared.items()} for make in kinds]


def _rng(name: str, t: TensorType) -> np.random.Generator:
    """Of an input: the first elements are the same whatever else is on the bench."""
    order = name.partition("_")[0]  # of the parameter that reads it
    return np.random.default_rng(list(f"{order} {t.dtype.value}".encode()))


def _turns(block: ir.Block) -> int:
    """Of all loops together."""
    loops = (s for s in block if isinstance(s, ir.Loop))
    guards = (s for s in block if isinstance(s, ir.Guard))
    return sum(loop.extent * (1 + _turns(loop.body)) for loop in loops) + sum(
        _turns(guard.body) + _turns(guard.other) for guard in guards
    )


def _inputs_of(plain: Trial) -> dict[str, int]:
    """The values that come in, numbered."""
    modes = zip(plain.kernel.func.params, plain.args, strict=True)
    return {value: i for i, value in enumerate(v for p, v in modes if p.mode == "in")}


def _by_rows(op: Operation, rows: Sequence[BandRows | None]) -> Operation:
    """The operation with arrays of pointers where `rows` says so."""
    if not any(rows):
        return op
    call = BandCall(1, op.kernel, op.args, tuple(rows), (), op.scratch)
    return replace(op, bands=Bands((call,), ((0, 0, 1),)))


_SUMS = 1000  # sums and indices: small enough for whatever is made of them


def _range(dtype: DType) -> tuple[int, int]:
    if dtype.size <= 2:
        return dtype.min, dtype.max
    return max(dtype.min, -_SUMS), min(dtype.max, _SUMS)


def _random(t: TensorType, rng: np.random.Generator) -> Array:
    if t.dtype.is_float:
        return rng.standard_normal(t.shape).astype(t.dtype.numpy)
    if t.dtype is DType.BOOL:
        return rng.integers(0, 2, t.shape).astype(np.bool_)
    low, high = _range(t.dtype)
    return rng.integers(low, high, t.shape, endpoint=True).astype(t.dtype.numpy)


def _ends(t: TensorType, rng: np.random.Generator) -> Array:
    """Each element the least or the greatest; of floats, some zeros and some of other sizes."""
    if t.dtype.is_float:
        return (rng.choice([-8.0, -1.0, 0.0, 2.0**-20, 1.0, 8.0], t.shape)).astype(t.dtype.numpy)
    if t.dtype is DType.BOOL:
        return _random(t, rng)
    return rng.choice(np.array(_range(t.dtype)), t.shape).astype(t.dtype.numpy)


def _least(t: TensorType, rng: np.random.Generator) -> Array:
    low = -8.0 if t.dtype.is_float else 0 if t.dtype is DType.BOOL else _range(t.dtype)[0]
    return np.full(t.shape, low, t.dtype.numpy)


def _greatest(t: TensorType, rng: np.random.Generator) -> Array:
    high = 8.0 if t.dtype.is_float else 1 if t.dtype is DType.BOOL else _range(t.dtype)[1]
    return np.full(t.shape, high, t.dtype.numpy)


def _cost(lane: Lane, cycles: int, sizes: Mapping[str, int]) -> Cost:
    names = {f"{_NAME}_k{lane.number}": KERNEL}
    names |= {instruction_name(i): name for name, i in bodies_of(lane.trial.kernel).items()}
    code = {own: sizes.get(symbol, 0) for symbol, own in names.items()}
    return Cost(cycles, code)
