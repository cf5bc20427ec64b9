"""How kernels of this family are written: loops with instructions in them, constants packed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from midge.core.types import Array, DType
from midge.graph.ir import Graph
from midge.kernels.arm_dsp.gemm import Gemm, pack, pack_single, packable, stream
from midge.kernels.arm_dsp.scaling import Scaling, constants_fit, constants_of, scaling_of
from midge.kernels.arm_dsp.widen import Widen
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.rewrite import allocs_in, loops_in, map_stmts, rename, touched
from midge.loop.schedule import Step, Tensorize
from midge.lower.build import Built
from midge.lower.candidates import Candidate, Request
from midge.lower.fuse import Group

Place = tuple[str, *tuple[ir.Expr, ...]]  # a buffer and the index of an element


@dataclass(frozen=True, slots=True)
class Part:
    """Channels start..stop, in blocks of `pairs` pairs; 0 pairs: single channels."""

    suffix: str
    start: int
    stop: int
    pairs: int

    @property
    def blocks(self) -> int:
        return (self.stop - self.start) // max(2 * self.pairs, 1)


def parts_of(channels: int, pairs: int) -> tuple[Part, ...]:
    """Blocks of `pairs` pairs as far as they go, one of the pairs that are left, a single one; all
    single for 0 pairs."""
    if pairs == 0:
        return (Part("", 0, channels, 0),)
    whole = channels // (2 * pairs) * 2 * pairs
    even = channels // 2 * 2
    cuts = ((0, whole, pairs), (whole, even, (even - whole) // 2), (even, channels, 0))
    filled = [cut for cut in cuts if cut[0] < cut[1]]
    return tuple(Part(str(i or ""), *cut) for i, cut in enumerate(filled))


def paired(graph: Graph, group: Group, scaling: Scaling | None) -> bool:
    """Whether the anchor's channels can share words of weights two by two."""
    assert group.anchor is not None
    w = graph.consts[group.anchor.inputs[1]]
    return packable(w, scaling is not None and scaling.exact_shift)


def usable_scaling(graph: Graph, group: Group) -> Scaling | None:
    """`scaling_of`, if its constants fit the sums that the anchor's weights can give."""
    assert group.anchor is not None
    scaling = scaling_of(graph, group)
    if scaling is None:
        return None
    w = graph.consts[group.anchor.inputs[1]]
    sums = 128 * np.abs(w.astype(np.int64)).reshape(w.shape[0], -1).sum(1)
    return scaling if constants_fit(graph, group, scaling, sums) else None


class KernelWriter:
    """Collects the parameters, constants, steps and instructions of a kernel while its loops are
    written."""

    def __init__(self, request: Request, scaling: Scaling | None) -> None:
        assert request.group.anchor is not None
        self.graph, self.group, self.layouts = request.graph, request.group, request.layouts
        self.scaling = scaling
        self.anchor = request.group.anchor
        self.instructions: dict[str, Instruction] = {}
        self.steps: list[Step] = []
        self.consts: dict[str, Array] = {}
        self.own: list[tuple[ir.Param, str]] = []  # parameters and what they stand for
        self.count = 0
        self.target = "y"

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
        self.instructions[instruction.name] = instruction
        self.count += 1
        body = _placed(instruction.meaning, places, f"_{self.count}")
        outermost = next(s for s in body if isinstance(s, ir.Loop))
        self.steps.append(Tensorize(outermost.var, instruction.name))
        return body

    def use_widen(self, w: Widen, x: Place, y: Place) -> ir.Block:
        return self.use(w.instruction(), {"x": x, "y": y})

    @property
    def y_strides(self) -> tuple[int, int]:
        """Elements from pixel to pixel and from channel to channel of the output [.., channels]."""
        y = self.graph.types[self.group.output]
        channels = y.shape[-1]
        if self.group.output in self.layouts:
            return 1, y.elements // channels
        return channels, 1

    def use_gemm(self, g: Gemm, part: Part, x: ir.Expr, y: ir.Expr) -> ir.Block:
        """The channels of `part` for one block of pixels of the buffer "wide"; y: where its first
        channel goes in the buffer `target`."""
        zero = ir.i32(0)
        at = ir.add(y, ir.i32(part.start * g.y_channel))
        places: dict[str, Place] = {"w": (f"w{part.suffix}", zero), "x": ("wide", x)}
        places["y"] = (self.target, at)
        return self.use(g.instruction(), places)

    def ordered_weights(self, perm: Array, channels: int, runs: int) -> Array:
        """The anchor's weights [channels, runs, ...] with the elements of each run in the order
        `perm` and zeros behind odd ones: [channels, steps, 2]."""
        value = self.graph.consts[self.anchor.inputs[1]]
        ordered = value.reshape(channels, runs, -1)[:, :, perm]
        steps = np.pad(ordered, ((0, 0), (0, 0), (0, ordered.shape[2] % 2)))
        return steps.reshape(channels, -1, 2)

    def streams(self, perm: Array, channels: int, runs: int, parts: Sequence[Part]) -> None:
        """Parameter w of each part: the weights as `gemm` reads them with what scales the sums."""
        steps = self.ordered_weights(perm, channels, runs)
        names = list(self.anchor.inputs[1:])
        q = None
        if self.scaling is not None:
            names += self.group.nodes[1].inputs[1:]
            q = constants_of(self.graph, self.group, channels)
        names += [] if (perm == np.arange(len(perm))).all() else ["crossed"]
        for part in parts:
            own = slice(part.start, part.stop)
            packed = pack(steps[own], part.pairs) if part.pairs else pack_single(steps[own])
            words = stream(packed, None if q is None else q[own], max(part.blocks, 1))
            label = " ".join((*names, f"{part.start}:{part.stop} by {part.pairs}"))
            self.constant(f"w{part.suffix}", label, words)

    def weights(self, perm: Array, channels: int, parts: Sequence[Part]) -> None:
        """Parameters w and q of each part, apart."""
        steps = self.ordered_weights(perm, channels, 1)
        crossed = "" if (perm == np.arange(len(perm))).all() else " crossed"
        q = constants_of(self.graph, self.group, channels)
        scaling = " ".join((*self.anchor.inputs[2:], *self.group.nodes[1].inputs[1:]))
        for part in parts:
            own = slice(part.start, part.stop)
            where = f"{part.start}:{part.stop}"
            packed = pack(steps[own], part.pairs) if part.pairs else pack_single(steps[own])
            label = f"{self.anchor.inputs[1]} {where} by {part.pairs}{crossed}"
            self.constant(f"w{part.suffix}", label, packed)
            self.constant(f"q{part.suffix}", f"{scaling} {where}", q[own].reshape(-1))

    def finish(
        self, name: str, body: ir.Block, shapes: Mapping[int, tuple[int, ...]] | None = None
    ) -> Candidate:
        """A kernel of the anchor's first input, which has the shape `shapes[0]` (flat if it is not
        given), the own parameters and a flat output."""
        x, y = self.graph.types[self.anchor.inputs[0]], self.graph.types[self.group.output]
        params = [
            ir.Param("x", x.dtype, (shapes or {}).get(0, (x.elements,)), "in"),
            *(p for p, _ in self.own),
            ir.Param("y", y.dtype, (y.elements,), "out"),
        ]
        args = (self.anchor.inputs[0], *(v for _, v in self.own), self.group.output)
        return self._candidate(name, ir.Func("kernel", tuple(params), body), args)

    def finish_built(
        self, name: str, made: Built, shapes: Mapping[int, tuple[int, ...]]
    ) -> Candidate:
        """A kernel whose other parameters are those of `made`."""
        used = touched(made.func.body) - {p.name for p, _ in self.own}
        params, args = [], []
        for p, value in zip(made.func.params[:-1], made.args[:-1], strict=True):
            if p.name != "x" and p.name not in used:
                continue
            params.append(ir.Param(p.name, p.dtype, shapes[0], p.mode) if p.name == "x" else p)
            args.append(value)
        params += [p for p, _ in self.own]
        args += [v for _, v in self.own]
        func = ir.Func("kernel", (*params, made.func.params[-1]), made.func.body)
        return self._candidate(name, func, (*args, made.args[-1]))

    def _candidate(self, name: str, func: ir.Func, args: tuple[str, ...]) -> Candidate:
        return Candidate(name, func, args, tuple(self.steps), self.consts, self.instructions)


def _placed(func: ir.Func, places: Mapping[str, Place], suffix: str) -> ir.Block:
    """The body of `func` with its parameters at `places` and its other names made unique."""
    own = {s.var for s in loops_in(func.body)} | {a.buffer for a in allocs_in(func.body)}
    body = rename(func.body, {n: f"{n}{suffix}" for n in own})

    def moved(buffer: str, index: tuple[ir.Expr, ...]) -> tuple[str, tuple[ir.Expr, ...]]:
        name, *start = places[buffer]
        first = cast(tuple[ir.Expr, ...], tuple(start))
        return name, (*first[:-1], ir.add(first[-1], index[0]))

    def expr(e: ir.Expr) -> ir.Expr:
        if isinstance(e, ir.Load) and e.buffer in places:
            return ir.Load(*moved(e.buffer, e.index))
        return e

    def stmt(s: ir.Stmt) -> ir.Stmt | ir.Block:
        if isinstance(s, ir.Store) and s.buffer in places:
            return ir.Store(*moved(s.buffer, s.index), s.value)
        return s

    return map_stmts(body, stmt, expr=expr)
