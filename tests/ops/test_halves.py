"""float16 is moved and converted, and nothing computes with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from midge.core.errors import VerifyError
from midge.core.types import DType
from midge.graph.ir import OPS, Sample, verify
from midge.loop.evaluate import evaluate
from midge.loop.verify import verify as verify_loops
from test_ops import PLAIN, arrays, built, graph_of, memory


def halved(sample: Sample, positions: set[int]) -> Sample:
    """The sample with some of its float inputs as float16."""
    types = [
        replace(t, dtype=DType.F16) if i in positions else t for i, t in enumerate(sample.inputs)
    ]
    with np.errstate(over="ignore"):
        consts = {
            i: a.astype(np.float16) if i in positions else a for i, a in sample.consts.items()
        }
    return replace(sample, inputs=tuple(types), consts=consts)


def accepted(name: str, sample: Sample) -> bool:
    try:
        verify(graph_of(name, sample))
    except VerifyError:
        return False
    return True


@pytest.mark.parametrize("name", PLAIN)
def test_an_operator_takes_it_or_is_refused(name: str) -> None:
    taken = 0
    for sample in OPS[name].samples:
        floats = {i for i, t in enumerate(sample.inputs) if t.dtype is DType.F32}
        for positions in (floats, *({i} for i in floats)):
            half = halved(sample, positions)
            if positions and accepted(name, half):
                taken += 1
                b = built(name, half)
                verify_loops(b.func)
                env = memory(b, half, values := arrays(half))
                evaluate(b.func, env)
                (want,) = OPS[name].reference(values, half.attrs)
                np.testing.assert_array_equal(env["y"].reshape(want.shape), want)
    assert OPS[name].halves or not taken


def test_operators_that_take_it() -> None:
    assert {name for name in OPS if OPS[name].halves} >= {"cast", "transpose", "slice", "concat"}
