"""Two int16 in a word: the lower one first."""

from __future__ import annotations

import numpy as np

from midge.core.types import Array
from midge.loop import ir


def pack(low: Array, high: Array) -> Array:
    """Words of two integers each, -2^15 to 2^15 - 1: i32."""
    words: Array = (
        ((high.astype(np.int64) << 16) | (low.astype(np.int64) & 0xFFFF))
        .astype(np.uint32)
        .view(np.int32)
    )
    return words


def word(low: ir.Expr, high: ir.Expr) -> ir.Expr:
    """The word of two i32 that fit."""
    return ir.Bin("+", ir.Bin("*", high, ir.i32(1 << 16)), ir.Bin("&", low, ir.i32(0xFFFF)))


def low(e: ir.Expr) -> ir.Expr:
    """The lower half of a word, with its sign."""
    shifted = ir.Bin("^", ir.Bin("&", e, ir.i32(0xFFFF)), ir.i32(0x8000))
    return ir.Bin("-", shifted, ir.i32(0x8000))


def high(e: ir.Expr) -> ir.Expr:
    return ir.Bin(">>", e, ir.i32(16))
