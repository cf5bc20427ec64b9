"""resize_nearest and resize_bilinear: NHWC images to another height and width.

Attributes: size (height, width), align_corners, half_pixel (0 or 1 each). Quantised images are
resized as integers; the scale stays.

Nearest: the source of row i is floor((i + offset) * scale), computed in binary32 by the framework;
here as (i * step + start) >> 16 with constants that give the same rows. Bilinear on
integers: positions with 10 fractional bits, weights with 20, rounded ties away from zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import FLAG, integer, integers
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.fixed_point import f32, round_half_away
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import OPS, Attr, Attrs, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, SAME
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import MAX_EXTENT, arity, expect_same_scale, fail, image

_ONE = 1 << 10  # of a bilinear position on integers
_MOST = 1 << 12  # rows or columns: positions stay far inside 32 bits


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    n, h, w, c = image(x)
    height, width = integers(attrs, "size", 2)
    if not all(1 <= v <= _MOST for v in (h, w, height, width)):
        raise fail(f"cannot resize {x} to {(height, width)}: at most {_MOST} rows and columns")
    _flags(attrs)
    return (TensorType((n, height, width, c), x.dtype),)


def infer_bilinear(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    if all(_flags(attrs)):
        raise fail("align_corners and half_pixel exclude each other")
    return infer(inputs, attrs)


def _flags(attrs: Attrs) -> tuple[bool, bool]:
    return bool(integer(attrs, "align_corners", 0)), bool(integer(attrs, "half_pixel", 0))


# Nearest neighbour.


def sources(n: int, m: int, align: bool, half: bool) -> list[int]:
    """The row of `n` that each of `m` rows shows.

    GetNearestNeighbor in lite/kernels/internal/reference/resize_nearest_neighbor.h.
    """
    scale = f32(n - 1) / f32(m - 1) if align and m > 1 else f32(n) / f32(m)
    positions = [(f32(i) + f32(0.5 if half else 0)) * scale for i in range(m)]
    rows = [round_half_away(float(p)) if align else floor(p) for p in positions]
    return [max(0, min(r, n - 1)) for r in rows]


@dataclass(frozen=True, slots=True)
class Stepping:
    """Row min((i * step + start) >> 16, n - 1) for every i but the `exceptions` (i, row)."""

    step: int
    start: int
    exceptions: tuple[tuple[int, int], ...] = ()


def stepping(n: int, m: int, align: bool, half: bool) -> Stepping:
    """`sources` without floats. Exceptions, where binary32 rounds ties unevenly, are rare."""
    rows = sources(n, m, align, half)
    step = round(((n - 1) / (m - 1) if align and m > 1 else n / m) * 65536)
    best: Stepping | None = None
    for near in (step, step - 1, step + 1):
        low = max((r << 16) - i * near for i, r in enumerate(rows))
        ends = [((r + 1) << 16) - 1 - i * near for i, r in enumerate(rows) if r < n - 1]
        high = min(ends, default=low)
        for start in ((low + high) // 2, low, high):
            shown = [min((i * near + start) >> 16, n - 1) for i in range(m)]
            wrong = tuple(
                (i, r) for i, (r, s) in enumerate(zip(rows, shown, strict=True)) if r != s
            )
            if best is None or len(wrong) < len(best.exceptions):
                best = Stepping(near, start, wrong)
    assert best is not None
    return best


def reference_nearest(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    height, width = integers(attrs, "size")
    rows = sources(x.shape[1], height, *_flags(attrs))
    cols = sources(x.shape[2], width, *_flags(attrs))
    return (np.ascontiguousarray(x[:, rows][:, :, cols]),)


def loops_nearest(site: Site) -> ir.Block:
    (x,) = site.inputs
    n, oh, ow, c = site.axes("n oh ow c")
    _, height, width, _ = x.type.shape
    ih = _source(oh, height, site.output.shape[1], site.attrs)
    iw = _source(ow, width, site.output.shape[2], site.attrs)
    return nest((n, oh, ow, c), site.output.shape, site.store((n, oh, ow, c), x(n, ih, iw, c)))


def _source(i: ir.Expr, n: int, m: int, attrs: Attrs) -> ir.Expr:
    rows = sources(n, m, *_flags(attrs))
    for k in range(1, m + 1):
        if rows == [row // k for row in range(m)]:
            return i if k == 1 else ir.Bin("/", i, ir.i32(k))
    s = stepping(n, m, *_flags(attrs))
    row: ir.Expr = ir.Bin(">>", ir.add(ir.mul(i, ir.i32(s.step)), ir.i32(s.start)), ir.i32(16))
    if (m - 1) * s.step + s.start >= n << 16:
        row = ir.Bin("min", row, ir.i32(n - 1))
    for at, exception in s.exceptions:
        row = ir.Select(ir.Bin("==", i, ir.i32(at)), ir.i32(exception), row)
    return row


# Bilinear.


@dataclass(frozen=True, slots=True)
class _Axis:
    """One image axis of `n` rows shown as `m`; `scale` is rows of the source a row, times _ONE."""

    n: int
    m: int
    align: bool
    half: bool

    @property
    def scale(self) -> int:
        n, m = (self.n - 1, self.m - 1) if self.align and self.m > 1 else (self.n, self.m)
        return (_ONE * n + m // 2) // m

    @property
    def start(self) -> int:
        return self.scale // 2 - _ONE // 2 if self.half else 0

    @property
    def real_scale(self) -> np.float32:
        if self.align and self.m > 1:
            return f32(self.n - 1) / f32(self.m - 1)
        return f32(self.n) / f32(self.m)


def _image_axes(x: tuple[int, ...], attrs: Attrs) -> tuple[_Axis, _Axis]:
    height, width = integers(attrs, "size")
    flags = _flags(attrs)
    return _Axis(x[1], height, *flags), _Axis(x[2], width, *flags)


def reference_bilinear(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    (x,) = inputs
    rows, cols = _image_axes(x.shape, attrs)
    if DType.of(x).is_float:
        return (_bilinear_float(x, rows, cols),)
    (y0, y1, fy), (x0, x1, fx) = _positions(rows), _positions(cols)
    fy, fx = fy[:, None, None], fx[:, None]
    a = x.astype(np.int64)
    total = a[:, y0][:, :, x0] * (_ONE - fy) * (_ONE - fx)
    total += a[:, y1][:, :, x0] * fy * (_ONE - fx)
    total += a[:, y0][:, :, x1] * (_ONE - fy) * fx
    total += a[:, y1][:, :, x1] * fy * fx
    magnitude = (np.abs(total) + (1 << 19)) >> 20
    return ((np.sign(total) * magnitude).astype(x.dtype),)


def _positions(axis: _Axis) -> tuple[Array, Array, Array]:
    """Lower row, upper row and distance from the lower one, times _ONE, of every row."""
    position = np.arange(axis.m, dtype=np.int64) * axis.scale + axis.start
    lower = np.maximum(position, 0) // _ONE
    upper = np.minimum((position + _ONE - 1) // _ONE, axis.n - 1)
    return lower, np.maximum(upper, 0), position - lower * _ONE


def _bilinear_float(x: Array, rows: _Axis, cols: _Axis) -> Array:
    (y0, y1, fy), (x0, x1, fx) = _real_positions(rows), _real_positions(cols)
    fy, fx = fy[:, None, None], fx[:, None]
    one = f32(1)
    result: Array = x[:, y0][:, :, x0] * (one - fy) * (one - fx)
    result = result + x[:, y1][:, :, x0] * fy * (one - fx)
    result = result + x[:, y0][:, :, x1] * (one - fy) * fx
    result = result + x[:, y1][:, :, x1] * fy * fx
    return result


def _real_positions(axis: _Axis) -> tuple[Array, Array, Array]:
    i = np.arange(axis.m).astype(np.float32)
    position = i * axis.real_scale
    if axis.half:
        position = (i + f32(0.5)) * axis.real_scale - f32(0.5)
    lower = np.maximum(np.floor(position).astype(np.int64), 0)
    upper = np.minimum(np.ceil(position).astype(np.int64), axis.n - 1)
    return lower, np.maximum(upper, 0), position - lower.astype(np.float32)


def bilinear_matrix(n: int, m: int, align: bool, half: bool) -> Array:
    """[m, n]: what each row of resize_bilinear takes of each source row, for floats."""
    lower, upper, part = _real_positions(_Axis(n, m, align, half))
    matrix = np.zeros((m, n))
    np.add.at(matrix, (np.arange(m), lower), 1 - part.astype(np.float64))
    np.add.at(matrix, (np.arange(m), upper), part.astype(np.float64))
    return matrix


def loops_bilinear(site: Site) -> ir.Block:
    """The reference kernel's formula (lite/kernels/internal/reference/resize_bilinear.h)."""
    (x,) = site.inputs
    rows, cols = _image_axes(x.type.shape, site.attrs)
    n, oh, ow, c = site.axes("n oh ow c")
    make = _real_locals if x.type.dtype.is_float else _fixed_locals
    top, y = make(site, rows, oh, "h")
    left, z = make(site, cols, ow, "w")

    def corner(row: ir.Expr, col: ir.Expr, a: ir.Expr, b: ir.Expr) -> ir.Expr:
        value = x.as_type(y.dtype, n, row, col, c)
        return ir.Bin("*", ir.Bin("*", value, a), b)

    total = corner(y.lower, z.lower, y.rest, z.rest)
    for row, col, a, b in (
        (y.upper, z.lower, y.part, z.rest),
        (y.lower, z.upper, y.rest, z.part),
        (y.upper, z.upper, y.part, z.part),
    ):
        total = ir.Bin("+", total, corner(row, col, a, b))
    acc = site.local("acc", y.dtype)
    body = (acc.alloc, acc.set(total), *site.store((n, oh, ow, c), _rounded(site, acc())))
    columns = (*left, *nest((c,), site.output.shape[3:], body))
    inner = (*top, *nest((ow,), site.output.shape[2:3], columns))
    return nest((n, oh), site.output.shape[:2], inner)


@dataclass(frozen=True, slots=True)
class _Weights:
    """Rows and weights of one position: `part` of the upper one, `rest` of the lower one."""

    lower: ir.Expr
    upper: ir.Expr
    part: ir.Expr
    rest: ir.Expr
    dtype: DType


def _fixed_locals(site: Site, axis: _Axis, i: ir.Var, name: str) -> tuple[ir.Block, _Weights]:
    dtype = DType.I32 if site.output.dtype.size == 1 else DType.I64
    position, lower, upper, part = (
        site.local(f"{name}{part}", DType.I32) for part in ("p", "0", "1", "f")
    )
    low: ir.Expr = ir.Bin("/", position(), ir.i32(_ONE))
    high: ir.Expr = ir.Bin("/", ir.add(position(), ir.i32(_ONE - 1)), ir.i32(_ONE))
    body = (
        position.alloc,
        position.set(ir.add(ir.mul(i, ir.i32(axis.scale)), ir.i32(axis.start))),
        lower.alloc,
        lower.set(ir.Bin("max", low, ir.i32(0))),
        upper.alloc,
        upper.set(ir.Bin("min", high, ir.i32(axis.n - 1))),
        part.alloc,
        part.set(ir.Bin("-", position(), ir.mul(lower(), ir.i32(_ONE)))),
    )
    part_wide = ir.cast(dtype, part(), DType.I32)
    rest = ir.cast(dtype, ir.Bin("-", ir.i32(_ONE), part()), DType.I32)
    return body, _Weights(lower(), upper(), part_wide, rest, dtype)


def _real_locals(site: Site, axis: _Axis, i: ir.Var, name: str) -> tuple[ir.Block, _Weights]:
    position, part = (site.local(f"{name}{p}", DType.F32) for p in ("p", "f"))
    lower, upper = (site.local(f"{name}{p}", DType.I32) for p in ("0", "1"))
    real = ir.cast(DType.F32, i, DType.I32)
    scale = ir.f32(float(axis.real_scale))
    value: ir.Expr = ir.Bin("*", real, scale)
    if axis.half:
        shifted = ir.Bin("*", ir.Bin("+", real, ir.f32(0.5)), scale)
        value = ir.Bin("-", shifted, ir.f32(0.5))
    truncated = ir.cast(DType.I32, position(), DType.F32)
    above = ir.Bin("<", ir.cast(DType.F32, truncated, DType.I32), position())
    ceiling = ir.Select(above, ir.add(truncated, ir.i32(1)), truncated)
    floats = ir.cast(DType.F32, lower(), DType.I32)
    body = (
        position.alloc,
        position.set(value),
        lower.alloc,
        # Positions are above -1: what truncation does to negative ones, the limit does anyway.
        lower.set(ir.Bin("max", truncated, ir.i32(0))),
        upper.alloc,
        upper.set(ir.Bin("min", ceiling, ir.i32(axis.n - 1))),
        part.alloc,
        part.set(ir.Bin("-", position(), floats)),
    )
    rest = ir.Bin("-", ir.f32(1.0), part())
    return body, _Weights(lower(), upper(), part(), rest, DType.F32)


def _rounded(site: Site, total: ir.Expr) -> ir.Expr:
    """A sum with 20 fractional bits as an element: to nearest, ties away from zero."""
    dtype = site.output.dtype
    if dtype.is_float:
        return total
    wide = DType.I32 if dtype.size == 1 else DType.I64
    half = ir.const(1 << 19, wide)
    positive = ir.Bin("<", ir.const(0, wide), total)
    rounding = ir.Select(positive, half, ir.const(-(1 << 19), wide))
    quotient = ir.Bin("/", ir.Bin("+", total, rounding), ir.const(1 << 20, wide))
    return ir.cast(dtype, quotient, wide)


def from_tflite(name: str, dtypes: tuple[DType, ...]):  # type: ignore[no-untyped-def]
    def importer(op: Foreign) -> tuple[Node, ...]:
        op.expect_inputs(2)
        op.expect_dtype(0, *dtypes)
        expect_same_scale(op, op.inputs[:1])
        size = tuple(int(v) for v in op.const(1, "size").reshape(-1))
        if len(size) != 2 or not all(1 <= v <= MAX_EXTENT for v in size):
            raise op.error(f"size {size} is not a height and a width")
        align = bool(op.attrs.get("align_corners", False))
        half = bool(op.attrs.get("half_pixel_centers", False))
        if align and half and name == "resize_bilinear":
            raise op.error("align_corners and half_pixel_centers exclude each other")
        attrs: dict[str, Attr] = {
            "size": size,
            "align_corners": int(align),
            "half_pixel": int(half),
        }
        return (op.node(name, attrs, inputs=op.inputs[:1]),)

    return importer


def to_tflite(op: Exporting) -> None:
    nearest = op.node.op == "resize_nearest"
    size = op.const(np.array(integers(op.attrs, "size", 2), np.int32), "size")
    align, half = _flags(op.attrs)
    op.emit(
        "RESIZE_NEAREST_NEIGHBOR" if nearest else "RESIZE_BILINEAR",
        [op.inputs[0], size],
        options="ResizeNearestNeighborOptions" if nearest else "ResizeBilinearOptions",
        version=op.version(i8=3, i16=4, other=3),
        align_corners=align,
        half_pixel_centers=half,
    )


def _samples(dtypes: tuple[DType, ...]) -> tuple[Sample, ...]:
    cases = (
        ((1, 2, 3, 2), (4, 6), 0, 0),
        ((2, 3, 4, 1), (5, 3), 0, 1),
        ((1, 3, 3, 2), (7, 5), 1, 0),
        ((1, 1, 1, 3), (2, 1), 1, 0),
        ((1, 5, 4, 1), (2, 2), 0, 1),
    )
    return tuple(
        Sample((TensorType(s, d),), {"size": z, "align_corners": a, "half_pixel": h})
        for d in dtypes
        for s, z, a, h in cases
    )


_NEAREST = (DType.F32, DType.I8, DType.I16, DType.U8, DType.I32)
_BILINEAR = (DType.F32, DType.I8, DType.I16)
_LIMITS = {"align_corners": FLAG, "half_pixel": FLAG}
OPS.add(
    "resize_nearest",
    OpDef(
        "resize_nearest",
        infer,
        reference_nearest,
        halves=True,
        limits=_LIMITS,
        samples=_samples(_NEAREST[:3]),
    ),
)
OPS.add(
    "resize_bilinear",
    OpDef(
        "resize_bilinear",
        infer_bilinear,
        reference_bilinear,
        limits=_LIMITS,
        samples=_samples(_BILINEAR),
    ),
)
LOOP_RULES.add("resize_nearest", LoopRule(("x",), loops_nearest))
LOOP_RULES.add("resize_bilinear", LoopRule(("x",), loops_bilinear))
IMPORTERS["tflite"].add("RESIZE_NEAREST_NEIGHBOR", from_tflite("resize_nearest", _NEAREST))
IMPORTERS["tflite"].add("RESIZE_BILINEAR", from_tflite("resize_bilinear", _BILINEAR))
for _name in ("resize_nearest", "resize_bilinear"):
    EXPORTERS["tflite"].add(_name, to_tflite)
    QUANTIZING.add(_name, SAME)
