"""What the passes make of graphs drawn at random: a condition of a pass that is too strict or too
lax shows there."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from cascade_nets import net
from conftest import Golden
from fuzzing.onnx_graphs import random_onnx
from fuzzing.tflite_graphs import random_tflite
from graphs import random_graph
from midge import driver, pipeline
from midge.core.errors import MidgeError
from midge.core.types import Array
from midge.frontends import onnx, tflite
from midge.graph.ir import Graph
from midge.lower.fuse import fuse

COUNT, BLOCK = 200, 20  # graphs of a kind, and how many of them are a test


def read_tflite(seed: int) -> Graph:
    return tflite.read(random_tflite(seed).data, "model")


def read_onnx(seed: int) -> Graph:
    return onnx.read(random_onnx(seed).data, "model")


def images(seed: int) -> Graph:
    if seed % 3 == 2:
        return random_graph(random.Random(seed), quantised=seed % 2 == 0)
    return net(seed, ("int8", "float")[seed % 3])


MAKERS: dict[str, Callable[[int], Graph]] = {
    "tflite": cache(read_tflite), "onnx": cache(read_onnx), "images": cache(images),
}  # fmt: skip


def before_breaking() -> None:
    """What no pass has a part in: `benchmarks/mutants.py` does it once."""
    driver.load_operators()
    for make in MAKERS.values():
        for seed in range(COUNT):
            make(seed)


@pytest.mark.parametrize(
    ("kind", "first"), [(kind, first) for kind in MAKERS for first in range(0, COUNT, BLOCK)]
)
def test_what_passes_make(kind: str, first: int, golden: Golden) -> None:
    """Operators of the model and of what is computed, a digest of both, and what is fused."""
    driver.load_operators()
    make = MAKERS[kind]
    golden("".join(f"{seed}: {described(make(seed), seed)}\n"
                   for seed in range(first, first + BLOCK)))  # fmt: skip


def described(graph: Graph, seed: int) -> str:
    text, made = passed(graph, halves=seed % 5 == 1, channels_last=seed % 5 == 2)
    return " > ".join([text, *map(fused, made[1:])])


def fused(graph: Graph) -> str:
    return " ".join("+".join(n.op for n in group.nodes) for group in fuse(graph))


def passed(graph: Graph, **how: bool) -> tuple[str, tuple[Graph, ...]]:
    """What becomes of a graph, in words, and that: the model and what is computed, or nothing."""
    try:
        with np.errstate(all="ignore"):
            model = pipeline.prepare(graph, **how).graph
            plain, _ = pipeline.spell_out(model)
    except MidgeError as error:
        return " ".join(str(error).split()), ()
    names = " > ".join(" ".join(n.op for n in g.nodes) for g in (model, plain))
    return f"{names} {digest(model, plain)}", (model, plain)


def digest(*graphs: Graph) -> str:
    text = hashlib.sha256()
    for graph in graphs:
        consts = {n: (a.dtype.str, a.shape, _rough(a).tobytes()) for n, a in graph.consts.items()}
        nodes = [(n.op, n.inputs, n.outputs, dict(n.attrs)) for n in graph.nodes]
        own = (graph.inputs, graph.outputs, sorted(graph.types.items()), sorted(consts.items()))
        text.update(repr((own, nodes)).encode())
    return text.hexdigest()[:8]


def _rough(array: Array) -> Array:
    """Floats as every machine computes them: `exp` and the like differ in their last bits."""
    if array.dtype.kind != "f":
        return array
    with np.errstate(all="ignore"):
        places = np.float64(10.0) ** (4 - np.floor(np.log10(np.abs(array.astype(np.float64)))))
        near = np.round(array * places) / places
    return np.where(np.isfinite(near), near, array) + 0.0
