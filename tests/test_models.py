"""Whole models: framework == reference == C on this host == C in the emulator; RAM and code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from conftest import DIGITS, NO_SEARCH
from midge import driver
from midge.core.options import CompileOptions
from midge.core.types import Array
from midge.data import random_inputs
from midge.oracle import oracle_for
from midge.run import RUNNERS
from midge.target import load_target
from midge.verify import verify

pytestmark = pytest.mark.slow

TARGETS = ["cortex-m0plus", "cortex-m3", "cortex-m4", "cortex-m7", "cortex-m33", "rv32imac"]
# Bytes: the sum of live tensors at the worst operator (BASELINES.md), to which 1000 may be added.
ARENA = {
    "kws_int8": 16000, "vww_int8": 55296, "resnet_int8": 49152, "ad_int8": 768, "sww_int8": 6656,
}  # fmt: skip
OTHERS = [
    "hello_world_int8", "micro_speech_int8", "hello_world_float", "kws_float", "ad_float",
    "resnet_float", "vww_float",
]  # fmt: skip

Shared = Callable[[str], Path]


def agrees(path: Path, target: str, count: int, **options: object) -> driver.Compiled:
    """Verify a file on this host and in the emulator; every stage must have run."""
    compiled = driver.compile_file(path, load_target(target), NO_SEARCH)
    inputs = random_inputs(compiled.model, count, 5)
    verdict = verify(compiled, path, inputs, **options)  # type: ignore[arg-type]
    oracle = oracle_for(path)
    assert oracle is not None
    if oracle.available() is None:
        assert verdict.against == "framework"
    stages = {s.name: s for s in verdict.stages}
    for stage in verdict.stages:
        assert stage.ok, f"{stage.title}: {stage.first_bad} differs"
    for name in options.get("runners", ("host", "emulator")):  # type: ignore[attr-defined]
        assert not stages[name].skipped, stages[name].skipped
        assert stages[name].outputs
    return compiled


@pytest.mark.parametrize("target", TARGETS)
def test_digits_is_right_everywhere(target: str) -> None:
    agrees(DIGITS, target, 20)


@pytest.mark.parametrize("optimize", ["size", "balanced", "debug"])
def test_digits_is_right_however_it_is_optimised(optimize: str) -> None:
    agrees(DIGITS, "cortex-m4", 3, optimize=optimize)


def test_digits_layer_by_layer() -> None:
    agrees(DIGITS, "cortex-m4", 3, layers=True)


def heldout() -> tuple[list[Array], Array]:
    """Held-out digits as the model takes them, and what they are."""
    data = np.load(DIGITS.parent / "heldout.npz")
    graph = driver.load(DIGITS)
    t = graph.types[graph.inputs[0]]
    assert t.quant is not None
    q = np.round(data["images"] / 16.0 / t.quant.scale[0]) + t.quant.zero_point[0]
    images = np.clip(q, -128, 127).astype(np.int8)
    return [image.reshape(t.shape) for image in images], data["labels"]


def test_accuracy_on_held_out_digits_is_the_frameworks() -> None:
    compiled = driver.compile_file(DIGITS, load_target("cortex-m4"), NO_SEARCH)
    images, labels = heldout()
    given, wanted = compiled.model.inputs[0], compiled.model.outputs[0]
    session = RUNNERS["emulator"].load(compiled.package, toolchain=None, optimize="speed")
    scores = [session.run({given: x}).outputs[compiled.package_outputs[0]] for x in images]
    session.close()
    right = sum(int(s.argmax()) == label for s, label in zip(scores, labels, strict=True))
    assert right / len(labels) > 0.95
    oracle = oracle_for(DIGITS)
    assert oracle is not None
    if (reason := oracle.available()) is not None:
        pytest.skip(f"compared with the labels only: {reason}")
    framework = oracle.load(DIGITS, compiled.model)
    theirs = [framework.run({given: x})[wanted] for x in images]
    assert all(map(np.array_equal, scores, theirs))


def test_digits_stays_small() -> None:
    package = driver.compile_file(DIGITS, load_target("cortex-m4"), NO_SEARCH).package
    assert DIGITS.stat().st_size <= 60_000
    assert package.arena_size <= 3072 + 1000


@pytest.mark.parametrize("stem", [*ARENA, *OTHERS])
def test_shared_models_are_right(stem: str, shared_model: Shared) -> None:
    compiled = agrees(shared_model(stem), "cortex-m4", 1)
    if stem in ARENA:
        assert compiled.package.arena_size <= ARENA[stem] + 1000
    bound = compiled.arena.plan.lower_bound
    assert bound <= compiled.package.arena_size <= 1.25 * bound


def test_kws_for_size_fits_10_kb_of_code(shared_model: Shared) -> None:
    target = load_target("cortex-m4")
    package = driver.compile_file(
        shared_model("kws_int8"), target, CompileOptions(search=False, prove=False, optimize="size")
    ).package
    session = RUNNERS["emulator"].load(package, toolchain=None, optimize=None)
    sizes = session.sizes
    session.close()
    assert sizes is not None
    assert sizes.code <= 10_000
