"""Layers, small networks and trees drawn at random, of every size and attribute by which kernels
decide."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from functools import cache

from cascade_nets import Net, net
from extreme_layers import Layer, graph_of
from forests import forest
from midge.core.errors import MidgeError
from midge.core.target import Target
from midge.core.types import DType
from midge.graph.ir import OPS, Graph, verify
from midge.graph.trees import EQUAL, MISSING
from midge.lower.bands import Form, Forms
from midge.target import load_target

_TARGETS = ("cortex-m4",) * 6 + (
    "cortex-m0plus", "cortex-m3", "cortex-m7", "cortex-m33", "rv32imac", "cortex-m4 r9",
)  # fmt: skip
_SIZES = (1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 16, 20, 25, 33)
_CHANNELS = (1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 12, 15, 16, 16, 17, 20, 24, 32, 40, 64)
_DEEP = (75, 76, 96, 128, 227, 228, 229, 250, 256, 384, 512)
_WINDOWS = ((3, 3),) * 4 + ((1, 1),) * 4 + (
    (2, 2), (1, 3), (3, 1), (5, 5), (2, 3), (4, 4), (1, 8), (10, 1), (7, 7), (10, 4),
)  # fmt: skip
_STRIDES = ((1, 1),) * 5 + ((2, 2), (2, 2), (1, 2), (2, 1), (3, 3), (4, 1))
_OPS = ("conv2d",) * 4 + ("depthwise_conv2d",) * 3 + ("dense", "dense", "max_pool2d", "avg_pool2d")
_MOST_ELEMENTS = 20_000


def layer(rng: random.Random) -> Layer:
    """An operator that fits its image."""
    op = rng.choice(_OPS)
    kernel, strides = rng.choice(_WINDOWS), rng.choice(_STRIDES)
    pads = tuple(rng.choice((0, k // 2, k - 1 - k // 2)) for k in kernel for _ in range(2))
    x = rng.choice(_SIZES), rng.choice(_SIZES), rng.choice(_CHANNELS)
    if rng.random() < 0.06:
        x = (1, rng.choice((240, 256, 257)), 4) if rng.random() < 0.5 else (2, 3, 4 * x[2])
    if rng.random() < 0.12:  # deep ones
        x = (rng.choice((1, 2, 3)), rng.choice((1, 2, 3, 5)), rng.choice(_DEEP))
        kernel = rng.choice(((1, 1), (3, 3), (3, 1), (1, 3)))
        pads = tuple(k // 2 for k in kernel for _ in range(2))
    elif op == "depthwise_conv2d" and rng.random() < 0.3:  # columns
        kernel, strides, pads = (rng.choice((1, 2, 3, 4, 5, 8, 9)), 1), (1, 1), (0, 0, 0, 0)
        x = (kernel[0] + rng.choice(_SIZES), 1, 4 * rng.choice(_SIZES))
    if op == "dense":
        x, kernel, strides, pads = (1, 1, x[0] * x[2]), (1, 1), (1, 1), (0, 0, 0, 0)
    for axis in (0, 1):
        if x[axis] + sum(pads[2 * axis : 2 * axis + 2]) < kernel[axis]:
            kernel = (1, kernel[1]) if axis == 0 else (kernel[0], 1)
            pads = (0, 0, *pads[2:]) if axis == 0 else (*pads[:2], 0, 0)
    oc = rng.choice((x[2], rng.choice(_CHANNELS), rng.choice((1, 2, 4, 8))))
    if x[0] * x[1] * x[2] > _MOST_ELEMENTS or oc * kernel[0] * kernel[1] * x[2] > _MOST_ELEMENTS:
        return layer(rng)
    dtype = rng.choice(("int8",) * 6 + ("int16", "int16", "float"))
    found = Layer(
        op, x, kernel, oc, strides, pads,
        rng.choice(("random", "random", "ends", "least", "one")),
        rng.choice(("small", "small", "none", "edge", "over", "far", "zero")),
        rng.choice((0.004, 0.004, 1e-7, 2.0**-31, 0.49, 1.0)), rng.choice((3, -128, 127, 0)),
        rng.choice(("", "", "", "add", "relu", "table")), dtype, rng.random() < 0.7,
    )  # fmt: skip
    plain = dtype != "int8" or op.endswith("pool2d")
    then = "" if found.then == "table" and dtype != "int8" else found.then
    return replace(found, bias="small" if plain else found.bias, then=then)


def spoilt(graph: Graph, rng: random.Random) -> Graph:
    """The graph with something that most kernels do not take: two images, a dilation, or weights
    that come with each run."""
    kind = rng.choice(("images", "dilation", "weights"))
    node = graph.nodes[0]
    types, consts, inputs = dict(graph.types), dict(graph.consts), graph.inputs
    if kind == "images" and len(graph.nodes) == 1 and "dilations" in node.attrs:
        for name in (node.inputs[0], node.outputs[0]):
            types[name] = replace(types[name], shape=(2, *types[name].shape[1:]))
    elif kind == "dilation" and node.op.endswith("conv2d") and len(graph.nodes) == 1:
        made = replace(node, attrs={**node.attrs, "dilations": (1, 2)})
        own = [types[v] for v in node.inputs]
        try:
            shape = OPS[node.op].infer(own, made.attrs)[0].shape
        except MidgeError:
            return graph
        types[node.outputs[0]] = replace(types[node.outputs[0]], shape=shape)
        graph = replace(graph, nodes=(made,))
    elif kind == "weights" and len(node.inputs) > 1:
        consts.pop(node.inputs[1], None)
        inputs = (*inputs, node.inputs[1])
    made_graph = replace(graph, types=types, consts=consts, inputs=inputs)
    verify(made_graph)
    return made_graph


@dataclass(frozen=True)
class Drawn:
    """A layer and what is asked of its kernels. forms: as `find_options` takes them."""

    name: str
    net: Net
    target: Target
    goal: str
    forms: Forms


def trees(rng: random.Random) -> tuple[str, Graph]:
    dtype = rng.choice((DType.U8, DType.I8, DType.I16, DType.I16, DType.I32, DType.F32))
    values = rng.choice((DType.U8, DType.U8, DType.U8, DType.I32, DType.F32))
    count, classes = rng.choice((1, 3, 9)), rng.choice((1, 2, 3, 9))
    depth, width = rng.choice((0, 1, 3, 5, 6)), rng.choice((2, 9, 40, 300, 3000))
    wide = rng.choice((1, 1, 1, 2))
    modes = rng.choice(((0,), (0,), (0, EQUAL))) if dtype.is_integer else (0, EQUAL, MISSING)
    graph = forest(dtype, values, seed=rng.randrange(1000), trees=count, classes=classes,
                   width=width, depth=depth, modes=modes, wide=wide)  # fmt: skip
    words = (dtype, values, count, classes, depth, width, wide)
    return f"trees_{'_'.join(map(str, words))}", graph


@cache
def drawn(seed: int) -> Drawn:
    rng = random.Random(seed)
    kind = rng.random()
    if kind < 0.1:
        name, graph = trees(rng)
    elif kind < 0.3:
        dtype = rng.choice(("int8", "int8", "int16", "float"))
        name, graph = f"net_{dtype}", net(seed, dtype)
    else:
        found = layer(rng)
        name, graph = str(found), graph_of(found, seed)
        if rng.random() < 0.12:
            name, graph = f"{name}_spoilt", spoilt(graph, rng)
    made = Net.of(graph)
    cpu, _, reserved = rng.choice(_TARGETS).partition(" ")
    target = load_target(cpu)
    if reserved:
        target = target.reserving((reserved,))
    rows = rng.choice((0, 0, 0, 1, 1, 2, 4))
    forms = {v: Form(rows) for v in made.able()} if rows else {}
    goal = rng.choice(("speed", "speed", "balanced", "size"))
    return Drawn(
        f"{name} {cpu}{reserved and '-' + reserved} {goal} {rows}", made, target, goal, forms
    )
