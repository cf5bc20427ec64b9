"""What exporters of several operator files share: TFLite's options, the other way round."""

from __future__ import annotations

import numpy as np

from midge.core.types import Array, TensorType
from midge.graph.attrs import integers, text
from midge.graph.exporters import Exporter, Exporting

_ACTIVATIONS = {"": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}


def activation_code(op: Exporting) -> int:
    """ActivationFunctionType of the fused activation."""
    return _ACTIVATIONS[text(op.attrs, "activation", "")]


def window(op: Exporting, kernel: tuple[int, int], outside: float | None) -> tuple[str, int]:
    """The image (input 0) and TFLite's padding code for it: SAME (0) or VALID (1).

    Other padding is written as an operator PAD before it, which fills in `outside`; ModelError if
    that is None.
    """
    x = op.type()
    padding = integers(op.attrs, "padding", 4)
    if not any(padding):
        return op.inputs[0], 1
    if padding == _same(op, x, kernel):
        return op.inputs[0], 0
    if outside is None:
        raise op.error(
            f"padding {padding} is neither SAME nor VALID, and an average leaves it out",
            "TFLite has no such operator; use another padding",
        )
    top, bottom, left, right = padding
    pairs = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
    n, h, w, c = x.shape
    shape = (n, h + top + bottom, w + left + right, c)
    padded = op.value(TensorType(shape, x.dtype, x.quant), "padded")
    write_pad(op, pairs, outside, padded)
    return padded, 1


def _same(op: Exporting, x: TensorType, kernel: tuple[int, int]) -> tuple[int, ...]:
    """The padding that SAME stands for (ComputePaddingHeightWidth in lite/kernels/padding.h)."""
    strides, dilations = integers(op.attrs, "strides", 2), integers(op.attrs, "dilations", 2)
    padding: list[int] = []
    for n, k, s, d in zip(x.shape[1:3], kernel, strides, dilations, strict=True):
        total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
        padding += [total // 2, total - total // 2]
    return tuple(padding)


def write_pad(op: Exporting, pairs: Array, value: float, output: str) -> None:
    """PAD where `value` is what counts as zero, else PADV2; of input 0."""
    x = op.type()
    paddings = op.const(pairs.astype(np.int32), "paddings")
    zero = x.quant.zero_point[0] if x.quant is not None else 0
    if value == zero:
        inputs = [op.inputs[0], paddings]
        op.emit("PAD", inputs, [output], options="PadOptions", version=op.version(i8=2, i16=3))
        return
    constant = op.const(np.array(value, x.dtype.numpy), "value", x.quant)
    inputs = [op.inputs[0], paddings, constant]
    op.emit("PADV2", inputs, [output], options="PadV2Options", version=op.version(i8=2, i16=2))


def plain(kind: str, options: str = "", *, i8: int = 1, i16: int = 1) -> Exporter:
    """An exporter of an operator without options that matter; versions by element type."""

    def exporter(op: Exporting) -> None:
        op.emit(kind, options=options, version=op.version(i8=i8, i16=i16))

    return exporter
