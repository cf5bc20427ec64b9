"""What several operator files share: broadcasting, windows over images, TFLite's options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from midge.core.errors import VerifyError
from midge.core.types import Array, DType, TensorType
from midge.graph.attrs import integers
from midge.graph.importers import Foreign
from midge.graph.ir import Attr, Attrs, Expansion, Rows
from midge.loop import ir
from midge.lower import Site


def fail(what: str, hint: str = "") -> VerifyError:
    """An error of type inference; the verifier adds where."""
    return VerifyError(what, where="infer", hint=hint)


def arity(inputs: Sequence[TensorType], least: int, most: int | None = None) -> None:
    """VerifyError unless there are `least`..`most` inputs."""
    if not least <= len(inputs) <= (least if most is None else most):
        raise fail(f"{len(inputs)} inputs, expected {least}" + (f"..{most}" if most else ""))


def broadcast(*types: TensorType) -> tuple[int, ...]:
    """The NumPy broadcast of shapes, or VerifyError."""
    try:
        return tuple(int(n) for n in np.broadcast_shapes(*(t.shape for t in types)))
    except ValueError:
        shapes = ", ".join(str(t) for t in types)
        raise fail(f"shapes {shapes} do not broadcast") from None


def check_indices(
    consts: Mapping[int, Array], position: int, least: int, most: int, what: str
) -> None:
    """VerifyError unless input `position` is a constant of numbers from `least` to `most`."""
    if position not in consts:
        raise fail(f"{what} are computed at run time, expected constants")
    found = consts[position]
    if found.size and not (least <= found.min() and found.max() <= most):
        raise fail(f"{what} go from {found.min()} to {found.max()}, expected {least} to {most}")


def shifted(ctx: Expansion, value: str, zero: int) -> str:
    """Emit value - zero as i32."""
    wide = ctx.emit("cast", [value], {"dtype": "i32"})
    if zero == 0:
        return wide
    return ctx.emit("sub", [wide, ctx.add_const(np.array([zero], np.int32), "zero")])


# Windows over NHWC images: attributes strides (h, w), dilations (h, w),
# padding (top, bottom, left, right).

MAX_EXTENT = 1 << 24  # keeps every index expression far inside 32 bits


def window_output(size: tuple[int, int], kernel: tuple[int, int], attrs: Attrs) -> tuple[int, int]:
    """Output height and width of a window operator; VerifyError for attributes out of range."""
    sh, sw = integers(attrs, "strides", 2)
    dh, dw = integers(attrs, "dilations", 2)
    top, bottom, left, right = integers(attrs, "padding", 4)
    if not all(1 <= v <= MAX_EXTENT for v in (sh, sw, dh, dw, *kernel)):
        raise fail(f"strides {(sh, sw)}, dilations {(dh, dw)} or kernel {kernel} out of range")
    if not all(0 <= v <= MAX_EXTENT for v in (top, bottom, left, right)):
        raise fail(f"padding {(top, bottom, left, right)} out of range")
    height = (size[0] + top + bottom - ((kernel[0] - 1) * dh + 1)) // sh + 1
    width = (size[1] + left + right - ((kernel[1] - 1) * dw + 1)) // sw + 1
    if height < 1 or width < 1:
        raise fail(f"a window of {kernel} does not fit into {size}")
    return height, width


def window_rows(kernel: int, attrs: Attrs, outside: int | float) -> Rows:
    """The rows under a window of `kernel` rows."""
    stride, dilation = integers(attrs, "strides")[0], integers(attrs, "dilations")[0]
    return Rows(stride, (kernel - 1) * dilation + 1, integers(attrs, "padding")[0], outside)


def image(t: TensorType) -> tuple[int, int, int, int]:
    """Batch, height, width, channels, or VerifyError."""
    if len(t.shape) != 4 or t.elements == 0:
        raise fail(f"{t} is not a non-empty image [batch, height, width, channels]")
    n, h, w, c = t.shape
    return n, h, w, c


def taps(site: Site, oh: ir.Expr, ow: ir.Expr, kh: ir.Expr, kw: ir.Expr) -> tuple[ir.Expr, ir.Expr]:
    """Input row and column under tap (kh, kw) of the window at output (oh, ow)."""
    (sh, sw), (dh, dw) = integers(site.attrs, "strides"), integers(site.attrs, "dilations")
    top, _, left, _ = integers(site.attrs, "padding")
    ih = ir.sub(ir.add(ir.mul(oh, ir.i32(sh)), ir.mul(kh, ir.i32(dh))), ir.i32(top))
    iw = ir.sub(ir.add(ir.mul(ow, ir.i32(sw)), ir.mul(kw, ir.i32(dw))), ir.i32(left))
    return ih, iw


def inside(
    site: Site, x: TensorType, kernel: tuple[int, int], ih: ir.Expr, iw: ir.Expr
) -> tuple[list[ir.Expr], list[ir.Expr]]:
    """The conditions, one side each, under which (ih, iw) is in the image, as (row, column);
    those that always hold are left out."""
    top, bottom, left, right = reach(x, kernel, site)
    _, h, w, _ = image(x)
    rows: list[ir.Expr] = []
    cols: list[ir.Expr] = []
    if top:
        rows.append(ir.Bin("<=", ir.i32(0), ih))
    if bottom:
        rows.append(ir.Bin("<", ih, ir.i32(h)))
    if left:
        cols.append(ir.Bin("<=", ir.i32(0), iw))
    if right:
        cols.append(ir.Bin("<", iw, ir.i32(w)))
    return rows, cols


def reach(x: TensorType, kernel: tuple[int, int], site: Site) -> tuple[bool, bool, bool, bool]:
    """Whether windows reach outside the image at the top, bottom, left and right."""
    _, h, w, _ = image(x)
    attrs = {k: site.attrs[k] for k in ("strides", "dilations", "padding")}
    height, width = window_output((h, w), kernel, attrs)
    (sh, sw), (dh, dw) = integers(site.attrs, "strides"), integers(site.attrs, "dilations")
    top, _, left, _ = integers(site.attrs, "padding")
    last_row = (height - 1) * sh + (kernel[0] - 1) * dh - top
    last_col = (width - 1) * sw + (kernel[1] - 1) * dw - left
    return top > 0, last_row >= h, left > 0, last_col >= w


def negate(conditions: Sequence[ir.Expr]) -> ir.Expr:
    """Not all of `conditions` (each a < or <=)."""
    flipped = []
    for c in conditions:
        assert isinstance(c, ir.Bin)
        flipped.append(ir.Bin("<" if c.op == "<=" else "<=", c.rhs, c.lhs))
    result: ir.Expr = flipped[0]
    for c in flipped[1:]:
        result = ir.Bin("or", result, c)
    return result


def shifted_clamp(y: ir.Expr, zero: int, low: int, high: int) -> ir.Expr:
    """min(max(y + zero, low), high) on i32, adding last, where nothing can overflow any more."""
    least, most = DType.I32.min, DType.I32.max
    if low > least:
        y = ir.Bin("max", y, ir.i32(max(low - zero, least)))
    if high < most:
        y = ir.Bin("min", y, ir.i32(min(high - zero, most)))
    return ir.add(y, ir.i32(zero))


# TFLite's options.

_ACTIVATIONS = {0: "", 1: "relu", 2: "relu_n1_to_1", 3: "relu6"}


def tflite_activation(op: Foreign) -> dict[str, Attr]:
    """The fused activation as an attribute; none if there is none."""
    code = op.attrs.get("fused_activation_function", 0)
    if code not in _ACTIVATIONS:
        raise op.error(
            f"fused activation {code} is not supported",
            "supported: NONE, RELU, RELU6, RELU_N1_TO_1",
        )
    return {"activation": _ACTIVATIONS[code]} if code else {}


def expect_same_scale(op: Foreign, inputs: Sequence[str]) -> None:
    """ModelError where bytes are moved, but mean another number in the output."""
    for name in inputs:
        if op.types[name].quant != op.output.quant:
            raise op.error(
                f"{name!r} and the output have different scales",
                "the framework's kernel moves bytes only; convert the model again",
            )


def tflite_window(op: Foreign, size: tuple[int, int], kernel: tuple[int, int]) -> dict[str, Attr]:
    """strides, dilations and explicit padding from SAME or VALID.

    ComputePaddingHeightWidth in lite/kernels/padding.h.
    """
    strides = (op.attrs["stride_h"], op.attrs["stride_w"])
    dilations = (op.attrs.get("dilation_h_factor", 1), op.attrs.get("dilation_w_factor", 1))
    if min(*strides, *dilations) < 1:
        raise op.error(f"strides {strides} and dilations {dilations} must be positive")
    code = op.attrs["padding"]
    if code not in (0, 1):
        raise op.error(f"padding {code} is not supported", "supported: SAME, VALID")
    padding: list[int] = []
    for n, k, s, d in zip(size, kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) if code == 0 else 0
        padding += [total // 2, total - total // 2]
    return {"strides": strides, "dilations": dilations, "padding": tuple(padding)}


def weight_values(w: Array, attrs: Attrs) -> Array:
    """Weights as float64; with attribute `halves` they are the bits of binary16 numbers."""
    return (w.view(np.float16) if "halves" in attrs else w).astype(np.float64)


def weight_factor(site: Site, w: ir.Expr) -> ir.Expr:
    """A weight of a float layer, loaded as `w`, as f32."""
    if "halves" not in site.attrs:
        return w
    return ir.Call("half_value", (ir.cast(DType.I32, w, DType.I16),))


def pad_image(x: Array, padding: Sequence[int], value: float) -> Array:
    """NHWC `x` with rows and columns of `value` around it."""
    top, bottom, left, right = padding
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def checked_int(acc: Array, dtype: DType) -> Array:
    """float64 sums as `dtype`; ArithmeticError if one does not fit."""
    if dtype.is_float:
        return acc.astype(dtype.numpy)
    if acc.size and not (dtype.min <= acc.min() and acc.max() <= dtype.max):
        raise ArithmeticError(f"an accumulator does not fit {dtype.value}")
    return acc.astype(dtype.numpy)
