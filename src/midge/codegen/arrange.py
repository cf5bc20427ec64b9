"""The tensors of a program in one arena."""

from __future__ import annotations

from midge.core.types import DType
from midge.loop.program import Program
from midge.plan.arena import Arena, Use, plan_arena


def align_of(dtype: DType) -> int:
    """Bytes to which tensors of `dtype` are aligned."""
    return max(4, dtype.size)


def arrange(program: Program) -> Arena:
    """Offsets of every tensor of `program` in one arena."""
    uses = [
        Use(
            tuple(a for a in op.args[:-1] if a not in program.consts and a not in op.scratch),
            op.output,
            op.inplace,
            op.scratch,
        )
        for op in program.operations
    ]
    names = {*map(program.buffer, program.inputs)}
    names.update(name for u in uses for name in (u.writes, *u.scratch))
    sizes = {n: program.types[n].size for n in names}
    aligns = {n: align_of(program.types[n].dtype) for n in names}
    inputs = [program.buffer(n) for n in program.inputs]
    outputs = [program.buffer(n) for n in program.outputs]
    return plan_arena(uses, inputs, outputs, sizes, aligns)
