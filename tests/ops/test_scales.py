"""Scales as no converter chooses them: LiteRT's bytes, in NumPy and in C, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest

from conftest import NO_SEARCH
from midge import driver
from midge.core.errors import ModelError
from midge.core.types import Array
from midge.graph.evaluate import evaluate
from midge.run import RUNNERS
from midge.target import load_target
from oracle import Arrays, litert, load
from scale_models import KINDS, scaled

pytestmark = pytest.mark.slow

REACHES = (4.0, 8.0, 38.0)


def meaning(data: bytes, inputs: Arrays) -> dict[str, Array] | ModelError:
    """What Midge makes of it, or why it refuses."""
    try:
        return evaluate(load(data), inputs)
    except ModelError as error:
        return error


@pytest.mark.parametrize(("kind", "dtype"), [(k, d) for d, kinds in KINDS.items() for k in kinds])
def test_the_framework_is_followed_or_the_model_is_refused(kind: str, dtype: str) -> None:
    """LiteRT aborts the process on some of what is refused, so it is asked about the rest only."""
    compared = 0
    for seed in range(16):
        reach = REACHES[seed % 3]
        data, inputs = scaled([(kind, seed)], dtype, reach)
        have = meaning(data, inputs)
        if isinstance(have, ModelError):
            assert have.where
            assert have.hint
            continue
        try:
            want = litert(data, inputs)
        except (RuntimeError, ValueError):
            continue  # a bias scale that has lost its digits
        for name, expected in want.items():
            np.testing.assert_array_equal(have[name], expected, err_msg=f"{seed}: {name}")
        compared += 1
    assert compared >= 2


def _accepted(dtype: str, reach: float) -> list[tuple[str, int]]:
    """Operators of every kind that are not refused with the scales they get."""
    kept = []
    for kind in KINDS[dtype]:
        for seed in range(100, 140):
            data, inputs = scaled([(kind, seed)], dtype, reach)
            if not isinstance(meaning(data, inputs), ModelError):
                kept.append((kind, seed))
                break
    return kept


@pytest.mark.parametrize("reach", [4.0, 8.0])
@pytest.mark.parametrize("dtype", KINDS)
def test_the_c_is_what_the_graph_means(dtype: str, reach: float) -> None:
    """Fitted multipliers, tables and micro-kernels among large shifts."""
    data, inputs = scaled(_accepted(dtype, reach), dtype, reach)
    graph = load(data)
    want = evaluate(graph, inputs)
    made = driver.compile_graph(graph, load_target("cortex-m4"), NO_SEARCH)
    for runner, optimize in (("host", "debug"), ("emulator", None)):
        session = RUNNERS[runner].load(made.package, toolchain=None, optimize=optimize)
        have = session.run({t.name: inputs[t.name] for t in made.package.inputs}).outputs
        for mine, theirs in zip(made.package_outputs, graph.outputs, strict=True):
            np.testing.assert_array_equal(have[mine], want[theirs], err_msg=f"{runner} {theirs}")
        session.close()
