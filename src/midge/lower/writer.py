"""How lowering rules write kernels: loops with instructions in them, constants packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

from midge.core.types import Array, DType
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.rewrite import allocs_in, loops_in, map_stmts, rename, touched
from midge.loop.schedule import Step, Tensorize
from midge.lower import Site
from midge.lower.build import Built, build
from midge.lower.candidates import Candidate, Request

Place = tuple[str, *tuple[ir.Expr, ...]]  # a buffer and the index of an element


def in_pieces(request: Request) -> bool:
    """Whether the anchor's first input comes as an array of pointers to its rows."""
    assert request.group.anchor is not None
    return request.group.anchor.inputs[0] in request.rows


class KernelWriter:
    """Collects the parameters, constants, steps and instructions of a kernel while its loops are
    written."""

    def __init__(self, request: Request) -> None:
        assert request.group.anchor is not None
        self.request = request
        self.graph, self.group, self.layouts = request.graph, request.group, request.layouts
        self.anchor = request.group.anchor
        self.instructions: dict[str, Instruction] = {}
        self.steps: list[Step] = []
        self.consts: dict[str, Array] = {}
        self.own: list[tuple[ir.Param, str]] = []  # parameters and what they stand for
        self.count = 0

    def fresh(self, name: str) -> str:
        """A name that no other loop has."""
        self.count += 1
        return f"{name}_{self.count}"

    def constant(self, name: str, value: str, array: Array) -> None:
        """Parameter `name` is `array`, which other kernels know as `value`."""
        self.consts[value] = array
        self.own.append((ir.Param(name, DType.of(array), array.shape, "const"), value))

    def buffer(self, name: str, dtype: DType, elements: int) -> None:
        """Parameter `name` is scratch memory."""
        self.own.append((ir.Param(name, dtype, (elements,), "scratch"), ""))

    def use(self, instruction: Instruction, places: Mapping[str, Place]) -> ir.Block:
        """The loops of `instruction` with its operands at `places`; a step of the schedule makes
        them the instruction."""
        known = self.instructions.setdefault(instruction.name, instruction)
        assert known == instruction, f"two instructions are called {instruction.name}"
        self.count += 1
        body = _placed(instruction.meaning, places, f"_{self.count}")
        outermost = next(s for s in body if isinstance(s, ir.Loop))
        self.steps.append(Tensorize(outermost.var, instruction.name))
        return body

    @property
    def y_strides(self) -> tuple[int, int]:
        """Elements from pixel to pixel and from channel to channel of the output [.., channels]."""
        y = self.graph.types[self.group.output]
        channels = y.shape[-1]
        if self.group.output in self.layouts:
            return 1, self.request.planes.get(self.group.output, y.elements // channels)
        return self.request.pitches.get(self.group.output, channels), 1

    @property
    def y_span(self) -> int:
        """Elements from the first to the last of the output."""
        y = self.graph.types[self.group.output]
        if y.elements == 0 or self.request.in_sequence:
            return y.elements
        channels, (pixel, channel) = y.shape[-1], self.y_strides
        return (channels - 1) * channel + (y.elements // channels - 1) * pixel + 1

    def finish(
        self, name: str, body: ir.Block, shapes: Mapping[int, tuple[int, ...]] | None = None
    ) -> Candidate:
        """A kernel of the anchor's first input, which has the shape `shapes[0]` (flat if it is not
        given; [rows, elements of a row] if it comes in rows), the own parameters and a flat
        output."""
        x, y = self.graph.types[self.anchor.inputs[0]], self.graph.types[self.group.output]
        first = ir.Param("x", x.dtype, (shapes or {}).get(0, (x.elements,)), "in")
        params = [
            self._in_rows(first),
            *(p for p, _ in self.own),
            ir.Param("y", y.dtype, (self.y_span,), "out"),
        ]
        args = (self.anchor.inputs[0], *(v for _, v in self.own), self.group.output)
        return self._candidate(name, ir.Func("kernel", tuple(params), body), args)

    def built(self, body: Callable[[Site], ir.Block], value: str = "") -> Built:
        """The group with `body` as the anchor's loops, as `build` makes it."""
        request = self.request
        return build(
            self.graph, self.group, "kernel", self.layouts, body, value, request.rows,
            request.planes, request.pitches,
        )  # fmt: skip

    def finish_built(
        self, name: str, made: Built, shapes: Mapping[int, tuple[int, ...]]
    ) -> Candidate:
        """A kernel whose other parameters are those of `made`; x is as in `finish`."""
        used = touched(made.func.body) - {p.name for p, _ in self.own}
        params, args = [], []
        for p, value in zip(made.func.params[:-1], made.args[:-1], strict=True):
            if p.name != "x" and p.name not in used:
                continue
            if p.name == "x":
                params.append(self._in_rows(ir.Param("x", p.dtype, shapes[0], p.mode)))
            else:
                params.append(p)
            args.append(value)
        params += [p for p, _ in self.own]
        args += [v for _, v in self.own]
        func = ir.Func("kernel", (*params, made.func.params[-1]), made.func.body)
        return self._candidate(name, func, (*args, made.args[-1]))

    def _in_rows(self, x: ir.Param) -> ir.Param:
        """x as an array of pointers to rows, if it comes as one."""
        if not in_pieces(self.request):
            return x
        assert len(x.shape) == 2, f"{x.name} comes in rows"
        return replace(x, rows=1)

    def _candidate(self, name: str, func: ir.Func, args: tuple[str, ...]) -> Candidate:
        return Candidate(name, func, args, tuple(self.steps), self.consts, self.instructions)


def _placed(func: ir.Func, places: Mapping[str, Place], suffix: str) -> ir.Block:
    """The body of `func` with its parameters at `places` (their own dimensions are the last of
    the place's) and its other names made unique."""
    own = {s.var for s in loops_in(func.body)} | {a.buffer for a in allocs_in(func.body)}
    body = rename(func.body, {n: f"{n}{suffix}" for n in own})

    def moved(buffer: str, index: tuple[ir.Expr, ...]) -> tuple[str, tuple[ir.Expr, ...]]:
        name, *start = places[buffer]
        first = cast(tuple[ir.Expr, ...], tuple(start))
        lead = len(first) - len(index)
        inner = zip(first[lead:], index, strict=True)
        return name, (*first[:lead], *(ir.add(f, i) for f, i in inner))

    def expr(e: ir.Expr) -> ir.Expr:
        if isinstance(e, ir.Load) and e.buffer in places:
            return ir.Load(*moved(e.buffer, e.index))
        return e

    def stmt(s: ir.Stmt) -> ir.Stmt | ir.Block:
        if isinstance(s, ir.Store) and s.buffer in places:
            return ir.Store(*moved(s.buffer, s.index), s.value)
        return s

    return map_stmts(body, stmt, expr=expr)
