"""Layers at the edges of what kernels may assume, and all ways to compute them beside plain loops.

Weights are all least, all greatest, or such ends at random; biases are zero, or as large as sums
leave room for in 32 bits, or at the bounds that rules check (2^30); images have one row, one column
or as many channels in as out; strides are larger than windows; results saturate.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from cascade_nets import Net, NetMaker
from midge.core.target import Target
from midge.core.types import Array, DType, Quant
from midge.graph.ir import Graph, verify
from midge.lower.bands import Form, Forms, how_banded, split_sums
from midge.lower.candidates import Option, option_of, spaces
from midge.lower.fuse import fuse
from midge.lower.lower import Choice, find_options
from midge.tune.trials import Match, Trial

_FAR = (1 << 31) - 1
_EDGE = 1 << 30  # twice of what is less is a word


@dataclass(frozen=True)
class Layer:
    """One operator, quantised, and perhaps what is fused behind it.

    op: conv2d, depthwise_conv2d, dense, max_pool2d, avg_pool2d.  oc: channels out.
    weights: least, greatest, ends, random, zero, one (a single one is not zero).
    bias: none, zero, small, edge (twice a sum is just a word), over (just not), far (sum and bias
    fill 32 bits).  ratio: scale of sums to that of the result.  then: "" or add (the input, or
    another one), table (a function of one byte), relu.
    """

    op: str
    x: tuple[int, int, int]
    kernel: tuple[int, int] = (3, 3)
    oc: int = 4
    strides: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    weights: str = "random"
    bias: str = "small"
    ratio: float = 0.004
    zero: int = 3
    then: str = ""
    dtype: str = "int8"
    per_channel: bool = True

    def __str__(self) -> str:
        size = "x".join(map(str, self.x))
        other = f"{self.kernel[0]}x{self.kernel[1]}_{self.oc}_s{self.strides[0]}{self.strides[1]}"
        pads = "".join(map(str, self.padding))
        words = (self.op, self.dtype, size, other, f"p{pads}", self.weights, self.bias, self.then)
        return "_".join(w for w in words if w) + f"_{self.ratio:g}"

    @property
    def products(self) -> int:
        deep = 1 if self.op == "depthwise_conv2d" else self.x[2]
        return self.kernel[0] * self.kernel[1] * deep


_ROUND = (1, 1, 1, 1)
_POINT = {"kernel": (1, 1)}


def _layers() -> Iterator[Layer]:
    conv, deep, dense = "conv2d", "depthwise_conv2d", "dense"
    for weights, bias in itertools.product(("least", "greatest", "ends"), ("edge", "over", "far")):
        yield Layer(conv, (5, 5, 8), oc=8, padding=_ROUND, weights=weights, bias=bias, ratio=1e-7)
        yield Layer(conv, (3, 4, 8), **_POINT, oc=6, weights=weights, bias=bias, ratio=1e-7)
        yield Layer(deep, (5, 4, 6), padding=_ROUND, weights=weights, bias=bias, ratio=1e-7)
        yield Layer(dense, (1, 1, 24), **_POINT, oc=5, weights=weights, bias=bias, ratio=1e-7)
    for x in ((1, 9, 4), (9, 1, 4), (1, 1, 4), (2, 2, 3), (4, 5, 1), (7, 6, 5)):
        for op in (conv, deep):
            yield Layer(op, x, oc=x[2], padding=_ROUND, weights="ends", bias="none")
            yield Layer(op, x, oc=4, padding=_ROUND, then="add" if op == deep else "")
        yield Layer("max_pool2d", x, (3, 3), padding=_ROUND, strides=(2, 2))
        yield Layer("avg_pool2d", x, (2, 2), padding=(0, 1, 0, 1), strides=(1, 1))
    for strides in ((1, 1), (1, 2), (2, 1), (2, 2), (3, 2)):
        for op, k in ((conv, (3, 3)), (conv, (1, 1)), (deep, (3, 3)), (deep, (2, 5))):
            yield Layer(op, (9, 11, 4), k, 6, strides, (1, 0, 1, 2), "ends", "small")
        yield Layer("max_pool2d", (9, 11, 4), (2, 3), strides=strides)
    for ic, oc in ((16, 16), (17, 15), (3, 19), (32, 2), (2, 33)):
        yield Layer(conv, (5, 7, ic), oc=oc, padding=_ROUND, then="relu")
        yield Layer(conv, (4, 9, ic), **_POINT, oc=oc, then="add")
        yield Layer(dense, (1, 1, ic * 3), **_POINT, oc=oc, then="relu", per_channel=False)
    for ratio in (2.0**-31, 0.49, 0.5, 1.0, 6.0):
        yield Layer(conv, (3, 5, 8), oc=8, ratio=ratio, bias="zero", zero=-128)
        yield Layer(deep, (4, 6, 4), ratio=ratio, bias="zero", zero=127)
        yield Layer(dense, (1, 1, 8), **_POINT, oc=4, ratio=ratio, weights="one")
    for weights, bias in (("least", "small"), ("zero", "far"), ("one", "none")):
        yield Layer(conv, (6, 6, 16), oc=16, padding=_ROUND, weights=weights, bias=bias)
    for dtype in ("int16", "float"):
        for op, k in ((conv, (3, 3)), (conv, (1, 1)), (deep, (3, 3)), (dense, (1, 1))):
            x = (1, 1, 11) if op == dense else (5, 6, 5)
            pads = (k[0] // 2, k[0] // 2, k[1] // 2, k[1] // 2)
            yield Layer(op, x, k, 7, padding=pads, weights="ends", dtype=dtype)
        yield Layer(conv, (5, 5, 4), (3, 3), 4, padding=_ROUND, then="add", dtype=dtype)
        yield Layer("max_pool2d", (6, 5, 4), (2, 2), strides=(2, 2), dtype=dtype)


LAYERS: Mapping[str, Layer] = {str(layer): layer for layer in _layers()}


class Maker(NetMaker):
    """A graph of one layer, with the weights and the bias that it says."""

    def __init__(self, layer: Layer, seed: int) -> None:
        super().__init__(random.Random(seed), layer.dtype)
        self.layer = layer

    def quant(self) -> Quant | None:
        if self.layer.dtype == "float":
            return None
        if self.layer.dtype == "int16":
            return Quant.per_tensor(float(np.float32(2.0**-12)), 0)
        return Quant.per_tensor(1.0, self.layer.zero)

    def filled(self, shape: tuple[int, ...]) -> Array:
        ends = np.array([-127, 127])
        match self.layer.weights:
            case "least":
                made = np.full(shape, -127)
            case "greatest":
                made = np.full(shape, 127)
            case "ends":
                made = self.numpy.choice(ends, shape)
            case "zero":
                made = np.zeros(shape, np.int64)
            case "one":
                made = np.zeros(shape, np.int64)
                made.reshape(-1)[self.numpy.integers(made.size)] = 127
            case _:
                made = self.numpy.integers(-127, 128, shape)
        return np.asarray(made)

    def weights(self, x: str, shape: tuple[int, ...], axis: int) -> list[str]:
        layer, count = self.layer, shape[axis]
        values = self.filled(shape)
        if layer.dtype == "float":
            names = [self.const((values / 64).astype(np.float32))]
            bias = self.numpy.standard_normal(count).astype(np.float32)
            return names + ([self.const(bias)] if layer.bias != "none" else [])
        scales = np.full(count, layer.ratio)
        if layer.per_channel:
            scales *= self.numpy.choice([1.0, 0.5, 0.77], count)
        scales = scales.astype(np.float32)
        q = Quant(tuple(map(float, scales)), (0,) * count, axis)
        if not layer.per_channel:
            q = Quant.per_tensor(float(scales[0]), 0)
        names = [self.const(values.astype(np.int8), q)]
        if layer.bias != "none":
            kind = np.int64 if layer.dtype == "int16" else np.int32
            names.append(self.const(self.biases(values, axis).astype(kind)))
        return names

    def biases(self, weights: Array, axis: int) -> Array:
        """[channels]"""
        apart = tuple(d for d in range(weights.ndim) if d != axis)
        sums = 255 * np.abs(weights).sum(apart)  # of inputs less any zero point
        words = 128 * np.abs(weights).sum(apart)
        signs = self.numpy.choice([-1, 1], sums.shape)
        folded = self.layer.zero * weights.sum(apart)  # what the zero point adds to the bias
        match self.layer.bias:
            case "zero":
                return np.zeros_like(sums)
            case "edge":
                return np.asarray(signs * (_EDGE - 1 - words) + folded)
            case "over":
                return np.asarray(signs * (_EDGE - words) + folded)
            case "far":
                return np.asarray(signs * (_FAR - sums - np.abs(folded)))
        return self.numpy.integers(-3000, 3000, sums.shape)


@cache
def graph_of(layer: Layer, seed: int = 0) -> Graph:
    """The layer as its framework means it."""
    m = Maker(layer, seed)
    x = m.input((1, *layer.x))
    window = {"strides": layer.strides, "dilations": (1, 1), "padding": layer.padding}
    c = layer.x[2]
    match layer.op:
        case "conv2d":
            y = m.node("conv2d", [x, *m.weights(x, (layer.oc, *layer.kernel, c), 0)], window)
        case "depthwise_conv2d":
            y = m.node("depthwise_conv2d", [x, *m.weights(x, (1, *layer.kernel, c), 3)], window)
        case "dense":
            flat = m.node("reshape", [x], {"shape": (1, c)}, quant=m.types[x].quant)
            y = m.node("dense", [flat, *m.weights(flat, (layer.oc, c), 0)])
        case _:
            y = m.node(layer.op, [x], {"window": layer.kernel, **window}, quant=m.types[x].quant)
    inputs = [x]
    if layer.then == "add":
        other = x if m.types[x].shape == m.types[y].shape else m.input(m.types[y].shape[:])
        inputs += [] if other == x else [other]
        y = m.node("add", [y, other])
    elif layer.then == "table":
        y = m.node("hard_swish", [y])
    elif layer.then == "relu":
        y = m.node("clip", [y], {"low": 0.0, "high": float("inf")}, quant=m.types[y].quant)
    graph = Graph("g", tuple(inputs), (y,), m.types, m.consts, ())
    made = graph.with_nodes(m.nodes)
    verify(made)
    return made


@dataclass(frozen=True)
class Ways:
    """All options of all kernels of a net, whole and by bands. matches: as the tuner measures
    them.  options: those that `matches` hold, in that order."""

    net: Net
    matches: tuple[Match, ...]
    options: tuple[tuple[Option, ...], ...] = field(repr=False)


_LAST: list[tuple[Graph, Target, Ways]] = []


def ways(graph: Graph, target: Target) -> Ways:
    """Whatever `target` can be given for `graph`, equal ones once. Found once for tests in a row
    (tests/ordering.py)."""
    known = next((w for g, t, w in _LAST if g is graph and t == target), None)
    found = known or _ways(graph, target)
    _LAST[:] = [(graph, target, found)]
    return found


def drawn_ways(graph: Graph, target: Target, count: int, seed: int) -> tuple[Ways, int]:
    """What can be built of `count` points at random of each space of all kernels, whole and by
    bands of a row, equal ones once; and how many points were drawn."""
    net, rng = Net.of(graph), random.Random(seed)
    able = [g.output for g in split_sums(fuse(net.plain)) if how_banded(net.plain, g) is not None]
    matches, kept, drawn = [], [], 0
    for form in ({}, {v: Form(1, False) for v in able}):
        for choice in find_options(net.plain, target, net.types, "speed", form).choices:
            request = choice.options.request
            own: dict[Any, Option] = {}
            for space in spaces(request):
                for point in {space.draw(rng): None for _ in range(count)}:
                    drawn += 1
                    assert point in space
                    option = option_of(request, space.build(point))
                    if option is not None:
                        own.setdefault(_key(option), option)
            if own:
                matches.append(Match(tuple(map(_trial, own.values())), _trial(choice.plain)))
                kept.append(tuple(own.values()))
    return Ways(net, tuple(matches), tuple(kept)), drawn


def _ways(graph: Graph, target: Target) -> Ways:
    net = Net.of(graph)
    able = [g.output for g in split_sums(fuse(net.plain)) if how_banded(net.plain, g) is not None]
    banded: list[Forms] = [{v: Form(rows, False) for v in able} for rows in (1, 2)]
    found: dict[Any, tuple[Choice, dict[Any, Option]]] = {}
    plans = [("speed", {}), ("size", {}), *(("speed", form) for form in banded)]
    for goal, form in plans:
        lowered = find_options(net.plain, target, net.types, goal, form, most=50)
        for choice in lowered.choices:
            own = found.setdefault(_key(choice.plain), (choice, {}))[1]
            for option in choice.options:
                own.setdefault(_key(option), option)
    matches = tuple(
        Match(tuple(map(_trial, own.values())), _trial(choice.plain))
        for choice, own in found.values()
    )
    return Ways(net, matches, tuple(tuple(own.values()) for _, own in found.values()))


def _key(option: Option) -> object:
    params = option.kernel.func.params
    return (params, option.kernel.func.body, option.args)


def _trial(option: Option) -> Trial:
    params = option.kernel.func.params
    values = zip(params, option.args, strict=True)
    consts = {p.name: option.consts[v] for p, v in values if v in option.consts}
    return Trial(option.kernel, consts, option.args)


def floats(net: Net) -> bool:
    return net.source.types[net.source.inputs[0]].dtype is DType.F32
