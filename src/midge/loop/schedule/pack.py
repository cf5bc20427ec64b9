"""Pack: store a constant in the order in which it is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from midge.core.types import Array
from midge.loop import ir
from midge.loop.rewrite import map_stmts, walk
from midge.loop.schedule.base import Refused, StepText


@dataclass(frozen=True, slots=True)
class Pack(StepText):
    """Cut dimensions of a "const" parameter into blocks, then permute the dimensions.

    split: (dimension, block) pairs; a dimension of extent n becomes two, (n / block, block), at
    its place. order: which of the dimensions there are then comes first, second, ...

        Pack(w, ((0, 4),), (0, 2, 1))
        w: i8[8x9], w[oc, k]   ->   w: i8[2x9x4], w[oc / 4, k, oc % 4]

    A block that is not full is filled with zeros, which are never read. The caller packs the
    constant itself with `pack_array`.
    """

    buffer: str
    split: tuple[tuple[int, int], ...]
    order: tuple[int, ...]


def pack_buffer(func: ir.Func, step: Pack) -> ir.Func:
    param = next((p for p in func.params if p.name == step.buffer), None)
    if param is None or param.mode != "const":
        raise Refused(f"{step.buffer} is not a constant parameter")
    if any(b == step.buffer for s in walk(func.body) if isinstance(s, ir.Instr) for b, _ in s.args):
        raise Refused(f"an instruction already reads {step.buffer}")
    blocks = _blocks(step, len(param.shape))

    def packed(index: tuple[ir.Expr, ...]) -> tuple[ir.Expr, ...]:
        parts: list[ir.Expr] = []
        for d, i in enumerate(index):
            if d in blocks:
                block = ir.i32(blocks[d])
                parts += [ir.Bin("/", i, block), ir.Bin("%", i, block)]
            else:
                parts.append(i)
        return tuple(parts[d] for d in step.order)

    def expr(e: ir.Expr) -> ir.Expr:
        if isinstance(e, ir.Load) and e.buffer == step.buffer:
            return ir.Load(e.buffer, packed(e.index))
        return e

    now = replace(param, shape=packed_shape(step, param.shape))
    params = tuple(now if p is param else p for p in func.params)
    return replace(func, params=params, body=map_stmts(func.body, expr=expr))


def _blocks(step: Pack, rank: int) -> dict[int, int]:
    """Block by dimension, after a check of the step against a buffer of `rank` dimensions."""
    blocks = dict(step.split)
    if len(blocks) != len(step.split) or not all(0 <= d < rank for d in blocks):
        raise Refused(f"split names different dimensions below {rank}")
    if any(b < 1 for b in blocks.values()):
        raise Refused("a block is below 1")
    if sorted(step.order) != list(range(rank + len(blocks))):
        raise Refused(f"order is no permutation of the {rank + len(blocks)} dimensions")
    return blocks


def packed_shape(step: Pack, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape after the step."""
    blocks = _blocks(step, len(shape))
    parts: list[int] = []
    for d, extent in enumerate(shape):
        parts += [-(-extent // blocks[d]), blocks[d]] if d in blocks else [extent]
    return tuple(parts[d] for d in step.order)


def pack_array(step: Pack, array: Array) -> Array:
    """The constant as the function reads it after the step."""
    blocks = _blocks(step, array.ndim)
    padding = [(0, -array.shape[d] % blocks.get(d, 1)) for d in range(array.ndim)]
    padded = np.pad(array, padding)
    parts: list[int] = []
    for d, extent in enumerate(padded.shape):
        parts += [extent // blocks[d], blocks[d]] if d in blocks else [extent]
    return np.ascontiguousarray(padded.reshape(parts).transpose(step.order))


def pack_consts(
    func: ir.Func, steps: Iterable[object], args: tuple[str, ...], consts: Mapping[str, Array]
) -> dict[str, Array]:
    """The constants that `steps` re-layout, packed.

    func: before the steps. args: the value that each parameter stands for; consts: by value.
    """
    values = {p.name: value for p, value in zip(func.params, args, strict=True)}
    result: dict[str, Array] = {}
    for step in steps:
        if isinstance(step, Pack):
            value = values[step.buffer]
            result[value] = pack_array(step, result.get(value, consts[value]))
    return result
