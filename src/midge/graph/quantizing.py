"""How operators on floats become operators on integers. The quantiser reads this table, operator
files fill it: QUANTIZING.add("gelu", QuantRule(dtypes=(DType.I8,)))."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from midge.core.errors import UsageError
from midge.core.registry import Registry
from midge.core.types import DType, Quant, TensorType
from midge.graph.ir import Attrs


def _same_attrs(attrs: Attrs, output: TensorType) -> Attrs:
    return attrs


def _nothing(attrs: Attrs) -> tuple[float, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class QuantRule:
    """What TFLite's quantisation specification says of an operator.

    dtypes: of the activations that its integer kernel takes.
    scales: "free": every float input and output has a scale of its own; "same": all share one.
    fixed: element type -> scale and zero point of the output, whatever the data.
    weighted: inputs 1 and 2 are weights (int8, symmetric, per channel) and bias (scale of input
    times scale of weights); both must be constants.
    attrs: (attributes on floats, type of the quantised output) -> attributes on integers.
    covers: attributes -> real numbers that the output must be able to represent.
    """

    dtypes: tuple[DType, ...] = (DType.I8, DType.I16)
    scales: Literal["free", "same"] = "free"
    fixed: Mapping[DType, tuple[float, int]] = field(default_factory=dict)
    weighted: bool = False
    attrs: Callable[[Attrs, TensorType], Attrs] = _same_attrs
    covers: Callable[[Attrs], tuple[float, ...]] = _nothing

    def fixed_quant(self, dtype: DType) -> Quant | None:
        return Quant.per_tensor(*self.fixed[dtype]) if dtype in self.fixed else None


FREE = QuantRule()
SAME = QuantRule(scales="same")

QUANTIZING: Registry[QuantRule] = Registry("operator with a rule for quantisation", UsageError)
