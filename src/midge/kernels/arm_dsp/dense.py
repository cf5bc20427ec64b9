"""Fully connected layers by the micro-kernel `matvec`."""

from __future__ import annotations

from collections.abc import Iterator

from midge.core.types import DType
from midge.graph.attrs import integer
from midge.kernels.arm_dsp.kernel import Int8Writer, paired, parts_of, usable_scaling
from midge.kernels.arm_dsp.matvec import MatVec
from midge.kernels.arm_dsp.scaling import Scaling
from midge.kernels.arm_dsp.widen import order
from midge.loop import ir
from midge.lower.candidates import TEMPLATES, Candidate, Request, Template
from midge.lower.space import Goal, Point
from midge.lower.writer import Place, in_pieces

_PAIRS = 4
# A word is eight rows' products, and what makes eight sums int8 stands beside so few of them.
_STEPS_OF_A_WORD = 4


class Dense(Template):
    """int8 layers with constant weights, followed by nothing but what makes their sums int8.

    pairs: of rows of a block.  straight: words of activations that are written out.
    """

    name = "arm_dsp.dense"
    ops = ("dense",)
    priority = 10

    def __init__(self, request: Request, scale: Scaling) -> None:
        most = _PAIRS - 1 if request.target.reserved else _PAIRS  # all of them take every register
        straight = request.straight((4, 8, 2, 1), _STEPS_OF_A_WORD)
        super().__init__(self.name, {"pairs": range(most, 0, -1), "straight": straight})
        self.request, self.scale, self.most = request, scale, most

    @classmethod
    def of(cls, request: Request) -> Dense | None:
        graph, group = request.graph, request.group
        node = group.anchor
        assert node is not None
        x, w = (graph.types[v] for v in node.inputs[:2])
        plain = integer(node.attrs, "x_zero", 0) == 0 and 0 not in (*x.shape, *w.shape)
        if x.dtype is not DType.I8 or not plain or len(group.nodes) != 2 or in_pieces(request):
            return None
        scale = usable_scaling(graph, group)
        return None if scale is None else cls(request, scale)

    def usual(self, goal: Goal) -> Iterator[Point]:
        for n in self.request.straight(goal.pick((4, 8, 2), (2, 4, 1), (1, 2)), _STEPS_OF_A_WORD):
            yield self.point(pairs=self.most, straight=n)

    def build(self, point: Point) -> Candidate:
        pairs, straight = point.number("pairs"), point.number("straight")
        return _candidate(self.request, self.scale, pairs, straight)


def _candidate(request: Request, scale: Scaling, pairs: int, straight: int) -> Candidate:
    graph, group = request.graph, request.group
    node = group.nodes[0]
    x, w = (graph.types[v] for v in node.inputs[:2])
    rows, depth = w.shape
    kernel = Int8Writer(request, scale)
    parts = parts_of(rows, pairs if paired(graph, group, scale) else 0)
    kernel.weights(order(depth, True), rows, parts)
    m = ir.Var("m")
    body: list[ir.Stmt] = []
    for part in parts:
        made = MatVec(max(part.pairs, 1), depth, part.blocks, scale, part.pairs == 0, straight)
        y = ir.add(ir.mul(m, ir.i32(kernel.y_strides[0])), ir.i32(part.start))
        places: dict[str, Place] = {
            "w": (f"w{part.suffix}", ir.i32(0)),
            "q": (f"q{part.suffix}", ir.i32(0)),
            "x": ("x", ir.mul(m, ir.i32(depth))),
            "y": ("y", y),
        }
        body += kernel.use(made.instruction(), places)
    count = x.elements // depth
    return kernel.finish("rows", (ir.Loop("m", count, tuple(body)),))


TEMPLATES.add(Dense.name, Dense)
