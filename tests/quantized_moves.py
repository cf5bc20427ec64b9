"""Integers that are named and moved, written down: what nearly is what the passes on quantised
models look for."""

from __future__ import annotations

from quantized_texts import BY_COLUMN, BY_ROW, island

NAMES = {
    "two names of an input": """graph g(x: i8[4]):
  a: i8[4]{0.1; 3} = copy(x)
  b: i8[4]{0.2; -5} = copy(x)
  A: f32[4] = dequantize(a)
  B: f32[4] = dequantize(b)
  t: f32[4] = add(A, B)
  return t""",
    "a copy without a scale": """graph g(x: i8[4]):
  const c: i8[4] = [1, 2, 3, 4]
  a: i8[4]{0.1; 3} = copy(x)
  b: i8[4] = copy(x)
  d: i8[4] = copy(c)
  A: f32[4] = dequantize(a)
  B: f32[4] = cast(b, dtype="f32")
  D: f32[4] = cast(d, dtype="f32")
  s: f32[4] = add(A, B)
  t: f32[4] = add(s, D)
  return t""",
    "an input that is compared, stays": """graph g(x: i8[4]):
  const c: i8[4] = [1, 2, 3, 4]
  a: i8[4]{0.1; 3} = copy(x)
  b: bool[4] = less(x, c)
  A: f32[4] = dequantize(a)
  B: f32[4] = cast(b, dtype="f32")
  t: f32[4] = add(A, B)
  return t""",
    "an input that is cast and moved": """graph g(x: i8[4]):
  a: i8[4]{0.1; 3} = copy(x)
  b: f32[4] = cast(x, dtype="f32")
  c: i8[2x2] = reshape(x, shape=(2 2))
  A: f32[4] = dequantize(a)
  t: f32[4] = add(A, b)
  return t, c""",
    "an input that is pooled": """graph g(x: i8[1x2x2x1]):
  a: i8[1x2x2x1]{0.1; 3} = copy(x)
  b: i8[1x1x2x1] = max_pool2d(x, window=(2 1), dilations=(1 1), padding=(0 0 0 0), strides=(1 1))
  t: f32[1x2x2x1] = dequantize(a)
  return t, b""",
    "an input that has a name": """graph g(x: i8[4]{0.1; 3}):
  a: i8[4]{0.1; 3} = copy(x)
  b: f32[4] = dequantize(x)
  A: f32[4] = dequantize(a)
  t: f32[4] = add(A, b)
  return t""",
    "named, and named back": """graph g(x: f32[4]):
  a: i8[4]{0.1; 3} = quantize(x, dtype="i8", rounding="even")
  b: i8[4] = copy(a)
  c: i8[4]{0.1; 3} = copy(b)
  t: f32[4] = dequantize(c)
  return t""",
    "named, and named otherwise, stays": """graph g(x: f32[4]):
  a: i8[4]{0.1; 3} = quantize(x, dtype="i8", rounding="even")
  b: i8[4] = copy(a)
  c: i8[4]{0.1; 4} = copy(b)
  t: f32[4] = dequantize(c)
  return t""",
    "the other sign, and back": """graph g(x: f32[4]):
  a: i8[4]{0.1; 3} = quantize(x, dtype="i8", rounding="even")
  b: u8[4] = flip_sign(a)
  c: i8[4]{0.1; 3} = flip_sign(b)
  t: f32[4] = dequantize(c)
  return t""",
    "an input of the other sign stays": """graph g(x: u8[4]):
  a: i8[4]{0.1; 3} = flip_sign(x)
  t: f32[4] = dequantize(a)
  return t""",
    "a constant of the other sign": """graph g(x: f32[4]):
  const c: u8[4] = [0, 127, 128, 255]
  a: i8[4]{0.1; 3} = flip_sign(c)
  A: f32[4] = dequantize(a)
  t: f32[4] = add(x, A)
  return t""",
}


def moved(before: str, quant: str, values: int, made: str, shape: str) -> str:
    """A constant that is moved, then multiplied."""
    listed = list(range(-3, values - 3))
    return island(
        [f"x: f32[{shape}]", f"w: i8[{before}]{{{quant}}} = {listed}"],
        f"m: f32[{shape}] = {made}\n t: f32[{shape}] = mul(x, m)",
    )  # fmt: skip


def bordered(value: float, quant: str = "0.5; 3") -> str:
    return moved("2x3", quant, 6, f"pad(W, paddings=(0 0 1 0), value={value})", "2x4")


MOVED = {
    "bytes and words, stays": island(
        ["a: i8[2]{0.1; 0}", "b: i16[2]{0.1; 0}"], "t: f32[4] = concat(A, B, axis=0)"
    ),
    "two scales, stays": island(
        ["a: i8[2]{0.1; 0}", "b: i8[2]{0.2; 0}"], "t: f32[4] = concat(A, B, axis=0)"
    ),
    "one scale": island(
        ["a: i8[2]{0.1; 0}", "b: i8[2]{0.1; 0}"], "t: f32[4] = concat(A, B, axis=0)"
    ),
    "a constant beside it": island(
        ["a: i8[2]{0.1; 0}", "b: i8[2]{0.1; 0} = [5, -7]"], "t: f32[4] = concat(A, B, axis=0)"
    ),
    "constants alone": island(
        ["x: f32[4]", "a: i8[2]{0.1; 0} = [1, 2]", "b: i8[2]{0.1; 0} = [5, -7]"],
        "c: f32[4] = concat(A, B, axis=0)\nt: f32[4] = add(x, c)",
    ),
    "an axis of one behind": moved("2x3", BY_ROW, 6, "reshape(W, shape=(2 3 1))", "2x3x1"),
    "an axis of one in front": moved("2x3", BY_ROW, 6, "reshape(W, shape=(1 2 3))", "1x2x3"),
    "columns apart": moved("2x6", BY_ROW, 12, "reshape(W, shape=(2 2 3))", "2x2x3"),
    "channels apart stay": moved(
        "4x3", "0.1 0.2 0.3 0.4; 1 2 3 4 axis 0", 12, "reshape(W, shape=(2 2 3))", "2x2x3"
    ),
    "channels with what is around them stay": moved(
        "2x3", BY_ROW, 6, "reshape(W, shape=(6))", "6"
    ),
    "as many, but others, stay": moved("3x2", BY_COLUMN, 6, "reshape(W, shape=(2 3))", "2x3"),
    "turned": moved("2x3", BY_ROW, 6, "transpose(W, perm=(1 0))", "3x2"),
    "a copy": moved("2x3", BY_ROW, 6, "copy(W)", "2x3"),
    "a part, with a scale for each, stays": moved(
        "2x3", BY_ROW, 6, "slice(W, begin=(0 1), size=(2 2), strides=(1 1))", "2x2"
    ),
    "a part, with one scale": moved(
        "2x3", "0.1; 3", 6, "slice(W, begin=(0 1), size=(2 2), strides=(1 1))", "2x2"
    ),
    "a border with a scale for each, stays": bordered(0.0, BY_ROW),
    "a border that has an integer": bordered(2.5),
    "a border between two integers, stays": bordered(2.25),
    "the greatest border": bordered(62.0),
    "a border beyond, stays": bordered(62.5),
    "the least border": bordered(-65.5),
    "a border below, stays": bordered(-66.0),
}  # fmt: skip
