"""Instructions with a body, and kernels that use them: their C on an emulated core against what
they mean.

    bench = Bench([gemm.instruction(), widen.instruction()])
    bench.check(gemm.name, contents(gemm.instruction(), seed=0, w=packed))

One image holds all of a bench. On a target that takes their assembler that is what
runs, on another one (`target="cortex-m3"`) the loops that stand for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from midge.codegen.c import define, emit, headers, instruction_name
from midge.core.package import Package
from midge.core.target import Target
from midge.core.types import Array, DType
from midge.kernels.arm_dsp.scaling import Line, Scaling, Twice
from midge.loop import ir
from midge.loop.evaluate import evaluate
from midge.loop.instruction import Instruction
from midge.loop.program import Kernel
from midge.loop.verify import verify
from midge.run.emulator_machine import Machine
from midge.runtime import header
from midge.target import load_target
from midge.toolchain import build_image

Memory = dict[str, Array]  # an operand's elements by its name
Subject = Instruction | Kernel

_UNIT = 64  # operands start on one of these, and have at least half of it free on either side
_NOTHING = 0xA5  # what lies around them

_SOURCE = """\
#include <stddef.h>
#include <stdint.h>
#include <string.h>
{includes}
typedef struct bench_context {{ uint8_t *arena; }} bench_context;
int bench_init(bench_context *context, void *arena, size_t size);
int bench_run(bench_context *context);

{definitions}
int bench_init(bench_context *context, void *arena, size_t size)
{{
    (void)size;
    context->arena = (uint8_t *)arena;
    return 0;
}}

int bench_run(bench_context *context)
{{
    uint8_t *const a = context->arena;
    uint32_t which;

    memcpy(&which, a, sizeof(which));
    switch (which) {{
{cases}
    default: return 1;
    }}
    return 0;
}}
"""


class Bench:
    """Instructions, and kernels that use some, in an emulated core."""

    def __init__(self, subjects: Iterable[Subject], target: str | Target = "cortex-m4") -> None:
        self.meanings: dict[str, ir.Func] = {}
        self.instructions: dict[str, Instruction] = {}
        self.kernels: dict[str, Kernel] = {}
        for subject in subjects:
            func = meaning_of(subject)
            verify(func)
            assert func.name not in self.meanings, f"{func.name} twice"
            self.meanings[func.name] = func
            if isinstance(subject, Kernel):
                self.kernels[func.name] = subject
                self.instructions |= {i.name: i for i in subject.instructions.values() if i.asm}
            else:
                self.instructions[func.name] = subject
        self.target = load_target(target) if isinstance(target, str) else target
        self.size = max(map(_size, self.meanings.values()))
        package = self.package()
        self.machine = Machine(package, build_image(package))
        arena = (self.machine.context, self.machine.arena, self.size)
        assert self.machine.call("bench_init", arena) == 0

    def package(self) -> Package:
        needed = {"midge_compiler.h"}.union(*(headers(f) for f in self.meanings.values()))
        texts = [define(i, instruction_name(i)) for i in self.instructions.values()]
        texts += [emit(k.func, _c_name(n), k.instructions) for n, k in self.kernels.items()]
        names = [
            _c_name(n) if n in self.kernels else instruction_name(self.instructions[n])
            for n in self.meanings
        ]
        cases = enumerate(zip(names, self.meanings.values(), strict=True))
        source = _SOURCE.format(
            includes="".join(f'#include "{h}"\n' for h in sorted(needed)),
            definitions="\n".join(texts),
            cases="\n".join(_case(number, name, func) for number, (name, func) in cases),
        )
        files = {"bench.c": source, **{h: header(h) for h in sorted(needed)}}
        return Package(
            "bench", self.target, files, ("bench.c",), (), (), (), self.size, weights_size=0
        )

    def run(self, name: str, memory: Mapping[str, Array]) -> Memory:
        """The operands of `name` after it ran on `memory`; AssertionError if anything around them
        has changed."""
        meaning = self.meanings[name]
        before = np.full(self.size, _NOTHING, np.uint8)
        before[:4] = np.array([list(self.meanings).index(name)], np.uint32).view(np.uint8)
        operands = _operands(meaning)
        for o in operands:
            if o.param.rows:
                pointers = np.array([self.machine.arena + s.start for s in o.pieces], np.uint32)
                before[o.table] = pointers.view(np.uint8)
            for place, data in zip(o.pieces, o.split(memory[o.param.name]), strict=True):
                before[place] = np.frombuffer(data.tobytes(), np.uint8)
        self.machine.write(self.machine.arena, before.tobytes())
        assert self.machine.call("bench_run", (self.machine.context,)) == 0
        after = np.frombuffer(self.machine.read(self.machine.arena, self.size), np.uint8)
        around = np.ones(self.size, bool)
        found: Memory = {}
        for o in operands:
            for place in o.pieces:
                around[place] = False
            data = b"".join(after[place].tobytes() for place in o.pieces)
            array = np.frombuffer(data, o.param.dtype.numpy)
            found[o.param.name] = array.reshape(o.param.shape).copy()
        changed = np.flatnonzero(around & (before != after))
        assert not len(changed), f"{name} writes beside its operands, {_where(changed, operands)}"
        return found

    def check(self, name: str, memory: Mapping[str, Array]) -> Memory:
        """Every operand but scratch memory is what the meaning makes of `memory`; gives them."""
        meaning = self.meanings[name]
        want = {p.name: np.array(memory[p.name]) for p in meaning.params}
        evaluate(meaning, want)
        have = self.run(name, memory)
        for p in meaning.params:
            if p.mode != "scratch":
                np.testing.assert_array_equal(have[p.name], want[p.name], f"{p.name} of {name}")
        return want


def meaning_of(subject: Subject) -> ir.Func:
    """What it is to do; of a kernel the loops before its schedule."""
    if isinstance(subject, Kernel):
        return replace(subject.plain, name=subject.func.name)
    return subject.meaning


def contents(subject: Subject, seed: int, **given: Array | tuple[int, int]) -> Memory:
    """Contents of every operand: those given, others random, in a range (both ends included) or of
    all values that the type has. A range's ends are among its first elements."""
    rng = np.random.default_rng(seed)
    memory: Memory = {}
    for p in meaning_of(subject).params:
        chosen = given.get(p.name, (p.dtype.min, p.dtype.max))
        if isinstance(chosen, tuple):
            made = rng.integers(*chosen, p.shape, np.int64, endpoint=True)
            made.reshape(-1)[:2] = chosen[: made.size]
            memory[p.name] = made.astype(p.dtype.numpy)
        else:
            have = (chosen.shape, DType.of(chosen))
            assert have == (p.shape, p.dtype), f"{p.name} is {have}"
            memory[p.name] = chosen
    return memory


def extremes(shape: tuple[int, ...], values: tuple[int, ...], dtype: DType, seed: int) -> Array:
    """An array of nothing but `values`."""
    chosen = np.random.default_rng(seed).choice(values, shape)
    return chosen.astype(dtype.numpy)


def scaling_constants(scaling: Scaling, w: Array, x: Array, seed: int) -> Array:
    """Constants with which sums of products of w [channels, ...] and elements of x become int8, few
    of them at the limits: i32 [channels, words]."""
    rng = np.random.default_rng(seed)
    norm = np.sqrt((w.astype(np.float64) ** 2).reshape(len(w), -1).sum(1) + 1)
    usual = norm * np.sqrt((x.astype(np.float64) ** 2).mean() + 1)
    slope = rng.uniform(40, 80, len(w)) / usual  # steps per unit of the sum
    bias = rng.uniform(-30, 30, len(w)) / slope
    if isinstance(scaling, Line):
        unit = 1 << scaling.up
        columns = [bias * unit, slope * 2.0 ** (32 + scaling.down - scaling.up)]
    else:
        assert isinstance(scaling, Twice)
        shift = np.maximum(-np.frexp(slope)[1].astype(np.int64), 1)
        zero = rng.integers(-20, 20)
        columns = [2 * bias.astype(np.int64), slope * 2.0 ** (31 + shift)]
        columns += [(2 * zero + 1) << (shift - 1), shift]
    return np.stack([np.clip(c, -(2**31), 2**31 - 1).astype(np.int32) for c in columns], axis=1)


@dataclass(frozen=True, slots=True)
class _Operand:
    """Where an operand lies. pieces: of its elements.  table: of the pointers to them; empty if
    the operand is in one piece."""

    param: ir.Param
    pieces: tuple[slice, ...]
    table: slice

    @property
    def start(self) -> int:
        """Of what is passed."""
        return int(self.table.start if self.param.rows else self.pieces[0].start)

    def split(self, array: Array) -> Array:
        """The elements of each piece."""
        return array.reshape(len(self.pieces), -1)


def _operands(func: ir.Func) -> list[_Operand]:
    """Operands are aligned as their elements must be and no better; rows lie apart, the last one
    first, each aligned in another way."""
    found = []
    at = _UNIT

    def place(size: int, skip: int) -> slice:
        nonlocal at
        start, at = at + skip, -(-(at + skip + size + _UNIT // 2) // _UNIT) * _UNIT
        return slice(start, start + size)

    for p in func.params:
        size = p.dtype.size
        count = math.prod(p.shape[: p.rows])
        rows = [place(size * p.elements // count, size * (1 + n % 4)) for n in range(count)]
        table = place(4 * count if p.rows else 0, 4)
        found.append(_Operand(p, tuple(rows[::-1]), table))
    return found


def _size(func: ir.Func) -> int:
    return int(_operands(func)[-1].table.stop) + _UNIT


def _c_name(kernel: str) -> str:
    return f"kernel_{kernel}"


def _case(number: int, name: str, func: ir.Func) -> str:
    operands = ", ".join(f"{_pointer(o.param)}&a[{o.start}]" for o in _operands(func))
    return f"    case {number}U: {name}({operands}); break;"


def _pointer(p: ir.Param) -> str:
    pointer = f"const {p.dtype.c_name} *const *" if p.rows else f"{p.dtype.c_name} *"
    return f"({pointer})(void *)"


def _where(changed: Array, operands: list[_Operand]) -> str:
    """The first of the bytes at `changed`, seen from the operand before it."""
    first = int(changed[0])
    pieces = [(o.param.name, place) for o in operands for place in (*o.pieces, o.table)]
    before = [(name, place) for name, place in pieces if place.start <= first]
    if not before:
        return f"{pieces[0][1].start - first} bytes before the first"
    name, place = max(before, key=lambda b: int(b[1].start))
    return f"{first - place.stop} bytes behind {name}"
