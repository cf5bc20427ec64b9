"""Kernels side by side in one package, so that one build and one run measure them all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np

from midge.codegen.arrange import arrange
from midge.codegen.c import define, emit, instruction_name
from midge.codegen.package import Origin, make_package
from midge.core import cache
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.core.runner import OperatorRun
from midge.core.target import Target
from midge.core.types import Array, DType, TensorType
from midge.loop.instruction import Instruction
from midge.loop.program import BandCall, BandRows, Bands, Kernel, Operation, Program
from midge.run.emulator import EmulatorSession
from midge.runtime import header
from midge.toolchain import build_image, found_version

_NAME = "trial"


@dataclass(frozen=True, slots=True)
class Trial:
    """A kernel and the constants that its parameters stand for, by parameter."""

    kernel: Kernel
    consts: Mapping[str, Array]

    @property
    def constants(self) -> int:
        """Bytes."""
        return sum(a.nbytes for a in self.consts.values())


@dataclass(frozen=True, slots=True)
class Cost:
    """cycles: of one call (instructions where the target has no cycle model).  code: bytes of the
    kernel and of the instructions with a body that it uses, by name."""

    cycles: int
    code: Mapping[str, int]


def text_of(trial: Trial) -> str:
    """All the C of a trial but its constants."""
    kernel = trial.kernel
    bodies = [_defined(i) for i in _bodies(kernel).values()]
    return "\n".join([*bodies, emit(kernel.func, _NAME, kernel.instructions)])


_DEFINED: dict[tuple[str, str], str] = {}


def _defined(instruction: Instruction) -> str:
    """The C of an instruction with a body; its name and its note say what it is."""
    key = (instruction.name, instruction.note)
    if key not in _DEFINED:
        _DEFINED[key] = define(instruction, instruction_name(instruction))
    return _DEFINED[key]


def machine_of(target: Target, optimize: str) -> tuple[str, ...]:
    """What the cost of every trial depends on: target, compiler, goal and runtime."""
    runtime = [header(h) for h in ("midge_compiler.h", "midge_fixed.h", "midge_minmax.h")]
    features = " ".join(sorted(target.features))
    machine = f"{target.cpu} {features} {dict(target.emulator)} {found_version(target)} {optimize}"
    return (machine, *runtime)


def key_of(trial: Trial, machine: tuple[str, ...]) -> str:
    """What the cost depends on, as the key of a cache."""
    return cache.digest(("trial", *machine, text_of(trial)))


def _bodies(kernel: Kernel) -> dict[str, Instruction]:
    return {name: i for name, i in kernel.instructions.items() if i.asm}


def measure(trials: Sequence[Trial], target: Target, optimize: str) -> list[Cost]:
    """The cost of each trial, in the emulator."""
    package = pack(trials, target, optimize)
    image = build_image(package, optimize=optimize)
    session = EmulatorSession(package, image)
    rng = np.random.default_rng(0)
    inputs = {t.name: _random(t.type, rng) for t in package.inputs}
    runs = session.run(inputs).operators
    session.close()
    sizes = {name: symbol.size for name, symbol in image.symbols.items() if symbol.kind == "func"}
    return [_cost(i, t, run, sizes) for i, (t, run) in enumerate(zip(trials, runs, strict=True))]


def _cost(number: int, trial: Trial, run: OperatorRun, sizes: Mapping[str, int]) -> Cost:
    names = {f"{_NAME}_k{number}": "kernel"}
    names |= {instruction_name(i): name for name, i in _bodies(trial.kernel).items()}
    code = {own: sizes.get(symbol, 0) for symbol, own in names.items()}
    cycles = run.instructions if run.cycles is None else run.cycles
    assert cycles is not None, "the emulator counts"
    return Cost(cycles, code)


def pack(trials: Sequence[Trial], target: Target, optimize: str) -> Package:
    """A package that runs the trials one after the other. Inputs of all kernels share memory."""
    consts: dict[str, Array] = {}
    types: dict[str, TensorType] = {}
    shared: dict[DType, int] = {}
    operations, kernels = [], []
    images: list[str] = []
    for number, trial in enumerate(trials):
        name = f"k{number}"
        args, scratch = [], []
        rows: list[BandRows | None] = []
        for p in trial.kernel.func.params:
            value = f"{name}_{p.name}"
            rows.append(None)
            if p.mode == "const":
                consts[value] = trial.consts[p.name]
            elif p.rows:
                height = prod(p.shape[: p.rows])
                types[value] = TensorType((1, height, 1, prod(p.shape[p.rows :])), p.dtype)
                images.append(value)
                rows[-1] = BandRows(1, 0, height, pointers=True)
            elif p.mode == "in":
                value = f"in_{p.dtype.value}"
                shared[p.dtype] = max(shared.get(p.dtype, 1), p.elements)
            else:
                scratch += [value] if p.mode == "scratch" else []
                types[value] = TensorType((max(p.elements, 1),), p.dtype)
            args.append(value)
        kernels.append(replace(trial.kernel, func=replace(trial.kernel.func, name=name)))
        operation = Operation(
            name, name, tuple(args), args[-1], ("TRIAL",), "", 0, (), tuple(scratch)
        )
        operations.append(_by_rows(operation, rows))
    inputs = (*(f"in_{dtype.value}" for dtype in shared), *images)
    types |= {f"in_{d.value}": TensorType((n,), d) for d, n in shared.items()}
    program = Program(
        _NAME, inputs, (operations[-1].output,), types, consts, {}, tuple(kernels),
        tuple(operations),
    )  # fmt: skip
    options = CompileOptions(optimize=optimize)
    return make_package(program, arrange(program), target, options, Origin())


def _by_rows(op: Operation, rows: Sequence[BandRows | None]) -> Operation:
    """The operation with arrays of pointers where `rows` says so."""
    if not any(rows):
        return op
    call = BandCall(1, op.kernel, op.args, tuple(rows), (), op.scratch)
    return replace(op, bands=Bands((call,), ((0, 0, 1),)))


def _random(t: TensorType, rng: np.random.Generator) -> Array:
    if t.dtype.is_float:
        return rng.standard_normal(t.shape).astype(t.dtype.numpy)
    low, high = max(t.dtype.min, -1000), min(t.dtype.max, 1000)
    return rng.integers(low, high, t.shape, endpoint=True).astype(t.dtype.numpy)


def remembered(key: str) -> Cost | None:
    """A cost that was measured before; None if it was not, or cannot be read."""
    path = cache.cache_dir() / "trials" / key[:2] / key[2:] / "cost.json"
    try:
        found = json.loads(path.read_text())
        return Cost(int(found["cycles"]), {str(k): int(v) for k, v in found["code"].items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def remember(key: str, cost: Cost) -> None:
    def write(folder: Path) -> None:
        (folder / "cost.json").write_text(
            json.dumps({"cycles": cost.cycles, "code": dict(cost.code)})
        )

    cache.entry("trials", key, write)
