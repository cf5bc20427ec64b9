"""Kernels that are tried: what they are, what they cost, and what is remembered of that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from midge.codegen.c import define, emit, instruction_name
from midge.core import cache
from midge.core.sources import digest_of
from midge.core.target import Target
from midge.core.types import Array
from midge.loop.instruction import Instruction
from midge.loop.program import Kernel
from midge.runtime import headers
from midge.toolchain import found_build

_NAME = "trial"
KERNEL = "kernel"  # of a cost's code: what is not an instruction with a body
_AGREES = b"agrees"
_BY_DATA = "branches by data"
_MEASURING = ("midge.codegen", "midge.run", "midge.toolchain", "midge.tune")


@dataclass(frozen=True, slots=True)
class Trial:
    """A kernel, the value that each of its parameters stands for ("" for scratch memory), and the
    constants among them, by parameter."""

    kernel: Kernel
    consts: Mapping[str, Array]
    args: tuple[str, ...]

    @property
    def constants(self) -> int:
        """Bytes."""
        return sum(a.nbytes for a in self.consts.values())


@dataclass(frozen=True, slots=True)
class Match:
    """Ways to compute the same, and the loops as they are written, which all have to agree with.

    calls: how many there are in one inference.  of: the operation that these are calls of; "" of
    one of their own.
    """

    trials: tuple[Trial, ...]
    plain: Trial
    calls: int = 1
    of: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """cycles: of one call (instructions where the target has no cycle model).  code: bytes of the
    kernel and of the instructions with a body that it uses, by name."""

    cycles: int
    code: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why a trial cannot be taken: it does not build, does not run, or computes something else."""

    reason: str


def text_of(trial: Trial) -> str:
    """All the C of a trial but its constants."""
    kernel = trial.kernel
    bodies = [_defined(i) for i in bodies_of(kernel).values()]
    return "\n".join([*bodies, emit(kernel.func, _NAME, kernel.instructions)])


_DEFINED: dict[tuple[str, str], tuple[Instruction, str]] = {}


def _defined(instruction: Instruction) -> str:
    """The C of an instruction with a body, made once."""
    key = (instruction.name, instruction.note)
    known = _DEFINED.get(key)
    if known is None or known[0] != instruction:
        known = _DEFINED[key] = (instruction, define(instruction, instruction_name(instruction)))
    return known[1]


def bodies_of(kernel: Kernel) -> dict[str, Instruction]:
    """The instructions with a body, by name."""
    return {name: i for name, i in kernel.instructions.items() if i.asm}


def machine_of(target: Target, optimize: str) -> tuple[str, ...]:
    """What the cost of every trial depends on: target, compiler with its flags, runtime, and how it
    is measured."""
    features = " ".join(sorted(target.features))
    machine = f"{target.arch} {target.cpu} {features} {sorted(target.emulator.items())}"
    conditional = target.arch == "arm" and "div" in target.features  # Thumb-2: IT
    how = () if conditional else (_BY_DATA,)
    measured = digest_of(*_MEASURING)
    return (machine, *how, *found_build(target, optimize), *headers(), measured)


def key_of(trial: Trial, machine: tuple[str, ...]) -> str:
    """What the cost depends on, as the key of a cache: of the constants only where a core has to
    branch to choose between two values."""
    constants = _contents(trial) if _BY_DATA in machine else []
    return cache.digest(("trial", *machine, text_of(trial), *constants))


def proof_of(trial: Trial, plain: Trial, machine: tuple[str, ...]) -> str:
    """What it depends on whether a trial agrees with its plain loops: their constants, too."""
    contents = [cache.digest(_contents(t)) for t in (trial, plain)]
    return cache.digest(("proof", *machine, text_of(trial), text_of(plain), *contents))


def _contents(trial: Trial) -> list[str | bytes]:
    found: list[str | bytes] = [" ".join(trial.args)]
    for name, array in sorted(trial.consts.items()):
        found += [f"{name} {array.dtype} {array.shape}", array.tobytes()]
    return found


def remembered(key: str) -> Cost | None:
    """A cost that was measured before; None if it was not, or cannot be read."""
    data = cache.load("trials", key)
    try:
        found = json.loads(data or b"")
        cycles, code = found["cycles"], found["code"]
        right = type(cycles) is int and all(type(v) is int for v in code.values())
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return Cost(cycles, code) if right else None


def proven(key: str) -> bool:
    """Whether a trial is known to agree with its plain loops."""
    return cache.load("proofs", key) == _AGREES


def remember_proof(key: str) -> None:
    cache.store("proofs", key, _AGREES)


def remember(key: str, cost: Cost) -> None:
    data = json.dumps({"cycles": cost.cycles, "code": dict(cost.code)})
    cache.store("trials", key, data.encode())
