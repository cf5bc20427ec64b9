"""Schedules: small, frozen, printable descriptions of rewrites of a loop function.

A schedule is a tuple of steps: a value that can be compared, searched and stored, and the comment
above the generated function. A step keeps the meaning of the function or is refused.

    steps = (Split("ow", 4), Reorder(("k", "ow_i")), Unroll("ow_i"))
    fast = apply(conv, steps)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, assert_never, get_args, get_origin, get_type_hints

from midge.core.errors import ScheduleError, VerifyError
from midge.core.types import DType
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.schedule.base import Refused, TextError, read_call
from midge.loop.schedule.compute_at import ComputeAt, compute_buffer_at
from midge.loop.schedule.pack import Pack, pack_array, pack_buffer, pack_consts
from midge.loop.schedule.reorder import Reorder, reorder_loops
from midge.loop.schedule.split import (
    Fuse,
    Peel,
    Split,
    Unroll,
    fuse_loops,
    peel_loop,
    split_loop,
    unroll_loop,
)
from midge.loop.schedule.stage import Stage, stage_buffer
from midge.loop.schedule.tensorize import Tensorize, tensorize_loop
from midge.loop.simplify import Simple, simplify
from midge.loop.verify import verify

__all__ = [
    "ComputeAt",
    "Fuse",
    "Pack",
    "Peel",
    "Reorder",
    "Split",
    "Stage",
    "Step",
    "Tensorize",
    "Unroll",
    "apply",
    "pack_array",
    "pack_consts",
    "parse_step",
]

Step: TypeAlias = Split | Reorder | Fuse | Unroll | Peel | Stage | Pack | ComputeAt | Tensorize

_NONE: Mapping[str, Instruction] = MappingProxyType({})


def apply(
    func: ir.Func, steps: Iterable[Step], instructions: Mapping[str, Instruction] = _NONE
) -> ir.Func:
    """`func`, which verifies, after each step in turn; it does the same.

    Loops that run once stay until the end, so that the names in a schedule exist whatever the
    sizes are. ScheduleError, with the function and the step, if a step does not apply.
    """
    simple = Simple()
    for step in steps:
        try:
            made = _applied(func, step, instructions)
            func = simplify(made, keep_unit_loops=True, simple=simple)
        except Refused as refused:
            where = f"{func.name}: {step}"
            raise ScheduleError(refused.what, where=where, hint=refused.hint) from None
    func = simplify(func)
    try:
        verify(func, instructions)
    except VerifyError as error:
        raise AssertionError(f"a schedule made an invalid function: {error}") from error
    return func


def _applied(func: ir.Func, step: Step, instructions: Mapping[str, Instruction]) -> ir.Func:
    match step:
        case Split():
            return split_loop(func, step)
        case Fuse():
            return fuse_loops(func, step)
        case Unroll():
            return unroll_loop(func, step)
        case Peel():
            return peel_loop(func, step)
        case Pack():
            return pack_buffer(func, step)
        case _:
            return _applied_with(func, step, instructions)


def _applied_with(
    func: ir.Func,
    step: Reorder | Stage | ComputeAt | Tensorize,
    instructions: Mapping[str, Instruction],
) -> ir.Func:
    match step:
        case Reorder():
            return reorder_loops(func, step, instructions)
        case Stage():
            return stage_buffer(func, step, instructions)
        case ComputeAt():
            return compute_buffer_at(func, step, instructions)
        case Tensorize():
            return tensorize_loop(func, step, instructions)
        case _:
            assert_never(step)


_STEPS: dict[str, type[Step]] = {c.__name__: c for c in get_args(Step)}


def parse_step(text: str) -> Step:
    """The step that `str` printed; ScheduleError if there is none."""
    try:
        name, args, named = read_call(text)
        if name not in _STEPS:
            raise TextError(f"unknown step {name!r}")
        hints = get_type_hints(_STEPS[name])
        given = dict(zip(hints, args, strict=False)) | named
        if len(args) > len(hints) or not given.keys() <= hints.keys():
            raise TextError(f"{name} takes {', '.join(hints)}")
        return _STEPS[name](**{k: _value(v, hints[k]) for k, v in given.items()})
    except (TextError, TypeError) as error:
        known = ", ".join(_STEPS)
        raise ScheduleError(str(error), where=text, hint=f"steps: {known}") from None


def _value(value: Any, wanted: Any) -> Any:
    """`value` as a field of the type `wanted`; TextError if it is none."""
    origin, parts = get_origin(wanted), get_args(wanted)
    if origin is Literal and value in parts:
        return value
    if origin is tuple and isinstance(value, tuple):
        types = [parts[0]] * len(value) if parts[-1] is ... else list(parts)
        if len(types) == len(value):
            return tuple(_value(v, t) for v, t in zip(value, types, strict=True))
    if DType in parts and value in [d.value for d in DType]:
        return DType(value)
    if origin is None and isinstance(wanted, type) and isinstance(value, wanted):
        return value
    raise TextError(f"{value!r} is not of the type {wanted}")
