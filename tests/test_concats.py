"""Concatenations whose parts are written where they lie in the whole."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from cascade_nets import KINDS, Net, check, packaged, random_picks
from concat_nets import branches, fires
from midge import driver, pipeline
from midge.core.options import CompileOptions
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.graph.text import parse_graph
from midge.passes import run as run_passes
from midge.passes.join_parts import join_parts
from midge.plan.offsets import plan
from midge.run import RUNNERS
from midge.target import load_target

pytestmark = pytest.mark.slow

EMULATOR = RUNNERS["emulator"]


@pytest.mark.parametrize("seed", [*range(18), 96])
def test_random_branches(seed: int) -> None:
    """Any bands and kernels, with guards between all buffers, or placed as closely as it goes."""
    rng = random.Random(seed)
    own = Net.of(branches(seed, ("int8", "int8", "float", "int16")[seed % 4]))
    target = load_target("cortex-m0plus" if seed % 3 == 1 else "cortex-m4")
    plans = dict(own.planned())
    wide = [plans[name] for name in ("rows", "two rows") if name in plans]
    forms = rng.choice([{}, *wide, own.random_forms(rng)])
    found = own.lowered(target, forms, bool(forms) and seed % 5 == 0)
    picks = random_picks(found, rng) if seed % 2 else [0] * len(found.choices)
    package, _ = packaged(found, picks, target, None if seed % 2 else plan)
    check(own, package, EMULATOR, seed)


@pytest.mark.parametrize("bands", [False, True])
def test_nobody_copies_the_parts(bands: bool) -> None:
    graph = fires()
    made = driver.compile_graph(
        graph, load_target("cortex-m4"), CompileOptions(search=False, prove=False, bands=bands)
    )
    assert all(name.startswith("conv2d") for name in (o.name for o in made.package.operators))
    assert bool(made.program.scattered) == bands
    apart = replace(made.chosen, tried=())
    assert apart.program.inside
    session = EMULATOR.load(made.package, toolchain=None, optimize="speed")
    for given in random_inputs(graph, 2, 1):
        np.testing.assert_array_equal(
            session.run(given).outputs[graph.outputs[0]], evaluate(graph, given)[graph.outputs[0]]
        )
    session.close()


def test_parts_in_place_need_less_than_copies() -> None:
    own, target = Net.of(fires()), load_target("cortex-m4")
    copied = replace(own, plain=without_marks(own.plain))
    sizes = []
    for net in (own, copied):
        found = net.lowered(target, {})
        sizes.append(packaged(found, [0] * len(found.choices), target, plan)[1].size)
    assert sizes[0] < 0.7 * sizes[1]


def without_marks(graph: Graph) -> Graph:
    attrs = {n.outputs: {k: v for k, v in n.attrs.items() if k != "joined"} for n in graph.nodes}
    return graph.with_nodes(replace(n, attrs=attrs[n.outputs]) for n in graph.nodes)


BEFORE = """graph g(x: i8[1x2x2x3], z: i8[1x2x2x2]):
  a: i8[1x2x2x3] = abs(x) @ "1" "A"
  b: i8[1x2x2x5] = concat(a, z, axis=3) @ "2" "B"
  c: i8[1x2x2x3] = abs(a) @ "3" "C"
  d: i8[1x2x2x8] = concat(b, c, axis=3) @ "4" "D"
  e: i8[1x2x2x8] = abs(d) @ "5" "E"
  return e
"""
AFTER = """graph g(x: i8[1x2x2x3], z: i8[1x2x2x2]):
  a: i8[1x2x2x3] = abs(x) @ "1" "A"
  c: i8[1x2x2x3] = abs(a) @ "3" "C"
  "a/abs": i8[1x2x2x3] = abs(a) @ "5" "E"
  "z/abs": i8[1x2x2x2] = abs(z) @ "5" "E"
  "c/abs": i8[1x2x2x3] = abs(c) @ "5" "E"
  e: i8[1x2x2x8] = concat("a/abs", "z/abs", "c/abs", axis=3, joined=1) @ "4" "D"
  return e
"""


def test_nested_ones_become_one_and_functions_go_to_the_parts() -> None:
    driver.load_operators()
    assert join_parts(parse_graph(BEFORE)) == parse_graph(AFTER)


def test_functions_of_constant_parts_are_computed() -> None:
    driver.load_operators()
    text = """graph g(x: i8[1x2]):
  const k: i8[1x2] = [-3, 4]
  b: i8[1x4] = concat(x, k, axis=1) @ "1" "A"
  c: i8[1x4] = abs(b) @ "2" "B"
  return c
"""
    joined = join_parts(parse_graph(text))
    assert joined.consts["k/abs"].tolist() == [[3, 4]]
    assert [n.op for n in joined.nodes].count("abs") == 1


def test_what_others_read_is_copied_to_its_place() -> None:
    driver.load_operators()
    text = """graph g(x: i8[1x2x2x3]):
  a: i8[1x2x2x3] = abs(x) @ "1" "A"
  b: i8[1x2x2x3] = abs(a) @ "2" "B"
  c: i8[1x2x2x6] = concat(a, b, axis=3) @ "3" "C"
  return c
"""
    joined = join_parts(parse_graph(text))
    assert [n.op for n in joined.nodes] == ["abs", "abs", "copy", "concat"]
    assert joined.nodes[-1].inputs == ("a/part", "b")
    rows = join_parts(parse_graph(text.replace("2x2x6", "2x4x3").replace("axis=3", "axis=2")))
    assert "joined" not in rows.nodes[-1].attrs  # rows of the parts take turns


@pytest.mark.parametrize("seed", range(12))
def test_the_pass_keeps_the_meaning(seed: int) -> None:
    graph = branches(700 + seed, KINDS[seed % 3])
    before = run_passes((*pipeline.PLAIN_PASSES,), run_passes(pipeline.MODEL_PASSES, graph))
    after = run_passes((join_parts,), before)
    for given in random_inputs(graph, 2, seed):
        want, have = evaluate(before, given), evaluate(after, given)
        for name in before.outputs:
            np.testing.assert_array_equal(have[name], want[name])
