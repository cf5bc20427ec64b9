"""flip_sign: u8 as i8 and back, 128 less or more: the same integers with another zero point."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.ir import OPS, Attrs, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity, fail

_OTHER = {DType.I8: DType.U8, DType.U8: DType.I8}


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    if x.dtype not in _OTHER:
        raise fail(f"{x} is neither i8 nor u8")
    return (TensorType(x.shape, _OTHER[x.dtype]),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    return ((x.view(np.uint8) ^ np.uint8(128)).view(_OTHER[DType.of(x)].numpy),)


def element(e: Element) -> ir.Expr:
    return ir.Bin("+" if e.output.dtype is DType.U8 else "-", e.args[0], ir.i32(128))


_SAMPLES = tuple(Sample((TensorType(s, d),)) for s in ((2, 300), ()) for d in _OTHER)
OPS.add("flip_sign", OpDef("flip_sign", infer, reference, elementwise=True, samples=_SAMPLES))
SCALAR_RULES.add("flip_sign", ScalarRule(("x",), element))
