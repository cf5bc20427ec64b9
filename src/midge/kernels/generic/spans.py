"""The outputs of a window operator along one axis, by how much of their windows is in the image.

Windows that the border cuts off are smaller windows: where the output is cut into spans whose
windows are alike, no tap is ever tested.
"""

from __future__ import annotations

from dataclasses import dataclass

from midge.graph.attrs import integers
from midge.graph.ir import Graph, Node

_MOST = 4  # along an axis: each is another copy of the loops


@dataclass(frozen=True, slots=True)
class Span:
    """Outputs first..first + number - 1, each of which reads `taps` inputs: the first one from
    `start` on, each further one a stride behind."""

    first: int
    number: int
    start: int
    taps: int


def spans(size: int, taps: int, stride: int, before: int, outputs: int) -> tuple[Span, ...]:
    """The outputs along an axis of `size` inputs with `before` padding in front."""
    found: list[Span] = []
    for o in range(outputs):
        start = max(o * stride - before, 0)
        inside = min(o * stride - before + taps, size) - start
        last = found[-1] if found else None
        if last and last.taps == inside and start == last.start + last.number * stride:
            found[-1] = Span(last.first, last.number + 1, last.start, inside)
        else:
            found.append(Span(o, 1, start, inside))
    return tuple(found)


def pool_spans(graph: Graph, node: Node) -> tuple[tuple[Span, ...], tuple[Span, ...]] | None:
    """Spans of rows and of columns of a pool; None if they are too many, windows dilated, or taps
    not simply added up."""
    if node.attrs.get("order", "rows") != "rows" or "scale" in node.attrs:
        return None
    (_, height, width, _), (_, oh, ow, _) = (
        graph.types[v].shape for v in (node.inputs[0], node.outputs[0])
    )
    if tuple(integers(node.attrs, "dilations")) != (1, 1):
        return None
    (kh, kw), (sh, sw) = integers(node.attrs, "window"), integers(node.attrs, "strides")
    top, _, left, _ = integers(node.attrs, "padding")
    rows, columns = spans(height, kh, sh, top, oh), spans(width, kw, sw, left, ow)
    if max(len(rows), len(columns)) > _MOST or min(s.taps for s in (*rows, *columns)) < 1:
        return None
    return rows, columns
