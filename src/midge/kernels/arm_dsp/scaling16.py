"""From 32-bit sums of int16 layers to int16: exact short sequences, with constants per channel.

`Wide` is the rounding of int16 convolutions (`requantize` with "wide"), `Real` that of fully
connected layers (`requantize_real`). Shifts are the same for all channels: the multipliers have
fewer bits than a word (two words) holds, so they are shifted instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, DType
from midge.graph.attrs import integer
from midge.graph.ir import Graph, Node
from midge.graph.real_product import LOW_BITS
from midge.kernels.arm import assembler as asm
from midge.loop import ir
from midge.lower.scaling import clamped

_LEAST, _MOST = -32768, 32767
_GRAIN = 4  # shifts are multiples of it where there is a choice: more layers share their kernels


@dataclass(frozen=True, slots=True)
class Wide:
    """clamp((((acc + bias) * multiplier >> 32) + 2^(shift - 1)) >> shift); constants bias,
    multiplier. 1 <= shift <= 31; acc + bias and multiplier are words."""

    shift: int
    low: int = _LEAST
    high: int = _MOST

    @property
    def words(self) -> int:
        return 2

    def value(self, acc: ir.Expr, constants: Sequence[ir.Expr]) -> ir.Expr:
        """i16 of an accumulator, the meaning."""
        bias, multiplier = constants
        product = _product(ir.Bin("+", acc, bias), multiplier)
        return _result(_upper(product), self.shift, self.low, self.high)

    def lines(self, sums: Sequence[str], source: str, spare: Sequence[str]) -> list[str]:
        """Assembler; `source` points to the channel's constants and moves behind them. spare:
        four registers, in rising order."""
        bias, multiplier, half, _ = spare
        out = [f"ldm {source}!, {{{bias}, {multiplier}}}", f"mov {half}, #{1 << (self.shift - 1)}"]
        out += [f"add {r}, {r}, {bias}" for r in sums]
        out += [f"smmla {r}, {r}, {multiplier}, {half}" for r in sums]
        for r in sums:
            out += _narrow(r, r, self.shift, self.low, self.high)
        return out + _clamps(sums, self.low, self.high, bias)


@dataclass(frozen=True, slots=True)
class Real:
    """The same with the multiplier upper * 2^32 + lower and the product >> 64; constants bias,
    lower, upper. -2^31 <= lower < 2^31; |acc + bias| * upper < 2^62."""

    shift: int
    low: int = _LEAST
    high: int = _MOST

    @property
    def words(self) -> int:
        return 3

    def value(self, acc: ir.Expr, constants: Sequence[ir.Expr]) -> ir.Expr:
        """i16 of an accumulator, the meaning."""
        bias, lower, upper = constants
        total = ir.Bin("+", acc, bias)
        rest = ir.Cast(DType.I64, _upper(_product(total, lower)))
        product = ir.Bin("+", _product(total, upper), rest)
        return _result(_upper(product), self.shift, self.low, self.high)

    def lines(self, sums: Sequence[str], source: str, spare: Sequence[str]) -> list[str]:
        """As `Wide.lines`."""
        rest, lower, upper, result = spare
        out = [f"ldm {source}!, {{{rest}, {lower}, {upper}}}"]
        out += [f"add {r}, {r}, {rest}" for r in sums]
        for r in sums:
            out += [f"smmul {rest}, {r}, {lower}", f"mov {result}, #{1 << (self.shift - 1)}"]
            # The sign of the rest, which smlal adds to the product of 64 bits.
            out += [f"add {result}, {result}, {rest}, asr #31"]
            out += [f"smlal {rest}, {result}, {r}, {upper}"]
            out += _narrow(r, result, self.shift, self.low, self.high)
        return out + _clamps(sums, self.low, self.high, rest)


Scaling16 = Wide | Real


def _product(a: ir.Expr, b: ir.Expr) -> ir.Expr:
    return ir.Bin("*", ir.Cast(DType.I64, a), ir.Cast(DType.I64, b))


def _upper(product: ir.Expr) -> ir.Expr:
    return ir.Cast(DType.I32, ir.Bin(">>", product, ir.const(32, DType.I64)))


def _result(upper: ir.Expr, shift: int, low: int, high: int) -> ir.Expr:
    rounded = ir.Bin(">>", ir.Bin("+", upper, ir.i32(1 << (shift - 1))), ir.i32(shift))
    return ir.Cast(DType.I16, clamped(rounded, low, high))


def _narrow(target: str, source: str, shift: int, low: int, high: int) -> list[str]:
    """target = source >> shift, limited to what an int16 has of low..high in one instruction."""
    saturate = "usat" if (low, high) == (0, _MOST) else "ssat"
    return [f"{saturate} {target}, #{15 if saturate == 'usat' else 16}, {source}, asr #{shift}"]


def _clamps(sums: Sequence[str], low: int, high: int, spare: str) -> list[str]:
    """What `_narrow` leaves of the limits."""
    if (low, high) in ((_LEAST, _MOST), (0, _MOST)):
        return []
    out: list[str] = []
    for limit, beyond, whole in ((low, "lt", _LEAST), (high, "gt", _MOST)):
        if limit != whole:
            out += asm.constant(spare, limit & 0xFFFFFFFF)
            for r in sums:
                out += [f"cmp {r}, {spare}", f"it {beyond}", f"mov{beyond} {r}, {spare}"]
    return out


def scaling16(graph: Graph, node: Node, bias: Array, most: int) -> tuple[Scaling16, Array] | None:
    """How the plain `node` makes int16 of sums of products once `bias` (i64 [channels]) is added,
    and the constants for it, i32 [channels, words]; None if it does not, or if another sequence is
    needed. most: no sum is greater with its bias, 0 < most < 2^31."""
    constant = all(name in graph.consts for name in node.inputs[1:])
    if node.attrs.get("dtype") != "i16" or not constant or integer(node.attrs, "zero_out", 0):
        return None
    consts = [graph.consts[v].astype(np.int64).reshape(-1) for v in node.inputs[1:]]
    spread = [np.broadcast_to(c, bias.shape) for c in consts]
    if node.op == "requantize" and node.attrs["rounding"] == "wide":
        plain = integer(node.attrs, "zero_in", 0) == integer(node.attrs, "left_shift", 0) == 0
        made = _wide(*spread) if plain else None
        kind: type[Wide] | type[Real] = Wide
    elif node.op == "requantize_real":
        high_part, low_part, right = spread
        made, kind = _real(high_part, low_part, right, most), Real
    else:
        return None
    if made is None:
        return None
    shift, columns = made
    low, high = (integer(node.attrs, k) for k in ("low", "high"))
    return kind(shift, low, high), np.stack([bias, *columns], axis=1).astype(np.int32)


def _wide(multiplier: Array, shift: Array) -> tuple[int, list[Array]] | None:
    """Of 16 bits and to be shifted by 15 - shift: the common shift, the multipliers."""
    right = 15 - shift
    common = _common(int((right - 32).max()), int((right - 16).min()))
    if common is None or multiplier.min() < 0 or multiplier.max() >= 1 << 15:
        return None
    return common, [multiplier << (common + 32 - right)]


def _real(high: Array, low: Array, shift: Array, most: int) -> tuple[int, list[Array]] | None:
    """Binary64 numbers (high * 2^27 + low) * 2^-shift: the common shift, the multipliers' words."""
    mantissa = (high << LOW_BITS) + low
    common = _common(int((shift - 64).max()), int((shift - 55).min()))
    pairs = set(zip(mantissa.tolist(), shift.tolist(), strict=True))
    if common is None or not all(_no_ties(m, s, most) for m, s in pairs):
        return None
    multiplier = mantissa << (common + 64 - shift)
    lower = ((multiplier + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
    return common, [lower, (multiplier - lower) >> 32]


def _common(least: int, most: int) -> int | None:
    """A shift in both least..most and 1..31."""
    least, most = max(least, 1), min(most, 31)
    whole = most - most % _GRAIN
    return None if least > most else whole if whole >= least else most


def _no_ties(mantissa: int, shift: int, most: int) -> bool:
    """Whether rounding x * mantissa * 2^-shift to binary64, then ties away from zero, is the same
    as floor(that + 1/2) exactly, for every |x| <= most and an int16 result.

    They differ where the product is a tie, or so little less that binary64 makes it one.
    """
    if mantissa == 0:
        return True
    odd = 2 * np.arange(1 << 15) + 1  # twice the ties
    x = odd * 2.0 ** (shift - 1) / mantissa
    # The quotient is known to 2^-52 of itself; the next integer below within 2^-53 is what counts.
    near = (x <= most + 1) & (np.abs(x - np.round(x)) <= np.ldexp(x, -50))
    for tie in odd[near].tolist():
        exact = tie << (shift - 1)
        if exact // mantissa <= most and (exact % mantissa) << 53 < exact:
            return False
    return True
