"""Which nodes become one kernel: rules on every graph, and the cases that are easily got wrong."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from graphs import random_graph
from midge import driver
from midge.graph.ir import OPS, Graph, verify
from midge.graph.text import parse_graph
from midge.lower.fuse import Group, fuse
from midge.passes import run
from midge.pipeline import CHEAPER_PASSES, MODEL_PASSES, PLAIN_PASSES


def plain(body: str) -> Graph:
    driver.load_operators()
    lines = [f'{x} @ "" ""' if " = " in x and "const" not in x else x for x in body.splitlines()]
    graph = parse_graph("\n".join(lines))
    verify(graph)
    return graph


def names(groups: tuple[Group, ...]) -> list[str]:
    """Each group by the outputs of its nodes, its anchor in brackets."""
    return [
        " ".join(f"[{n.outputs[0]}]" if n is g.anchor else n.outputs[0] for n in g.nodes)
        for g in groups
    ]


def check(graph: Graph, groups: tuple[Group, ...]) -> None:
    """Every node once, in order; what a group keeps to itself nobody else needs."""
    counted = Counter(n.outputs[0] for g in groups for n in g.nodes)
    wanted = [n.outputs[0] for n in graph.nodes if not OPS[n.op].alias]
    assert counted == Counter(wanted)
    views = {n.outputs[0]: n.inputs[0] for n in graph.nodes if OPS[n.op].alias}
    stored = {*graph.inputs, *graph.consts}
    for group in groups:
        anchors = [n for n in group.nodes if not OPS[n.op].elementwise]
        assert anchors == ([group.anchor] if group.anchor is not None else [])
        local: set[str] = set()
        for node in group.nodes:
            for name in node.inputs:
                while name in views:
                    name = views[name]
                assert name in local or name in stored, f"{name} is not there yet"
            local.update(node.outputs)
        stored.add(group.output)
        if group.anchor is not None:
            shape = graph.types[group.output].shape
            assert graph.types[group.anchor.outputs[0]].shape == shape
    for name in graph.outputs:
        while name in views:
            name = views[name]
        assert name in stored


@pytest.mark.parametrize("quantised", [True, False], ids=["int8", "float"])
def test_the_rules_hold_on_random_graphs(quantised: bool) -> None:
    sizes: Counter[int] = Counter()
    for seed in range(250):
        graph = random_graph(random.Random(seed), quantised=quantised)
        graph = run((*MODEL_PASSES, *PLAIN_PASSES, *CHEAPER_PASSES), graph)
        groups = fuse(graph)
        check(graph, groups)
        assert fuse(graph) == groups
        sizes.update(len(g.nodes) for g in groups)
    assert max(sizes) >= 4
    # 32-bit accumulators stay out of memory, unless the model itself has them.
    if quantised:
        assert all(graph.types[g.output].dtype.size == 1 for g in groups)


CONV = "dilations=(1 1), padding=(0 0 0 0), strides=(1 1)"
HEAD = """graph g(x: f32[1x4x4x2]):
  const w: f32[2x1x1x2] = [1, 2, 3, 4]
  const c: f32[2] = [5, 6]
"""


def test_elementwise_operators_join_what_they_read() -> None:
    graph = plain(
        HEAD
        + f"""  a: f32[1x4x4x2] = conv2d(x, w, {CONV})
  b: f32[1x4x4x2] = mul(a, c)
  d: f32[1x4x4x2] = clip(b, high=6.0, low=0.0)
  return d"""
    )
    assert names(fuse(graph)) == ["[a] b d"]


def test_without_an_anchor_they_join_each_other() -> None:
    graph = plain(
        HEAD
        + """  a: f32[1x4x4x2] = mul(x, c)
  b: f32[1x4x4x2] = add(x, c)
  d: f32[1x4x4x2] = add(a, b)
  return d"""
    )
    assert names(fuse(graph)) == ["a b d"]


def test_a_value_with_two_readers_is_stored() -> None:
    graph = plain(
        HEAD
        + f"""  a: f32[1x4x4x2] = conv2d(x, w, {CONV})
  b: f32[1x4x4x2] = mul(a, c)
  d: f32[1x4x4x2] = add(a, b)
  return d"""
    )
    assert names(fuse(graph)) == ["[a]", "b d"]


def test_an_output_is_stored() -> None:
    graph = plain(
        HEAD
        + f"""  a: f32[1x4x4x2] = conv2d(x, w, {CONV})
  b: f32[1x4x4x2] = mul(a, c)
  return b, a"""
    )
    assert names(fuse(graph)) == ["[a]", "b"]


def test_of_two_convolutions_the_later_takes_the_sum() -> None:
    graph = plain(
        HEAD
        + f"""  a: f32[1x4x4x2] = conv2d(x, w, {CONV})
  b: f32[1x4x4x2] = conv2d(x, w, {CONV})
  d: f32[1x4x4x2] = add(a, b)
  return d"""
    )
    assert names(fuse(graph)) == ["[a]", "[b] d"]


def test_what_has_no_anchor_joins_one_that_has() -> None:
    graph = plain(
        HEAD
        + f"""  a: f32[1x4x4x2] = conv2d(x, w, {CONV})
  b: f32[1x4x4x2] = mul(x, c)
  d: f32[1x4x4x2] = add(a, b)
  return d"""
    )
    assert names(fuse(graph)) == ["[a] b d"]


def test_the_earlier_one_is_cut_where_its_value_is_narrowest() -> None:
    """A residual add: the other operand's rescaling moves over, 8 bits stay in memory."""
    graph = plain("""graph g(x: i8[1x1]):
  const w: i8[4x1] = [1, 0, 0, 0]
  a: i32[1x4] = dense(x, w)
  b: i8[1x4] = cast(a, dtype="i8")
  d: i32[1x4] = cast(b, dtype="i32")
  e: i32[1x4] = dense(x, w)
  f: i32[1x4] = add(d, e)
  return f""")
    assert names(fuse(graph)) == ["[a] b", "d [e] f"]


def test_a_broadcast_operand_keeps_a_kernel_of_its_own() -> None:
    graph = plain("""graph g(x: f32[1x3], z: f32[4x1]):
  const w: f32[1x3] = [1, 2, 3]
  a: f32[1x1] = dense(x, w)
  b: f32[4x1] = add(a, z)
  return b""")
    assert names(fuse(graph)) == ["[a]", "b"]


def test_views_belong_to_nobody() -> None:
    graph = plain(
        HEAD
        + f"""  a: f32[1x4x4x2] = conv2d(x, w, {CONV})
  v: f32[1x32] = reshape(a, shape=(1 32))
  d: f32[1x32] = clip(v, high=6.0, low=0.0)
  return d"""
    )
    assert names(fuse(graph)) == ["[a]", "d"]
