"""What several importers of ONNX operators share: attributes, axes, operands of one type.

Attributes come from files: one of another kind is a ModelError.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midge.core.types import DType
from midge.graph.importers import Foreign, Steps
from midge.graph.ir import Node

ALL = tuple(DType)
NUMBERS = tuple(d for d in DType if d is not DType.BOOL and d is not DType.F16)
INTEGERS = tuple(d for d in DType if d.is_integer)


def integer(op: Foreign, name: str, default: int) -> int:
    value = op.attrs.get(name, default)
    if not isinstance(value, int):
        raise op.error(f"attribute {name} is {value!r}, expected an integer")
    return value


def number(op: Foreign, name: str, default: float) -> float:
    value = op.attrs.get(name, default)
    if not isinstance(value, int | float) or not np.isfinite(np.float32(value)):
        raise op.error(f"attribute {name} is {value!r}, expected a number")
    return float(value)


def word(op: Foreign, name: str, default: str, known: Sequence[str]) -> str:
    value = op.attrs.get(name, default)
    if value not in known:
        raise op.error(f"attribute {name} is {value!r}", f"known: {', '.join(known)}")
    return str(value)


def one_axis(op: Foreign, rank: int, default: int) -> int:
    """Attribute `axis`, not negative."""
    axis = integer(op, "axis", default)
    if not -rank <= axis < rank:
        raise op.error(f"axis {axis} does not exist in {rank} dimensions")
    return axis % rank


def reduced_axes(op: Foreign, rank: int, source: int = 1) -> tuple[int, ...] | None:
    """Attribute `axes` or input `source`, sorted, not negative; None if neither is given."""
    if op.has(source):
        given = tuple(int(a) for a in op.const(source, "axes").reshape(-1))
    else:
        value = op.attrs.get("axes", ())
        if not isinstance(value, tuple) or not all(isinstance(a, int) for a in value):
            raise op.error(f"attribute axes is {value!r}, expected integers")
        given = value
    if not given:
        return None
    if not all(-rank <= a < rank for a in given):
        raise op.error(f"axes {given} do not exist in {rank} dimensions")
    return tuple(sorted({a % rank for a in given}))


def same_types(op: Foreign, *dtypes: DType, least: int = 1, most: int = 1 << 16) -> None:
    """ModelError unless all inputs are there and have one of `dtypes`, all the same."""
    op.expect_inputs(least, max(most, least))
    for i in range(len(op.inputs)):
        op.expect_dtype(i, *(dtypes if i == 0 else (op.type(0).dtype,)))


def elementwise(name: str, count: int, *dtypes: DType) -> Callable[[Foreign], tuple[Node, ...]]:
    """An importer of an operator without attributes that we have under `name`."""

    def importer(op: Foreign) -> tuple[Node, ...]:
        same_types(op, *dtypes, least=count, most=count)
        return (op.node(name),)

    return importer


def swap_last(op: Foreign, axis: int, apply: Callable[[Steps, str], str]) -> tuple[Node, ...]:
    """`apply` along `axis` of input 0, where it works along the last one: transposed around."""
    steps = Steps(op)
    (name,) = op.inputs[:1]
    rank = len(op.type(0).shape)
    if axis == rank - 1:
        apply(steps, name)
        return steps.renamed()
    perm = list(range(rank))
    perm[axis], perm[-1] = perm[-1], perm[axis]
    turned = steps.emit("transpose", [name], {"perm": tuple(perm)})
    return steps.finish("transpose", [apply(steps, turned)], {"perm": tuple(perm)})
