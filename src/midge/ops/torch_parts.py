"""PyTorch's operators that take and write parts of tensors."""

from __future__ import annotations

from midge.ops._torch import Aten, add
from midge.ops.torch_shapes import cut, slice_range


def _written(a: Aten, x: str, part: str, axis: int, start: int) -> str:
    """x with `part` in the place of as much of it along an axis."""
    shape = a.shape(x)
    stop = start + a.shape(part)[axis]
    ends = [(0, start, x), (0, stop - start, part), (stop, shape[axis], x)]
    pieces = [cut(a, v, axis, p, q) for p, q, v in ends if q > p]
    return pieces[0] if len(pieces) == 1 else a.onnx("Concat", pieces, axis=axis)


def slice_scatter(a: Aten) -> str:
    x = a.tensor("self")
    axis, start, stop, step = slice_range(a, x)
    if step != 1:
        raise a.op.error(f"writing to every {step}. element is not supported")
    shape = (*a.shape(x)[:axis], stop - start, *a.shape(x)[axis + 1 :])
    return _written(a, x, _spread(a, a.tensor("src"), x, shape), axis, start)


def select_scatter(a: Aten) -> str:
    x = a.tensor("self")
    shape = a.shape(x)
    axis, index = a.axis("dim", len(shape)), a.integer("index")
    if not -shape[axis] <= index < shape[axis]:
        raise a.op.error(f"index {index} is not in {shape[axis]} elements")
    src = _spread(a, a.tensor("src"), x, (*shape[:axis], *shape[axis + 1 :]))
    part = a.reshape(src, (*shape[:axis], 1, *shape[axis + 1 :]))
    return _written(a, x, part, axis, index % shape[axis])


def _spread(a: Aten, value: str, like: str, shape: tuple[int, ...]) -> str:
    """A value of the type of `like` and of some shape."""
    value = a.cast(value, a.type(like).dtype)
    return value if a.shape(value) == shape else a.onnx("Expand", [value, a.value(shape)])


def copied(a: Aten) -> str:
    x = a.tensor("self")
    return _spread(a, a.tensor("src"), x, a.shape(x))


def filled(a: Aten) -> str:
    x = a.tensor("self")
    return _spread(a, a.operand("value", a.type(x).dtype), x, a.shape(x))


add("slice_scatter", slice_scatter)
add("select_scatter", select_scatter)
add("copy", copied)
add("fill", filled)


def expand_as(a: Aten) -> str:
    x, shape = a.tensor("self"), a.shape(a.tensor("other"))
    return x if a.shape(x) == shape else a.onnx("Expand", [x, a.value(shape)])


add("expand_as", expand_as)


def narrow(a: Aten) -> str:
    x = a.tensor("self")
    axis = a.axis("dim", len(a.shape(x)))
    n, start, length = a.shape(x)[axis], a.integer("start"), a.integer("length")
    start += n if start < 0 else 0
    if not 0 <= start <= start + length <= n:
        raise a.op.error(f"elements {start} to {start + length} are not in {n}")
    return cut(a, x, axis, start, start + length)


def movedim(a: Aten) -> str:
    x = a.tensor("self")
    rank = len(a.shape(x))
    source, target = ([d % rank for d in a.integers(n)] for n in ("source", "destination"))
    if len({*source}) != len(source) or sorted({*target}) != sorted(target):
        raise a.op.error(f"dimensions {source} cannot move to {target}")
    rest = [d for d in range(rank) if d not in source]
    for to, d in sorted(zip(target, source, strict=True)):
        rest.insert(to, d)
    return a.permute(x, rest)


def roll(a: Aten) -> str:
    """Elements move on along dimensions; those that leave come in at the front."""
    x = a.tensor("self")
    whole = a.shape(x)
    shifts, dims = a.integers("shifts"), a.integers("dims")
    y = x if dims else a.reshape(x, (a.type(x).elements,))
    for shift, dim in zip(shifts, dims or (0,), strict=True):
        axis = dim % len(a.shape(y))
        n = a.shape(y)[axis]
        at = -shift % max(n, 1)
        if at:
            parts = [cut(a, y, axis, at, n), cut(a, y, axis, 0, at)]
            y = a.onnx("Concat", parts, axis=axis)
    return a.reshape(y, whole)


def repeat_interleave(a: Aten) -> str:
    """Every element several times in a row."""
    x, times = a.tensor("self"), a.integer("repeats")
    if a.op.attrs.get("dim") is None:
        x = a.reshape(x, (a.type(x).elements,))
    shape = a.shape(x)
    axis = a.axis("dim", len(shape), 0)
    apart = a.reshape(x, (*shape[: axis + 1], 1, *shape[axis + 1 :]))
    counts = [times if d == axis + 1 else 1 for d in range(len(shape) + 1)]
    tiled = a.onnx("Tile", [apart, a.value(counts)])
    return a.reshape(tiled, (*shape[:axis], shape[axis] * times, *shape[axis + 1 :]))


def windows(a: Aten) -> str:
    """unfold: sliding windows along a dimension, as a last dimension."""
    x = a.tensor("self")
    shape = a.shape(x)
    axis = a.axis("dimension", len(shape))
    size, step = a.integer("size"), a.integer("step")
    if not 1 <= size <= shape[axis] or step < 1:
        raise a.op.error(f"windows of {size}, every {step}, do not fit {shape[axis]} elements")
    index = [[at + i for i in range(size)] for at in range(0, shape[axis] - size + 1, step)]
    y = a.onnx("Gather", [x, a.value(index)], axis=axis)
    order = [d for d in range(len(shape) + 1) if d != axis + 1]
    return a.permute(y, (*order, axis + 1))


add("narrow", narrow)
add("movedim moveaxis", movedim)
add("roll", roll)
add("repeat_interleave", repeat_interleave)
add("unfold unfold_copy", windows)
