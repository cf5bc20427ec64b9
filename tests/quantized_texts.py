"""Float operators between dequantisation and quantisation, written down: what nearly is what the
passes on them look for."""

from __future__ import annotations

import re
from collections.abc import Sequence

EVEN = 'dtype="i8", rounding="even"'
X, Y = "x: i8[2x3]{0.05; -3}", "i8[2x2]{0.1; 4}"
SCALES = "0.02 0.03 0.05"
ROWS = "[100, -90, 3, 0, 127, -127]"  # of weights
ONE = "dilations=(1 1), padding=(0 0 0 0), strides=(1 1)"


def island(given: Sequence[str], made: str, y: str = "", how: str = EVEN) -> str:
    """A graph. given: inputs, and constants with a value; of those with a scale, `X` is what `x`
    stands for.  made: the lines that make the value t.  y: the type that t is quantised to."""
    inputs = [g for g in given if "=" not in g]
    lines = [f"  const {g}" for g in given if "=" in g]
    for name, shape in re.findall(r"(\w+): \w+\[([\dx]*)\]\{", "\n".join(given)):
        lines.append(f"  {name.upper()}: f32[{shape}] = dequantize({name})")
    lines += [f"  {line.strip()}" for line in made.strip().splitlines()]
    if y:
        lines.append(f"  y: {y} = quantize(t, {how})")
    return "\n".join([f"graph g({', '.join(inputs)}):", *lines, f"  return {'y' if y else 't'}"])


def weights(dtype: str, shape: str, quant: str, values: str = ROWS) -> str:
    return f"w: {dtype}[{shape}]{{{quant}}} = {values}"


COLUMNS = weights("i8", "3x2", "0.02; 0")
TURNED = weights("i8", "2x3", "0.02; 0")
BY_COLUMN, BY_ROW = "0.02 0.03; 0 0 axis 1", "0.02 0.03; 0 0 axis 0"
BY_THREE = f"{SCALES}; 0 0 0 axis"
PRODUCT = "t: f32[2x2] = matmul(X, W)"
TURNED_PRODUCT = "t: f32[2x2] = matmul(X, W, transpose_b=1)"

MATRICES = {
    "a matrix": island([X, COLUMNS], PRODUCT, Y),
    "to wider integers stays": island(
        [X, COLUMNS], PRODUCT, "i16[2x2]{0.1; 0}", 'dtype="i16", rounding="even"'
    ),
    "of wider integers stays": island(["x: i16[2x3]{0.05; 0}", COLUMNS], PRODUCT, Y),
    "a matrix that is not turned": island(
        [X, COLUMNS], "t: f32[2x2] = matmul(X, W, transpose_a=0, transpose_b=0)", Y
    ),
    "a turned matrix": island([X, TURNED], TURNED_PRODUCT, Y),
    "turned rows": island(
        ["x: i8[3x2]{0.05; -3}", COLUMNS], "t: f32[2x2] = matmul(X, W, transpose_a=1)", Y
    ),
    "a scale for each column": island([X, weights("i8", "3x2", BY_COLUMN)], PRODUCT, Y),
    "a scale for each column, turned": island(
        [X, weights("i8", "2x3", BY_ROW)], TURNED_PRODUCT, Y
    ),
    "a scale for each row stays": island([X, weights("i8", "3x2", f"{BY_THREE} 0")], PRODUCT, Y),
    "a scale for each row, turned, stays": island(
        [X, weights("i8", "2x3", f"{BY_THREE} 1")], TURNED_PRODUCT, Y
    ),
    "a matrix in a batch": island(
        [X, weights("i8", "1x3x2", "0.02; 0")], "t: f32[1x2x2] = matmul(X, W)", "i8[1x2x2]{0.1; 4}"
    ),
    "a batch by a matrix": island(
        ["x: i8[1x2x3]{0.05; -3}", COLUMNS], "t: f32[1x2x2] = matmul(X, W)", "i8[1x2x2]{0.1; 4}"
    ),
    "bytes by words, stays": island([X, "w: i16[3x2]{0.001; 0}"], PRODUCT, Y),
    "two activations": island([X, "w: i8[3x2]{0.01; 7}"], PRODUCT, Y),
    "two turned activations": island(
        ["x: i8[3x2]{0.05; -3}", "w: i8[2x3]{0.01; 7}"],
        "t: f32[2x2] = matmul(X, W, transpose_a=1, transpose_b=1)", Y,
    ),
    "reals by a matrix, stays": island(["X: f32[2x3]", COLUMNS], PRODUCT, Y),
    "words by a matrix": island(["x: i16[2x3]{0.001; 0}", COLUMNS], PRODUCT,
                                "i16[2x2]{0.002; 0}", 'dtype="i16", rounding="even"'),
}  # fmt: skip

MEAN = "t: f32[2x1] = mean(X, axes=(1))"
ORDERED = 't: f32[2x1] = mean(X, axes=(1), order="lanes")'
RESULTS = {
    "a mean": island([X], MEAN, "i8[2x1]{0.1; 4}"),
    "a mean of unsigned bytes stays": island(["x: u8[2x3]{0.05; 3}"], MEAN, "i8[2x1]{0.1; 4}"),
    "an order that decides nothing": island([X], ORDERED, "i8[2x1]{0.0371; 4}"),
    "an order that decides, stays": island(
        ["x: i8[2x4]{0.5; -3}"], ORDERED, "i8[2x1]{1.0; 4}"
    ),
    "an order of reals that decides, stays": island(["X: f32[2x4]"], ORDERED, "i8[2x1]{1.0; 4}"),
    "ties away from zero stay": island([X, TURNED], "t: f32[2x2] = dense(X, W)", Y, 'dtype="i8"'),
    "plain integers, stays": island(
        [X, TURNED], "t: f32[2x2] = dense(X, W)", "i8[2x2]", f"{EVEN}, scale=0.1, zero=4"
    ),
    "a result by channels, stays": island(
        [X, TURNED], "t: f32[2x2] = dense(X, W)", "i8[2x2]{0.1 0.2; 0 0 axis 1}"
    ),
    "unsigned bytes, stays": island(
        [X, TURNED], "t: f32[2x2] = dense(X, W)", "u8[2x2]{0.1; 4}", 'dtype="u8", rounding="even"'
    ),
    "a sum of both stays": island([X], "t: f32[2x3] = add(X, X)", "i8[2x3]{0.1; 4}"),
    "what others make, stays": island(["t: f32[2x3]", X], "u: f32[2x3] = add(X, t)",
                                      "i8[2x3]{0.1; 4}").replace("return y", "return y, u"),
    "limits of it": island(
        [X, TURNED], """
        s: f32[2x2] = dense(X, W, activation="relu6")
        u: f32[1x4] = reshape(s, shape=(1 4))
        t: f32[1x4] = clip(u, low=0.3, high=2.0)""", "i8[1x4]{0.1; 4}",
    ),
    "as it was": island([X], "t: f32[2x3] = copy(X)", "i8[2x3]{0.05; -3}"),
    "as it was, and on": island(
        [X, TURNED], """
        q: i8[2x3]{0.05; -3} = quantize(X, dtype="i8", rounding="even")
        Q: f32[2x3] = dequantize(q)
        t: f32[2x2] = dense(Q, W)""", Y,
    ),
    "a scale that is not known, stays": """graph g(x: i8[2x3]):
  const w: i8[2x3]{0.02; 0} = [100, -90, 3, 0, 127, -127]
  X: f32[2x3] = dequantize(x)
  W: f32[2x3] = dequantize(w)
  s: f32[2x3] = copy(X)
  t: f32[2x2] = dense(s, W)
  y: i8[2x2]{0.1; 4} = quantize(t, dtype="i8", rounding="even")
  return y""",
}  # fmt: skip


def dense(w: str, x: str = X, more: Sequence[str] = (), y: str = Y) -> str:
    bias = ", B" if any(m.startswith("b: ") for m in more) else ""
    bias = ", v" if any(m.startswith("v: ") for m in more) else bias
    how = EVEN.replace("i8", y.partition("[")[0])
    return island([x, w, *more], f"t: f32[2x2] = dense(X, W{bias})", y, how)


def centred(dtype: str, zero: int, values: str, x: str = X, y: str = Y) -> str:
    return dense(weights(dtype, "2x3", f"0.02; {zero}", values), x, y=y)


WORDS, WORDS_OUT = "x: i16[2x3]{0.001; 0}", "i16[2x2]{0.002; 0}"
IMAGE = "x: i8[1x2x2x2]{0.05; -3}"
CONV = f"t: f32[1x2x2x2] = conv2d(X, W, {ONE})"
DEPTHWISE = f"t: f32[1x2x2x2] = depthwise_conv2d(X, W, {ONE})"
IMAGE_OUT = "i8[1x2x2x2]{0.1; 4}"
WEIGHTS = {
    "a scale for each output": dense(weights("i8", "2x3", BY_ROW)),
    "a zero point for each output": dense(weights("i8", "2x3", "0.02 0.03; 1 -1 axis 0")),
    "a scale for each input, stays": dense(weights("i8", "2x3", f"{BY_THREE} 1")),
    "a convolution": island([IMAGE, weights("i8", "2x1x1x2", BY_ROW, "[1, 2, 3, -4]")], CONV,
                            IMAGE_OUT),
    "a convolution with a scale for each input, stays": island(
        [IMAGE, weights("i8", "2x1x1x2", "0.02 0.03; 0 0 axis 3", "[1, 2, 3, -4]")], CONV,
        IMAGE_OUT,
    ),
    "a depthwise convolution": island(
        [IMAGE, weights("i8", "1x1x1x2", "0.02 0.03; 1 2 axis 3", "[3, -4]")], DEPTHWISE, IMAGE_OUT
    ),
    "a depthwise convolution with a scale for all": island(
        [IMAGE, weights("i8", "1x1x1x2", "0.02; 1", "[3, -4]")], DEPTHWISE, IMAGE_OUT
    ),
    "a depthwise convolution with a scale elsewhere, stays": island(
        [IMAGE, weights("i8", "1x1x1x2", "0.02; 0 axis 0", "[3, -4]")], DEPTHWISE, IMAGE_OUT
    ),
    "weights of 32 bits stay": centred("i32", 0, "[1, 2, 3, 4, 5, 6]"),
    "unsigned weights stay": centred("u8", 0, "[1, 2, 3, 4, 5, 6]"),
    "words that are bytes": centred("i16", 0, "[127, -128, 3, 4, 5, 6]"),
    "words that are bytes once centred": centred("i16", 10, "[137, -118, 3, 4, 5, 6]"),
    "words, by one": centred("i16", 10, "[138, -118, 3, 4, 5, 6]"),
    "words, by one below": centred("i16", 10, "[137, -119, 3, 4, 5, 6]"),
    "bytes that are words once centred": centred("i8", 1, "[127, -128, 3, 4, 5, 6]"),
    "words by bytes": centred("i8", 1, "[127, -127, 3, 4, 5, 6]", WORDS, WORDS_OUT),
    "words by plain bytes": centred("i8", 0, "[127, -127, 3, 4, 5, 6]", WORDS, WORDS_OUT),
    "the greatest words": centred("i16", -1, "[32766, -32768, 3, 4, 5, 6]"),
    "the least words": centred("i16", 1, "[32767, -32767, 3, 4, 5, 6]"),
    "beyond words, stays": centred("i16", -1, "[32767, 0, 3, 4, 5, 6]"),
    "below words, stays": centred("i16", 1, "[0, -32768, 3, 4, 5, 6]"),
    "weights that come in, stay": dense("w: i8[2x3]{0.02; 0}"),
    "unsigned rows stay": dense(TURNED, "x: u8[2x3]{0.05; 3}"),
    "wide rows stay": dense(TURNED, "x: i32[2x3]{1e-8; 3}"),
    "real rows stay": dense(TURNED, "X: f32[2x3]"),
    "real weights stay": dense("W: f32[2x3] = [1, 2, 3, 4, 5, 6]"),
}  # fmt: skip


def biased(b: str, quant: str = "0.02; 0") -> str:
    return dense(weights("i8", "2x3", quant), more=[b])


BIASES = {
    "in units of the products": biased("b: i32[2]{0.001; 0} = [700, -900]"),
    "in nearly these units": biased("b: i32[2]{0.001000005; 0} = [700, -900]"),
    "in other units": biased("b: i32[2]{0.00101; 0} = [700, -900]"),
    "with a zero point": biased("b: i32[2]{0.001; 5} = [700, -900]"),
    "of bytes": biased("b: i8[2]{0.001; 0} = [70, -90]"),
    "of words in other units": biased("b: i16[2]{0.01; 3} = [70, -90]"),
    "in units of each": biased("b: i32[2]{0.001 0.0015; 0 0 axis 0} = [700, -900]", BY_ROW),
    "in units of one of each": biased("b: i32[2]{0.001; 0} = [700, -900]", BY_ROW),
    "in units of the other": biased("b: i32[2]{0.0015 0.001; 0 0 axis 0} = [700, -900]", BY_ROW),
    "that comes in, stays": biased("b: i32[2]{0.001; 0}"),
    "of bytes that comes in, stays": biased("b: i8[2]{0.001; 0}"),
    "of reals": biased("v: f32[2] = [0.7, -0.9]"),
    "of reals that comes in, stays": biased("v: f32[2]"),
}


def real(w: str, op: str = "dense(X, W)", x: str = X, shape: str = "2x2") -> str:
    return island([x, w], f"t: f32[{shape}] = {op}")


POOL = "avg_pool2d({}, window=(1 1), " + ONE + ")"
REALS = {
    "a layer": real(TURNED),
    "with a scale for each": real(weights("i8", "2x3", BY_ROW)),
    "with a zero point": real(weights("i8", "2x3", "0.02; 1", "[1, 2, 3, 4, 5, 6]")),
    "an activation": real(TURNED, 'dense(X, W, activation="relu")'),
    "a bias and an activation": island(
        [X, TURNED, "v: f32[2] = [0.7, -0.9]"],
        't: f32[2x2] = dense(X, W, v, activation="relu6")',
    ),
    "a bias of integers": island(
        [X, TURNED, "b: i32[2]{0.001; 0} = [700, -900]"], "t: f32[2x2] = dense(X, W, B)"
    ),
    "a border": island(
        [IMAGE, weights("i8", "2x1x1x2", BY_ROW, "[1, 2, 3, -4]")],
        "t: f32[1x3x4x2] = conv2d(X, W, dilations=(1 1), padding=(1 0 1 1), strides=(1 1))",
    ),
    "words stay": real(TURNED, x=WORDS),
    "words by words stay": real(weights("i16", "2x3", "0.02; 0", "[1000, 2, 3, 4, 5, 6]"), x=WORDS),
    "bytes by words stay": real(weights("i16", "2x3", "0.02; 0", "[1000, 2, 3, 4, 5, 6]")),
    "a pool of bytes stays": island(
        [IMAGE, weights("i8", "2x1x1x2", "0.02; 0", "[1, 2, 3, -4]")],
        f"p: f32[1x2x2x2] = {POOL.format('x, scale=0.5, zero=-3')}\n"
        + CONV.replace("X", "p"),
    ),
    "a scale that is not known, stays": """graph g(x: i8[2x3]):
  const w: i8[2x3]{0.02; 0} = [100, -90, 3, 0, 127, -127]
  X: f32[2x3] = dequantize(x)
  W: f32[2x3] = dequantize(w)
  t: f32[2x2] = dense(X, W)
  return t""",
}  # fmt: skip


def averaged(shape: str, axes: str, kept: str, quant: str = "0.05; -3", dtype: str = "i8") -> str:
    return island(
        [f"x: {dtype}[{shape}]{{{quant}}}"],
        f't: f32[{kept}] = mean(X, axes=({axes}), order="lanes")', f"i8[{kept}]{{0.1; 4}}",
    )  # fmt: skip


def pooled(x: str, more: str = "", y: str = "") -> str:
    body = f"t: f32[1x2x2x2] = {POOL.format('X' + more)}"
    return island([x], body, y)


ORDERS = {
    "an image, channels first": averaged("2x3x2x3", "2 3", "2x3x1x1"),
    "an image, channels last": averaged("1x2x3x2", "1 2", "1x1x1x2"),
    "a series": averaged("1x2x5", "2", "1x2x1"),
    "a space": averaged("1x2x2x1x3", "2 3 4", "1x2x1x1x1"),
    "nothing": averaged("2x3", "", "2x3"),
    "channels": averaged("1x2x3x2", "3", "1x2x3x1"),
    "rows": averaged("1x2x3x2", "1", "1x1x3x2"),
    "columns": averaged("1x2x3x2", "2", "1x2x1x2"),
    "rows and channels": averaged("1x2x3x2", "1 3", "1x1x3x1"),
    "all but the batch": averaged("1x2x3x2", "1 2 3", "1x1x1x1"),
    "the middle of a series": averaged("1x2x5", "1 2", "1x1x1"),
    "the middle of a space": averaged("1x2x2x1x3", "1 2", "1x1x1x1x3"),
    "words": averaged("1x2x5", "2", "1x2x1", "0.001; 0", "i16"),
    "unsigned bytes": averaged("1x2x5", "2", "1x2x1", "0.05; 3", "u8"),
    "a scale for each": averaged("1x2x5", "2", "1x2x1", "0.05 0.07; 1 2 axis 1"),
    "an order that decides nothing": island(
        [X], 't: f32[2x1] = mean(X, axes=(1), order="lanes")'
    ),
    "a mean in any order stays": averaged("1x2x5", "2", "1x2x1").replace(', order="lanes"', ""),
    "a resized image in any order stays": island(
        [IMAGE], "t: f32[1x3x4x2] = resize_bilinear(X, size=(3 4))", "i8[1x3x4x2]{0.1; 4}"
    ),
    "a pool of a pool": island(
        [IMAGE], f"s: f32[1x2x2x2] = {POOL.format('X')}\nt: f32[1x2x2x2] = {POOL.format('s')}"
    ),
    "a pool of a pool of bytes stays": island(
        [IMAGE],
        f"s: f32[1x2x2x2] = {POOL.format('x, scale=0.5, zero=7')}\n"
        f"u: f32[1x2x2x2] = {POOL.format('s')}\nt: f32[1x2x2x2] = add(X, u)",
    ),
    "a pool": pooled(IMAGE),
    "a pool in an order": pooled(IMAGE, ', order="columns"'),
    "a pool in an order that decides": pooled(IMAGE, ', order="columns"', IMAGE_OUT),
    "a pool of words": pooled("x: i16[1x2x2x2]{0.001; 0}"),
    "a pool of unsigned bytes stays": pooled("x: u8[1x2x2x2]{0.05; 3}"),
    "a pool of wide integers stays": pooled("x: i32[1x2x2x2]{1e-8; 3}"),
    "a pool with a scale for each stays": pooled("x: i8[1x2x2x2]{0.05 0.5; 1 2 axis 3}"),
    "a pool of reals stays": pooled("X: f32[1x2x2x2]"),
    "a pool of what is not known stays": f"""graph g(x: i8[1x2x2x2]):
  X: f32[1x2x2x2] = dequantize(x)
  t: f32[1x2x2x2] = {POOL.format("X")}
  return t""",
    "a resized image": island(
        [IMAGE], 't: f32[1x3x4x2] = resize_bilinear(X, size=(3 4), order="half_pixel", '
        "half_pixel=1)", "i8[1x3x4x2]{0.1; 4}",
    ),
}  # fmt: skip
