"""ONNX's Gemm: alpha * A * B + beta * C, as a dense layer."""

from __future__ import annotations

import numpy as np

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Node


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(2, 3)
    for i in (0, 1):
        op.expect_dtype(i, DType.F32)
        if len(op.type(i).shape) != 2 or op.type(i).elements == 0:
            raise op.error(f"input {i} is {op.type(i)}", "expected a matrix")
    steps = Steps(op)
    a, w = op.inputs[:2]
    if op.attrs.get("transA", 0):
        a = steps.emit("transpose", [a], {"perm": (1, 0)})
    if not op.attrs.get("transB", 0):
        w = steps.emit("transpose", [w], {"perm": (1, 0)})
    w = _times(steps, w, float(op.attrs.get("alpha", 1.0)), "alpha")
    if not op.has(2):
        return steps.finish("dense", [a, w])
    op.expect_dtype(2, DType.F32)
    c = _times(steps, op.inputs[2], float(op.attrs.get("beta", 1.0)), "beta")
    t, n = steps.type(c), steps.type(w).shape[0]
    if t.elements == n and t.shape[-1:] == (n,):
        return steps.finish("dense", [a, w, steps.emit("reshape", [c], {"shape": (n,)})])
    return steps.finish("add", [steps.emit("dense", [a, w]), c])


def _times(steps: Steps, x: str, factor: float, name: str) -> str:
    if factor == 1.0:
        return x
    return steps.emit("mul", [x, steps.const(np.array([factor], np.float32), name)])


IMPORTERS["onnx"].add("Gemm", from_onnx)
