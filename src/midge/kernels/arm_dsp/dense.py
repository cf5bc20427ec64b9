"""Fully connected layers by the micro-kernel `matvec`."""

from __future__ import annotations

from collections.abc import Iterable

from midge.core.types import DType
from midge.graph.attrs import integer
from midge.kernels.arm_dsp.kernel import Int8Writer, paired, parts_of, usable_scaling
from midge.kernels.arm_dsp.matvec import MatVec
from midge.kernels.arm_dsp.scaling import Scaling
from midge.kernels.arm_dsp.widen import order
from midge.loop import ir
from midge.lower.candidates import LOWERINGS, Candidate, Request
from midge.lower.writer import Place, in_pieces

_PAIRS = 4
# A word is eight rows' products, and what makes eight sums int8 stands beside so few of them.
_STEPS_OF_A_WORD = 4


def dense(request: Request) -> Iterable[Candidate]:
    """int8 layers with constant weights, followed by nothing but what makes their sums int8."""
    graph, group = request.graph, request.group
    node = group.anchor
    assert node is not None
    x, w = (graph.types[v] for v in node.inputs[:2])
    plain = integer(node.attrs, "x_zero", 0) == 0 and 0 not in (*x.shape, *w.shape)
    if "dsp" not in request.target.features or x.dtype is not DType.I8 or not plain:
        return ()
    if len(group.nodes) != 2 or in_pieces(request):
        return ()
    scale = usable_scaling(graph, group)
    if scale is None:
        return ()
    straight = request.straight((4, 8, 2), (2, 4, 1), (1, 2), _STEPS_OF_A_WORD)
    return (_candidate(request, scale, n) for n in straight)


def _candidate(request: Request, scale: Scaling, straight: int) -> Candidate:
    """straight: words of activations that are written out."""
    graph, group = request.graph, request.group
    node = group.nodes[0]
    x, w = (graph.types[v] for v in node.inputs[:2])
    rows, depth = w.shape
    kernel = Int8Writer(request, scale)
    most = _PAIRS - 1 if request.target.reserved else _PAIRS  # all of them take every register
    parts = parts_of(rows, most if paired(graph, group, scale) else 0)
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


LOWERINGS.add("dense/arm_dsp", dense)
