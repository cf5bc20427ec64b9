"""What is known of a forest, and which ways there are to compute it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import templates
from forests import forest
from midge.core.types import DType
from midge.graph.ir import Graph, Node
from midge.graph.trees import EQUAL
from midge.kernels.generic import trees
from midge.kernels.generic.trees import Forest, counts_votes, fits, forest_of
from midge.lower.candidates import Request
from midge.lower.fuse import Group, fuse
from midge.target import load_target


def request_of(graph: Graph, target: str = "cortex-m4") -> Request:
    (group,) = fuse(graph)
    return Request(graph, group, load_target(target), {})


def known(**changes: Any) -> Forest:
    """Two splits and three leaves, each of which adds 3 to a target."""
    own = {
        "thresholds": np.array([1, 2], np.int16), "roots": np.array([0], np.int32),
        "splits": np.array([[0, 1, -3, 0], [1, -1, -2, 0]], np.int32),
        "targets": np.array([[0], [1], [0]], np.int32), "values": np.full((3, 1), 3, np.uint8),
        "depth": 2,
    }  # fmt: skip
    return Forest(**{**own, **changes})


def rows(*rows: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.array(rows, np.int32)


ONE = np.zeros((3, 1), np.int32)
PAIRS = np.array([[3, 3], [4, 4], [3, 3]], np.uint8)


@pytest.mark.parametrize(
    ("changes", "vote", "direct", "preorder"),
    [
        ({}, 3, False, True),
        ({"values": np.array([[3], [4], [3]], np.uint8)}, None, False, True),
        ({"values": np.array([[3], [4], [3]], np.uint8), "targets": ONE}, None, True, True),
        ({"values": np.array([[3], [4], [3]], np.int32), "targets": ONE}, None, True, True),
        ({"values": np.array([[3], [4], [3]], np.float32), "targets": ONE}, None, False, True),
        ({"values": np.array([[3], [4], [3]], np.int64), "targets": ONE}, None, False, True),
        ({"values": PAIRS, "targets": ONE}, None, False, True),
        ({"values": np.full((3, 2), 3, np.uint8)}, None, False, True),
        ({"targets": ONE}, 3, False, True),
        ({"values": np.array([[3], [-1], [3]], np.int32), "targets": ONE}, None, True, False),
        ({"values": np.array([[3], [0], [3]], np.int32), "targets": ONE}, None, True, True),
        ({"values": np.array([[3], [-1], [3]], np.int32)}, None, False, True),
        ({"splits": rows((0, -3, 1, 0), (1, -1, -2, 0))}, 3, False, True),
        ({"splits": rows((1, -1, -2, 0), (0, 0, -3, 0)), "roots": rows((1,))[0]}, 3, False, False),
    ],
)  # fmt: skip
def test_what_is_known(
    changes: dict[str, Any], vote: int | None, direct: bool, preorder: bool
) -> None:
    found = known(**changes)
    assert (found.vote, found.direct, found.preorder) == (vote, direct, preorder)


def test_trees_that_compilers_take() -> None:
    assert fits(known(depth=100))
    assert not fits(known(depth=101))
    assert fits(known(splits=np.zeros((1 << 15, 4), np.int32)))
    assert not fits(known(splits=np.zeros(((1 << 15) + 1, 4), np.int32)))


VOTES: dict[str, Any] = {"dtype": DType.I16, "values": DType.U8, "seed": 4}


def counted(graph: Graph, target: str = "cortex-m4") -> bool:
    request = request_of(graph, target)
    found = forest_of(request)
    assert found is not None
    return counts_votes(request, found)


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({}, True),
        ({"dtype": DType.U8}, True),
        ({"dtype": DType.I8}, True),
        ({"dtype": DType.I32}, False),
        ({"dtype": DType.F32}, False),
        ({"width": 2000}, True),
        ({"width": 2001}, False),
        ({"width": 4000, "dtype": DType.U8}, True),
        ({"width": 4001, "dtype": DType.U8}, False),
        ({"classes": 16}, True),
        ({"classes": 17}, False),
        ({"values": DType.I32}, False),
        ({"wide": 2}, False),
        ({"modes": (0, EQUAL)}, True),
    ],
)
def test_votes_that_assembler_counts(changes: dict[str, Any], counts: bool) -> None:
    graph = forest(**{**VOTES, **changes})
    assert counted(graph) == counts
    names = [c.name for c in templates.made("tree_ensemble/generic", request_of(graph))]
    assert ("branches" in names) == (not counts)
    assert bool(templates.made("tree_ensemble/arm_dsp", request_of(graph))) == counts


def test_votes_of_several_rows_or_another_cpu_or_with_something_behind() -> None:
    graph = forest(**VOTES)
    assert counted(graph)
    assert not counted(graph, "cortex-m3")
    x = graph.types["x"]
    assert not counted(replace(graph, types={**graph.types, "x": replace(x, shape=(2, 40))}))
    request = request_of(graph)
    found = forest_of(request)
    assert found is not None
    (node,) = graph.nodes
    longer = replace(request, group=Group((node, Node("clip", ("y",), ("z",), {})), node))
    assert not counts_votes(longer, found)


def test_a_split_that_two_ways_lead_to_is_not_counted() -> None:
    graph = forest(**VOTES)
    request, found = request_of(graph), forest_of(request_of(graph))
    assert found is not None
    assert counts_votes(request, found)
    twice = found.splits.copy()
    leaf = np.argwhere(twice[1:, 2] < 0)[0, 0] + 1
    twice[leaf, 2] = twice[0, 1]
    assert not counts_votes(request, replace(found, splits=twice))
    assert not counts_votes(request, replace(found, roots=found.roots[1:]))
    assert not counts_votes(request, replace(found, depth=101))


def test_trees_of_each_run_have_no_special_way() -> None:
    graph = forest(**VOTES)
    for name in ("thresholds", "splits", "roots", "targets", "values"):
        consts = {n: a for n, a in graph.consts.items() if n != name}
        request = request_of(replace(graph, consts=consts))
        assert forest_of(request) is None
        for family in ("arm_dsp", "generic"):
            assert not templates.made(f"tree_ensemble/{family}", request)


def test_the_narrowest_tables() -> None:
    for values, kind in (
        ([0, 255], np.uint8), ([0, 256], np.int16), ([-1, 127], np.int8), ([-1, 128], np.int16),
        ([-128, 0], np.int8), ([-129, 0], np.int16), ([-32768, 32767], np.int16),
        ([0, 32768], np.int32), ([-32769, 0], np.int32),
    ):  # fmt: skip
        assert trees._narrow(np.array(values)).dtype == kind, values
