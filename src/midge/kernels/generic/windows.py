"""Window operators: output columns at the border apart from those inside.

Inside, every tap's column is in the image, so the test per tap goes; the test per row stays
outside the loop over columns, where it costs little.
"""

from __future__ import annotations

from midge.graph.attrs import integers
from midge.loop import ir
from midge.loop.rewrite import loops_in
from midge.loop.schedule import Peel
from midge.lower.candidates import Request

# Each peeled column is another copy of the loops over taps.
_MOST_COPIES = 4


def border(func: ir.Func, request: Request) -> Peel | None:
    """The step that splits off the border columns; None without any, or if they are too many."""
    columns = next((s.extent for s in loops_in(func.body) if s.var == "ow"), 1)
    first, last = _outside(request, columns)
    if first + last == 0 or first + last > _MOST_COPIES or first + last >= columns:
        return None
    return Peel("ow", first=first, last=last)


def _outside(request: Request, columns: int) -> tuple[int, int]:
    """How many output columns reach over the left and over the right edge."""
    node = request.group.anchor
    assert node is not None
    attrs = node.attrs
    # Not of the parameters: what reads an operand, too, may have named it.
    x, *others = (request.graph.types[name].shape for name in node.inputs)
    stride, dilation = integers(attrs, "strides")[1], integers(attrs, "dilations")[1]
    left = integers(attrs, "padding")[2]
    taps = integers(attrs, "window")[1] if "window" in attrs else others[0][2]
    reach = (taps - 1) * dilation - left
    first = min(-(-left // stride), columns)
    inside = (x[2] - 1 - reach) // stride + 1  # columns that end before the right edge
    return first, max(columns - max(inside, 0), 0)
