"""Windows over ONNX's images [N, C, H, W] and signals [N, C, L].

Ours are [N, H, W, C]; a signal stands upright, as an image of width 1 whose rows are its steps.
The transpositions between the two are what passes move together and cancel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from midge.core.types import TensorType
from midge.graph.importers import CONV_3D, POOL_3D, Foreign, Steps
from midge.graph.ir import Attr, Node
from midge.ops._common import MAX_EXTENT


@dataclass(frozen=True, slots=True)
class Axis:
    """A window along one axis: `size` elements padded by `before` and `after`."""

    size: int
    kernel: int
    stride: int = 1
    dilation: int = 1
    before: int = 0
    after: int = 0

    @property
    def reach(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    @property
    def count(self) -> int:
        """Windows that fit."""
        return (self.size + self.before + self.after - self.reach) // self.stride + 1


FLAT = Axis(1, 1)  # the columns of a signal


def window(op: Foreign, spatial: Sequence[int], kernel: Sequence[int]) -> list[Axis]:
    """The windows of Conv and pools along each spatial axis, two at least; ModelError for
    attributes that do not fit."""
    rank = len(spatial)
    if rank not in (1, 2):
        way = POOL_3D if "Pool" in op.kind else CONV_3D
        hint = f"one (signals) or two (images) are{f'; {way}' if rank == 3 else ''}"
        raise op.error(f"{rank} spatial dimensions are not supported", hint)
    stated = op.attrs.get("kernel_shape", tuple(kernel))
    strides, dilations = (op.attrs.get(n, (1,) * rank) for n in ("strides", "dilations"))
    pads = op.attrs.get("pads", (0,) * (2 * rank))
    if tuple(stated) != tuple(kernel) or not (
        len(kernel) == len(strides) == len(dilations) == rank and len(pads) == 2 * rank
    ):
        raise op.error(f"kernel {stated}, strides, dilations or pads do not fit {rank} dimensions")
    if not all(1 <= v <= MAX_EXTENT for v in (*kernel, *strides, *dilations)):
        raise op.error(
            f"kernel {kernel}, strides {strides} or dilations {dilations} out of range",
            f"each of them is 1 to {MAX_EXTENT}",
        )
    if not all(0 <= v <= MAX_EXTENT for v in pads):
        raise op.error(f"pads {pads} are out of range", "use Pad and Slice")
    axes = [
        Axis(*spec)
        for spec in zip(spatial, kernel, strides, dilations, pads[:rank], pads[rank:], strict=True)
    ]
    return [_auto_padded(op, a) for a in axes]


def _auto_padded(op: Foreign, a: Axis) -> Axis:
    mode = op.attrs.get("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return a
    if mode == "VALID":
        return Axis(a.size, a.kernel, a.stride, a.dilation)
    if mode not in ("SAME_UPPER", "SAME_LOWER"):
        raise op.error(f"auto_pad {mode} is not supported")
    total = max((-(-a.size // a.stride) - 1) * a.stride + a.reach - a.size, 0)
    less, more = total // 2, total - total // 2
    before, after = (less, more) if mode == "SAME_UPPER" else (more, less)
    return Axis(a.size, a.kernel, a.stride, a.dilation, before, after)


def window_attrs(axes: Sequence[Axis]) -> dict[str, Attr]:
    """strides, dilations and padding as our operators have them, of one or two axes."""
    h, w = axes if len(axes) == 2 else (*axes, FLAT)
    return {
        "strides": (h.stride, w.stride),
        "dilations": (h.dilation, w.dilation),
        "padding": (h.before, h.after, w.before, w.after),
    }


def kernel_of(axes: Sequence[Axis]) -> tuple[int, int]:
    """Height and width of the window."""
    return axes[0].kernel, axes[1].kernel if len(axes) == 2 else 1


def spatial_of(op: Foreign, t: TensorType) -> tuple[int, ...]:
    """The spatial dimensions of [N, C, ...]; ModelError for what is no image."""
    if len(t.shape) < 3 or t.elements == 0:
        raise op.error(f"the input is {t}", "expected [N, C, L] or [N, C, H, W], not empty")
    return t.shape[2:]


def to_image(steps: Steps, x: str) -> str:
    """[N, C, H, W] or [N, C, L] as [N, H, W, C]."""
    shape = steps.type(x).shape
    if len(shape) == 4:
        return steps.emit("transpose", [x], {"perm": (0, 2, 3, 1)})
    n, c, length = shape
    turned = steps.emit("transpose", [x], {"perm": (0, 2, 1)})
    return steps.emit("reshape", [turned], {"shape": (n, length, 1, c)})


def from_image(steps: Steps, y: str, rank: int) -> tuple[Node, ...]:
    """The nodes so far, and those that write the image `y` as the operator's output."""
    if rank == 4:
        return steps.finish("transpose", [y], {"perm": (0, 3, 1, 2)})
    n, length, _, c = steps.type(y).shape
    flat = steps.emit("reshape", [y], {"shape": (n, length, c)})
    return steps.finish("transpose", [flat], {"perm": (0, 2, 1)})
