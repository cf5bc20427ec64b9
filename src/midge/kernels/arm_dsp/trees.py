"""Decision trees that vote on integer features: one subroutine of assembler for each tree."""

from __future__ import annotations

from collections.abc import Iterator

from midge.core.types import DType, TensorType
from midge.kernels.arm import assembler as asm
from midge.kernels.arm_dsp.trees_asm import Votes, assembler
from midge.kernels.generic.trees import Forest, conditions, counts_votes, forest_of
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.lower import Local, Operand, nest
from midge.lower.candidates import TEMPLATES, Candidate, Request, Template
from midge.lower.space import Goal, Point
from midge.lower.writer import KernelWriter

_LOADS = {DType.U8: "ldrb", DType.I8: "ldrsb", DType.I16: "ldrsh"}


class Assembler(Template):
    """One row of features; votes that are bytes and are stored as they are."""

    name = "arm_dsp.votes"
    ops = ("tree_ensemble",)

    def __init__(self, request: Request, forest: Forest) -> None:
        super().__init__(self.name, {})
        self.request, self.forest = request, forest

    @classmethod
    def of(cls, request: Request) -> Assembler | None:
        forest = forest_of(request)
        able = forest is not None and counts_votes(request, forest)
        return cls(request, forest) if forest is not None and able else None

    def usual(self, goal: Goal) -> Iterator[Point]:
        yield self.point()

    def build(self, point: Point) -> Candidate:
        return _candidate(self.request, self.forest)


def _candidate(request: Request, forest: Forest) -> Candidate:
    kernel = KernelWriter(request)
    types, node = request.graph.types, kernel.anchor
    x, y = types[node.inputs[0]], types[node.outputs[0]]
    made = instruction(forest, x.dtype, x.shape[1], y.shape[1])
    # Matching loops cannot follow an index that is computed: the instruction is written itself.
    kernel.instructions[made.name] = made
    first = (ir.i32(0),)
    body = (ir.Instr(made.name, (("x", first), ("y", first))),)
    return kernel.finish("votes", body)


def instruction(forest: Forest, dtype: DType, features: int, classes: int) -> Instruction:
    """The kernel of all trees: x [features] to votes y [classes]."""
    code = [[int(v) for v in row] for row in forest.splits]
    splits = tuple((f, _coded(forest, t), _coded(forest, o), m) for f, t, o, m in code)
    roots = tuple(_coded(forest, int(r)) for r in forest.roots)
    thresholds = tuple(int(t) for t in forest.thresholds)
    vote = int(forest.vote or 0)
    v = Votes(
        thresholds, splits, roots, classes, features, vote, _LOADS[dtype], dtype.size,
        dtype is not DType.U8,
    )  # fmt: skip
    name = asm.name_of("trees", v)
    return Instruction(
        name, _meaning(name, forest, dtype, features, classes), asm=assembler(v), needs=asm.NEEDS,
        note=f"{len(roots)} trees, {len(splits)} splits",
    )  # fmt: skip


def _coded(forest: Forest, at: int) -> int:
    return at if at >= 0 else ~forest.code(~at)


def _meaning(name: str, forest: Forest, dtype: DType, features: int, classes: int) -> ir.Func:
    x = Operand("x", TensorType((features,), dtype))
    t = ir.Var("t")
    body: list[ir.Stmt] = [*nest((t,), (classes,), (ir.Store("y", (t,), ir.const(0, DType.U8)),))]
    for number, root in enumerate(forest.roots):
        leaf = Local(f"leaf{number}", DType.I32)
        body += [leaf.alloc, *conditions(forest, int(root), lambda f: x.wide(f), DType.I32, leaf)]
        target: ir.Expr = leaf() if classes > 1 else ir.i32(0)
        wide = ir.Cast(DType.I32, ir.Load("y", (target,)))
        total = ir.Bin("+", wide, ir.i32(int(forest.vote or 0)))
        body.append(ir.Store("y", (target,), ir.Cast(DType.U8, total)))
    params = (
        ir.Param("x", dtype, (features,), "in"),
        ir.Param("y", DType.U8, (classes,), "out"),
    )
    return ir.Func(name, params, tuple(body))


TEMPLATES.add(Assembler.name, Assembler)
