"""The TFLite writer: what it writes reads back equal, and LiteRT runs it with the same bytes."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import DIGITS, SHARED
from graphs import random_graph
from midge import driver, pipeline
from midge.core.errors import MidgeError, ModelError, UsageError
from midge.core.types import DType, Quant, TensorType
from midge.data import random_inputs
from midge.export import save, writer_for
from midge.export.tflite import write
from midge.frontends.tflite import read
from midge.graph.evaluate import evaluate
from midge.graph.fixed_point import ACTIVATIONS
from midge.graph.ir import OPS, Attrs, Graph, Node, verify
from oracle import litert
from small_models import MODELS
from small_models import graph as graph_of

SHIPPED = sorted(SHARED.glob("*.tflite")) if SHARED.is_dir() else []


def structure(graph: Graph) -> Any:
    """All of a graph but where its nodes came from."""
    nodes = [(n.op, n.inputs, n.outputs, dict(n.attrs)) for n in graph.nodes]
    used = {n for node in graph.nodes for n in (*node.inputs, *node.outputs)}
    consts = {n: (a.dtype, a.shape, a.tobytes()) for n, a in graph.consts.items() if n in used}
    return graph.inputs, graph.outputs, dict(graph.types), consts, nodes


def same_bytes(data: bytes, graph: Graph, inputs: Mapping[str, Any]) -> None:
    """LiteRT on the file and the graph's own evaluation agree: integers exactly."""
    have, want = litert(data, inputs), evaluate(graph, inputs)
    assert have.keys() == want.keys()
    for name, expected in want.items():
        if expected.dtype != np.float32:
            np.testing.assert_array_equal(have[name], expected, err_msg=name)
        else:
            top = float(np.abs(expected).max(initial=1e-30))
            limit = 32 * float(np.spacing(np.float32(top)))
            np.testing.assert_allclose(have[name], expected, rtol=0, atol=limit)


@pytest.mark.parametrize("kind", MODELS)
def test_small_models_read_back_equal_and_run_the_same(kind: str) -> None:
    model = graph_of(MODELS[kind]())
    data = write(model)
    again = graph_of(data)
    assert structure(again) == structure(model)
    assert write(again) == data
    for given in random_inputs(model, 3, 5):
        same_bytes(data, model, given)


def test_the_digits_model_is_written_again_with_the_same_answers() -> None:
    model = driver.load(DIGITS)
    data = write(model)
    assert structure(read(data, model.name)) == structure(model)
    for given in random_inputs(model, 3, 5):
        want, have = litert(DIGITS.read_bytes(), given), litert(data, given)
        assert all(np.array_equal(want[n], have[n]) for n in want)


@pytest.mark.skipif(not SHIPPED, reason="../shared/models is not there")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_shipped_models_are_written_again_with_the_same_answers(path: Path) -> None:
    model = driver.load(path)
    data = write(model)
    assert structure(read(data, model.name)) == structure(model)
    for given in random_inputs(model, 2, 5):
        want, have = litert(path.read_bytes(), given), litert(data, given)
        assert want.keys() == have.keys()
        assert all(np.array_equal(want[n], have[n]) for n in want)


@pytest.mark.parametrize("quantised", [True, False])
@pytest.mark.parametrize("part", range(4))
def test_random_graphs_run_the_same(quantised: bool, part: int) -> None:
    """Quantised graphs with limits that TFLite has no operator for are refused."""
    written = 0
    for seed in range(20 * part, 20 * part + 20):
        graph = random_graph(random.Random(seed), quantised=quantised)
        if len({*graph.outputs}) < len(graph.outputs) or {*graph.outputs} & {*graph.inputs}:
            continue
        if quantised and any(n.op == "clip" and not _is_activation(n) for n in graph.nodes):
            with pytest.raises(ModelError, match="TFLite has no operator"):
                write(graph)
            continue
        same_bytes(write(graph), graph, random_inputs(graph, 1, seed)[0])
        written += 1
    assert written >= 8


def _is_activation(node: Node) -> bool:
    return (node.attrs["low"], node.attrs["high"]) in ACTIVATIONS.values()


def one(
    op: str, x: TensorType, attrs: Attrs, consts: Mapping[str, Any] | None = None, **out: Any
) -> Graph:
    """A graph of one operator on `x` and constants."""
    driver.load_operators()
    consts = dict(consts or {})
    types = {"x": x, **{n: TensorType(a.shape, DType.of(a)) for n, a in consts.items()}}
    names = ("x", *consts)
    (y,) = OPS[op].infer([types[n] for n in names], attrs)
    types["y"] = TensorType(y.shape, y.dtype, out.get("quant", x.quant))
    graph = Graph("g", ("x",), ("y",), types, consts, (Node(op, names, ("y",), attrs),))
    verify(graph)
    return graph


Q8 = Quant.per_tensor(0.0625, -7)
ONES = (1, 1, 1, 1)
IMAGE = TensorType((1, 5, 6, 3), DType.F32)
IMAGE8 = TensorType((1, 5, 6, 3), DType.I8, Q8)
WINDOW = {"strides": (2, 1), "dilations": (1, 1)}
EDGES: tuple[int, ...] = (1, 0, 2, 1)
W = np.random.default_rng(1).standard_normal((4, 3, 2, 3)).astype(np.float32)

SINGLE = {
    "odd padding": one("conv2d", IMAGE, {**WINDOW, "padding": EDGES}, {"w": W}),
    "max pool": one("max_pool2d", IMAGE, {**WINDOW, "padding": EDGES, "window": (3, 3)}),
    "max pool int8": one("max_pool2d", IMAGE8, {**WINDOW, "padding": EDGES, "window": (3, 3)}),
    "slice": one("slice", IMAGE8, {"begin": (0, 1, 2, 0), "size": (1, 3, 2, 3), "strides": ONES}),
    "backwards": one(
        "slice", IMAGE, {"begin": (0, 4, 5, 0), "size": (1, 5, 3, 2), "strides": (1, -1, -2, 2)}
    ),
    "transpose": one("transpose", IMAGE8, {"perm": (0, 3, 1, 2)}),
    "nearest": one("resize_nearest", IMAGE8, {"size": (7, 9), "align_corners": 1, "half_pixel": 0}),
    "bilinear": one(
        "resize_bilinear", IMAGE, {"size": (7, 4), "align_corners": 0, "half_pixel": 1}
    ),
    "limits": one("clip", IMAGE, {"low": -0.5, "high": 2.25}),
    "one limit": one("clip", IMAGE, {"low": -0.5, "high": float("inf")}),
    "pad": one("pad", IMAGE8, {"paddings": (0, 0, 1, 2, 0, 1, 1, 0), "value": 3}),
    "mean": one("mean", IMAGE8, {"axes": (1, 2)}, quant=Quant.per_tensor(0.05, 3)),
    "leaky": one("leaky_relu", IMAGE8, {"alpha": 0.2}, quant=Quant.per_tensor(0.05, 3)),
    "hard swish": one("hard_swish", IMAGE8, {}, quant=Quant.per_tensor(0.05, 3)),
    "abs": one("abs", IMAGE8, {}, quant=Quant.per_tensor(0.05, -128)),
    "tanh": one("tanh", IMAGE8, {}, quant=Quant.per_tensor(1 / 128, 0)),
}  # fmt: skip


@pytest.mark.parametrize("what", SINGLE)
def test_single_operators_run_the_same(what: str) -> None:
    graph = SINGLE[what]
    data = write(graph)
    for given in random_inputs(graph, 3, 2):
        same_bytes(data, graph, given)
        again = evaluate(read(data, "g"), given)["y"]
        np.testing.assert_array_equal(again, evaluate(graph, given)["y"])


def test_names_and_bytes_do_not_depend_on_the_run() -> None:
    model = graph_of(MODELS["int8"]())
    assert write(model) == write(graph_of(MODELS["int8"]()))


def test_every_buffer_is_aligned() -> None:
    import tflite

    data = write(graph_of(MODELS["int8"]()))
    model = tflite.Model.GetRootAs(data, 0)
    for i in range(1, model.BuffersLength()):
        view = model.Buffers(i).DataAsNumpy()
        start = view.__array_interface__["data"][0]
        base = np.frombuffer(data, np.uint8).__array_interface__["data"][0]
        assert (start - base) % 16 == 0


def test_an_average_over_odd_padding_is_refused() -> None:
    graph = one("avg_pool2d", IMAGE, {**WINDOW, "padding": EDGES, "window": (3, 3)})
    with pytest.raises(ModelError, match="neither SAME nor VALID"):
        write(graph)


def test_plain_integer_operators_are_refused() -> None:
    plain = pipeline.spell_out(graph_of(MODELS["int8"]()))[0]
    with pytest.raises(ModelError, match=r"cannot be written to a TFLite file"):
        write(plain)


def test_unknown_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"use \.midge, \.tflite"):
        writer_for(tmp_path / "x.onnx")
    with pytest.raises(MidgeError):
        save(graph_of(MODELS["int8"]()), tmp_path / "x")
