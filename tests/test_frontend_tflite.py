"""TFLite files that are damaged, or ask for what is not there: ModelError that says what to do."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest

from conftest import DIGITS, NO_SEARCH, Golden
from midge import driver
from midge.core.errors import ModelError
from midge.frontends import tflite
from midge.target import load_target
from small_models import NONE, SAME, VALID, builder, cnn_int8, graph
from tflite_builder import TFLiteModel

pytestmark = pytest.mark.slow


def attempt(data: bytes) -> str:
    """ "compiled", or the message of the ModelError; anything else is a failure of the test."""
    driver.load_operators()
    try:
        driver.compile_graph(
            tflite.read(data, "model"), load_target("cortex-m4"), NO_SEARCH, model_hash="-"
        )
    except ModelError as error:
        found = error
    else:
        return "compiled"
    assert found.what
    assert found.where
    return str(found)


# Damage.


@pytest.mark.parametrize("part", range(4))
def test_every_truncation_is_refused_or_compiles(part: int) -> None:
    data = DIGITS.read_bytes()
    answers = [attempt(data[:n]) for n in range(16 * part, len(data), 64)]
    assert answers.count("compiled") < len(answers) / 4


def test_flipped_bits_are_refused_or_compile() -> None:
    """Of weights, mostly; tests/test_damage.py breaks the rest."""
    data = DIGITS.read_bytes()
    rng = random.Random(0)
    for _ in range(30):
        broken = bytearray(data)
        bit = rng.randrange(8 * len(data))
        broken[bit // 8] ^= 1 << (bit % 8)
        attempt(bytes(broken))


def test_flipped_bits_of_the_structure_are_refused_or_compile() -> None:
    """A small file is mostly structure: tables, offsets, lengths."""
    data = cnn_int8()
    rng = random.Random(9)
    for _ in range(150):
        broken = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            bit = rng.randrange(8 * len(data))
            broken[bit // 8] ^= 1 << (bit % 8)
        attempt(bytes(broken))


@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"\0\0\0\0TFL3", b"\xff" * 64, b"\x20\0\0\0TFL3" + bytes(99)]
)
def test_what_is_no_model_at_all(data: bytes) -> None:
    assert attempt(data) != "compiled"


# What is not supported, and what is broken inside: one file each, its message in the golden.


def relu(
    change: Callable[[TFLiteModel], None] | None = None, *, shape: tuple[int, ...] = (1, 4)
) -> bytes:
    """x -> RELU -> y, int8, changed by `change` before it is written."""
    m = builder()
    x = m.input(shape, "int8", 0.1, name="x")
    y = m.value(shape, "int8", 0.1, name="y")
    m.op("RELU", [x], [y])
    m.graph.outputs = [y]
    if change is not None:
        change(m)
    return m.build(m.graph.outputs)


def dense(change: Callable[[TFLiteModel], None] | None = None, **fields: int) -> bytes:
    """x[1x4] -> FULLY_CONNECTED (weights are tensor 1) -> y[1x3], int8."""
    m = builder()
    x = m.input((1, 4), "int8", 0.1, name="x")
    w = m.const(np.ones((3, 4), np.int8), 0.1, name="w")
    y = m.value((1, 3), "int8", 0.1, name="y")
    fields = {"fusedActivationFunction": NONE, **fields}
    m.op("FULLY_CONNECTED", [x, w, -1], [y], "FullyConnectedOptions", **fields)
    m.graph.outputs = [y]
    if change is not None:
        change(m)
    return m.build(m.graph.outputs)


def mixed(kinds: str) -> bytes:
    """A dense layer whose input, weights and bias have the types of `kinds`; output as input."""
    m = builder()
    x_kind, w_kind, b_kind = kinds.split()
    scale = None if x_kind == "float32" else 0.1
    x = m.input((1, 4), x_kind, scale, name="x")
    w = m.const(np.ones((3, 4), w_kind), 0.1, name="w")
    b = m.const(np.ones(3, b_kind), 0.01, name="b")
    y = m.value((1, 3), x_kind, scale, name="y")
    m.op("FULLY_CONNECTED", [x, w, b], [y], "FullyConnectedOptions")
    return m.build([y])


def conv(**options: int) -> bytes:
    m = builder()
    x = m.input((1, 5, 5, 2), "int8", 0.1, name="x")
    w = m.const(np.ones((3, 2, 2, 2), np.int8), 0.1, name="w")
    y = m.value((1, 5, 5, 3), "int8", 0.1, name="y")
    plain = {
        "strideH": 1,
        "strideW": 1,
        "padding": SAME,
        "dilationHFactor": 1,
        "dilationWFactor": 1,
    }
    m.op("CONV_2D", [x, w, -1], [y], "Conv2DOptions", **{**plain, **options})
    return m.build([y])


def tensor(index: int, field: str, value: object) -> Callable[[TFLiteModel], None]:
    return lambda m: setattr(m.graph.tensors[index], field, value)


def quantization(index: int, field: str, value: object) -> Callable[[TFLiteModel], None]:
    return lambda m: setattr(m.graph.tensors[index].quantization, field, value)


def operator(field: str, value: object) -> Callable[[TFLiteModel], None]:
    return lambda m: setattr(m.graph.operators[0], field, value)


def more_subgraphs(m: TFLiteModel) -> None:
    m.model.subgraphs.append(m.graph)


def no_subgraph(m: TFLiteModel) -> None:
    m.model.subgraphs = []


def custom(m: TFLiteModel) -> None:
    m.model.operatorCodes[0].builtinCode = m.schema.BuiltinOperator.CUSTOM
    m.model.operatorCodes[0].deprecatedBuiltinCode = m.schema.BuiltinOperator.CUSTOM
    m.model.operatorCodes[0].customCode = b"MyOwnOp"


def kind(name: str) -> Callable[[TFLiteModel], None]:
    def change(m: TFLiteModel) -> None:
        code = getattr(m.schema.BuiltinOperator, name)
        m.model.operatorCodes[0].builtinCode = code
        m.model.operatorCodes[0].deprecatedBuiltinCode = min(code, 127)

    return change


def unheard_of(m: TFLiteModel) -> None:
    m.model.operatorCodes[0].builtinCode = 9999


def sparse(m: TFLiteModel) -> None:
    sparsity = m.schema.SparsityParametersT()
    sparsity.traversalOrder, sparsity.dimMetadata = [0, 1], []
    m.graph.tensors[1].sparsity = sparsity


def variable(m: TFLiteModel) -> None:
    m.graph.tensors[1].isVariable = True


def emptied(m: TFLiteModel) -> None:
    m.model.buffers[1].data = None


def shortened(m: TFLiteModel) -> None:
    m.model.buffers[1].data = m.model.buffers[1].data[:-1]


def interface(field: str, value: list[int]) -> Callable[[TFLiteModel], None]:
    return lambda m: setattr(m.graph, field, value)


def not_finite() -> bytes:
    m = builder()
    x = m.input((1, 2), "float32", name="x")
    w = m.const(np.array([[1, np.nan], [0, 2]], np.float32), name="w")
    y = m.value((1, 2), "float32", name="y")
    m.op("FULLY_CONNECTED", [x, w, -1], [y], "FullyConnectedOptions")
    return m.build([y])


REFUSED: dict[str, Callable[[], bytes]] = {
    "several subgraphs": lambda: relu(more_subgraphs),
    "no subgraph": lambda: relu(no_subgraph),
    "no inputs": lambda: relu(interface("inputs", [])),
    "no outputs": lambda: relu(interface("outputs", [])),
    "an input that does not exist": lambda: relu(interface("inputs", [7])),
    "a negative output": lambda: relu(interface("outputs", [-5])),
    "an output that nobody computes": lambda: relu(interface("inputs", [1])),
    "custom operator": lambda: relu(custom),
    "unsupported operator": lambda: relu(kind("SVDF")),
    "unknown operator": lambda: relu(unheard_of),
    "operator code out of range": lambda: relu(operator("opcodeIndex", 3)),
    "operator reads a tensor out of range": lambda: relu(operator("inputs", [12])),
    "operator writes a tensor out of range": lambda: relu(operator("outputs", [12])),
    "operator without inputs": lambda: relu(operator("inputs", [])),
    "operator without outputs": lambda: relu(operator("outputs", [])),
    "operator reads what it writes": lambda: relu(operator("inputs", [1])),
    "operator without its options": lambda: conv_without_options(),
    "dynamic shape": lambda: relu(tensor(0, "shapeSignature", [1, -1])),
    "negative dimension": lambda: relu(tensor(0, "shape", [1, -4])),
    "huge dimension": lambda: relu(tensor(0, "shape", [1 << 20, 1 << 20])),
    "too many dimensions": lambda: relu(shape=(1,) * 9),
    "shapes that do not fit": lambda: relu(tensor(1, "shape", [1, 5])),
    "unsupported element type": lambda: relu(tensor(0, "type", 8)),
    "unknown element type": lambda: relu(tensor(0, "type", 99)),
    "an element type the operator does not take": lambda: dense(tensor(0, "type", 4)),
    "sparse weights": lambda: dense(sparse),
    "variable tensor": lambda: dense(variable),
    "weights without data": lambda: dense(emptied),
    "weights of the wrong size": lambda: dense(shortened),
    "weights in a buffer that does not exist": lambda: dense(tensor(1, "buffer", 44)),
    "weights that are not finite": not_finite,
    "unsupported activation": lambda: dense(fusedActivationFunction=4),
    "shuffled weights": lambda: dense(weightsFormat=1),
    "zero scale": lambda: dense(quantization(1, "scale", [0.0])),
    "negative scale": lambda: dense(quantization(1, "scale", [-0.5])),
    "scale is not a number": lambda: dense(quantization(1, "scale", [float("nan")])),
    "infinite scale": lambda: dense(quantization(0, "scale", [float("inf")])),
    "two scales on an axis of three": lambda: dense(quantization(1, "scale", [0.1, 0.2])),
    "fewer zero points than scales": lambda: dense(quantization(1, "scale", [0.1, 0.2, 0.3])),
    "zero point out of range": lambda: dense(quantization(0, "zeroPoint", [200])),
    "weights with a zero point out of range": lambda: dense(quantization(1, "zeroPoint", [300])),
    "output without quantisation": lambda: dense(tensor(2, "quantization", None)),
    "float with an integer bias": lambda: mixed("float32 float32 int64"),
    "hybrid with an integer bias": lambda: mixed("float32 int8 int32"),
    "int8 with a wide bias": lambda: mixed("int8 int8 int64"),
    "int8 with a float bias": lambda: mixed("int8 int8 float32"),
    "int8 with float weights": lambda: mixed("int8 float32 int32"),
    "int16 with a narrow bias": lambda: mixed("int16 int8 int16"),
    "zero stride": lambda: conv(strideH=0),
    "negative dilation": lambda: conv(dilationWFactor=-1),
    "padding out of range": lambda: conv(padding=7),
    "output of the wrong shape": lambda: conv(padding=VALID),
}  # fmt: skip


def conv_without_options() -> bytes:
    m = builder()
    x = m.input((1, 5, 5, 2), "int8", 0.1, name="x")
    w = m.const(np.ones((3, 2, 2, 2), np.int8), 0.1, name="w")
    y = m.value((1, 5, 5, 3), "int8", 0.1, name="y")
    m.op("CONV_2D", [x, w, -1], [y])
    return m.build([y])


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_says_so(case: str, golden: Golden) -> None:
    answer = attempt(REFUSED[case]())
    assert answer != "compiled", case
    known = answer.find("known: ")  # the list of operators grows
    golden((answer if known < 0 else answer[:known] + "known: ...") + "\n")


# What looks odd and is fine.


def test_tensors_get_names_of_their_own() -> None:
    def same_names(m: TFLiteModel) -> None:
        m.graph.tensors[0].name = m.graph.tensors[1].name = b"same"

    read = graph(relu(same_names))
    assert (read.inputs, read.outputs) == (("same",), ("same#1",))

    def no_names(m: TFLiteModel) -> None:
        m.graph.tensors[0].name = b""
        m.graph.tensors[1].name = None

    read = graph(relu(no_names))
    assert (read.inputs, read.outputs) == (("tensor#0",), ("tensor#1",))


def test_names_may_be_anything(tmp_path: object) -> None:
    def weird(m: TFLiteModel) -> None:
        m.graph.tensors[0].name = '*/ "quoted"\n\\ ??/ \u00fc'.encode()
        m.graph.tensors[1].name = b"\xff\xfe not utf-8 /*"

    assert attempt(relu(weird)) == "compiled"


def test_a_free_batch_is_compiled_as_one() -> None:
    assert attempt(relu(tensor(0, "shapeSignature", [-1, 4]))) == "compiled"


def test_quantisation_without_zero_points_has_zeros() -> None:
    read = graph(dense(quantization(1, "zeroPoint", [])))
    assert read.types["w"].quant is not None
    assert read.types["w"].quant.zero_point == (0,)


def test_src_is_the_place_in_the_file() -> None:
    nodes = graph(cnn_int8()).nodes
    assert [n.src for n in nodes] == [f"operator {i}" for i in range(len(nodes))]
    assert nodes[0].kind == "CONV_2D"
