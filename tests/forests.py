"""Graphs of random trees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge import driver
from midge.core.types import DType, TensorType
from midge.graph.ir import OPS, Graph, Node
from midge.graph.trees import Leaf, Split, Trees


def forest(
    dtype: DType, values: DType, *, seed: int, trees: int = 4, classes: int = 3, width: int = 40,
    depth: int = 5, modes: Sequence[int] = (0,), wide: int = 1,
) -> Graph:  # fmt: skip
    """Random trees over many features with thresholds that many samples meet."""
    driver.load_operators()
    rng = np.random.default_rng(seed)
    made = Trees(dtype)

    def grow(left: int, nodes: list[Leaf | Split]) -> int:
        place = len(nodes)
        if left == 0 or (place and rng.random() < 0.15):
            row = tuple(
                (int(rng.integers(classes)), 1 if wide == 1 else int(rng.integers(1, 9)))
                for _ in range(wide)
            )
            nodes.append(Leaf(row))
            return place
        nodes.append(Leaf(()))
        then, other = grow(left - 1, nodes), grow(left - 1, nodes)
        low = 0 if dtype is DType.U8 else -6
        threshold = float(rng.integers(low, 7)) + (0.5 if dtype is DType.F32 else 0)
        mode = int(rng.choice(modes))
        nodes[place] = Split(int(rng.integers(width)), threshold, then, other, mode)
        return place

    for _ in range(trees):
        nodes: list[Leaf | Split] = []
        root = grow(depth, nodes)
        made.add(nodes.__getitem__, root)
    t = made.tables(values)
    consts = {
        "thresholds": t.thresholds, "splits": t.splits, "roots": t.roots, "targets": t.targets,
        "values": t.values,
    }  # fmt: skip
    types = {"x": TensorType((1, width), dtype)}
    types |= {n: TensorType(a.shape, DType.of(a)) for n, a in consts.items()}
    attrs = {"targets": classes, "depth": t.depth, "aggregate": "sum"}
    node = Node("tree_ensemble", ("x", *consts), ("y",), attrs)
    (types["y"],) = OPS["tree_ensemble"].infer([types[n] for n in node.inputs], attrs)
    return Graph("net", ("x",), ("y",), types, consts, (node,))
