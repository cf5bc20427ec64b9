"""What the passes on float operators between integers make of what nearly is what they look for:
their decisions as they were, and the meaning of the graph before, but for a step."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from test_near_misses import same_meaning

import quantized_moves as moves
import quantized_texts as texts
from conftest import Golden
from midge.graph.ir import Graph
from midge.passes import GraphPass, run
from midge.passes.drop_dead import drop_dead
from midge.passes.fuse_quantized import fuse_quantized
from midge.passes.keep_order import keep_order
from midge.passes.scale_products import scale_products
from test_passes import text

GROUPS: Mapping[str, tuple[GraphPass, Mapping[str, str]]] = {
    "matrices": (fuse_quantized, texts.MATRICES),
    "results": (fuse_quantized, texts.RESULTS),
    "names": (fuse_quantized, moves.NAMES),
    "moved": (fuse_quantized, moves.MOVED),
    "weights": (fuse_quantized, texts.WEIGHTS),
    "biases": (fuse_quantized, texts.BIASES),
    "reals": (scale_products, texts.REALS),
    "orders": (keep_order, texts.ORDERS),
}


def left(case: str, step: GraphPass, body: str) -> Graph:
    """Of a graph; what stays is said in its name."""
    before = run([drop_dead], text(body))
    after = run([step], before)
    assert (after == before) == case.endswith(("stay", "stays")), f"{case}\n{before}\n{after}"
    same_meaning(before, after, 1)
    return after


@pytest.mark.parametrize("group", GROUPS)
def test_what_is_left(group: str, golden: Golden) -> None:
    step, cases = GROUPS[group]
    golden("\n".join(f"{case}: {left(case, step, body)}" for case, body in cases.items()))


def may_tie(x: int, y: int, count: int) -> bool:
    """Whether some sum of so many differences of bytes, in units of x, has a mean that is half an
    odd number of units of y: by trying them all."""
    sums = (2 * total * x for total in range(-255 * count, 255 * count + 1))
    return any(s % (y * count) == 0 and s // (y * count) % 2 for s in sums)


def test_floats_decide_where_a_mean_can_be_a_tie() -> None:
    """The last digits of a sum of floats are the framework's there."""
    ties = 0
    for count in (1, 2, 3, 4):
        for x, y in ((1, 2), (1, 3), (1, 4), (3, 1), (2, 3), (1, 6), (5, 4), (1, 510), (1, 511),
                     (1, 512), (1, 700), (1, 1020), (1, 1022)):  # fmt: skip
            made = texts.averaged(f"1x{count}", "1", "1x1", f"{x}.0; -3").replace("0.1;", f"{y}.0;")
            before = text(made)
            after = run([fuse_quantized], before)
            assert (after == before) == may_tie(x, y, count), (x, y, count)
            ties += may_tie(x, y, count)
    assert 10 < ties < 42
