"""The framework as the judge of single operators: LiteRT with its reference kernels.

model = TFLiteModel()
...
same(model.build([y]), {"t0": x})     # exact on integers, within `ulps` on floats
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from midge import ops
from midge.core.errors import ModelError
from midge.frontends.tflite import read
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.oracle.litert import quiet
from midge.pipeline import prepare, spell_out
from tflite_builder import TFLiteModel

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install '.[verify]'")

Arrays = Mapping[str, Any]
Rng = np.random.Generator
ACTIVATIONS = {"none": 0, "relu": 1, "relu_n1_to_1": 2, "relu6": 3}


def load(data: bytes) -> Graph:
    """The graph of a TFLite file as the frontend makes it."""
    ops.load()
    return read(data, "model")


REFERENCE, OPTIMISED = "BUILTIN_REF", "BUILTIN_WITHOUT_DEFAULT_DELEGATES"


def litert(data: bytes, inputs: Arrays, kernels: str = REFERENCE) -> dict[str, Any]:
    """Outputs by tensor name; RuntimeError or ValueError if LiteRT refuses the model. kernels:
    OPTIMISED for the few operators that have no reference kernel."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    with quiet():
        interpreter: Any = Interpreter(
            model_content=data, experimental_op_resolver_type=OpResolverType[kernels]
        )
        interpreter.allocate_tensors()
    for detail in interpreter.get_input_details():
        interpreter.set_tensor(detail["index"], inputs[detail["name"]])
    interpreter.invoke()
    details = interpreter.get_output_details()
    return {d["name"]: np.array(interpreter.get_tensor(d["index"])) for d in details}


def same(
    data: bytes,
    inputs: Arrays,
    ulps: float = 0.0,
    *,
    sums: bool = False,
    kernels: str = REFERENCE,
) -> None:
    """Midge's evaluation of the file equals LiteRT's: bytes, or floats within `ulps` units in the
    last place of the largest magnitude of the output (and of the inputs, for `sums`). So does what
    all of the passes make of it, where there are only integers."""
    want = litert(data, inputs, kernels)
    graph = load(data)
    agree(evaluate(graph, inputs), want, inputs, ulps, sums=sums)
    if all(t.dtype.is_integer for t in graph.types.values()):
        kept(graph, inputs)


def kept(graph: Graph, inputs: Arrays) -> None:
    """What all of the passes make of a graph gives the bytes that it gives."""
    plain, _ = spell_out(prepare(graph).graph)
    agree(evaluate(plain, inputs), evaluate(graph, inputs), inputs)


def agree(
    have: Arrays, want: Arrays, inputs: Arrays, ulps: float = 0.0, *, sums: bool = False
) -> None:
    """What `same` says of outputs."""
    assert have.keys() == want.keys()
    for name, expected in want.items():
        got = have[name]
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape), name
        if expected.dtype == np.float32 and ulps:
            around = [expected, *inputs.values()] if sums else [expected]
            top = max(float(np.abs(a).max(initial=1e-30)) for a in around)
            limit = ulps * float(np.spacing(np.float32(top)))
            np.testing.assert_allclose(got, expected, rtol=0, atol=limit)
        else:
            np.testing.assert_array_equal(got, expected, err_msg=name)


def both_refuse(data: bytes, inputs: Arrays) -> None:
    """LiteRT cannot run the model, and Midge says why."""
    with pytest.raises(ModelError):
        evaluate(load(data), inputs)
    with pytest.raises((RuntimeError, ValueError)):
        litert(data, inputs)


def random(rng: Rng, shape: Sequence[int], dtype: str) -> Any:
    """The whole range of an integer type, or normal floats."""
    if dtype == "float32":
        return rng.normal(0.0, 3.0, shape).astype(np.float32)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, shape, np.dtype(dtype), endpoint=True)


def quant(rng: Rng, dtype: str, low: float = -3.0, high: float = 0.0) -> tuple[Any, int]:
    """A random scale of 10^low..10^high and zero point, limits included; (None, 0) for floats."""
    if dtype not in ("int8", "uint8", "int16"):
        return None, 0
    scale = float(np.float32(10 ** rng.uniform(low, high)))
    if dtype == "int16":
        return scale, 0
    info = np.iinfo(dtype)
    middle = int(rng.integers(info.min, info.max, endpoint=True))
    return scale, int(rng.choice([info.min, info.max, middle, middle]))


def unary(
    kind: str,
    x: Any,
    dtype: str,
    from_quant: tuple[Any, int],
    to_quant: tuple[Any, int],
    options: str = "",
    **fields: Any,
) -> bytes:
    """A model of one operator that keeps the shape."""
    model = TFLiteModel()
    a = model.input(x.shape, str(x.dtype), *from_quant)
    y = model.value(x.shape, dtype, *to_quant)
    model.op(kind, [a], [y], options, **fields)
    return model.build([y])


def every(dtype: str) -> Any:
    """Every value of an 8- or 16-bit type."""
    info = np.iinfo(dtype)
    return np.arange(info.min, info.max + 1).astype(dtype)
