"""Small loop programs that several tests share, and how to run them on arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from midge.core.types import Array
from midge.loop import ir
from midge.loop.evaluate import evaluate
from midge.loop.instruction import Instruction
from midge.loop.text import parse_func


def dot(n: int = 10) -> ir.Func:
    return parse_func(f"""
func dot(a: i16[{n}] in, b: i16[{n}] in, y: i32[1] inout):
  for i in {n}:
    y[0] = y[0] + i32(a[i]) * i32(b[i])
""")


def matmul(rows: int = 4, cols: int = 6, depth: int = 6) -> ir.Func:
    return parse_func(f"""
func matmul(x: i8[{rows}x{depth}] in, w: i8[{cols}x{depth}] const, b: i32[{cols}] const,
            y: i32[{rows}x{cols}] out):
  for m in {rows}:
    for n in {cols}:
      alloc acc: i32
      acc = b[n]
      for k in {depth}:
        acc = acc + i32(x[m, k]) * i32(w[n, k])
      y[m, n] = acc
""")


def conv(
    height: int = 4, width: int = 5, depth: int = 2, channels: int = 4, stride: int = 1
) -> ir.Func:
    """3x3 with one row and column of padding on each side, requantised."""
    rows, cols = (height - 1) // stride + 1, (width - 1) // stride + 1
    ih, iw = f"oh * {stride} + kh - 1", f"ow * {stride} + kw - 1"
    return parse_func(f"""
func conv(x: i8[{height}x{width}x{depth}] in, w: i8[{channels}x3x3x{depth}] const,
          b: i32[{channels}] const, y: i8[{rows}x{cols}x{channels}] out):
  for oh in {rows}:
    for ow in {cols}:
      for oc in {channels}:
        alloc acc: i32
        acc = b[oc]
        for kh in 3:
          for kw in 3:
            if 0 <= {ih} and {ih} < {height} and 0 <= {iw} and {iw} < {width}:
              for ic in {depth}:
                acc = acc + i32(x[{ih}, {iw}, ic]) * i32(w[oc, kh, kw, ic])
        y[oh, ow, oc] = i8(max(-128, min(127, requantize_twice(acc, 1518500250, -5) + 3)))
""")


def depthwise(size: int = 3, channels: int = 3, stride: int = 2) -> ir.Func:
    """3x3 without padding, with a zero point."""
    full = (size - 1) * stride + 3
    return parse_func(f"""
func depthwise(x: i8[{full}x{full}x{channels}] in, w: i8[3x3x{channels}] const,
               y: i32[{size}x{size}x{channels}] out):
  for oh in {size}:
    for ow in {size}:
      for c in {channels}:
        alloc acc: i32
        acc = 0
        for kh in 3:
          for kw in 3:
            acc = acc + (i32(x[oh * {stride} + kh, ow * {stride} + kw, c]) - 4) * i32(w[kh, kw, c])
        y[oh, ow, c] = acc
""")


def elementwise(rows: int = 3, cols: int = 8) -> ir.Func:
    return parse_func(f"""
func elementwise(x: i8[{rows}x{cols}] in, z: i8[{cols}] in, y: i8[{rows}x{cols}] out):
  for i in {rows}:
    for j in {cols}:
      alloc t: i32
      t = i32(x[i, j]) + i32(z[j])
      y[i, j] = i8(select(t < 0, 0, min(t, 127)))
""")


def pool(rows: int = 6, channels: int = 3) -> ir.Func:
    """Maximum of 3 rows, stride 2, that end with the input."""
    out = (rows + 1) // 2
    return parse_func(f"""
func pool(x: i8[{rows}x{channels}] in, y: i8[{out}x{channels}] out):
  for o in {out}:
    for c in {channels}:
      alloc best: i32
      best = -128
      for k in 3:
        if o * 2 + k < {rows}:
          best = max(best, i32(x[o * 2 + k, c]))
      y[o, c] = i8(best)
""")


def stages(size: int = 8, taps: int = 3, depth: int = 2) -> ir.Func:
    """A local buffer filled by an accumulation, then a sliding sum over it."""
    full = size + taps - 1
    return parse_func(f"""
func stages(x: i8[{full}x{depth}] in, y: i32[{size}] out):
  alloc t: i32[{full}]
  for i in {full}:
    t[i] = 7
    for d in {depth}:
      t[i] = t[i] + i32(x[i, d]) * 2
  for o in {size}:
    alloc acc: i32
    acc = 0
    for k in {taps}:
      acc = acc + t[o + k]
    y[o] = acc
""")


def float_sum(rows: int = 3, cols: int = 5) -> ir.Func:
    return parse_func(f"""
func float_sum(x: f32[{rows}x{cols}] in, y: f32[{rows}] out):
  for i in {rows}:
    y[i] = 0.0
    for j in {cols}:
      y[i] = y[i] + x[i, j]
""")


def softmax(rows: int = 2, cols: int = 4) -> ir.Func:
    return parse_func(f"""
func softmax(x: f32[{rows}x{cols}] in, y: f32[{rows}x{cols}] out):
  for r in {rows}:
    alloc top: f32
    top = -inf
    for i in {cols}:
      top = max(top, x[r, i])
    alloc total: f32
    total = 0.0
    alloc e: f32[{cols}]
    for j in {cols}:
      e[j] = exp(x[r, j] - top)
      total = total + e[j]
    for k in {cols}:
      y[r, k] = e[k] / total
""")


def recurrence(rows: int = 3, cols: int = 6) -> ir.Func:
    """A running sum along each row: its iterations cannot change order."""
    return parse_func(f"""
func recurrence(x: i8[{rows}x{cols}] in, y: i32[{rows}x{cols}] inout):
  for r in {rows}:
    for i in {cols - 1}:
      y[r, i + 1] = y[r, i] + i32(x[r, i + 1])
""")


def skewed(size: int = 6) -> ir.Func:
    """Each element needs one of the previous row and the next column."""
    return parse_func(f"""
func skewed(x: i8[{size}] in, y: i32[{size + 1}x{size + 1}] inout):
  for i in {size}:
    for j in {size}:
      y[i + 1, j] = y[i, j + 1] + i32(x[j])
""")


PROGRAMS: tuple[Callable[..., ir.Func], ...] = (
    dot, matmul, conv, depthwise, elementwise, pool, stages, float_sum, softmax, recurrence, skewed,
)  # fmt: skip


def dot_instruction(lanes: int, a: str = "i16", b: str = "i16") -> Instruction:
    """y += sum over `lanes` of a[k] * b[k]."""
    name = f"dot_{a}_{b}_{lanes}"
    meaning = parse_func(f"""
func {name}(a: {a}[{lanes}] in, b: {b}[{lanes}] in, y: i32 inout):
  for k in {lanes}:
    y = y + i32(a[k]) * i32(b[k])
""")
    return Instruction(name, meaning, "dot({a}, {b}, {y});")


def memory_for(func: ir.Func, seed: int) -> dict[str, Array]:
    """Random contents of every parameter, small enough that no sum overflows."""
    rng = np.random.default_rng(seed)
    memory: dict[str, Array] = {}
    for p in func.params:
        if p.dtype.is_float:
            memory[p.name] = rng.normal(size=p.shape).astype(p.dtype.numpy)
        else:
            memory[p.name] = rng.integers(-128, 128, p.shape).astype(p.dtype.numpy)
    return memory


def run(
    func: ir.Func,
    memory: Mapping[str, Array],
    instructions: Mapping[str, Instruction] | None = None,
) -> dict[str, bytes]:
    """The bytes of every parameter that can change, after a run on a copy of `memory`."""
    copies = {name: np.array(a) for name, a in memory.items()}
    evaluate(func, copies, {n: i.meaning for n, i in (instructions or {}).items()})
    return {p.name: copies[p.name].tobytes() for p in func.params if p.mode != "const"}
