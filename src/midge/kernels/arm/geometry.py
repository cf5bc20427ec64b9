"""The geometry of a convolution, for whichever elements."""

from __future__ import annotations

from dataclasses import dataclass

from midge.graph.attrs import integers, number
from midge.graph.ir import Graph, Node


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution's geometry; sizes in elements."""

    height: int
    width: int
    depth: int
    out_height: int
    out_width: int
    channels: int
    taps: tuple[int, int]
    strides: tuple[int, int]
    top: int
    left: int
    pad_value: int

    @property
    def pointwise(self) -> bool:
        """Whether output pixel i reads input pixel i and nothing else."""
        same = (self.height, self.width) == (self.out_height, self.out_width)
        return self.taps == (1, 1) and self.strides == (1, 1) and same

    @property
    def padded(self) -> bool:
        """Whether windows reach outside the image."""
        bottom = (self.out_height - 1) * self.strides[0] + self.taps[0] - self.top > self.height
        right = (self.out_width - 1) * self.strides[1] + self.taps[1] - self.left > self.width
        return self.top > 0 or self.left > 0 or bottom or right

    @property
    def products(self) -> int:
        """Of an output."""
        return self.taps[0] * self.taps[1] * self.depth

    @property
    def run(self) -> int:
        """Elements of a row that an output pixel reads."""
        return self.taps[1] * self.depth

    @property
    def words(self) -> int:
        """Words of such a run once it is widened."""
        return (self.run + 1) // 2


def layer_of(graph: Graph, node: Node) -> Layer | None:
    """The geometry of a convolution of one image, without dilation or groups; else None."""
    x, w, y = (graph.types[v].shape for v in (*node.inputs[:2], node.outputs[0]))
    top, _, left, _ = integers(node.attrs, "padding")
    dilated = tuple(integers(node.attrs, "dilations")) != (1, 1)
    if dilated or w[3] != x[3] or x[0] != 1 or 0 in (*x, *w, *y):
        return None
    (kh, kw), (sh, sw) = w[1:3], integers(node.attrs, "strides")
    pad_value = int(number(node.attrs, "pad_value", 0))
    if pad_value != number(node.attrs, "pad_value", 0):
        return None
    (height, width, depth), (oh, ow, oc) = x[1:], y[1:]
    return Layer(height, width, depth, oh, ow, oc, (kh, kw), (sh, sw), top, left, pad_value)
