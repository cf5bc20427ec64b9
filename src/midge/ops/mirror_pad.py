"""TFLite's MIRROR_PAD, as slices that are strung together."""

from __future__ import annotations

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Node
from midge.ops._common import expect_same_scale
from midge.ops.onnx_slices import bordered

_DTYPES = (DType.F32, DType.I8, DType.U8, DType.I16, DType.I32, DType.I64)
_MODES = ("reflect", "symmetric")


def mirror_pad(op: Foreign) -> tuple[Node, ...]:
    """Beyond the border the image comes back, with the border's elements twice in mode SYMMETRIC
    (lite/kernels/mirror_pad.cc)."""
    op.expect_inputs(2)
    op.expect_dtype(0, *_DTYPES)
    expect_same_scale(op, op.inputs[:1])
    shape, mode = op.type(0).shape, op.attrs.get("mode", 0)
    pairs = op.const(1, "paddings")
    if pairs.shape != (len(shape), 2) or mode not in (0, 1):
        raise op.error(f"paddings of shape {pairs.shape} for {op.type(0)}, mode {mode}")
    steps, value = Steps(op), op.inputs[0]
    for axis, (n, pair) in enumerate(zip(shape, pairs.tolist(), strict=True)):
        if not 0 <= min(pair) <= max(pair) <= n - (mode == 0):
            raise op.error(f"paddings {pair} of {n} elements")
        value = bordered(steps, value, axis, (pair[0], pair[1]), _MODES[mode])
    return steps.finish("copy", [value])


IMPORTERS["tflite"].add("MIRROR_PAD", mirror_pad)
