"""Small models on every emulated CPU, and damaged ones that compile: C is what the graph means."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import numpy as np
import pytest

from cascade_nets import same
from conftest import NO_SEARCH
from midge import driver
from midge.core.errors import ModelError
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.run import RUNNERS
from midge.target import TARGETS, load_target
from midge.verify import verify
from small_models import MODELS
from small_models import graph as graph_of

pytestmark = pytest.mark.slow

EMULATED = [name for name in TARGETS if "model" in TARGETS[name].emulator]


@pytest.mark.parametrize("target", EMULATED)
@pytest.mark.parametrize("kind", MODELS)
def test_small_models_are_right_on_every_emulated_cpu(
    kind: str, target: str, tmp_path: Path
) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(MODELS[kind]())
    made = driver.compile_file(path, load_target(target), NO_SEARCH)
    inputs = random_inputs(made.model, 3, 11)
    verdict = verify(made, path, inputs, runners=("emulator",), layers=True)
    assert verdict.ok, [s.first_bad for s in verdict.stages]
    assert not any(s.skipped for s in verdict.stages if s.name == "emulator")


@pytest.mark.parametrize("kind", MODELS)
def test_a_damaged_model_that_compiles_is_compiled_right(kind: str) -> None:
    """One flipped bit makes another model; of what is not refused the C means what the graph
    means."""
    data, rng = MODELS[kind](), random.Random(8)
    whole = driver.hash_graph(graph_of(data))
    done = 0
    while done < 8:
        broken = bytearray(data)
        bit = rng.randrange(8 * len(data))
        broken[bit // 8] ^= 1 << (bit % 8)
        with contextlib.suppress(ModelError):
            graph = graph_of(bytes(broken))
            if driver.hash_graph(graph) != whole:
                agrees(graph, 2)
                done += 1


def agrees(graph: Graph, seed: int) -> None:
    """The C on this host gives what the graph means, integers exactly."""
    made = driver.compile_graph(graph, load_target("cortex-m4"), NO_SEARCH)
    session = RUNNERS["host"].load(made.package, toolchain=None, optimize="debug")
    for given in random_inputs(graph, 3, seed):
        with np.errstate(all="ignore"):
            want = evaluate(graph, given)
        have = session.run(given).outputs
        for mine, theirs in zip(made.package_outputs, graph.outputs, strict=True):
            same(have[mine], want[theirs], ulp=32)
    session.close()
