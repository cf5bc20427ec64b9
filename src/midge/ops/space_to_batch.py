"""TFLite's SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND, as moves.

The pixels of every residue class of rows and columns become images of their own, and back: so
dilated convolutions are written by converters whose framework has none.
`passes/join_dilations.py` makes one convolution of it again.
"""

from __future__ import annotations

from math import prod

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Node
from midge.ops._common import expect_same_scale

_DTYPES = (DType.F32, DType.I8, DType.U8, DType.I16, DType.I32, DType.I64)


def space_to_batch(op: Foreign) -> tuple[Node, ...]:
    """Pad; each axis [n] as [n / b, b]; the b in front; all in one batch (lite/kernels/
    space_to_batch_nd.cc). Padding is the zero point."""
    block, paddings = _spec(op, "paddings")
    x = op.type(0)
    steps = Steps(op)
    value = op.inputs[0]
    if any(map(any, paddings)):
        pairs = ((0, 0), *paddings, *((0, 0),) * (len(x.shape) - 1 - len(block)))
        flat = tuple(p for pair in pairs for p in pair)
        zero = 0 if x.quant is None else x.quant.zero_point[0]
        value = steps.emit("pad", [value], {"paddings": flat, "value": zero})
    batch, *space = steps.type(value).shape
    space, rest = space[: len(block)], space[len(block) :]
    if any(n % b for n, b in zip(space, block, strict=True)):
        raise op.error(f"padded rows and columns {space} are no multiples of {block}")
    parts = [n // b for n, b in zip(space, block, strict=True)]
    split = [m for pair in zip(parts, block, strict=True) for m in pair]
    count = len(block)
    perm = (
        *range(2, 2 * count + 1, 2), 0, *range(1, 2 * count, 2),
        *range(2 * count + 1, 2 * count + 1 + len(rest)),
    )  # fmt: skip
    value = steps.emit("reshape", [value], {"shape": (batch, *split, *rest)})
    value = steps.emit("transpose", [value], {"perm": perm})
    return steps.finish("reshape", [value], {"shape": (batch * prod(block), *parts, *rest)})


def batch_to_space(op: Foreign) -> tuple[Node, ...]:
    """The inverse, and what `crops` say is cut off (lite/kernels/batch_to_space_nd.cc)."""
    block, crops = _spec(op, "crops")
    batch, *space = op.type(0).shape
    parts, rest = space[: len(block)], space[len(block) :]
    if batch % prod(block):
        raise op.error(f"a batch of {batch} is no multiple of {prod(block)}")
    count, batch = len(block), batch // prod(block)
    places = (m for d in range(count) for m in (count + 1 + d, d))
    perm = (count, *places, *range(2 * count + 1, 2 * count + 1 + len(rest)))
    whole = (batch, *(n * b for n, b in zip(parts, block, strict=True)), *rest)
    steps = Steps(op)
    value = steps.emit("reshape", op.inputs[:1], {"shape": (*block, batch, *parts, *rest)})
    value = steps.emit("transpose", [value], {"perm": perm})
    if not any(map(any, crops)):
        return steps.finish("reshape", [value], {"shape": whole})
    value = steps.emit("reshape", [value], {"shape": whole})
    begin = (0, *(first for first, _ in crops), *(0 for _ in rest))
    cut = (0, *(sum(pair) for pair in crops), *(0 for _ in rest))
    size = tuple(n - c for n, c in zip(whole, cut, strict=True))
    if min(size) < 1:
        raise op.error(f"crops {crops} leave nothing of {whole}")
    attrs = {"begin": begin, "size": size, "strides": (1,) * len(size)}
    return steps.finish("slice", [value], attrs)


def _spec(op: Foreign, name: str) -> tuple[list[int], list[tuple[int, int]]]:
    """The block and what is added or cut off along each of its axes."""
    op.expect_inputs(3)
    op.expect_dtype(0, *_DTYPES)
    expect_same_scale(op, op.inputs[:1])
    block = [int(b) for b in op.const(1, "block").reshape(-1)]
    pairs = op.const(2, name)
    rank = len(op.type(0).shape)
    if rank not in (3, 4) or len(block) != rank - 2 or pairs.shape != (rank - 2, 2):
        raise op.error(f"block {block} and {name} of shape {pairs.shape} do not fit {op.type(0)}")
    if min(block) < 1 or pairs.min() < 0 or op.type(0).elements == 0:
        raise op.error(f"block {block} and {name} {pairs.tolist()} are out of range")
    return block, [(int(a), int(b)) for a, b in pairs]


IMPORTERS["tflite"].add("SPACE_TO_BATCH_ND", space_to_batch)
IMPORTERS["tflite"].add("BATCH_TO_SPACE_ND", batch_to_space)
