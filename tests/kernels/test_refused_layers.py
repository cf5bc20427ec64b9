"""What a kernel does not take, one thing at a time changed of what it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from cascade_nets import Net
from extreme_layers import Layer, graph_of
from midge.core.types import DType
from midge.graph.attrs import Attr
from midge.graph.ir import Graph, Node
from midge.lower.candidates import LOWERINGS, Request
from midge.lower.fuse import fuse
from midge.lower.layouts import CHANNELS_FIRST
from midge.target import load_target

ROUND = (1, 1, 1, 1)
TAKEN = {
    "conv2d/arm_dsp": Layer("conv2d", (5, 6, 8), oc=8, padding=ROUND),
    "conv2d/arm_dsp_winograd": Layer("conv2d", (5, 6, 8), oc=8, padding=ROUND),
    "conv2d/arm_dsp_int16": Layer("conv2d", (5, 6, 8), oc=8, padding=ROUND, dtype="int16"),
    "conv2d/arm_fpu": Layer("conv2d", (5, 6, 8), oc=8, padding=ROUND, dtype="float"),
    "depthwise_conv2d/arm_dsp": Layer("depthwise_conv2d", (5, 6, 8), oc=8, padding=ROUND),
    "dense/arm_dsp": Layer("dense", (1, 1, 24), (1, 1), 8),
    "dense/arm_dsp_int16": Layer("dense", (1, 1, 24), (1, 1), 8, dtype="int16"),
    "dense/arm_fpu": Layer("dense", (1, 1, 24), (1, 1), 8, dtype="float"),
    "max_pool2d/arm_dsp": Layer("max_pool2d", (6, 6, 8), (2, 2), strides=(2, 2)),
    "avg_pool2d/arm_dsp": Layer("avg_pool2d", (6, 6, 8), (2, 2), strides=(2, 2)),
    "max_pool2d/generic": Layer("max_pool2d", (6, 6, 8), (3, 3), padding=ROUND),
}


def request_of(key: str) -> Request:
    """Of the group that holds the layer; everything else is in it or before it."""
    net = Net.of(graph_of(TAKEN[key]))
    op = key.partition("/")[0]
    group = next(g for g in fuse(net.plain) if g.anchor is not None and g.anchor.op in (op, "sum"))
    return Request(net.plain, group, load_target("cortex-m4"), {})


def offered(key: str, request: Request) -> int:
    anchor = request.group.anchor
    assert anchor is not None
    family = key.partition("/")[2]
    rule = LOWERINGS[f"{anchor.op}/{family}"]
    return len([*rule(request)])


Change = Callable[[Request], Request]


def of_node(**attrs: Attr) -> Change:
    """Other attributes of the anchor."""

    def change(request: Request) -> Request:
        old = request.group.anchor
        assert old is not None
        node = replace(old, attrs={**old.attrs, **attrs})
        nodes = tuple(node if n is old else n for n in request.group.nodes)
        graph = replace(
            request.graph, nodes=tuple(node if n is old else n for n in request.graph.nodes)
        )
        return replace(request, graph=graph, group=replace(request.group, nodes=nodes, anchor=node))

    return change


def of_types(change: Callable[[Graph, Node], Mapping[str, object]]) -> Change:
    def changed(request: Request) -> Request:
        node = request.group.anchor
        assert node is not None
        types = {**request.graph.types, **change(request.graph, node)}
        return replace(request, graph=replace(request.graph, types=types))

    return changed


def with_shape(place: int, axis: int, count: int) -> Change:
    """Another extent of an input (0, 1) or the output (-1)."""

    def change(graph: Graph, node: Node) -> Mapping[str, object]:
        value = node.outputs[0] if place < 0 else node.inputs[place]
        t = graph.types[value]
        shape = [*t.shape]
        shape[axis] = count
        return {value: replace(t, shape=tuple(shape))}

    return of_types(change)


def of_type(place: int, dtype: DType) -> Change:
    return of_types(
        lambda graph, node: {
            node.inputs[place]: replace(graph.types[node.inputs[place]], dtype=dtype)
        }
    )


def without_const(place: int) -> Change:
    """An operand that comes with each run."""

    def change(request: Request) -> Request:
        node = request.group.anchor
        assert node is not None
        consts = {n: a for n, a in request.graph.consts.items() if n != node.inputs[place]}
        return replace(request, graph=replace(request.graph, consts=consts))

    return change


def constant_image(request: Request) -> Request:
    node = request.group.anchor
    assert node is not None
    t = request.graph.types[node.inputs[0]]
    consts = {**request.graph.consts, node.inputs[0]: np.zeros(t.shape, t.dtype.numpy)}
    return replace(request, graph=replace(request.graph, consts=consts))


def channels_first(request: Request) -> Request:
    node = request.group.anchor
    assert node is not None
    return replace(request, layouts={node.inputs[0]: CHANNELS_FIRST})


def channels_first_out(request: Request) -> Request:
    return replace(request, layouts={request.group.output: CHANNELS_FIRST})


def in_pieces(request: Request) -> Request:
    node = request.group.anchor
    assert node is not None
    return replace(request, rows=frozenset({node.inputs[0]}))


def on(target: str) -> Change:
    return lambda request: replace(request, target=load_target(target))


def for_size(request: Request) -> Request:
    return replace(request, optimize="size")


CONVS = [k for k in TAKEN if "conv2d" in k]
DENSES = [k for k in TAKEN if "dense" in k]
DSP = [k for k in TAKEN if "arm_dsp" in k]
FPU = [k for k in TAKEN if "arm_fpu" in k]
POOLS = [k for k in TAKEN if "pool" in k]
WEIGHTED = CONVS + DENSES
PLANES = "depthwise_conv2d/arm_dsp"

REFUSED: list[tuple[str, Change, list[str]]] = [
    ("dilated rows", of_node(dilations=(2, 1)), [*CONVS, *POOLS]),
    ("dilated columns", of_node(dilations=(1, 2)), [*CONVS, *POOLS]),
    ("two images", with_shape(0, 0, 2), [*CONVS, "max_pool2d/arm_dsp"]),
    ("no image", with_shape(0, 0, 0), [*CONVS, *DENSES, "max_pool2d/arm_dsp"]),
    ("no channels", with_shape(1, 0, 0), [k for k in WEIGHTED if "depth" not in k]),
    ("no output", with_shape(-1, 2, 0), CONVS),
    ("weights of other channels", with_shape(1, 3, 4), CONVS),
    ("weights of each run", without_const(1), WEIGHTED),
    ("a bias of each run", without_const(2), [k for k in WEIGHTED if "int16" in k]),
    ("a constant image", constant_image, FPU),
    ("a zero point", of_node(x_zero=1), [k for k in DENSES + CONVS if "int16" in k]
     + ["dense/arm_dsp"]),
    ("channels first", channels_first, [k for k in TAKEN if "/arm_dsp" in k and "pool" in k]
     + [k for k in CONVS if k != PLANES] + ["dense/arm_dsp_int16", "dense/arm_fpu"]),
    ("pieces", in_pieces, DENSES),
    ("a CPU without DSP", on("cortex-m3"), DSP),
    ("a CPU without FPU", on("cortex-m3"), FPU),
    ("another image", of_type(0, DType.I32), WEIGHTED + [k for k in POOLS if "dsp" in k]),
    ("other weights", of_type(1, DType.I32), [k for k in WEIGHTED if "int16" in k or "fpu" in k]),
    ("small code", for_size, POOLS),
    ("padding that is no zero", of_node(pad_value=1.0), ["conv2d/arm_fpu"]),
    ("another stride", of_node(strides=(2, 1)), ["conv2d/arm_dsp_winograd"]),
    ("another window", with_shape(1, 1, 2), ["conv2d/arm_dsp_winograd"]),
    ("one row", with_shape(-1, 1, 1), ["conv2d/arm_dsp_winograd"]),
    ("one column", with_shape(-1, 2, 1), ["conv2d/arm_dsp_winograd"]),
    ("three channels", with_shape(0, 3, 3), ["max_pool2d/arm_dsp"]),
    ("taps in an order", of_node(order="columns"), POOLS),
    ("taps with a scale", of_node(scale=2.0), POOLS),
]  # fmt: skip


@pytest.mark.parametrize("key", TAKEN)
def test_the_layer_is_taken(key: str) -> None:
    assert offered(key, request_of(key))


@pytest.mark.parametrize(
    ("key", "change"),
    [pytest.param(k, c, id=f"{k} {what}") for what, c, keys in REFUSED for k in keys],
)
def test_what_is_not_taken(key: str, change: Change) -> None:
    assert not offered(key, change(request_of(key)))


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("conv2d/arm_dsp_winograd", with_shape(-1, 1, 2)),
        ("conv2d/arm_dsp_winograd", with_shape(-1, 2, 2)),
        ("conv2d/arm_dsp", in_pieces),
        ("max_pool2d/arm_dsp", in_pieces),
        ("conv2d/arm_fpu", in_pieces),
        (PLANES, channels_first),
        (PLANES, in_pieces),
        ("conv2d/arm_dsp_int16", channels_first_out),
    ],
)
def test_what_is_taken_too(key: str, change: Change) -> None:
    assert offered(key, change(request_of(key)))
