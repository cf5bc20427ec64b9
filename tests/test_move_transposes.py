"""Layouts: between convolutions nothing is transposed, and what is computed stays the same."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midge import driver, pipeline
from midge.core.types import DType, TensorType
from midge.frontends.onnx import read
from midge.graph.evaluate import evaluate
from midge.graph.ir import OPS, Attrs, Graph, Node, verify
from midge.passes import run
from midge.passes.channels_last_io import channels_last_io
from midge.passes.move_transposes import move_transposes, moved_elements
from midge.passes.views import View
from onnx_builder import CONVOLUTIONAL, NETS, OnnxModel, random_inputs

driver.load_operators()


def transposes(graph: Graph) -> list[tuple[str, ...]]:
    """What is transposed, and into what."""
    return [(n.inputs[0], n.outputs[0]) for n in graph.nodes if n.op == "transpose"]


def same_results(before: Graph, after: Graph, seed: int = 0) -> None:
    """Equal up to the order in which a sum adds up."""
    inputs = random_inputs({n: before.types[n].shape for n in before.inputs}, seed)
    with np.errstate(all="ignore"):
        a, b = evaluate(before, inputs), evaluate(after, inputs)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(b[name], a[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_convolutional_networks_are_not_transposed_inside(name: str) -> None:
    before = read(NETS[name](), "net")
    after = run([move_transposes], before)
    same_results(before, after)
    border = {*before.inputs, *before.outputs}
    inside = [pair for pair in transposes(after) if not border.intersection(pair)]
    shuffled = name == "shufflenet"  # what it moves are channels
    assert len(inside) == shuffled
    assert len(transposes(run([channels_last_io], after))) == shuffled


@pytest.mark.parametrize("name", NETS)
def test_networks_keep_their_meaning(name: str) -> None:
    before = read(NETS[name](), "net")
    same_results(before, run(pipeline.MODEL_PASSES, before))


def test_a_single_channel_needs_no_transposition() -> None:
    m = OnnxModel()
    m.op("Relu", m.conv("x", 1, 1), output="y")
    graph = run([move_transposes], read(m.build([("x", [1, 1, 5, 4])], ["y"]), "net"))
    assert not transposes(graph)


def test_images_come_in_and_go_out_with_channels_last() -> None:
    m = OnnxModel()
    m.op("Relu", m.conv("x", 3, 4), output="y")
    before = read(m.build([("x", [1, 3, 5, 6])], ["y"]), "net")
    after = run([channels_last_io], before)
    assert (after.types["x"].shape, after.types["y"].shape) == ((1, 5, 6, 3), (1, 5, 6, 4))
    assert (after.inputs, after.outputs) == (before.inputs, before.outputs)
    x = random_inputs({"x": (1, 3, 5, 6)})["x"]
    wanted = evaluate(before, {"x": x})["y"]
    (have,) = evaluate(after, {"x": np.ascontiguousarray(x.transpose(0, 2, 3, 1))}).values()
    np.testing.assert_array_equal(have.transpose(0, 3, 1, 2), wanted)


def test_what_gains_nothing_stays_as_it_is() -> None:
    m = OnnxModel()
    m.linear(m.op("Flatten", "x"), 30, 4, output="y")
    before = read(m.build([("x", [1, 3, 5, 2])], ["y"]), "net")
    assert channels_last_io(before) == before


def test_upright_signals_are_images_of_width_1() -> None:
    before = read(NETS["cnn1d"](), "net")
    graph = run([channels_last_io], run([move_transposes], before))
    assert graph.types["window"].shape == (1, 64, 3)
    shapes = [graph.types[n.inputs[0]].shape for n in graph.nodes if n.op == "conv2d"]
    assert [s[2] for s in shapes] == [1, 1]


def test_a_view_follows_transpositions_and_reshapes() -> None:
    view = View.of("x", (1, 4, 6, 3)).transposed((0, 3, 1, 2))
    flat = view.reshaped((1, 72))
    assert flat is not None
    assert flat.groups == ((), (3, 1, 2))
    split = flat.reshaped((3, 2, 2, 6))
    assert split is not None
    assert split.shape == (1, 2, 2, 6, 3)
    array = np.arange(72).reshape(1, 4, 6, 3)
    wanted = array.transpose(0, 3, 1, 2).reshape(3, 2, 2, 6)
    np.testing.assert_array_equal(split.computed(array), wanted)
    assert flat.reshaped((5, 15)) is None
    assert view.reshaped((2, 36)) is None  # through the middle of the channels


# Random graphs of what transpositions move through.

_F32 = DType.F32


class _Drawn:
    """A graph that grows by operators on any of its values."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        shape = tuple(data.draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=2, max_size=4)))
        self.types = {"x": TensorType(shape, _F32)}
        self.consts: dict[str, np.ndarray] = {}
        self.nodes: list[Node] = []

    def value(self) -> str:
        names = [n for n in self.types if n not in self.consts]
        return self.data.draw(st.sampled_from(names))

    def const(self, shape: tuple[int, ...]) -> str:
        name = f"c{len(self.consts)}"
        rng = np.random.default_rng(len(self.consts))
        self.consts[name] = rng.normal(size=shape).astype(np.float32)
        self.types[name] = TensorType(shape, _F32)
        return name

    def add(self, op: str, inputs: list[str], attrs: Attrs | None = None) -> str:
        name = f"v{len(self.nodes)}"
        (t,) = OPS[op].infer([self.types[n] for n in inputs], attrs or {})
        if t.elements > 4000:
            return inputs[0]
        self.types[name] = t
        self.nodes.append(Node(op, tuple(inputs), (name,), attrs or {}))
        return name

    def graph(self) -> Graph:
        outputs = tuple(dict.fromkeys((self.nodes[-1].outputs[0], self.value())))
        full = Graph("drawn", ("x",), outputs, self.types, self.consts, ())
        return full.with_nodes(self.nodes)


def _transpose(d: _Drawn, x: str) -> None:
    rank = len(d.types[x].shape)
    d.add("transpose", [x], {"perm": tuple(d.data.draw(st.permutations(range(rank))))})


def _reshape(d: _Drawn, x: str) -> None:
    shape = list(d.types[x].shape)
    kind = d.data.draw(st.sampled_from(["merge", "split", "insert", "drop"]))
    at = d.data.draw(st.integers(0, max(len(shape) - 1, 0)))
    if kind == "merge" and len(shape) > 1:
        at = min(at, len(shape) - 2)
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
    elif kind == "split" and shape and shape[at] % 2 == 0 and len(shape) < 6:
        shape[at : at + 1] = [2, shape[at] // 2]
    elif kind == "insert" and len(shape) < 6:
        shape.insert(at, 1)
    elif kind == "drop":
        shape = [n for n in shape if n != 1]
    d.add("reshape", [x], {"shape": tuple(shape)})


def _unary(d: _Drawn, x: str) -> None:
    d.add("abs", [x])


def _binary(d: _Drawn, x: str) -> None:
    """With a constant that broadcasts, or with another value of the same shape."""
    shape = d.types[x].shape
    same = [n for n, t in d.types.items() if t.shape == shape and n not in d.consts and n != x]
    if same and d.data.draw(st.booleans()):
        d.add("add", [x, d.data.draw(st.sampled_from(same))])
        return
    kept = [n if d.data.draw(st.booleans()) else 1 for n in shape]
    d.add("mul", [x, d.const(tuple(kept[d.data.draw(st.integers(0, len(kept))) :]))])


def _concat(d: _Drawn, x: str) -> None:
    shape = d.types[x].shape
    if shape:
        axis = d.data.draw(st.integers(0, len(shape) - 1))
        other = d.data.draw(st.sampled_from(["same", "const"]))
        more = (*shape[:axis], 2, *shape[axis + 1 :])
        d.add("concat", [x, x if other == "same" else d.const(more)], {"axis": axis})


def _pad(d: _Drawn, x: str) -> None:
    widths = [d.data.draw(st.integers(0, 1)) for _ in range(2 * len(d.types[x].shape))]
    d.add("pad", [x], {"paddings": tuple(widths), "value": 0.5})


def _slice(d: _Drawn, x: str) -> None:
    shape = d.types[x].shape
    size = tuple(d.data.draw(st.integers(1, n)) for n in shape)
    begin = tuple(n - s for n, s in zip(shape, size, strict=True))
    d.add("slice", [x], {"begin": begin, "size": size, "strides": (1,) * len(shape)})


def _tile(d: _Drawn, x: str) -> None:
    repeats = tuple(d.data.draw(st.integers(1, 2)) for _ in d.types[x].shape)
    d.add("tile", [x], {"repeats": repeats})


def _reduce(d: _Drawn, x: str) -> None:
    rank = len(d.types[x].shape)
    axes = tuple(a for a in range(rank) if d.data.draw(st.booleans()))
    d.add(d.data.draw(st.sampled_from(["mean", "sum"])), [x], {"axes": axes})


def _softmax(d: _Drawn, x: str) -> None:
    if d.types[x].shape:
        d.add("softmax", [x], {"beta": 1.0})


def _dense(d: _Drawn, x: str) -> None:
    shape = d.types[x].shape
    if len(shape) >= 2:
        k = d.types[x].elements // shape[0]
        flat = d.add("reshape", [x], {"shape": (shape[0], k)})
        d.add("dense", [flat, d.const((3, k))])


_STEPS: tuple[Callable[[_Drawn, str], None], ...] = (
    _transpose, _transpose, _transpose, _reshape, _reshape, _unary, _binary, _binary, _concat,
    _pad, _slice, _tile, _reduce, _softmax, _dense,
)  # fmt: skip


@settings(max_examples=250)
@given(st.data())
def test_random_graphs_keep_their_meaning(data: st.DataObject) -> None:
    drawn = _Drawn(data)
    _transpose(drawn, "x")
    for _ in range(data.draw(st.integers(1, 9))):
        data.draw(st.sampled_from(_STEPS))(drawn, drawn.value())
    before = drawn.graph()
    verify(before)
    after = run([move_transposes], before)
    same_results(before, after)
    assert moved_elements(after) <= moved_elements(before)


def test_an_image_of_one_channel_comes_in_as_the_image_that_is_read() -> None:
    """Its bytes are the same either way; its rows are those of the image, for streaming."""
    model = OnnxModel()
    y = model.op("GlobalAveragePool", model.conv("x", 1, 4))
    graph = read(model.build([("x", (1, 1, 6, 5))], [y]), "g")
    after = pipeline.prepare(graph, channels_last=True).graph
    assert after.types[after.inputs[0]].shape == (1, 6, 5, 1)
    assert [n.inputs[0] for n in after.nodes if n.op == "conv2d"] == ["x"]
