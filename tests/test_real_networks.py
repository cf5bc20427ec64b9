"""Small networks that were trained for something (examples/networks): framework, reference and C
give the same bytes, they still know digits, and every kernel that they could be given agrees."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import ROOT, unsearched
from extreme_layers import ways
from midge import driver
from midge.core.options import CompileOptions
from midge.core.types import Array, DType
from midge.graph.ir import Graph
from midge.target import load_target
from midge.tune.measure import measure
from midge.tune.trials import Unfit
from midge.verify import verify

pytestmark = pytest.mark.slow

FOLDER = ROOT / "examples" / "networks"
NAMES = ("residual", "wide", "depthwise", "recurrent")


def path_of(name: str) -> Path:
    return FOLDER / f"{name}_int8.tflite"


def samples(graph: Graph) -> tuple[list[dict[str, Array]], Array]:
    """The images that no network has seen, as the network takes them, and what they are."""
    held = np.load(FOLDER / "heldout.npz")
    (name,) = graph.inputs
    t = graph.types[name]
    assert t.quant is not None
    assert t.dtype is DType.I8
    levels = np.rint(held["x"] / np.float32(t.quant.scale[0])) + t.quant.zero_point[0]
    images = np.clip(levels, -128, 127).astype(np.int8)
    return [{name: image.reshape(t.shape)} for image in images], held["labels"]


@pytest.mark.parametrize("name", NAMES)
def test_they_are_small(name: str) -> None:
    assert path_of(name).stat().st_size <= 60_000


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m0plus", "rv32imac"])
@pytest.mark.parametrize("name", NAMES)
def test_the_frameworks_bytes_everywhere(name: str, target: str) -> None:
    made = driver.compile_file(path_of(name), load_target(target), unsearched())
    given, labels = samples(made.model)
    count = 30 if target == "cortex-m4" else 3
    verdict = verify(made, path_of(name), given[:count], runners=("host", "emulator"), layers=True)
    assert verdict.ok, [s.first_difference for s in verdict.stages]
    assert verdict.against == "framework"
    answers = next(s.answers for s in verdict.stages if s.name == "emulator")
    right = sum(int(np.argmax(a)) == label for a, label in zip(answers, labels, strict=False))
    assert right >= 0.8 * count or count < 30


@pytest.mark.parametrize("name", NAMES[:3])
def test_every_kernel_agrees(name: str) -> None:
    graph, target = driver.load(path_of(name)), load_target("cortex-m4")
    found = ways(graph, target)
    outcomes = [measure([m], target, "size")[0] for m in found.matches]
    for own, options in zip(outcomes, found.options, strict=True):
        for outcome, option in zip(own, options, strict=True):
            assert not isinstance(outcome, Unfit), f"{option.candidate.name}: {outcome}"


@pytest.mark.parametrize("name", NAMES[:3])
def test_the_search_and_little_memory(name: str) -> None:
    """By bands, over inputs, with whatever is fastest."""
    options = CompileOptions(check_memory=True)
    made = driver.compile_file(path_of(name), load_target("cortex-m4"), options)
    given, _ = samples(made.model)
    assert verify(made, path_of(name), given[:3], runners=("emulator",)).ok
