"""From the sums of a micro-kernel to int8: exact short sequences, with constants per channel.

`Line` is the operator `scale`: three instructions. `Twice` is the two-step rounding of TensorFlow
Lite's convolutions (`requantize` with "right"): six; `smmulr` of twice the sum is the saturating
rounding doubling high multiplication (no saturation can occur below 2^30), adding the sign before
the shift makes it round ties away from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from midge.core.types import Array, DType
from midge.graph.attrs import integer
from midge.graph.ir import Graph
from midge.kernels.arm import assembler as asm
from midge.loop import ir
from midge.lower.fuse import Group
from midge.lower.scaling import clamped, scaled


class Scaling(Protocol):
    """How sums become int8.

    words: constants per channel.  text: unique for what differs.  exact_shift: whether the upper
    sum of a pair needs to be told from the lower one (see `gemm.packable`).
    """

    @property
    def words(self) -> int: ...
    @property
    def text(self) -> str: ...
    @property
    def exact_shift(self) -> bool: ...
    def value(self, acc: ir.Expr, constants: Sequence[ir.Expr]) -> ir.Expr:
        """i8 of an accumulator, the meaning."""

    def lines(
        self, sums: Sequence[str], times: int, source: str, spare: tuple[str, str]
    ) -> list[str]:
        """Assembler for sums that are 2^times times what they should be; `source` points to the
        channel's constants and moves behind them."""


@dataclass(frozen=True, slots=True)
class Line:
    """The attributes of `scale`; constants offset, multiplier."""

    up: int
    down: int
    low: int
    high: int

    @property
    def words(self) -> int:
        return 2

    @property
    def text(self) -> str:
        return f"q{self.up}_{self.down}{_clamp_text(self.low, self.high)}"

    @property
    def exact_shift(self) -> bool:
        return self.up == 8

    def value(self, acc: ir.Expr, constants: Sequence[ir.Expr]) -> ir.Expr:
        offset, multiplier = constants
        limits = {"up": self.up, "down": self.down, "low": self.low, "high": self.high}
        return ir.Cast(DType.I8, scaled(acc, multiplier, offset, **limits))

    def lines(
        self, sums: Sequence[str], times: int, source: str, spare: tuple[str, str]
    ) -> list[str]:
        offset, multiplier = spare
        return [f"ldm {source}!, {{{offset}, {multiplier}}}", *self.apply(sums, times, spare)]

    def apply(self, sums: Sequence[str], times: int, constants: tuple[str, str]) -> list[str]:
        """The same with the constants in registers."""
        offset, multiplier = constants
        out = [f"add {r}, {offset}, {r}{asm.shifted(self.up - times)}" for r in sums]
        out += [f"smmul {r}, {r}, {multiplier}" for r in sums]
        for r in sums:
            out += [f"ssat {r}, #8, {r}{asm.shifted(-self.down)}"]
            out += asm.clamp(r, self.low, self.high)
        return out


@dataclass(frozen=True, slots=True)
class Twice:
    """The limits of `requantize`; constants 2 * bias, multiplier, (2 * zero + 1) << (shift - 1),
    shift. Every shift is at least 1."""

    low: int
    high: int

    @property
    def words(self) -> int:
        return 4

    @property
    def text(self) -> str:
        return f"t{_clamp_text(self.low, self.high)}"

    @property
    def exact_shift(self) -> bool:
        return False

    def value(self, acc: ir.Expr, constants: Sequence[ir.Expr]) -> ir.Expr:
        bias, multiplier, zero, shift = constants
        total = ir.Bin("+", acc, ir.Bin(">>", bias, ir.i32(1)))
        rounded = ir.Call("round_shift", (ir.Call("high_mul", (total, multiplier)), shift))
        result = ir.Bin("+", rounded, ir.Bin(">>", zero, shift))
        return ir.Cast(DType.I8, clamped(result, self.low, self.high))

    def lines(
        self, sums: Sequence[str], times: int, source: str, spare: tuple[str, str]
    ) -> list[str]:
        first, second = spare
        load = f"ldm {source}!, {{{first}, {second}}}"
        return [load, *self.start(sums, times, spare), load, *self.finish(sums, spare)]

    def start(self, sums: Sequence[str], times: int, constants: tuple[str, str]) -> list[str]:
        """Up to the sum of the product and its sign, with 2 * bias and multiplier in registers."""
        bias, multiplier = constants
        out = [f"add {r}, {bias}, {r}{asm.shifted(1 - times)}" for r in sums]
        out += [f"smmulr {r}, {r}, {multiplier}" for r in sums]
        return out + [f"add {r}, {r}, {r}, asr #31" for r in sums]

    def finish(self, sums: Sequence[str], constants: tuple[str, str]) -> list[str]:
        """The rest, with zero and shift in registers."""
        zero, shift = constants
        out = [f"add {r}, {r}, {zero}" for r in sums]
        out += [f"asr {r}, {r}, {shift}" for r in sums]
        for r in sums:
            out += [f"ssat {r}, #8, {r}", *asm.clamp(r, self.low, self.high)]
        return out


def _clamp_text(low: int, high: int) -> str:
    text = "" if (low, high) == (-128, 127) else f"_{low}_{high}"
    return text.replace("-", "m")


def scaling_of(graph: Graph, group: Group) -> Scaling | None:
    """How the sums of the group's anchor become int8, if the next node does that with constants
    and nothing else reads them."""
    if len(group.nodes) < 2 or group.anchor is not group.nodes[0]:
        return None
    anchor, node, *rest = group.nodes
    sums = anchor.outputs[0]
    alone = node.inputs[0] == sums and not any(sums in n.inputs for n in rest)
    constants = (*anchor.inputs[1:], *node.inputs[1:])
    if (
        not alone
        or node.attrs.get("dtype") != "i8"
        or any(c not in graph.consts for c in constants)
    ):
        return None
    if node.op not in ("scale", "requantize"):
        return None
    low, high = (integer(node.attrs, k) for k in ("low", "high"))
    if node.op == "scale" and len(anchor.inputs) == 2:
        return Line(integer(node.attrs, "up"), integer(node.attrs, "down"), low, high)
    plain = integer(node.attrs, "zero_in", 0) == integer(node.attrs, "left_shift", 0) == 0
    if node.op != "requantize" or node.attrs["rounding"] != "right" or not plain:
        return None
    zero = integer(node.attrs, "zero_out")
    shift = graph.consts[node.inputs[2]].astype(np.int64)
    # zero << shift must be a word, and so must what is added to it.
    if not ((shift >= 1) & (shift <= 22)).all() or not -128 <= zero <= 127:
        return None
    return Twice(low, high)


def constants_of(graph: Graph, group: Group, channels: int) -> Array:
    """The constants of `scaling_of`: i32 [channels, words]."""
    anchor, node = group.nodes[:2]
    first, second = (graph.consts[v].astype(np.int64).reshape(-1) for v in node.inputs[1:])
    if node.op == "scale":
        columns = [second, first]
    else:
        bias = np.zeros(1, np.int64)
        if len(anchor.inputs) > 2:
            bias = graph.consts[anchor.inputs[2]].astype(np.int64).reshape(-1)
        zero = integer(node.attrs, "zero_out")
        columns = [2 * bias, first, (2 * zero + 1) << (second - 1), second]
    spread = [np.broadcast_to(c, (channels,)) for c in columns]
    return np.stack(spread, axis=1).astype(np.int32)


def constants_fit(graph: Graph, group: Group, scaling: Scaling, sums: Array) -> bool:
    """Whether twice every sum (its greatest magnitude without bias: `sums` [channels]) is a word,
    where that is needed."""
    if not isinstance(scaling, Twice):
        return True
    anchor = group.nodes[0]
    bias = np.zeros(1, np.int64)
    if len(anchor.inputs) > 2:
        bias = np.abs(graph.consts[anchor.inputs[2]].astype(np.int64)).reshape(-1)
    return bool((sums + bias).max(initial=0) < 1 << 30)
