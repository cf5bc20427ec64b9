"""Which kernels are offered to what differs in one thing from a layer that they take."""

from __future__ import annotations

import pytest
from test_offers import offered, summary
from test_refused_layers import TAKEN

from cascade_nets import Net
from conftest import Golden
from extreme_layers import graph_of
from midge.lower.bands import Form, how_banded, split_sums
from midge.lower.fuse import fuse
from midge.target import load_target
from near_misses import near_misses

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("key", TAKEN)
def test_layers_that_are_nearly_taken(
    key: str, golden: Golden, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, target = Net.of(graph_of(TAKEN[key])), load_target("cortex-m4")
    lines = []
    for what, graph in near_misses(net.plain):
        if what.endswith("is half"):
            continue  # which a plain graph has not
        for rows in (0, 1):
            able = [g.output for g in split_sums(fuse(graph)) if how_banded(graph, g) is not None]
            forms = {v: Form(1) for v in able} if rows else {}
            found = offered(graph, target, graph.types, "speed", forms, monkeypatch)
            lines.append(f"{what}, {rows}: {summary(found)}")
    golden("\n".join(lines) + "\n")
