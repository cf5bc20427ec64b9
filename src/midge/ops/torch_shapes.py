"""PyTorch's operators that move, choose and put together elements."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import Node
from midge.ops._torch import Aten, add


def _resolved(a: Aten, shape: tuple[int, ...], elements: int) -> tuple[int, ...]:
    """A shape with its -1 filled in."""
    known = prod(n for n in shape if n != -1)
    if shape.count(-1) > 1 or (-1 in shape and (known == 0 or elements % known)):
        raise a.op.error(f"shape {shape} does not fit {elements} elements")
    return tuple(elements // known if n == -1 else n for n in shape)


def view(a: Aten) -> str:
    x = a.tensor("self")
    name = "size" if "size" in a.op.attrs else "shape"
    return a.reshape(x, _resolved(a, a.integers(name), a.type(x).elements))


def flatten(a: Aten) -> str:
    x = a.tensor("self")
    shape = a.shape(x) or (1,)
    start, end = a.axis("start_dim", len(shape), 0), a.axis("end_dim", len(shape), -1)
    return a.reshape(x, (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :]))


def unflatten(a: Aten) -> str:
    x = a.tensor("self")
    shape = a.shape(x)
    axis = a.axis("dim", len(shape))
    sizes = _resolved(a, a.integers("sizes"), shape[axis])
    return a.reshape(x, (*shape[:axis], *sizes, *shape[axis + 1 :]))


def squeeze(a: Aten) -> str:
    x = a.tensor("self")
    shape = a.shape(x)
    given = a.op.attrs.get("dim")
    axes = range(len(shape)) if given is None else a.integers("dim")
    chosen = {d % max(len(shape), 1) for d in axes}
    return a.reshape(x, tuple(n for d, n in enumerate(shape) if d not in chosen or n != 1))


def unsqueeze(a: Aten) -> str:
    x = a.tensor("self")
    axis = a.axis("dim", len(a.shape(x)) + 1)
    return a.reshape(x, (*a.shape(x)[:axis], 1, *a.shape(x)[axis:]))


def permute(a: Aten) -> str:
    x = a.tensor("self")
    rank = len(a.shape(x))
    perm = tuple(d % max(rank, 1) for d in a.integers("dims"))
    if sorted(perm) != list(range(rank)):
        raise a.op.error(f"dims {perm} do not order {rank} dimensions")
    return a.permute(x, perm)


def transpose(a: Aten) -> str:
    x = a.tensor("self")
    perm = list(range(len(a.shape(x))))
    i, j = (a.axis(n, len(perm)) for n in ("dim0", "dim1"))
    perm[i], perm[j] = perm[j], perm[i]
    return a.permute(x, perm)


def turned(a: Aten) -> str:
    x = a.tensor("self")
    return a.permute(x, range(len(a.shape(x)))[::-1])


add("view reshape _unsafe_view view_copy", view)
add("flatten", flatten)
add("unflatten", unflatten)
add("squeeze squeeze_copy", squeeze)
add("unsqueeze unsqueeze_copy", unsqueeze)
add("permute permute_copy", permute)
add("transpose transpose_copy", transpose)
add("t numpy_T", turned)


def last_two_turned(a: Aten, x: str) -> str:
    """Rows and columns change places; for real numbers that is the adjoint, too."""
    rank = len(a.shape(x))
    if rank < 2:
        raise a.op.error(f"is of {rank} dimensions, expected 2 or more")
    return a.permute(x, (*range(rank - 2), rank - 1, rank - 2))


add("mT mH adjoint matrix_H", lambda a: last_two_turned(a, a.tensor("self")))


def concat(a: Aten) -> str:
    parts = [v for v in a.tensors("tensors") if a.shape(v) != (0,)]
    axis = a.axis("dim", len(a.shape(parts[0])), 0)
    return a.onnx("Concat", a.promoted(*parts), axis=axis)


def stack(a: Aten) -> str:
    parts = a.tensors("tensors")
    axis = a.axis("dim", len(a.shape(parts[0])) + 1, 0)
    shaped = [a.reshape(v, (*a.shape(v)[:axis], 1, *a.shape(v)[axis:])) for v in a.promoted(*parts)]
    return a.onnx("Concat", shaped, axis=axis)


add("cat concat", concat)
add("stack", stack)


def cut(a: Aten, x: str, axis: int, start: int, stop: int, step: int = 1) -> str:
    """x[.., start:stop:step, ..]."""
    shape = list(a.shape(x))
    begin, strides = [0] * len(shape), [1] * len(shape)
    begin[axis], strides[axis] = start, step
    shape[axis] = max(-(-(stop - start) // step), 0)
    if tuple(shape) == a.shape(x):
        return x
    attrs = {"begin": tuple(begin), "size": tuple(shape), "strides": tuple(strides)}
    return a.node("slice", [x], attrs)


def slice_range(a: Aten, x: str) -> tuple[int, int, int, int]:
    """The axis, start, stop and step that the arguments of a slice of x name."""
    axis = a.axis("dim", len(a.shape(x)), 0)
    n, step = a.shape(x)[axis], a.integer("step", 1)
    if step < 1:
        raise a.op.error(f"a step of {step} is not possible")
    start, stop = a.integer("start", 0), a.integer("end", n)
    first, last = (min(max(v + n if v < 0 else v, 0), n) for v in (start, stop))
    return axis, first, max(first, last), step


def slice_(a: Aten) -> str:
    x = a.tensor("self")
    return cut(a, x, *slice_range(a, x))


def select(a: Aten) -> str:
    x = a.tensor("self")
    shape = a.shape(x)
    axis = a.axis("dim", len(shape))
    index = a.integer("index")
    if not -shape[axis] <= index < shape[axis]:
        raise a.op.error(f"index {index} is not in {shape[axis]} elements")
    index %= shape[axis]
    return a.reshape(cut(a, x, axis, index, index + 1), (*shape[:axis], *shape[axis + 1 :]))


def flip(a: Aten) -> str:
    x = a.tensor("self")
    shape = a.shape(x)
    axes = {d % len(shape) for d in a.integers("dims")}
    attrs = {
        "begin": tuple(n - 1 if d in axes else 0 for d, n in enumerate(shape)),
        "size": shape,
        "strides": tuple(-1 if d in axes else 1 for d in range(len(shape))),
    }
    return a.node("slice", [x], attrs)


add("flip", flip)
add("slice slice_copy", slice_)
add("select select_copy", select)


def _parts(op: Foreign) -> tuple[Node, ...]:
    """split, chunk, unbind: all their outputs."""
    a = Aten(op)
    x = a.tensor("self")
    shape = a.shape(x)
    axis = a.axis("dim", len(shape), 0)
    n = shape[axis]
    name = op.kind.split(".")[1]
    if name in ("unbind", "unbind_copy"):
        sizes = [1] * n
    elif name == "chunk":
        size = max(-(-n // a.integer("chunks")), 1)
        sizes = [min(size, n - at) for at in range(0, n, size)]
    else:
        argument = "split_sizes" if "split_sizes" in op.attrs else "split_size"
        given = a.integers(argument)
        sizes = list(given)
        if len(given) == 1:
            sizes = [min(given[0], n - at) for at in range(0, n, max(given[0], 1))]
    ends = np.cumsum([0, *sizes]).tolist()
    if ends[-1] != n or len(sizes) != len(op.outputs):
        raise op.error(f"parts of {sizes} elements do not fit {n}, {len(op.outputs)} outputs")
    values = [cut(a, x, axis, p, q) for p, q in pairwise(ends)]
    if name in ("unbind", "unbind_copy"):
        values = [a.reshape(v, (*shape[:axis], *shape[axis + 1 :])) for v in values]
    return a.finished(values)


for _name in (
    "split", "split_with_sizes", "split_with_sizes_copy", "split_copy", "chunk", "unbind",
    "unbind_copy",
):  # fmt: skip
    IMPORTERS["torch"].add(f"aten.{_name}", _parts)


def expand(a: Aten) -> str:
    x = a.tensor("self")
    sizes, shape = a.integers("size"), a.shape(x)
    lead = len(sizes) - len(shape)
    wanted = tuple(shape[d - lead] if n == -1 else n for d, n in enumerate(sizes))
    return x if wanted == shape else a.onnx("Expand", [x, a.value(wanted)])


def repeat(a: Aten) -> str:
    x, times = a.tensor("self"), a.integers("repeats")
    shaped = a.reshape(x, (*[1] * (len(times) - len(a.shape(x))), *a.shape(x)))
    return a.onnx("Tile", [shaped, a.value(times)])


def gathered(a: Aten) -> str:
    """index_select: whole slices along one dimension."""
    x = a.tensor("self")
    return a.onnx("Gather", [x, a.tensor("index")], axis=a.axis("dim", len(a.shape(x))))


def indexed(a: Aten) -> str:
    """x[:, i]: whole slices along one dimension."""
    x, indices = a.tensor("self"), a.op.attrs.get("indices")
    given = list(enumerate(indices)) if isinstance(indices, tuple) else []
    found = [(d, str(v)) for d, v in given if v is not None]
    if len(found) != 1 or a.type(found[0][1]).dtype is DType.BOOL:
        raise a.op.error("indexing by several tensors or by a mask is not supported")
    ((axis, index),) = found
    return a.onnx("Gather", [x, index], axis=axis)


def pad(a: Aten) -> str:
    """The last dimension's pair first."""
    x = a.tensor("self")
    pairs = a.integers("pad")
    rank = len(a.shape(x))
    before, after = [0] * rank, [0] * rank
    for i in range(len(pairs) // 2):
        before[rank - 1 - i], after[rank - 1 - i] = pairs[2 * i : 2 * i + 2]
    modes = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    mode = modes.get(str(a.op.attrs.get("mode", "constant")))
    if mode is None:
        raise a.op.error(f"padding mode {a.op.attrs['mode']!r} is not supported")
    inputs = [x, a.value([*before, *after])]
    if mode == "constant":
        inputs.append(a.value(a.number("value", 0.0), a.type(x).dtype))
    return a.onnx("Pad", inputs, mode=mode)


add("expand expand_copy", expand)
add("repeat", repeat)
add("index_select", gathered)
add("index _unsafe_index", indexed)
add("embedding", lambda a: a.onnx("Gather", [a.tensor("weight"), a.tensor("indices")], axis=0))
add(
    "gather",
    lambda a: a.onnx(
        "GatherElements",
        [a.tensor("self"), a.tensor("index")],
        axis=a.axis("dim", len(a.shape(a.tensor("self")))),
    ),
)
add("constant_pad_nd pad", pad)


def cumulated(kind: str, a: Aten) -> str:
    return a.onnx(kind, [a.summable(a.tensor("self")), a.value(a.integer("dim"))])


add("cumsum", lambda a: cumulated("CumSum", a))
add("cumprod", lambda a: cumulated("CumProd", a))
