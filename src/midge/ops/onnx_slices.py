"""ONNX's operators that take tensors apart and put them together: Slice, Split, Concat, Pad,
Trilu, DepthToSpace and SpaceToDepth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from midge.core.types import TensorType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Attr, Node


def axis_of(op: Foreign, rank: int, default: int | None = None) -> int:
    """The attribute `axis`, counted from the front."""
    axis = op.attrs.get("axis", default)
    if not isinstance(axis, int) or not -rank <= axis < rank:
        raise op.error(f"axis {axis} does not exist in {rank} dimensions")
    return axis % rank


def slice_attrs(ranges: Sequence[range]) -> dict[str, Attr]:
    """What `slice` takes to take `ranges` of the axes."""
    return {
        "begin": tuple(r.start for r in ranges),
        "size": tuple(len(r) for r in ranges),
        "strides": tuple(r.step for r in ranges),
    }


def slice_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Slice: ends and starts beyond the axis are cut off, as Python's slices are."""
    op.expect_inputs(3, 5)
    x = op.type(0)
    starts, ends = ([int(v) for v in op.const(i, n).reshape(-1)] for i, n in _ENDS)
    count = len(starts)
    axes = [int(a) for a in op.const(3, "axes").reshape(-1)] if op.has(3) else list(range(count))
    steps = [int(s) for s in op.const(4, "steps").reshape(-1)] if op.has(4) else [1] * count
    rank = len(x.shape)
    if not len(ends) == len(axes) == len(steps) == count or not all(
        -rank <= a < rank for a in axes
    ):
        raise op.error(f"starts {starts}, ends {ends}, axes {axes} and steps {steps} of {x}")
    if 0 in steps or len({a % rank for a in axes}) != count:
        raise op.error(f"axes {axes} or steps {steps} are not possible")
    ranges = [range(n) for n in x.shape]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        ranges[axis % rank] = _taken(x.shape[axis % rank], start, end, step)
    return _sliced(op, ranges)


_ENDS = ((1, "starts"), (2, "ends"))


def _taken(n: int, start: int, end: int, step: int) -> range:
    """Which elements of `n`; an end before the first one counts as before it, not from behind."""
    lowest = -1 if step < 0 else 0
    stop = None if step < 0 and end < -n else end
    if step < 0 and stop is not None and stop + (n if stop < 0 else 0) < lowest:
        stop = None
    return range(n)[slice(start, stop, step)]


def _sliced(op: Foreign, ranges: Sequence[range], output: int = 0) -> tuple[Node, ...]:
    """The node that takes `ranges`; a result without elements is a constant."""
    name = op.outputs[output]
    if not all(ranges):
        op.new_consts[name] = np.zeros([len(r) for r in ranges], op.type(0).dtype.numpy)
        return ()
    return (op.node("slice", slice_attrs(ranges), inputs=op.inputs[:1], outputs=[name]),)


def split_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Split into given sizes, or as many parts as there are outputs, the last one smaller."""
    op.expect_inputs(1, 2)
    x = op.type(0)
    axis = axis_of(op, len(x.shape), 0)
    n, count = x.shape[axis], len(op.outputs)
    if op.has(1):
        sizes = [int(s) for s in op.const(1, "split").reshape(-1)]
    else:
        each = -(-n // count)
        sizes = [each] * (count - 1) + [n - each * (count - 1)]
    if len(sizes) != count or sum(sizes) != n or min(sizes) < 0:
        raise op.error(f"axis {axis} of {x} cannot be split into parts of {sizes}")
    nodes: tuple[Node, ...] = ()
    start = 0
    for output, size in enumerate(sizes):
        ranges = [range(m) for m in x.shape]
        ranges[axis] = range(start, start + size)
        nodes += _sliced(op, ranges, output)
        start += size
    return nodes


def trilu_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Trilu: one triangle of each matrix, zeros in the other."""
    op.expect_inputs(1, 2)
    shape = op.type(0).shape
    if len(shape) < 2:
        raise op.error(f"the input is {op.type(0)}", "expected matrices")
    k = int(op.const(1, "k").reshape(-1)[0]) if op.has(1) else 0
    k = int(np.clip(k, -shape[-2], shape[-1]))
    rows, columns = np.arange(shape[-2])[:, None], np.arange(shape[-1])
    keep = columns - rows >= k if op.attrs.get("upper", 1) else columns - rows <= k
    steps = Steps(op)
    zero = steps.const(np.zeros(1, op.type(0).dtype.numpy), "zero")
    return steps.finish("where", [steps.const(keep, "triangle"), op.inputs[0], zero])


def concat_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Concat; inputs without elements add nothing."""
    op.expect_inputs(1, len(op.inputs))
    if not all(map(op.has, range(len(op.inputs)))):
        raise op.error("an input is missing")
    axis = axis_of(op, len(op.type(0).shape))
    parts = [n for n in op.inputs if op.types[n].elements] or list(op.inputs[:1])
    return (op.node("concat", {"axis": axis}, inputs=parts),)


def pad_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """Pad with a constant, or with the input's elements; negative pads take elements away."""
    op.expect_inputs(2, 4)
    x = op.type(0)
    pairs = _pads(op, x)
    mode = op.attrs.get("mode", "constant")
    steps = Steps(op)
    source = op.inputs[0]
    if any(p < 0 for pair in pairs for p in pair):
        ranges = [
            range(max(-b, 0), n - max(-a, 0)) for n, (b, a) in zip(x.shape, pairs, strict=True)
        ]
        if not all(ranges):
            raise op.error(f"pads {pairs} leave nothing of {x}")
        source = steps.emit("slice", [source], slice_attrs(ranges))
        pairs = [(max(b, 0), max(a, 0)) for b, a in pairs]
    if mode == "constant":
        flat = tuple(p for pair in pairs for p in pair)
        return steps.finish("pad", [source], {"paddings": flat, "value": _value(op)})
    if mode not in BORDERS or mode == "symmetric":
        raise op.error(f"mode {mode} is not supported")
    for axis, pair in enumerate(pairs):
        source = bordered(steps, source, axis, pair, mode)
    return steps.finish("copy", [source])


def _pads(op: Foreign, x: TensorType) -> list[tuple[int, int]]:
    """Elements before and after, of every axis."""
    pads = [int(p) for p in op.const(1, "pads").reshape(-1)]
    rank = len(x.shape)
    axes = list(range(rank))
    if op.has(3):
        axes = [int(a) for a in op.const(3, "axes").reshape(-1)]
    if len(pads) != 2 * len(axes) or not all(-rank <= a < rank for a in axes):
        raise op.error(f"{len(pads)} pads for axes {axes} of {x}")
    pairs = [(0, 0)] * rank
    for i, axis in enumerate(axes):
        pairs[axis] = (pads[i], pads[len(axes) + i])
    return pairs


def _value(op: Foreign) -> float | int:
    if not op.has(2):
        return 0
    value = op.const(2, "the padding value")
    if value.size != 1:
        raise op.error(f"the padding value has {value.size} elements")
    return float(value.item()) if op.type(0).dtype.is_float else int(value.item())


def _reflected(n: int, i: int) -> int:
    i %= max(2 * (n - 1), 1)
    return min(i, 2 * (n - 1) - i) if n > 1 else 0


def _mirrored(n: int, i: int) -> int:
    i %= max(2 * n, 1)
    return min(i, 2 * n - 1 - i)


# How elements beyond `n` are found. ONNX has all but the last, whose border is doubled.
BORDERS: dict[str, Callable[[int, int], int]] = {
    "edge": lambda n, i: min(max(i, 0), n - 1),
    "reflect": _reflected,
    "wrap": lambda n, i: i % n,
    "symmetric": _mirrored,
}


def bordered(steps: Steps, x: str, axis: int, pair: tuple[int, int], mode: str) -> str:
    """`x` with elements of its own before and after along one axis."""
    n = steps.type(x).shape[axis]
    if pair == (0, 0):
        return x
    if sum(pair) > 1 << 16:
        raise steps.op.error(f"pads {pair} are too large for mode {mode}")
    before = [BORDERS[mode](n, i) for i in range(-pair[0], 0)]
    after = [BORDERS[mode](n, i) for i in range(n, n + pair[1])]
    parts = [_run(steps, x, axis, r) for r in runs(before)]
    parts += [x, *(_run(steps, x, axis, r) for r in runs(after))]
    return steps.emit("concat", parts, {"axis": axis})


def runs(rows: Sequence[int]) -> list[range]:
    """`rows` as few ranges with one step each; a repeated row stands alone."""
    found: list[range] = []
    for row in rows:
        last = found[-1] if found else range(0)
        if len(last) == 1 and abs(row - last[0]) == 1:
            step = row - last[0]
            found[-1] = range(last[0], row + step, step)
        elif len(last) > 1 and row == last[-1] + last.step:
            found[-1] = range(last[0], row + last.step, last.step)
        else:
            found.append(range(row, row + 1))
    return found


def _run(steps: Steps, x: str, axis: int, taken: range) -> str:
    ranges = [range(n) for n in steps.type(x).shape]
    ranges[axis] = taken
    return steps.emit("slice", [x], slice_attrs(ranges))


def depth_to_space_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """DepthToSpace: blocks of channels become blocks of pixels; DCR has the block's axes first."""
    n, c, h, w, block = _blocks(op)
    mode = op.attrs.get("mode", "DCR")
    if mode not in ("DCR", "CRD") or c % (block * block):
        raise op.error(f"{c} channels in blocks of {block}, mode {mode}")
    rest = c // (block * block)
    split = (n, block, block, rest, h, w) if mode == "DCR" else (n, rest, block, block, h, w)
    perm = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    return _regrouped(op, split, perm, (n, rest, h * block, w * block))


def space_to_depth_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """SpaceToDepth: blocks of pixels become channels."""
    n, c, h, w, block = _blocks(op)
    mode = op.attrs.get("mode", "DCR")
    if h % block or w % block or mode not in ("DCR", "CRD"):
        raise op.error(f"{h} x {w} pixels in blocks of {block}, mode {mode}")
    split = (n, c, h // block, block, w // block, block)
    perm = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return _regrouped(op, split, perm, (n, c * block * block, h // block, w // block))


def _blocks(op: Foreign) -> tuple[int, int, int, int, int]:
    op.expect_inputs(1)
    block = int(op.attrs.get("blocksize", 0))
    shape = op.type(0).shape
    if len(shape) != 4 or block < 1:
        raise op.error(f"the input is {op.type(0)}, blocks are of {block}")
    n, c, h, w = shape
    return n, c, h, w, block


def _regrouped(
    op: Foreign, split: tuple[int, ...], perm: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[Node, ...]:
    steps = Steps(op)
    parts = steps.emit("reshape", op.inputs[:1], {"shape": split})
    moved = steps.emit("transpose", [parts], {"perm": perm})
    return steps.finish("reshape", [moved], {"shape": shape})


for _kind, _importer in (
    ("Slice", slice_from_onnx),
    ("Split", split_from_onnx),
    ("Trilu", trilu_from_onnx),
    ("Concat", concat_from_onnx),
    ("Pad", pad_from_onnx),
    ("DepthToSpace", depth_to_space_from_onnx),
    ("SpaceToDepth", space_to_depth_from_onnx),
):
    IMPORTERS["onnx"].add(_kind, _importer)
