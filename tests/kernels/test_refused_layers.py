"""What a kernel does not take, one thing at a time changed of what it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

import templates
from cascade_nets import Net
from extreme_layers import Layer, graph_of
from midge.core.types import DType
from midge.graph.attrs import Attr
from midge.graph.ir import Graph, Node
from midge.kernels.arm_dsp import depthwise
from midge.loop.schedule import Tensorize
from midge.lower.candidates import Request
from midge.lower.fuse import fuse
from midge.lower.layouts import CHANNELS_FIRST, WANTED
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
    return len(templates.made(f"{anchor.op}/{family}", request))


Change = Callable[[Request], Request]


def of_node(**attrs: Attr) -> Change:
    """Other attributes of the anchor."""

    def change(request: Request) -> Request:
        old = request.group.anchor
        assert old is not None
        return with_anchor(request, replace(old, attrs={**old.attrs, **attrs}))

    return change


def with_anchor(request: Request, node: Node) -> Request:
    old, graph = request.group.anchor, request.graph
    nodes = tuple(node if n is old else n for n in request.group.nodes)
    graph = replace(graph, nodes=tuple(node if n is old else n for n in graph.nodes))
    return replace(request, graph=graph, group=replace(request.group, nodes=nodes, anchor=node))


def without_attr(name: str) -> Change:
    def change(request: Request) -> Request:
        old = request.group.anchor
        assert old is not None
        kept: dict[str, Attr] = {n: v for n, v in old.attrs.items() if n != name}
        return with_anchor(request, replace(old, attrs=kept))

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


def with_pitch(request: Request) -> Request:
    """An output inside of another one with more channels."""
    return replace(request, pitches={request.group.output: 99})


def both(*changes: Change) -> Change:
    def change(request: Request) -> Request:
        for one in changes:
            request = one(request)
        return request

    return change


def in_pieces(request: Request) -> Request:
    node = request.group.anchor
    assert node is not None
    return replace(request, rows=frozenset({node.inputs[0]}))


def unpadded(request: Request) -> Request:
    """Without padding, to an output that is smaller by it."""
    request = of_node(padding=(0, 0, 0, 0))(request)
    return with_shape(-1, 2, 4)(with_shape(-1, 1, 3)(request))


def on(target: str) -> Change:
    return lambda request: replace(request, target=load_target(target))


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
    ("padding that is no zero", of_node(pad_value=1.0), ["conv2d/arm_fpu"]),
    ("another stride", of_node(strides=(2, 1)), ["conv2d/arm_dsp_winograd"]),
    ("another window", with_shape(1, 1, 2), ["conv2d/arm_dsp_winograd"]),
    ("one row", with_shape(-1, 1, 1), ["conv2d/arm_dsp_winograd"]),
    ("one column", with_shape(-1, 2, 1), ["conv2d/arm_dsp_winograd"]),
    ("three channels", with_shape(0, 3, 3), ["max_pool2d/arm_dsp"]),
    ("taps in an order", of_node(order="columns"), POOLS),
    ("taps with a scale", of_node(scale=2.0), POOLS),
    ("pieces to another layout", both(in_pieces, channels_first_out), ["max_pool2d/arm_dsp"]),
    ("pieces to a pitch", both(in_pieces, with_pitch), ["max_pool2d/arm_dsp"]),
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
        ("dense/arm_dsp", without_attr("x_zero")),
        ("conv2d/arm_fpu", both(of_node(pad_value=1.0), unpadded)),
    ],
)
def test_what_is_taken_too(key: str, change: Change) -> None:
    assert offered(key, change(request_of(key)))


@pytest.mark.parametrize("key", POOLS)
def test_where_code_is_to_be_small_windows_are_tested(key: str) -> None:
    assert not templates.made(key, request_of(key), "size")


def names(key: str, request: Request) -> list[str]:
    anchor = request.group.anchor
    assert anchor is not None
    return [c.name for c in templates.made(key, request)]


def test_rows_of_maxima_only_where_pixels_follow_each_other() -> None:
    key = "max_pool2d/arm_dsp"
    request = request_of(key)
    assert names(key, request) == ["rows"]
    assert names(key, channels_first_out(request)) == ["windows"]
    assert names(key, with_pitch(request)) == ["windows"]


def test_sums_that_16_bits_hold() -> None:
    """Of at most 256 elements; maxima have no such limit."""
    for window, count in (((16, 16), 1), ((16, 17), 0), ((17, 16), 0), ((2, 128), 1)):
        for op, own in (("avg_pool2d", count), ("max_pool2d", 1)):
            net = Net.of(graph_of(Layer(op, (*window, 4), window)))
            (group,) = fuse(net.plain)
            request = Request(net.plain, group, load_target("cortex-m4"), {})
            assert len(templates.made(f"{op}/arm_dsp", request)) == own, window


def test_where_floats_become_integers_no_sum_is_fused() -> None:
    key = "conv2d/arm_fpu"
    for target, first in (("cortex-m4", "rounded"), ("cortex-m7", "fused")):
        request = on(target)(request_of(key))
        assert names(key, request)[0] == first
        assert set(names(key, request)) == {"fused", "rounded"}
        assert set(names(key, replace(request, exact=True))) == {"rounded"}


def test_planes_lie_channels_first_only_for_who_reads_them_so() -> None:
    request = request_of(PLANES)
    for target, wanted in (("cortex-m4", CHANNELS_FIRST), ("cortex-m3", None)):
        assert WANTED["depthwise_conv2d"](
            request.graph, request.group, load_target(target)
        ) == wanted  # fmt: skip


def test_rows_are_read_where_they_lie_if_that_is_little_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    net = Net.of(graph_of(Layer("depthwise_conv2d", (3, 9, 4), padding=(0, 0, 1, 1))))
    (group,) = fuse(net.plain)
    assert group.anchor is not None
    x = group.anchor.inputs[0]
    request = Request(
        net.plain, group, load_target("cortex-m4"), {x: CHANNELS_FIRST}, rows=frozenset({x}),
        planes={x: 40}, small=True,
    )  # fmt: skip
    for optimize in ("speed", "balanced", "size"):
        monkeypatch.setitem(depthwise._MOST_LINES, optimize, 9999)
        direct, copied, *_ = templates.made(PLANES, request, optimize)
        (made,) = direct.instructions.values()
        assert "" not in direct.args  # no scratch memory
        assert "" in copied.args
        lines = len(made.asm)
        for most, ways in ((lines, 2), (lines + 1, 2), (lines - 1, 1)):
            monkeypatch.setitem(depthwise._MOST_LINES, optimize, most)
            assert len(templates.made(PLANES, request, optimize)) == ways


@pytest.mark.parametrize("width", [2, 3, 4, 5, 6, 8])
def test_winograds_tiles_of_a_band(width: int) -> None:
    """One, two or four at a time, as long as that is not twice as many as there are."""
    net = Net.of(graph_of(Layer("conv2d", (4, width, 8), oc=8, padding=ROUND)))
    (group,) = fuse(net.plain)
    request = Request(net.plain, group, load_target("cortex-m4"), {}, small=True)
    tiles = (width + 1) // 2
    found = templates.made("conv2d/arm_dsp_winograd", request)
    assert len(found) == sum(n < 2 * tiles for n in (1, 2, 4))


def test_winograds_sums_are_words() -> None:
    for weights, count in (("greatest", 0), ("one", 1)):
        layer = Layer("conv2d", (2, 2, 1200), oc=1, padding=ROUND, weights=weights)
        net = Net.of(graph_of(layer))
        (group,) = fuse(net.plain)
        request = Request(net.plain, group, load_target("cortex-m4"), {})
        assert len(templates.made("conv2d/arm_dsp_winograd", request)) == count


@pytest.mark.parametrize(
    ("width", "padding", "whole", "band"),
    [
        (4, (0, 0, 0, 0), 1, 0),
        (4, (0, 0, 1, 0), 1, 2),
        (4, ROUND, 2, 3),
        (12, (0, 0, 0, 0), 1, 0),
        (12, ROUND, 5, 4),
        (20, ROUND, 6, 5),
    ],
)
def test_winograds_margins(
    width: int, padding: tuple[int, int, int, int], whole: int, band: int
) -> None:
    """Where all tiles of an image have one patch, it is blank once and margins stay; a band
    starts with none. Rows outside the image are blank too."""
    net = Net.of(graph_of(Layer("conv2d", (4, width, 8), oc=8, padding=padding)))
    (group,) = fuse(net.plain)
    for small, fills in ((False, whole), (True, band)):
        request = Request(net.plain, group, load_target("cortex-m4"), {}, small=small)
        *_, last = templates.made("conv2d/arm_dsp_winograd", request)
        used = [s.instruction for s in last.steps if isinstance(s, Tensorize)]
        assert sum(name.startswith("fill") for name in used) == fills, small
