"""How kernels on int8 are written: weights in streams, what scales the sums behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from midge.core.sums import magnitudes
from midge.core.types import Array
from midge.graph.ir import Graph
from midge.kernels.arm_dsp.gemm import Gemm, pack, pack_single, packable, stream
from midge.kernels.arm_dsp.scaling import Scaling, constants_fit, constants_of, scaling_of
from midge.kernels.arm_dsp.widen import Widen
from midge.loop import ir
from midge.lower.candidates import Request
from midge.lower.fuse import Group
from midge.lower.writer import KernelWriter, Place


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
    sums = 128 * magnitudes(w, tuple(range(1, w.ndim)))
    return scaling if constants_fit(graph, group, scaling, sums) else None


class Int8Writer(KernelWriter):
    """A kernel with constant weights.

    scaling: how its sums become int8, None if they stay.  target: the buffer that results go to.
    """

    def __init__(self, request: Request, scaling: Scaling | None) -> None:
        super().__init__(request)
        self.scaling = scaling
        self.target = "y"

    def use_widen(self, w: Widen, x: Place, y: Place) -> ir.Block:
        return self.use(w.instruction(), {"x": x, "y": y})

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
