"""Sums in the order in which the loops of an operator add them.

Float references add products one by one, each product and each sum rounded to binary32, and the
bias last: what they give is what C gives without fused multiply-adds, to the bit, and what the
reference kernels of TensorFlow Lite give. Integers are exact in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from midge.core.types import Array
from midge.graph.attrs import integers, number
from midge.graph.ir import Attrs
from midge.loop import ir
from midge.lower import Site
from midge.ops._common import pad_image


def float_weights(w: Array, attrs: Attrs) -> Array:
    """Weights as binary32; with attribute `halves` they are the bits of binary16 numbers."""
    return (w.view(np.float16) if "halves" in attrs else w).astype(np.float32)


def initial(site: Site, oc: ir.Expr) -> ir.Expr:
    """What the accumulator of channel `oc` starts with: the bias, of integers."""
    dtype = site.output.dtype
    if len(site.inputs) < 3 or dtype.is_float:
        return ir.const(0, dtype)
    return site.inputs[2].as_type(dtype, oc)


def finished(site: Site, acc: ir.Expr, oc: ir.Expr) -> ir.Expr:
    """The accumulator of channel `oc` after the last product: plus the bias, of floats, as the
    frameworks' kernels add it."""
    if len(site.inputs) < 3 or not site.output.dtype.is_float:
        return acc
    return ir.Bin("+", acc, site.inputs[2](oc))


def summed(x: Array, axes: Sequence[int], start: Array | None = None) -> Array:
    """The sum of floats over `axes`, which stay as 1; the last axis fastest. start: what they are
    added to, one by one, in place of 0."""
    kept = [d for d in range(x.ndim) if d not in axes]
    rows = x.transpose(*kept, *axes).reshape(*(x.shape[d] for d in kept), -1)
    total = np.zeros(rows.shape[:-1], x.dtype)
    if start is not None:
        total = total + start.reshape(total.shape)
    for i in range(rows.shape[-1]):
        total = total + rows[..., i]
    result: Array = np.reshape(total, [1 if d in axes else n for d, n in enumerate(x.shape)])
    return result


def taps_of(x: Array, kernel: tuple[int, int], attrs: Attrs) -> Iterator[tuple[int, int, Array]]:
    """(r, s, the input under that tap of every window); x has x_zero subtracted already."""
    outside = number(attrs, "pad_value", 0) - number(attrs, "x_zero", 0)
    x = pad_image(x, integers(attrs, "padding"), outside)
    (sh, sw), (dh, dw) = integers(attrs, "strides"), integers(attrs, "dilations")
    oh = (x.shape[1] - (kernel[0] - 1) * dh - 1) // sh + 1
    ow = (x.shape[2] - (kernel[1] - 1) * dw - 1) // sw + 1
    for r, s in np.ndindex(*kernel):
        part = x[:, r * dh :, s * dw :][:, : (oh - 1) * sh + 1 : sh, : (ow - 1) * sw + 1 : sw]
        yield r, s, part
