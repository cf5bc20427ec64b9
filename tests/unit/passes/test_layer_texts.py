"""What the passes on layers and their neighbours make of what nearly is what they look for."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from test_quantized_texts import left

from conftest import Golden
from midge.core.errors import ModelError
from midge.passes import GraphPass
from midge.passes.dequantize_weights import dequantize_weights
from midge.passes.fold_padding import fold_padding
from midge.passes.fold_scale_and_bias import fold_scale_and_bias
from midge.passes.fold_zero_points import fold_zero_points
from midge.passes.read_halves import read_halves
from midge.passes.spell_powers import spell_powers
from midge.passes.split_global_pools import split_global_pools

ONE = "dilations=(1 1), padding=(0 0 0 0), strides=(1 1)"


def graph(given: str, *consts: str, made: str, result: str = "y") -> str:
    lines = [f"  const {c}" for c in consts] + [f"  {line.strip()}" for line in made.splitlines()]
    return "\n".join([f"graph g({given}):", *lines, f"  return {result}"])


def padded(made: str, shape: str, paddings: str, x: str = "1x2x2x1") -> str:
    """made: of t, which is x with zeros around it."""
    pad = f"t: f32[{shape}] = pad(x, paddings=({paddings}), value=0.0)\n"
    return graph(f"x: f32[{x}]", "w: f32[1x2x1x1] = [1, -2]", "v: f32[2x3] = [1, 2, 3, 4, 5, 6]",
                 made=pad + made)  # fmt: skip


PADDING = {
    "images more, stays": padded(f"y: f32[2x1x2x1] = conv2d(t, w, {ONE})", "2x2x2x1",
                                 "0 1 0 0 0 0 0 0"),
    "images before, stays": padded(f"y: f32[2x1x2x1] = conv2d(t, w, {ONE})", "2x2x2x1",
                                   "1 0 0 0 0 0 0 0"),
    "rows": padded(f"y: f32[1x2x2x1] = conv2d(t, w, {ONE})", "1x3x2x1", "0 0 0 1 0 0 0 0"),
    "columns of a depthwise convolution": padded(
        f"y: f32[1x1x3x1] = depthwise_conv2d(t, w, {ONE})", "1x2x3x1", "0 0 0 0 1 0 0 0"
    ),
    "columns of a matrix, stays": padded("y: f32[2x2] = dense(t, v)", "2x3", "0 0 1 0", "2x2"),
    "of a pool, stays": padded(
        f"y: f32[1x2x2x1] = avg_pool2d(t, window=(2 1), {ONE})", "1x3x2x1", "0 0 0 1 0 0 0 0"
    ),
}  # fmt: skip


def scaled(shape: str, values: str, y: str = "1x2x2x2", op: str = "mul") -> str:
    return graph(
        "x: f32[1x2x2x1]", "w: f32[2x1x1x1] = [1, -2]", f"s: f32[{shape}] = {values}",
        made=f"t: f32[1x2x2x2] = conv2d(x, w, {ONE})\ny: f32[{y}] = {op}(t, s)",
    )  # fmt: skip


SCALES = {
    "for each channel": scaled("1x2", "[2, 3]"),
    "for all": scaled("1x1x1x1", "[2]"),
    "for each row, stays": scaled("2x1", "[2, 3]"),
    "for each image, of as many, stays": scaled("2x1x1x1", "[2, 3]", "2x2x2x2"),
    "for each channel and row, stays": scaled("2x1x2", "[2, 3, 4, 5]"),
    "of another rank, stays": scaled("1x1x1x1x2", "[2, 3]", "1x1x2x2x2"),
    "a difference": scaled("2", "[2, 3]", op="sub"),
    "that comes in, stays": graph(
        "x: f32[1x2x2x1], s: f32[2]", "w: f32[2x1x1x1] = [1, -2]",
        made=f"t: f32[1x2x2x2] = conv2d(x, w, {ONE})\ny: f32[1x2x2x2] = mul(s, t)",
    ),
    "of constants alone, stays": graph(
        "x: f32[2]", "a: f32[2] = [1, 2]", "b: f32[2] = [3, 4]",
        made="t: f32[2] = mul(a, b)\nu: f32[2] = sub(a, t)\ny: f32[2] = add(x, u)",
    ),
    "with an activation": graph(
        "x: f32[1x2]", "w: f32[2x2] = [1, 2, 3, 4]", "s: f32[2] = [3, 4]",
        made='t: f32[1x2] = dense(x, w)\ny: f32[1x2] = add(s, t, activation="relu")',
    ),
}  # fmt: skip


def hybrid(w: str) -> str:
    return graph("x: f32[1x3]", f"w: {w} = [1, -2, 3, 4, 5, -6]", made="y: f32[1x2] = dense(x, w)")


HYBRID = {
    "bytes": hybrid("i8[2x3]{0.5; 1}"),
    "bytes with a scale for each": hybrid("i8[2x3]{0.5 0.25; 1 0 axis 0}"),
    "bytes without a scale stay": hybrid("i8[2x3]"),
    "words stay": hybrid("i16[2x3]{0.5; 1}"),
    "reals with a scale stay": hybrid("f32[2x3]{0.5; 1}"),
    "bytes that come in, stay": graph(
        "x: f32[1x3], w: i8[2x3]{0.5; 1}", made="y: f32[1x2] = dense(x, w)"
    ),
    "bytes beside bytes stay": graph(
        "x: i8[1x3]{0.1; 3}", "w: i8[2x3]{0.5; 0} = [1, -2, 3, 4, 5, -6]",
        made="y: i8[1x2]{0.2; 5} = dense(x, w)",
    ),
}  # fmt: skip

H = "h: f16[2x3] = [1, -2, 3, 0.5, 4, -1]"
CAST = 'w: f32[2x3] = cast(h, dtype="f32")\n'
DENSE = "y: f32[1x2] = dense(x, w)"
IMAGE = 'w: f32[{}] = cast(h, dtype="f32")\ny: f32[1x2x2x2] = {}conv2d(x, w, ' + f"{ONE})"
HALVES = {
    "a matrix": graph("x: f32[1x3]", H, made=CAST + DENSE),
    "a convolution": graph(
        "x: f32[1x2x2x1]", "h: f16[2x1x1x1] = [1, -2]", made=IMAGE.format("2x1x1x1", "")
    ),
    "a depthwise convolution": graph(
        "x: f32[1x2x2x2]", "h: f16[1x1x1x2] = [1, -2]", made=IMAGE.format("1x1x1x2", "depthwise_")
    ),
    "with a bias, read twice": graph(
        "x: f32[1x3]", H, "b: f32[2] = [1, 2]",
        made=CAST + "y: f32[1x2] = dense(x, w, b)\nz: f32[2x3] = add(x, w)", result="y, z",
    ),
    "beyond all halves, stay": graph(
        "x: f32[1x3]", "h: f16[2x3] = [1, -2, Infinity, 0.5, 4, -1]", made=CAST + DENSE
    ),
    "that come in, stay": graph("x: f32[1x3], h: f16[2x3]", made=CAST + DENSE),
    "bytes stay": graph("x: f32[1x3]", H.replace("f16", "i8").replace("0.5", "5"),
                        made=CAST + DENSE),
    "words stay": graph("x: f32[1x3]", H.replace("f16", "f32"), made=CAST + DENSE),
    "of a sum stay": graph("x: f32[1x3]", H, made=CAST + "y: f32[2x3] = add(x, w)"),
}  # fmt: skip


def power(p: str, x: str = "f32[3]", y: str = "", dtype: str = "f32") -> str:
    shape, _, values = p.partition(" ")
    return graph(f"v: {x}", f"p: {dtype}[{shape}] = [{values or '2'}]",
                 made=f"x: {x} = abs(v)\ny: {y or x} = pow(x, p)")  # fmt: skip


POWERS = {
    **{f"{p}": power(f"1 {p}") for p in ("1", "2", "3", "-1", "0.5", "-0.5")},
    "4 stays": power("1 4"),
    "-2 stays": power("1 -2"),
    "1.5 stays": power("1 1.5"),
    "no axis": power(" 2"),
    "one for each stays": power("3 2, 3, 4"),
    "of another rank stays": power("1x1 2", y="f32[1x3]"),
    "of one element stays": graph(
        "x: f32[1]", "p: f32[3] = [2, 2, 2]", made="y: f32[3] = pow(x, p)"
    ),
    "integers stay": power("1 2", "i32[3]", dtype="i32"),
    "that comes in, stays": graph("x: f32[3], p: f32[1]", made="y: f32[3] = pow(x, p)"),
}  # fmt: skip


def whole(
    x: str = "f32", quant: str = "", more: str = ONE, window: str = "2 3", y: str = "1x1x1x2",
    result: str = "",
) -> str:  # fmt: skip
    made = f"y: {result or x}[{y}]{quant} = avg_pool2d(x, window=({window}), {more})"
    return graph(f"x: {x}[1x2x3x2]{quant}", made=made)


AVERAGES = {
    "of reals": whole(),
    "of bytes": whole("i8"),
    "by rows": whole(more=f'{ONE}, order="rows"'),
    "in lanes, stays": whole(more=f'{ONE}, order="lanes"'),
    "by columns, stays": whole(more=f'{ONE}, order="columns"'),
    "of words, stays": whole("i16"),
    "of bytes with a scale stays": whole("i8", "{0.1; 3}"),
    "of what bytes stand for": whole("i8", more=f"{ONE}, scale=0.1, zero=3", result="f32"),
    "of rows, stays": whole(window="1 3", y="1x2x1x2"),
    "of columns, stays": whole(window="2 2", y="1x1x2x2"),
    "the greatest of reals, stays": whole().replace("avg", "max"),
    "with a border stays": whole(more=ONE.replace("(0 0 0 0)", "(1 0 0 0)"), y="1x2x1x2"),
}  # fmt: skip

GROUPS: Mapping[str, tuple[GraphPass, Mapping[str, str]]] = {
    "padding": (fold_padding, PADDING),
    "scales": (fold_scale_and_bias, SCALES),
    "hybrid layers": (dequantize_weights, HYBRID),
    "halves": (read_halves, HALVES),
    "powers": (spell_powers, POWERS),
    "averages": (split_global_pools, AVERAGES),
}


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_left(group: str, golden: Golden) -> None:
    step, cases = GROUPS[group]
    golden("\n".join(f"{case}: {left(case, step, body)}" for case, body in cases.items()))


@pytest.mark.parametrize(
    ("x", "acc", "most"), [("i8", "i32", 2**31 - 1 - 255), ("i16", "i64", 2**47 - 1 - 65535)]
)
def test_the_greatest_accumulator(x: str, acc: str, most: int) -> None:
    """With one product of any value it is the last number that there is."""

    def layer(bias: int) -> str:
        return graph(f"x: {x}[1x1]", "w: i8[1x1] = [1]", f"b: {acc}[1] = [{bias}]",
                     made=f"y: {acc}[1x1] = dense(x, w, b)")  # fmt: skip

    left("it stays", fold_zero_points, layer(most))
    left("the least stays", fold_zero_points, layer(-most))
    for bias in (most + 1, -most - 1):
        with pytest.raises(ModelError, match="accumulator of channel 0 can overflow"):
            left("refused", fold_zero_points, layer(bias))
