"""The framework as the judge of single operators: LiteRT with its reference kernels.

same(model.build([y]), {"t0": x})     # exact on integers, within `ulps` on floats
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from midge import ops
from midge.frontends.tflite import read
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install midge[verify]")

Arrays = Mapping[str, Any]


def load(data: bytes) -> Graph:
    """The graph of a TFLite file as the frontend makes it."""
    ops.load()
    return read(data, "model")


def litert(data: bytes, inputs: Arrays) -> dict[str, Any]:
    """Outputs by tensor name; RuntimeError or ValueError if LiteRT refuses the model."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with silence():
        interpreter: Any = Interpreter(
            model_content=data, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        )
        interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], inputs[detail["name"]])
    interpreter.invoke()
    details = interpreter.get_output_details()
    return {d["name"]: np.array(interpreter.get_tensor(d["index"])) for d in details}


def refuses(data: bytes, inputs: Arrays) -> bool:
    """Whether LiteRT itself cannot run the model."""
    try:
        litert(data, inputs)
    except (RuntimeError, ValueError):
        return True
    return False


def same(data: bytes, inputs: Arrays, ulps: float = 0.0) -> None:
    """Midge's evaluation of the file equals LiteRT's: bytes, or floats within `ulps` units in the
    last place of the largest magnitude of the output."""
    want = litert(data, inputs)
    have = evaluate(load(data), inputs)
    assert have.keys() == want.keys()
    for name, expected in want.items():
        got = have[name]
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape), name
        if expected.dtype == np.float32 and ulps:
            top = max(float(np.abs(expected).max(initial=0.0)), float(np.finfo(np.float32).tiny))
            np.testing.assert_allclose(
                got, expected, rtol=0, atol=ulps * float(np.spacing(np.float32(top)))
            )
        else:
            np.testing.assert_array_equal(got, expected, err_msg=name)


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Without what LiteRT's C++ writes to the terminal."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
