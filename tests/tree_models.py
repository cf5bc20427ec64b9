"""ONNX models of random trees, and running them by onnxruntime and by Midge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from midge import driver
from midge.core.types import Array
from midge.frontends import parse
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph

FEATURES = 4
_THRESHOLDS = np.array([-1.5, -1, -0.0, 0.1, 0.5, 1, 2.25], np.float32)


@dataclass(slots=True)
class Grown:
    """Random trees as the attributes of TreeEnsembleClassifier and TreeEnsembleRegressor."""

    seed: int
    modes: Sequence[str] = ("BRANCH_LEQ",)
    missing: bool = False
    targets: Sequence[int] = (0,)
    weights: Sequence[float] = ()
    all_targets: bool = False
    nodes: list[tuple[int, int, int, float, str, int, int, int]] = field(default_factory=list)
    leaves: list[tuple[int, int, int, float]] = field(default_factory=list)

    def grow(self, trees: int, depth: int) -> Grown:
        rng = np.random.default_rng(self.seed)
        for tree in range(trees):
            self.node(rng, tree, depth, [0])
        return self

    def node(self, rng: Any, tree: int, depth: int, free: list[int]) -> int:
        own = free[0]
        free[0] += 1
        if depth == 0 or (own > 0 and rng.random() < 0.2):
            self.nodes.append((tree, own, 0, 0.0, "LEAF", 0, 0, 0))
            chosen = self.targets if self.all_targets else [rng.choice(self.targets)]
            for target in chosen:
                weight = rng.choice(self.weights) if self.weights else rng.normal()
                self.leaves.append((tree, own, int(target), float(np.float32(weight))))
            return own
        place = len(self.nodes)
        self.nodes.append((0,) * 8)  # type: ignore[arg-type]
        then = self.node(rng, tree, depth - 1, free)
        other = self.node(rng, tree, depth - 1, free)
        mode = str(rng.choice(self.modes))
        missing = int(rng.integers(2)) if self.missing else 0
        value = float(rng.choice(_THRESHOLDS))
        feature = int(rng.integers(FEATURES))
        self.nodes[place] = (tree, own, feature, value, mode, then, other, missing)
        return own

    def attributes(self, leaves: str) -> dict[str, Any]:
        tree, node, feature, value, mode, then, other, missing = zip(*self.nodes, strict=True)
        names = ("treeids", "nodeids", "ids", "weights")
        return {
            "nodes_treeids": tree, "nodes_nodeids": node, "nodes_featureids": feature,
            "nodes_values": value, "nodes_modes": mode, "nodes_truenodeids": then,
            "nodes_falsenodeids": other, "nodes_missing_value_tracks_true": missing,
        } | {
            f"{leaves}_{n}": column
            for n, column in zip(names, zip(*self.leaves, strict=True), strict=True)
        }  # fmt: skip


def model(kind: str, outputs: Sequence[str], attributes: Mapping[str, Any], rows: int = 1) -> bytes:
    """A file with one operator of ai.onnx.ml."""
    node = helper.make_node(kind, ["x"], list(outputs), domain="ai.onnx.ml", **attributes)
    types = {"label": TensorProto.INT64}
    out = [helper.make_tensor_value_info(n, types.get(n, TensorProto.FLOAT), None) for n in outputs]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, FEATURES])
    graph = helper.make_graph([node], "trees", [x], out)
    imports = [helper.make_opsetid("ai.onnx.ml", 3), helper.make_opsetid("", 17)]
    file = helper.make_model(graph, opset_imports=imports, ir_version=10)
    return bytes(file.SerializeToString())


def features(rows: int, *, missing: bool = False, seed: int = 0) -> Array:
    """Values on, beside and far from the thresholds."""
    rng = np.random.default_rng(seed)
    near = rng.choice(_THRESHOLDS, (rows, FEATURES))
    moved = np.nextafter(near, rng.choice([-9, 9], near.shape).astype(np.float32))
    far = rng.normal(0, 2, near.shape).astype(np.float32)
    choice = rng.integers(3, size=near.shape)
    x = np.where(choice == 0, near, np.where(choice == 1, moved, far)).astype(np.float32)
    if missing:
        x[rng.random(x.shape) < 0.2] = np.nan
    return x


def loaded(data: bytes) -> Graph:
    driver.load_operators()
    return parse(data, Path("trees.onnx"), "trees")


def evaluated(graph: Graph, x: Array) -> dict[str, Array]:
    """The outputs of a graph of one row, row by row."""
    (name,) = graph.inputs
    rows = [evaluate(graph, {name: row[None]}) for row in x]
    return {n: np.concatenate([r[n] for r in rows]) for n in graph.outputs}


def by_onnxruntime(data: bytes, x: Array) -> dict[str, Array]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, ["CPUExecutionProvider"])
    names = [o.name for o in session.get_outputs()]
    rows = [session.run(None, {"x": row[None]}) for row in x]
    return {n: np.concatenate([r[i] for r in rows]) for i, n in enumerate(names)}
