"""interpolate: an image between its pixels, each output of four neighbours, by tables.

y[oh, ow] = sum over i, j of (row_weights[oh, i] * column_weights[ow, j]) * x[rows[oh, i],
columns[ow, j]], in the order (0, 0), (0, 1), (1, 0), (1, 1): ONNX Runtime's linear Resize. Inputs
x, rows (i32 [OH, 2]), row weights (f32), columns (i32 [OW, 2]), column weights, all but x constant.
x is float, or integers with attributes `scale` and `zero`: then their reals count.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import SCALE
from midge.graph.interpolation import neighbours
from midge.graph.ir import OPS, Attrs, Expansion, Node, OpDef, Sample
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import arity, check_indices, fail, image
from midge.ops._reals import real_element, reals_of, without_quant


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 5)
    x, *tables = inputs
    n, _, _, c = image(x)
    sizes = []
    for indices, weights in (tables[:2], tables[2:]):
        if len(indices.shape) != 2 or indices.shape[1] != 2 or indices.dtype is not DType.I32:
            raise fail(f"indices are {indices}, expected i32 [extent, 2]")
        if weights.shape != indices.shape or weights.dtype is not DType.F32:
            raise fail(f"weights are {weights} for indices {indices}")
        sizes.append(indices.shape[0])
    without_quant(x, attrs)
    return (TensorType((n, *sizes, c), DType.F32),)


def check(consts: Mapping[int, Array], inputs: Sequence[TensorType], attrs: Attrs) -> None:
    _, height, width, _ = image(inputs[0])
    check_indices(consts, 1, 0, height - 1, "rows")
    check_indices(consts, 3, 0, width - 1, "columns")


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    x, rows, above, columns, left = inputs
    real = reals_of(x, attrs)
    total = None
    for i in (0, 1):
        for j in (0, 1):
            corner = real[:, rows[:, i]][:, :, columns[:, j]]
            term = (left[:, j] * above[:, i, None])[:, :, None] * corner
            total = term if total is None else total + term
    assert total is not None
    return (np.ascontiguousarray(total),)


def loops(site: Site) -> ir.Block:
    x, rows, above, columns, left = site.inputs
    n, oh, ow, c = site.axes("n oh ow c")
    places = [site.local(name, DType.I32) for name in ("top", "bottom", "first", "second")]
    weights = [[site.local(f"w{i}{j}", DType.F32) for j in (0, 1)] for i in (0, 1)]
    tables = [rows(oh, ir.i32(i)) for i in (0, 1)] + [columns(ow, ir.i32(j)) for j in (0, 1)]
    column: list[ir.Stmt] = []
    total: ir.Expr | None = None
    for place, value in zip(places, tables, strict=True):
        column += [place.alloc, place.set(value)]
    for i in (0, 1):
        for j in (0, 1):
            weight = weights[i][j]
            product = ir.Bin("*", left(ow, ir.i32(j)), above(oh, ir.i32(i)))
            column += [weight.alloc, weight.set(product)]
            corner = real_element(site, x, n, places[i](), places[2 + j](), c)
            term = ir.Bin("*", weight(), corner)
            total = term if total is None else ir.Bin("+", total, term)
    assert total is not None
    column += nest((c,), site.output.shape[3:], site.store((n, oh, ow, c), total))
    return nest((n, oh, ow), site.output.shape[:3], tuple(column))


def expand(node: Node, ctx: Expansion) -> None:
    ctx.finish(node.op, node.inputs, node.attrs)


def _samples() -> tuple[Sample, ...]:
    samples = []
    for shape, size in (((1, 2, 3, 2), (4, 6)), ((2, 3, 4, 1), (5, 3)), ((1, 1, 1, 3), (2, 1))):
        tables = {}
        for d, m in enumerate(size):
            n = shape[1 + d]
            places = np.linspace(-0.4, n - 0.7, m).astype(np.float32)
            tables[1 + 2 * d], tables[2 + 2 * d] = neighbours(n, places)
        types = [TensorType(tables[k].shape, DType.of(tables[k])) for k in range(1, 5)]
        samples.append(Sample((TensorType(shape, DType.F32), *types), {}, tables))
        for dtype in (DType.I8, DType.I16):
            attrs = {"scale": 0.037, "zero": -3}
            samples.append(Sample((TensorType(shape, dtype), *types), attrs, tables))
    return tuple(samples)


OPS.add(
    "interpolate",
    OpDef(
        "interpolate",
        infer,
        reference,
        expand,
        check=check,
        limits={"scale": SCALE, "zero": 0},
        samples=_samples(),
    ),
)
LOOP_RULES.add(
    "interpolate",
    LoopRule(("x", "rows", "row_weights", "columns", "column_weights"), loops),
)
