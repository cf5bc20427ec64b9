"""ONNX's Resize (and Upsample): every axis is a matrix that is known when compiling.

Where the matrices of height and width are those of resize_nearest or resize_bilinear, one of these
does both; otherwise each axis is resampled with a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.interpolation import neighbours, positions
from midge.graph.ir import Attr, Node
from midge.ops._common import MAX_EXTENT
from midge.ops.resize import bilinear_matrix, sources

_MOST = 1 << 12  # elements along an axis, as our resize operators have it
_FLAGS = ((0, 0), (1, 0), (0, 1))  # align_corners, half_pixel


@dataclass(frozen=True, slots=True)
class _Axis:
    """n elements become m; scale is what positions are divided by."""

    n: int
    m: int
    scale: float

    def places(self, mode: str) -> list[float]:
        """Where the output's elements lie in the input, as ONNX Runtime rounds it."""
        found = positions(self.n, self.m, np.float32(self.scale), mode)
        return [float(p) for p in found]


_MODES = (
    "half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric",
)  # fmt: skip
_TIE = 1e-6  # what is so near to the middle is the middle, for ONNX Runtime
_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "round_prefer_floor": lambda x: ceil(x - 0.5 - _TIE),
    "round_prefer_ceil": lambda x: floor(x + 0.5 + _TIE),
    "floor": floor,
    "ceil": ceil,
}


def from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1, 4)
    x = op.type(0)
    mode, place = op.attrs.get("mode", "nearest"), _place(op)
    if mode not in ("nearest", "linear", "cubic"):
        raise op.error(f"mode {mode} is not supported")
    axes = _axes(op, x)
    if not all(1 <= v <= _MOST for a in axes for v in (a.n, a.m)):
        sizes = [(a.n, a.m) for a in axes]
        raise op.error(f"sizes {sizes} are not possible", f"1 to {_MOST} elements along an axis")
    if all(a.n == a.m for a in axes):
        return (op.node("copy", inputs=op.inputs[:1]),)
    if mode == "nearest":
        return _nearest(op, axes, place)
    if op.type(0).dtype is not DType.F32:
        raise op.error(
            f"mode {mode} of {op.type(0).dtype.value} is not supported",
            "quantise the model with QuantFormat.QDQ, which says what the integers stand for",
        )
    return _weighted(op, axes, mode, place)


def _place(op: Foreign) -> str:
    """The coordinate transformation; that of Upsample is fixed."""
    if op.kind == "Upsample":
        return "asymmetric"
    mode = op.attrs.get("coordinate_transformation_mode", "half_pixel")
    if mode not in _MODES:
        raise op.error(f"coordinate_transformation_mode {mode} is not supported")
    return str(mode)


def _axes(op: Foreign, x: TensorType) -> list[_Axis]:
    """What becomes of every axis, from scales or sizes."""
    rank = len(x.shape)
    named = [int(a) for a in op.attrs.get("axes", range(rank))]
    if not all(-rank <= a < rank for a in named):
        raise op.error(f"axes {named} do not exist in {x}")
    axes = [_Axis(n, n, 1.0) for n in x.shape]
    at = 1 if op.kind == "Upsample" else 2
    if op.has(3) and op.const(3, "sizes").size:
        sizes = [int(s) for s in op.const(3, "sizes").reshape(-1)]
        found = [_sized(x.shape[a], s) for a, s in zip(named, sizes, strict=True)]
        policy = op.attrs.get("keep_aspect_ratio_policy", "stretch")
        if policy != "stretch":
            pick = min if policy == "not_larger" else max
            scale = pick(a.scale for a in found)
            found = [_Axis(a.n, floor(_length(a.n, scale) + 0.5), scale) for a in found]
    else:
        scales = [float(s) for s in op.const(at, "scales").reshape(-1)]
        if not all(0 < s <= MAX_EXTENT for s in scales) or len(scales) != len(named):
            raise op.error(f"scales {scales} are not possible")
        pairs = zip(named, scales, strict=True)
        found = [_Axis(x.shape[a], floor(_length(x.shape[a], s)), s) for a, s in pairs]
    for a, axis in zip(named, found, strict=True):
        axes[a] = axis
    return axes


def _sized(n: int, m: int) -> _Axis:
    return _Axis(n, m, m / n if n and m > 0 else 1.0)


def _length(n: int, scale: float) -> float:
    """The resized length before it is whole: 10 elements times 0.7 are 7 in binary32, not in
    binary64."""
    return float(np.float32(n) * np.float32(scale))


def _nearest(op: Foreign, axes: Sequence[_Axis], place: str) -> tuple[Node, ...]:
    rounding = op.attrs.get("nearest_mode", "round_prefer_floor")
    if rounding not in _ROUNDINGS:
        raise op.error(f"nearest_mode {rounding} is not supported")
    rows = []
    for a in axes:
        if op.kind == "Upsample":  # ONNX Runtime's choice where the operator has no attribute
            rounding = "ceil" if a.scale < 1 else "floor"
        found = [_ROUNDINGS[rounding](x) for x in a.places(place)]
        rows.append([min(max(row, 0), a.n - 1) for row in found])
    moved = [d for d, (a, r) in enumerate(zip(axes, rows, strict=True)) if r != list(range(a.n))]
    if len(axes) == 4 and moved and min(moved) > 1:
        for flags in _FLAGS:
            if all(
                rows[d] == sources(axes[d].n, axes[d].m, bool(flags[0]), bool(flags[1]))
                for d in (2, 3)
            ):
                return _image(op, "resize_nearest", axes, flags)
    steps = Steps(op)
    value = op.inputs[0]
    for d in moved:
        table = steps.const(np.array(rows[d], np.int32)[:, None], "rows")
        value = steps.emit("resample", [value, table], {"axis": d})
    return steps.finish("copy", [value])


def _weighted(op: Foreign, axes: Sequence[_Axis], mode: str, place: str) -> tuple[Node, ...]:
    matrices = [_matrix(a, op.attrs, place, mode) for a in axes]
    moved = [
        d
        for d, (a, w) in enumerate(zip(axes, matrices, strict=True))
        if w.shape != (a.n, a.n) or not np.array_equal(w, np.eye(a.n))
    ]
    between = mode == "linear" and not op.attrs.get("antialias", 0)
    if len(axes) == 2 and between:
        return _interpolated(op, axes, place)
    if len(axes) == 4 and moved and min(moved) > 1:
        by_scales = between and place != "align_corners" and not _exact(axes[2:])
        for flags in () if by_scales else _FLAGS:
            ours = [bilinear_matrix(axes[d].n, axes[d].m, *map(bool, flags)) for d in (2, 3)]
            if all(map(_near, ours, matrices[2:])):
                order = {"order": place} if between else {}
                return _image(op, "resize_bilinear", axes, flags, order)
        if between:
            return _interpolated(op, axes[2:], place)
    steps = Steps(op)
    value = op.inputs[0]
    for d in moved:
        indices, weights = _taps(matrices[d])
        tables = [steps.const(indices, "rows"), steps.const(weights, "weights")]
        value = steps.emit("resample", [value, *tables], {"axis": d})
    return steps.finish("copy", [value])


def _near(ours: Array, theirs: Array) -> bool:
    """Whether weights leave a float within the bound of `midge verify`."""
    return bool(np.allclose(ours, theirs, 0, 1e-6))


def _exact(axes: Sequence[_Axis]) -> bool:
    """Whether the scales say no more than the sizes do."""
    return all(np.float32(a.scale) == np.float32(a.m) / np.float32(a.n) for a in axes)


def _interpolated(op: Foreign, axes: Sequence[_Axis], place: str) -> tuple[Node, ...]:
    """Of height and width, with ONNX Runtime's positions and order."""
    steps = Steps(op)
    shape = op.type(0).shape
    if len(shape) == 2:
        inputs = [steps.emit("reshape", op.inputs[:1], {"shape": (1, *shape, 1)})]
    else:
        inputs = [steps.emit("transpose", op.inputs[:1], {"perm": (0, 2, 3, 1)})]
    for a in axes:
        tables = neighbours(a.n, positions(a.n, a.m, np.float32(a.scale), place))
        inputs += [steps.const(t, n) for t, n in zip(tables, ("rows", "weights"), strict=True)]
    between = steps.emit("interpolate", inputs)
    if len(shape) == 2:
        return steps.finish("reshape", [between], {"shape": tuple(a.m for a in axes)})
    return steps.finish("transpose", [between], {"perm": (0, 3, 1, 2)})


def _taps(matrix: Array) -> tuple[Array, Array]:
    """The columns of each row that are not 0, as many for all rows, and their weights."""
    count = max(1, int((matrix != 0).sum(1).max()))
    indices = np.argsort(matrix == 0, axis=1, kind="stable")[:, :count]
    weights = np.take_along_axis(matrix, indices, 1)
    return indices.astype(np.int32), weights.astype(np.float32)


def _image(
    op: Foreign,
    kind: str,
    axes: Sequence[_Axis],
    flags: tuple[int, int],
    order: Mapping[str, Attr] = {},
) -> tuple[Node, ...]:
    steps = Steps(op)
    image = steps.emit("transpose", op.inputs[:1], {"perm": (0, 2, 3, 1)})
    attrs: dict[str, Attr] = {
        "size": (axes[2].m, axes[3].m),
        "align_corners": flags[0],
        "half_pixel": flags[1],
        **order,
    }
    resized = steps.emit(kind, [image], attrs)
    return steps.finish("transpose", [resized], {"perm": (0, 3, 1, 2)})


def _matrix(a: _Axis, attrs: Any, place: str, mode: str) -> Array:
    """[m, n]: what each output element takes of each input element; those beyond the border count
    as the one at the border, or not at all (exclude_outside)."""
    antialias, exclude = attrs.get("antialias", 0), attrs.get("exclude_outside", 0)
    if antialias and a.n == a.m:  # whatever the scale, as ONNX Runtime has it
        return np.eye(a.n)
    result = np.zeros((a.m, a.n))
    scale = min(a.scale, 1.0) if antialias else 1.0
    # ONNX Runtime's weights have the digits of floats.
    real: Any = np.float64 if antialias else np.float32
    radius = 1 if mode == "linear" else 2
    first = floor(-radius / scale) + 1
    offsets = np.arange(first, 2 - first)
    coefficient = real(attrs.get("cubic_coeff_a", -0.75))
    for i, x in enumerate(a.places(place)):
        below = ceil(x) - 1  # so that an element that is met exactly is the upper one
        distance = np.abs(offsets.astype(real) - real(x - below)) * real(scale)
        taps = np.clip(1 - distance, 0, 1) if mode == "linear" else _cubic(distance, coefficient)
        if exclude:
            taps = np.where((below + offsets >= 0) & (below + offsets < a.n), taps, real(0))
        if exclude or antialias:
            taps /= taps.sum()
        np.add.at(result[i], np.clip(below + offsets, 0, a.n - 1), taps)
    return result


def _cubic(x: Array, a: Any) -> Array:
    """Keys' kernel; GetCubicCoeffs of ONNX Runtime's core/providers/cpu/tensor/upsample.cc."""
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


IMPORTERS["onnx"].add("Resize", from_onnx)
IMPORTERS["onnx"].add("Upsample", from_onnx)
