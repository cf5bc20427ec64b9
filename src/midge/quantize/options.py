"""What the quantiser can be told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midge.core.errors import UsageError
from midge.core.types import DType

METHODS = ("minmax", "percentile", "entropy", "mse")


@dataclass(frozen=True, slots=True)
class Options:
    """method: how ranges of activations are chosen; percentile: of values inside, for that method.
    activations: I8, or I16 (symmetric).  int16: layers, by the name of their output, that compute
    on int16 in any case.  float_io: inputs and outputs of the graph stay floats.
    bias_correction: take the mean error of rounded weights from the biases.
    equalize: move scales between the channels of successive layers first.
    """

    method: str = "percentile"
    percentile: float = 99.99
    activations: DType = DType.I8
    int16: frozenset[str] = frozenset()
    float_io: bool = False
    bias_correction: bool = True
    equalize: bool = False

    def __post_init__(self) -> None:
        check_choice(self.method, METHODS, "--method")
        if not isinstance(self.percentile, int | float) or not 50.0 < self.percentile <= 100.0:
            raise UsageError(
                f"{self.percentile} is no percentile",
                where="--percentile",
                hint="more than 50, at most 100; e.g. 99.99",
            )
        if self.activations not in (DType.I8, DType.I16):
            raise UsageError(
                f"{self.activations.value} is not supported",
                where="--activations",
                hint="int8 or int16",
            )


def check_choice(value: str, known: Sequence[str], option: str) -> None:
    """UsageError unless `value` is one of `known`."""
    if value not in known:
        raise UsageError(f"{value!r} is not known", where=option, hint=f"one of {', '.join(known)}")
