"""Packed loads: several narrow elements as one word."""

from __future__ import annotations

from midge.core.types import DType
from midge.kernels.arm_dsp import halves
from midge.loop import ir
from midge.loop.instruction import Instruction


def _instruction(name: str, dtype: DType, word: ir.Expr) -> Instruction:
    count = 4 // dtype.size
    params = (
        ir.Param("x", dtype, (count,), "in"),
        ir.Param("word", DType.I32, (1,), "out"),
    )
    # One turn: Tensorize looks for a loop.
    body = (ir.Loop("one", 1, (ir.Store("word", (ir.Var("one"),), word),)),)
    meaning = ir.Func(name, params, body)
    return Instruction(name, meaning, f"midge_{name}({{x}}, {{word}});", "midge_dsp.h", 2)


def _element(at: int) -> ir.Expr:
    return ir.Cast(DType.I32, ir.Load("x", (ir.i32(at),)))


def _pair(low: int) -> ir.Expr:
    """Two bytes as the sixteen bits that they are in memory, with the sign of the second."""
    upper = ir.Bin("*", _element(low + 1), ir.i32(256))
    return ir.Bin("+", upper, ir.Bin("&", _element(low), ir.i32(255)))


LOAD_BYTES = _instruction("load_bytes", DType.I8, halves.word(_pair(0), _pair(2)))
LOAD_HALVES = _instruction("load_halves", DType.I16, halves.word(_element(0), _element(1)))
