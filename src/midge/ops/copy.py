"""copy: the same elements in memory of their own."""

from __future__ import annotations

from collections.abc import Sequence

from midge.core.types import Array, DType, TensorType
from midge.graph.index_ranges import INDEX_RULES, same
from midge.graph.ir import OPS, Attrs, OpDef, Sample
from midge.loop import ir
from midge.lower import SCALAR_RULES, Element, ScalarRule
from midge.ops._common import arity


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    return (inputs[0].plain,)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    return (inputs[0].copy(),)


def element(e: Element) -> ir.Expr:
    return e.args[0]


SAMPLES = (Sample((TensorType((2, 3), DType.I8),)), Sample((TensorType((), DType.F32),)))

OPS.add("copy", OpDef("copy", infer, reference, halves=True, elementwise=True, samples=SAMPLES))
SCALAR_RULES.add("copy", ScalarRule(("x",), element))
INDEX_RULES.add("copy", same)
