"""Window operators: output columns at the border apart from those inside.

Inside, every tap's column is in the image, so the test per tap goes; the test per row stays
outside the loop over columns, where it costs little.
"""

from __future__ import annotations

from midge.core.target import Target
from midge.graph.attrs import integers
from midge.loop import ir
from midge.loop.rewrite import loops_in
from midge.loop.schedule import Peel, Step
from midge.lower.fuse import Group
from midge.lower.schedules import SCHEDULES

# Each peeled column is another copy of the loops over taps.
_MOST_COPIES = 4


def peel_border(func: ir.Func, group: Group, target: Target) -> tuple[Step, ...]:
    """Peel the output columns whose windows reach outside the image."""
    anchor = group.anchor
    assert anchor is not None
    x = next(p for p in func.params if p.name == "x")
    columns = next((s.extent for s in loops_in(func.body) if s.var == "ow"), 1)
    first, last = _outside(func, group, x.shape[2], columns)
    if first + last == 0 or first + last > _MOST_COPIES or first + last >= columns:
        return ()
    return (Peel("ow", first=first, last=last),)


def _outside(func: ir.Func, group: Group, width: int, columns: int) -> tuple[int, int]:
    """How many output columns reach over the left and over the right edge."""
    assert group.anchor is not None
    attrs = group.anchor.attrs
    stride, dilation = integers(attrs, "strides")[1], integers(attrs, "dilations")[1]
    left = integers(attrs, "padding")[2]
    if "window" in attrs:
        taps = integers(attrs, "window")[1]
    else:
        taps = next(p for p in func.params if p.name == "w").shape[2]
    reach = (taps - 1) * dilation - left
    first = -(-left // stride)
    last = sum(1 for ow in range(columns) if ow * stride + reach >= width)
    return first, last


for _op in ("conv2d", "depthwise_conv2d", "avg_pool2d", "max_pool2d"):
    SCHEDULES.add(_op, peel_border)
