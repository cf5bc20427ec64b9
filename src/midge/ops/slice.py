"""slice: y[i] = x[begin + i * stride] along every axis; strides may be negative.

TFLite's SLICE, STRIDED_SLICE, SPLIT and SPLIT_V become slices, and reshapes where axes vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integers
from midge.graph.exporters import EXPORTERS, Exporting
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.index_ranges import INDEX_RULES, moved
from midge.graph.ir import OPS, Attr, Attrs, Node, OpDef, Sample
from midge.graph.quantizing import QUANTIZING, SAME
from midge.loop import ir
from midge.lower import LOOP_RULES, LoopRule, Site, nest
from midge.ops._common import arity, expect_same_scale, fail

_DTYPES = (  # splits: all but bool
    DType.F32,
    DType.I8,
    DType.I16,
    DType.U8,
    DType.I32,
    DType.I64,
    DType.BOOL,
)


def infer(inputs: Sequence[TensorType], attrs: Attrs) -> tuple[TensorType, ...]:
    arity(inputs, 1)
    (x,) = inputs
    rank = len(x.shape)
    begin, size, strides = (integers(attrs, n, rank) for n in ("begin", "size", "strides"))
    for n, b, s, step in zip(x.shape, begin, size, strides, strict=True):
        last = b + (s - 1) * step
        if s < 1 or step == 0 or not (0 <= b < n and 0 <= last < n):
            raise fail(f"slice begin {begin} size {size} strides {strides} leaves {x}")
    return (TensorType(size, x.dtype),)


def reference(inputs: Sequence[Array], attrs: Attrs) -> tuple[Array, ...]:
    parts = (integers(attrs, n) for n in ("begin", "size", "strides"))
    index = [np.arange(n) * step + b for b, n, step in zip(*parts, strict=True)]
    return (inputs[0][np.ix_(*index)] if index else inputs[0].copy(),)


def loops(site: Site) -> ir.Block:
    (x,) = site.inputs
    begin, strides = integers(site.attrs, "begin"), integers(site.attrs, "strides")
    axes = site.axes(" ".join(f"i{d}" for d in range(len(begin))))
    index = [
        ir.add(ir.mul(axis, ir.i32(step)), ir.i32(b)) if step > 0
        else ir.sub(ir.i32(b), ir.mul(axis, ir.i32(-step)))
        for axis, b, step in zip(axes, begin, strides, strict=True)
    ]  # fmt: skip
    return nest(axes, site.output.shape, site.store(axes, x(*index)))


@dataclass(frozen=True, slots=True)
class _Part:
    """What is taken of one axis."""

    begin: int
    size: int
    stride: int = 1


def _slice(
    op: Foreign,
    parts: Sequence[_Part],
    output: int = 0,
    shape: Sequence[int] | None = None,
    target: str = "",
) -> tuple[Node, ...]:
    """Node(s) that take `parts` of the input 0 (or 1 of SPLIT) into output `output`, or a value
    named otherwise, as `shape`."""
    value = op.inputs[1] if op.kind == "SPLIT" else op.inputs[0]
    target = target or op.outputs[output]
    if any(p.size < 1 for p in parts):
        raise op.error("the result has no elements", "remove it from the model")
    sizes = tuple(p.size for p in parts)
    attrs: dict[str, Attr] = {
        "begin": tuple(p.begin for p in parts),
        "size": sizes,
        "strides": tuple(p.stride for p in parts),
    }
    shape = sizes if shape is None else tuple(shape)
    if shape == sizes:
        return (op.node("slice", attrs, inputs=[value], outputs=[target]),)
    kept = f"{target}/kept"
    return (
        op.node("slice", attrs, inputs=[value], outputs=[kept]),
        op.node("reshape", {"shape": shape}, inputs=[kept], outputs=[target]),
    )


def slice_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """SLICE: begin and size, -1 for the rest of the axis."""
    op.expect_inputs(3)
    op.expect_dtype(0, *_DTYPES)
    expect_same_scale(op, op.inputs[:1])
    x = op.type(0)
    begin, size = (op.const(i, n).reshape(-1) for i, n in ((1, "begin"), (2, "size")))
    if not len(begin) == len(size) == len(x.shape):
        raise op.error(f"begin {begin} and size {size} do not fit {x}")
    return _slice(
        op,
        [
            _Part(int(b), n - int(b) if s == -1 else int(s))
            for n, b, s in zip(x.shape, begin, size, strict=True)
        ],
    )


def split_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """SPLIT: equal parts along an axis."""
    op.expect_inputs(2)
    op.expect_dtype(1, *_DTYPES[:-1])
    count = len(op.outputs)
    x, axis = op.type(1), _axis(op, 0, op.type(1))
    if count == 0 or x.shape[axis] % count:
        raise op.error(f"axis {axis} of {x} cannot be split into {count} equal parts")
    return _split(op, x, axis, [x.shape[axis] // count] * count)


def unpack_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """UNPACK: every slice of an axis, without that axis (lite/kernels/unpack.cc)."""
    op.expect_inputs(1)
    op.expect_dtype(0, *_DTYPES)
    x, axis = op.type(0), int(op.attrs["axis"])
    rank = len(x.shape)
    if not -rank <= axis < rank or x.shape[axis] != len(op.outputs):
        raise op.error(f"axis {axis} of {x} has not {len(op.outputs)} elements")
    return _split(op, x, axis % rank, [1] * len(op.outputs), keep=False)


def reverse_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """REVERSE_V2: the axes named from their ends (lite/kernels/reverse.cc). Converters give the
    result a scale of its own, behind bidirectional layers, and the kernel moves bytes all the
    same: they are another number then."""
    op.expect_inputs(2)
    op.expect_dtype(0, *_DTYPES)
    shape = op.type(0).shape
    axes = [int(a) for a in op.const(1, "axes").reshape(-1)]
    if not all(-len(shape) <= a < len(shape) for a in axes):
        raise op.error(f"axes {axes} do not exist in {op.type(0)}")
    turned = {a % len(shape) for a in axes}
    parts = [_Part(n - 1, n, -1) if d in turned else _Part(0, n) for d, n in enumerate(shape)]
    quant = op.type(0).quant
    if quant == op.output.quant:
        return _slice(op, parts)
    if quant is None or op.output.quant is None or op.type(0).dtype is not op.output.dtype:
        raise op.error(f"{op.type(0)} becomes {op.output}")
    moved = f"{op.outputs[0]}/moved"
    dtype = {"dtype": op.output.dtype.value}
    return (*_slice(op, parts, target=moved), op.node("bitcast", dtype, inputs=[moved]))


def split_v_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """SPLIT_V: parts of given sizes, at most one of them -1 (what is left)."""
    op.expect_inputs(3)
    op.expect_dtype(0, *_DTYPES[:-1])
    x, axis = op.type(0), _axis(op, 2, op.type(0))
    sizes = [int(s) for s in op.const(1, "sizes").reshape(-1)]
    if sizes.count(-1) == 1:
        sizes[sizes.index(-1)] = x.shape[axis] - sum(s for s in sizes if s != -1)
    if len(sizes) != len(op.outputs) or sum(sizes) != x.shape[axis]:
        raise op.error(f"axis {axis} of {x} cannot be split into parts of {sizes}")
    return _split(op, x, axis, sizes)


def _axis(op: Foreign, i: int, x: TensorType) -> int:
    value = op.const(i, "axis").reshape(-1)
    rank = len(x.shape)
    if value.size != 1 or not -rank <= int(value[0]) < rank:
        raise op.error(f"axis {value.tolist()} does not exist in {x}")
    return int(value[0]) % rank


def _split(
    op: Foreign, x: TensorType, axis: int, sizes: Sequence[int], *, keep: bool = True
) -> tuple[Node, ...]:
    """keep: the axis stays; else its parts have one element, and vanish."""
    shape = None if keep else x.shape[:axis] + x.shape[axis + 1 :]
    nodes: list[Node] = []
    start = 0
    for i, size in enumerate(sizes):
        if op.types[op.outputs[i]].quant != x.quant:
            raise op.error("input and output have different scales")
        parts = [_Part(0, n) for n in x.shape]
        parts[axis] = _Part(start, size)
        nodes.extend(_slice(op, parts, i, shape))
        start += size
    return tuple(nodes)


def strided_slice_from_tflite(op: Foreign) -> tuple[Node, ...]:
    """STRIDED_SLICE with all its masks; a new axis is reshaped in, and an axis of
    shrink_axis_mask reshaped away (lite/kernels/strided_slice.cc)."""
    op.expect_inputs(4)
    op.expect_dtype(0, *_DTYPES)
    expect_same_scale(op, op.inputs[:1])
    names = ("begin", "end", "strides")
    spec = [op.const(i + 1, n).reshape(-1) for i, n in enumerate(names)]
    if not len(spec[0]) == len(spec[1]) == len(spec[2]) or not (spec[2] != 0).all():
        raise op.error(f"begin {spec[0]}, end {spec[1]}, strides {spec[2]}")
    if op.attrs.get("offset"):
        raise op.error("end as an offset is not supported", "convert the model again")
    return _slice(op, *_strided_parts(op, spec))


def _strided_parts(op: Foreign, spec: Sequence[Array]) -> tuple[list[_Part], int, list[int]]:
    """What is taken of each axis of the input for output 0, and the shape of the result."""
    shape = op.type(0).shape
    masks = {
        m: int(op.attrs.get(f"{m}_mask", 0))
        for m in ("begin", "end", "ellipsis", "new_axis", "shrink_axis")
    }
    entries = range(len(spec[0]))
    rests = [i for i in entries if _bit(masks["ellipsis"], i)]
    fresh = [i for i in entries if _bit(masks["new_axis"], i) and i not in rests]
    missing = len(shape) - (len(entries) - len(rests) - len(fresh))
    if missing < 0 or len(rests) > 1:
        raise op.error(f"{len(shape) - missing} entries for {op.type(0)}")
    parts: list[_Part] = []
    result: list[int] = []
    for i in entries:
        if i in fresh:
            result.append(1)
        elif i in rests:
            result += shape[len(parts) : len(parts) + missing]
            parts += [_Part(0, n) for n in shape[len(parts) : len(parts) + missing]]
        else:
            begin, end, stride = (int(s[i]) for s in spec)
            bits = tuple(_bit(masks[m], i) for m in ("begin", "end", "shrink_axis"))
            parts.append(_range(shape[len(parts)], begin, end, stride, *bits))
            result += () if bits[-1] else (parts[-1].size,)
    rest = shape[len(parts) :]
    return parts + [_Part(0, n) for n in rest], 0, [*result, *rest]


def _bit(mask: int, i: int) -> bool:
    return bool(mask >> i & 1)


def _range(
    n: int, begin: int, end: int, stride: int, from_start: bool, to_end: bool, shrink: bool
) -> _Part:
    """Entries of an axis of `n` elements as Python's slices count them."""
    if shrink:
        at = 0 if from_start else begin
        at = at + n if at < 0 else at
        return _Part(at, 1 if 0 <= at < n else 0)
    taken = range(n)[slice(None if from_start else begin, None if to_end else end, stride)]
    return _Part(taken.start if taken else 0, len(taken), stride)


def to_tflite(op: Exporting) -> None:
    begin, size, strides = (integers(op.attrs, n) for n in ("begin", "size", "strides"))
    first = op.const(np.array(begin, np.int32), "begin")
    if all(k == 1 for k in strides):
        inputs = [op.inputs[0], first, op.const(np.array(size, np.int32), "size")]
        op.emit("SLICE", inputs, options="SliceOptions", version=op.version(i8=2, i16=4))
        return
    ends = [b + n * k for b, n, k in zip(begin, size, strides, strict=True)]
    masked = sum(1 << i for i, e in enumerate(ends) if e < 0)  # down to the first element
    last = op.const(np.array([max(e, 0) for e in ends], np.int32), "end")
    op.emit(
        "STRIDED_SLICE",
        [op.inputs[0], first, last, op.const(np.array(strides, np.int32), "strides")],
        options="StridedSliceOptions",
        version=op.version(i8=2, i16=4),
        begin_mask=0,
        end_mask=masked,
        ellipsis_mask=0,
        new_axis_mask=0,
        shrink_axis_mask=0,
        offset=False,
    )


_CASES: tuple[tuple[tuple[int, ...], ...], ...] = (
    ((4, 5), (1, 2), (2, 3), (1, 1)),
    ((6,), (5,), (3,), (-2,)),
    ((1, 4, 3, 2), (0, 3, 0, 1), (1, 2, 2, 1), (1, -1, 2, 1)),
    ((2, 2), (0, 0), (2, 2), (1, 1)),
    ((), (), (), ()),
)
_SAMPLES = tuple(
    Sample((TensorType(s, d),), {"begin": b, "size": n, "strides": k})
    for d in (DType.I8, DType.F32, DType.I64, DType.BOOL)
    for s, b, n, k in _CASES
)
OPS.add("slice", OpDef("slice", infer, reference, halves=True, samples=_SAMPLES))
LOOP_RULES.add("slice", LoopRule(("x",), loops))
for _kind, _importer in (
    ("SLICE", slice_from_tflite),
    ("SPLIT", split_from_tflite),
    ("SPLIT_V", split_v_from_tflite),
    ("STRIDED_SLICE", strided_slice_from_tflite),
    ("REVERSE_V2", reverse_from_tflite),
    ("UNPACK", unpack_from_tflite),
):
    IMPORTERS["tflite"].add(_kind, _importer)
EXPORTERS["tflite"].add("slice", to_tflite)
QUANTIZING.add("slice", SAME)
INDEX_RULES.add("slice", moved)
