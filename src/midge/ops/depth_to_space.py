"""TFLite's DEPTH_TO_SPACE and SPACE_TO_DEPTH, as moves: the pixels of a block are channels, block's
row first, then its column, then the channel."""

from __future__ import annotations

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Node
from midge.ops._common import expect_same_scale

_DTYPES = (DType.F32, DType.I8, DType.U8, DType.I16, DType.I32, DType.I64)


def depth_to_space(op: Foreign) -> tuple[Node, ...]:
    """[n, h, w, b * b * c] as [n, h * b, w * b, c] (lite/kernels/depth_to_space.cc)."""
    n, h, w, c, block = _spec(op)
    if c % (block * block):
        raise op.error(f"{c} channels are no multiple of {block} x {block}")
    rest = c // (block * block)
    return _regrouped(op, (n, h, w, block, block, rest), (n, h * block, w * block, rest))


def space_to_depth(op: Foreign) -> tuple[Node, ...]:
    """The inverse (lite/kernels/space_to_depth.cc)."""
    n, h, w, c, block = _spec(op)
    if h % block or w % block:
        raise op.error(f"{h} x {w} pixels are no multiple of {block} x {block}")
    rows, columns = h // block, w // block
    return _regrouped(
        op, (n, rows, block, columns, block, c), (n, rows, columns, block * block * c)
    )


def _spec(op: Foreign) -> tuple[int, int, int, int, int]:
    """The shape and the side of a block."""
    op.expect_inputs(1)
    op.expect_dtype(0, *_DTYPES)
    expect_same_scale(op, op.inputs[:1])
    shape, block = op.type(0).shape, int(op.attrs.get("block_size", 0))
    if len(shape) != 4 or block < 1:
        raise op.error(f"the input is {op.type(0)}, blocks are of {block}")
    n, h, w, c = shape
    return n, h, w, c, block


def _regrouped(op: Foreign, split: tuple[int, ...], shape: tuple[int, ...]) -> tuple[Node, ...]:
    """The third and the fourth of six axes change places."""
    steps = Steps(op)
    value = steps.emit("reshape", op.inputs[:1], {"shape": split})
    value = steps.emit("transpose", [value], {"perm": (0, 1, 3, 2, 4, 5)})
    return steps.finish("reshape", [value], {"shape": shape})


IMPORTERS["tflite"].add("DEPTH_TO_SPACE", depth_to_space)
IMPORTERS["tflite"].add("SPACE_TO_DEPTH", space_to_depth)
