"""Every operator there is, on its own samples: types == reference == loops == C."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from midge import ops
from midge.codegen.c import emit, headers
from midge.core.types import Array, DType, TensorType
from midge.graph.ir import OPS, Graph, Node, Sample, verify
from midge.loop import ir
from midge.loop.evaluate import evaluate
from midge.loop.verify import verify as verify_loops
from midge.lower import LOOP_RULES, SCALAR_RULES
from midge.lower.build import Built, build
from midge.lower.fuse import fuse
from midge.runtime import header
from midge.toolchain.build import build_library

ops.load()
ALL = [OPS[name] for name in OPS]
PLAIN = [op.name for op in ALL if op.samples]
# Operators without a plain meaning of their own, and those that move no bytes.
WITHOUT_SAMPLES = {"reshape", "dequantize"}


def cases() -> list[Any]:
    return [
        pytest.param(op.name, i, id=f"{op.name}-{i}") for op in ALL for i in range(len(op.samples))
    ]


def arrays(sample: Sample, seed: int = 0) -> list[Array]:
    """Random contents of a sample's inputs; the first run of values has the limits in it."""
    rng = np.random.default_rng(seed)
    return [sample.consts.get(i, _random(rng, t, sample)) for i, t in enumerate(sample.inputs)]


def _random(rng: np.random.Generator, t: TensorType, sample: Sample) -> Array:
    low, high = sample.low, sample.high
    if t.dtype.is_float:
        return rng.uniform(low or -4, high or 4, t.shape).astype(t.dtype.numpy)
    if t.dtype is DType.BOOL:
        return rng.integers(0, 2, t.shape).astype(bool)
    least = t.dtype.min if low is None else max(low, t.dtype.min)
    most = t.dtype.max if high is None else min(high, t.dtype.max)
    x = rng.integers(least, most, t.shape, t.dtype.numpy, endpoint=True)
    x.reshape(-1)[:2] = [least, most][: x.size]
    return x


def graph_of(name: str, sample: Sample) -> Graph:
    """The sample as a graph of one node."""
    inputs = [f"x{i}" for i in range(len(sample.inputs))]
    types = dict(zip(inputs, sample.inputs, strict=True))
    (types["y"],) = OPS[name].infer(sample.inputs, sample.attrs)
    consts = {f"x{i}": a for i, a in sample.consts.items()}
    node = Node(name, tuple(inputs), ("y",), sample.attrs)
    free = tuple(n for n in inputs if n not in consts)
    return Graph("sample", free, ("y",), types, consts, (node,))


def built(name: str, sample: Sample) -> Built:
    graph = graph_of(name, sample)
    (group,) = fuse(graph)
    return build(graph, group, name)


def memory(b: Built, sample: Sample, values: Sequence[Array]) -> dict[str, Array]:
    """Parameter name -> array for one run."""
    env = {f"x{i}": a for i, a in enumerate(values)}
    result = {}
    for value, param in zip(b.args, b.func.params, strict=True):
        if param.mode == "out":
            result[param.name] = np.zeros(param.shape, param.dtype.numpy)
        else:
            result[param.name] = np.array(env[value].reshape(param.shape), order="C")
    return result


def agree(name: str, have: Array, want: Array) -> None:
    """Equal, floats too: references add and round in the order of the loops."""
    np.testing.assert_array_equal(have, want, err_msg=name)


def test_every_operator_has_samples() -> None:
    assert {op.name for op in ALL if not op.samples} == WITHOUT_SAMPLES


def test_every_operator_has_loops() -> None:
    expanded = {"dequantize"}
    missing = {
        op.name
        for op in ALL
        if not op.alias and op.name not in (SCALAR_RULES if op.elementwise else LOOP_RULES)
    }
    assert missing == expanded


@pytest.mark.parametrize(("name", "i"), cases())
def test_types_are_those_of_the_reference(name: str, i: int) -> None:
    sample = OPS[name].samples[i]
    inferred = OPS[name].infer(sample.inputs, sample.attrs)
    results = OPS[name].reference(arrays(sample), sample.attrs)
    assert [TensorType(r.shape, DType.of(r)) for r in results] == list(inferred)
    verify(graph_of(name, sample))


@pytest.mark.parametrize(("name", "i"), cases())
def test_loops_give_the_reference(name: str, i: int) -> None:
    sample = OPS[name].samples[i]
    b = built(name, sample)
    verify_loops(b.func)
    values = arrays(sample)
    env = memory(b, sample, values)
    evaluate(b.func, env)
    (want,) = OPS[name].reference(values, sample.attrs)
    agree(name, env["y"].reshape(want.shape), want)


@pytest.mark.parametrize("name", PLAIN)
def test_c_gives_the_reference(name: str) -> None:
    """One library with all samples of an operator, warnings as errors."""
    builds = [built(name, s) for s in OPS[name].samples]
    library = ctypes.CDLL(str(compile_all(name, [b.func for b in builds])))
    for i, (sample, b) in enumerate(zip(OPS[name].samples, builds, strict=True)):
        for seed in (0, 1):
            values = arrays(sample, seed)
            env = memory(b, sample, values)
            call = getattr(library, f"run_{i}")
            call(*(env[p.name].ctypes.data_as(ctypes.c_void_p) for p in b.func.params))
            (want,) = OPS[name].reference(values, sample.attrs)
            agree(name, env["y"].reshape(want.shape), want)


def compile_all(name: str, funcs: Sequence[ir.Func]) -> Any:
    """A shared library with `run_<i>` for every function."""
    needed = sorted({"midge_compiler.h", *(h for f in funcs for h in headers(f))})
    parts = ["#include <stdbool.h>\n#include <stdint.h>\n"]
    parts += [f'#include "{h}"\n' for h in needed]
    for i, func in enumerate(funcs):
        params = ", ".join(
            f"{'' if p.mode == 'out' else 'const '}{p.dtype.c_name} *{p.name}" for p in func.params
        )
        names = ", ".join(p.name for p in func.params)
        parts.append(emit(func, f"kernel_{i}"))
        parts.append(f"void run_{i}({params});\nvoid run_{i}({params})\n{{\n    ")
        parts.append(f"kernel_{i}({names});\n}}\n")
    files = {h: header(h) for h in needed}
    files["kernels.c"] = "\n".join(parts)
    return build_library(
        f"ops_{name}", files, ["kernels.c"], optimize="debug", warnings_as_errors=True
    )
