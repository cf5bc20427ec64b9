"""ONNX's pools over one or two spatial dimensions, and the global ones over any number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod

import numpy as np

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Attr, Node
from midge.ops.onnx_slices import axis_of
from midge.ops.onnx_window import (
    FLAT,
    Axis,
    from_image,
    kernel_of,
    spatial_of,
    to_image,
    window,
    window_attrs,
)


def pool_axes(op: Foreign) -> list[Axis]:
    """The windows of a pool, ceil_mode counted in: as padding that is cut off."""
    kernel = op.attrs.get("kernel_shape", ())
    axes = window(op, spatial_of(op, op.type(0)), kernel)
    if op.attrs.get("ceil_mode", 0):
        axes = [_ceiled(a) for a in axes]
    for a in axes:
        if a.count < 1 or not all(_has_tap(a, i) for i in (0, a.count - 1)):
            padded = f"{a.size} elements padded by {a.before} and {a.after}"
            raise op.error(
                f"a window over {a.reach} of {padded} sees padding only",
                "pad less, or pool over a smaller window",
            )
    return axes


def _ceiled(a: Axis) -> Axis:
    """With a last window that reaches beyond the padding, unless it would start there."""
    left = (a.size + a.before + a.after - a.reach) % a.stride
    last = a.count * a.stride
    if a.count < 1 or left == 0 or last >= a.size + a.before:
        return a
    return replace(a, after=a.after + a.stride - left)


def _has_tap(a: Axis, i: int) -> bool:
    """Whether window `i` has an element of the input in it."""
    first = i * a.stride - a.before
    return any(0 <= first + k * a.dilation < a.size for k in range(min(a.kernel, 1 << 16)))


def max_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I8, DType.U8)
    if len(op.outputs) > 1:
        raise op.error("the output Indices is not supported", "export without return_indices")
    axes = pool_axes(op)
    return _pooled(op, "max_pool2d", axes)


def average_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    axes = pool_axes(op)
    order = op.attrs.get("order", _order(axes, op.opset))
    if not op.attrs.get("count_include_pad", 0):
        return _pooled(op, "avg_pool2d", axes, order=order)
    inner = window(op, spatial_of(op, op.type(0)), op.attrs.get("kernel_shape", ()))
    return _pooled(op, "avg_pool2d", axes, inner, order=order)


_PLAIN = 19  # AveragePool with dilations, which has a kernel of its own
_WIDEST = 1500  # an image whose columns of windows fit ONNX Runtime's buffer


def _order(axes: Sequence[Axis], opset: int) -> str:
    """The order in which ONNX Runtime adds the elements of a window (`pool2d`). From opset 19 on it
    is one by one (AveragePool2DTask in core/providers/cpu/nn/pool_functors.h), before that its
    vector kernels', which of dilated windows is not known."""
    if opset >= _PLAIN:
        return "rows"
    if all(a.kernel == a.size and a.stride == 1 and a.before == a.after == 0 for a in axes):
        return "lanes"
    across = axes[-1]
    plain = all(a.dilation == 1 for a in axes)
    if not plain:
        return ""
    columns = len(axes) == 2 and across.stride <= 2 and across.size <= _WIDEST
    return "columns" if columns else "rows"


def _pooled(
    op: Foreign,
    kind: str,
    axes: Sequence[Axis],
    counted: Sequence[Axis] = (),
    *,
    order: str = "",
) -> tuple[Node, ...]:
    """The pool; the padding that `counted` has is made of zeros that count."""
    steps = Steps(op)
    image = to_image(steps, op.inputs[0])
    if any(a.before or a.after for a in counted):
        image = padded(steps, image, counted)
        axes = [
            replace(a, size=a.size + c.before + c.after, before=0, after=a.after - c.after)
            for a, c in zip(axes, counted, strict=True)
        ]
    attributes = {**window_attrs(axes), "window": kernel_of(axes)}
    if order:
        attributes["order"] = order
    return from_image(steps, steps.emit(kind, [image], attributes), len(op.type(0).shape))


def padded(steps: Steps, image: str, axes: Sequence[Axis]) -> str:
    """The image with zeros around it, as elements of its own."""
    pads = [n for a in (*axes, FLAT)[:2] for n in (a.before, a.after)]
    if not any(pads):
        return image
    return steps.emit("pad", [image], {"paddings": (0, 0, *pads, 0, 0), "value": 0.0})


def global_average_from_onnx(op: Foreign) -> tuple[Node, ...]:
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    spatial = spatial_of(op, op.type(0))
    attrs: dict[str, Attr] = {"axes": tuple(range(2, 2 + len(spatial)))}
    if "order" not in op.attrs:
        attrs["order"] = "lanes"
    return (op.node("mean", attrs),)


def global_max_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """One window over all; more than two spatial dimensions are strung together."""
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    spatial = spatial_of(op, op.type(0))
    n, c = op.type(0).shape[:2]
    steps = Steps(op)
    x = op.inputs[0]
    if len(spatial) > 2:
        spatial = (prod(spatial),)
        x = steps.emit("reshape", [x], {"shape": (n, c, *spatial)})
    axes = [Axis(size, size) for size in spatial]
    attrs = {**window_attrs(axes), "window": kernel_of(axes)}
    pooled = steps.emit("max_pool2d", [to_image(steps, x)], attrs)
    flat = steps.emit("reshape", [pooled], {"shape": (n, c)})
    return steps.finish("reshape", [flat], {"shape": (n, c) + (1,) * (len(op.type(0).shape) - 2)})


def norm_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """LpPool: the p-norm of each window, as a root of the sum of powers."""
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    inner = window(op, spatial_of(op, op.type(0)), op.attrs.get("kernel_shape", ()))
    axes = pool_axes(op)
    if axes != inner:
        raise op.error("ceil_mode is not supported here")
    steps = Steps(op)
    image = padded(steps, to_image(steps, _powered(steps, op.inputs[0])), inner)
    inside = window_attrs([replace(a, before=0, after=0) for a in axes])
    attributes = {**inside, "window": kernel_of(axes)}
    mean = steps.emit("avg_pool2d", [image], attributes)
    count = steps.const(np.array([prod(kernel_of(axes))], np.float32), "count")
    root = _rooted(steps, steps.emit("mul", [mean, count]))
    return from_image(steps, root, len(op.type(0).shape))


def global_norm_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """GlobalLpPool."""
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    axes = tuple(range(2, 2 + len(spatial_of(op, op.type(0)))))
    steps = Steps(op)
    total = steps.emit("sum", [_powered(steps, op.inputs[0])], {"axes": axes})
    return steps.finish("copy", [_rooted(steps, total)])


def normalised_from_onnx(op: Foreign) -> tuple[Node, ...]:
    """LpNormalization: zeros where the norm is 0."""
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    axis = axis_of(op, len(op.type(0).shape), -1)
    steps = Steps(op)
    total = steps.emit("sum", [_powered(steps, op.inputs[0])], {"axes": (axis,)})
    tiny = steps.const(np.array([np.finfo(np.float32).tiny], np.float32), "tiny")
    norm = steps.emit("maximum", [_rooted(steps, total), tiny])
    return steps.finish("div", [op.inputs[0], norm])


def _power(op: Foreign) -> int:
    p = int(op.attrs.get("p", 2))
    if not 1 <= p <= 64:
        raise op.error(f"p = {p} is not supported", "1 to 64 are")
    return p


def _powered(steps: Steps, x: str) -> str:
    """|x|^p."""
    p = _power(steps.op)
    if p == 2:
        return steps.emit("mul", [x, x])
    size = steps.emit("abs", [x])
    return size if p == 1 else _to_the(steps, size, p)


def _rooted(steps: Steps, x: str) -> str:
    """The p-th root."""
    p = _power(steps.op)
    if p == 2:
        return steps.emit("sqrt", [x])
    return x if p == 1 else _to_the(steps, x, 1 / p)


def _to_the(steps: Steps, x: str, power: float) -> str:
    return steps.emit("pow", [x, steps.const(np.array([power], np.float32), "power")])


for _kind, _importer in (
    ("LpPool", norm_from_onnx),
    ("GlobalLpPool", global_norm_from_onnx),
    ("LpNormalization", normalised_from_onnx),
    ("MaxPool", max_from_onnx),
    ("AveragePool", average_from_onnx),
    ("GlobalAveragePool", global_average_from_onnx),
    ("GlobalMaxPool", global_max_from_onnx),
):
    IMPORTERS["onnx"].add(_kind, _importer)
