"""One convolution or fully connected layer: every way to compute it does what its loops do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from midge import driver
from midge.core.types import Array, DType, TensorType
from midge.data import random_inputs
from midge.graph.evaluate import evaluate as evaluate_graph
from midge.graph.ir import OPS, Graph, Node
from midge.loop.evaluate import evaluate
from midge.loop.verify import verify
from midge.lower.candidates import Option, Request, options
from midge.lower.fuse import fuse
from midge.lower.space import Goal
from midge.target import load_target


def layer(
    op: str,
    x: tuple[int, ...],
    w: tuple[int, ...],
    dtype: DType,
    *,
    strides: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    bias: bool = True,
    residual: bool = False,
) -> Graph:
    """A plain layer with constant weights; int8 pads with -3.  residual: its result plus another
    input, limited to 0 and more."""
    driver.load_operators()
    rng = np.random.default_rng(0)
    real = dtype.is_float
    attrs: dict[str, object] = {}
    if op != "dense":
        attrs = {"strides": strides, "dilations": (1, 1), "padding": padding}
        attrs |= {} if real else {"x_zero": 0, "pad_value": -3}
    count = w[OPS[op].channel_axis or 0]
    consts = {"w": _random(rng, w, dtype)}
    if bias:
        consts["b"] = _random(rng, (count,), DType.F32 if real else DType.I32)
    types = {"x": TensorType(x, dtype)}
    types |= {n: TensorType(a.shape, DType.of(a)) for n, a in consts.items()}
    inputs = ("x", *consts)
    (types["y"],) = OPS[op].infer([types[v] for v in inputs], attrs)
    nodes = [Node(op, inputs, ("y",), attrs)]
    if not residual:
        return Graph("g", ("x",), ("y",), types, consts, tuple(nodes))
    for name in ("r", "s", "z"):
        types[name] = types["y"]
    nodes.append(Node("add", ("y", "r"), ("s",), {}))
    nodes.append(Node("clip", ("s",), ("z",), {"low": 0.0, "high": 6.0}))
    return Graph("g", ("x", "r"), ("z",), types, consts, tuple(nodes))


def _random(rng: np.random.Generator, shape: Sequence[int], dtype: DType) -> Array:
    if dtype.is_float:
        return rng.standard_normal(shape).astype(np.float32)
    limit = 127 if dtype is DType.I8 else 3000
    return rng.integers(-limit, limit, shape, endpoint=True).astype(dtype.numpy)


def options_of(
    graph: Graph, target: str, optimize: str = "speed", unroll: bool = False
) -> list[Option]:
    (group,) = fuse(graph)
    own = load_target(target).unrolling(unroll)
    return list(options(Request(graph, group, own, {}), Goal(optimize)))


def result(option: Option, graph: Graph, inputs: dict[str, Array]) -> Array:
    """What the option's kernel computes."""
    func = option.kernel.func
    verify(func, option.kernel.instructions)
    values = {**option.consts, **inputs}
    memory = {}
    for p, value in zip(func.params, option.args, strict=True):
        given = values.get(value)
        fill = np.zeros(p.shape, p.dtype.numpy) if given is None else given.reshape(p.shape)
        memory[p.name] = fill.copy()
    evaluate(func, memory, {n: i.meaning for n, i in option.kernel.instructions.items()})
    return memory[func.params[-1].name].reshape(graph.types[graph.outputs[0]].shape)


def check(graph: Graph, target: str, optimize: str = "speed", unroll: bool = False) -> list[Option]:
    """Every option gives bit for bit what the last one, the plain loops, gives; that is the
    reference, to the last digits of the largest value if it is float."""
    every = options_of(graph, target, optimize, unroll)
    (inputs,) = random_inputs(graph, 1, 0)
    plain = result(every[-1], graph, inputs)
    (want,) = evaluate_graph(graph, inputs).values()
    limit = 16 * float(np.spacing(np.abs(want).max())) if want.dtype.kind == "f" else 0
    np.testing.assert_allclose(plain, want, rtol=0, atol=limit)
    for option in every[:-1]:
        got = result(option, graph, inputs)
        np.testing.assert_array_equal(got, plain, f"{option.candidate.name} {option.kernel.steps}")
    return every
