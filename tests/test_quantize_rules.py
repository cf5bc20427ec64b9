"""Every operator's rule for quantisation: its float samples quantised, judged by LiteRT."""

from __future__ import annotations

import numpy as np
import pytest

from midge import driver
from midge.core.errors import ModelError
from midge.core.types import Array, DType
from midge.export.tflite import write
from midge.graph.evaluate import evaluate
from midge.graph.exporters import EXPORTERS
from midge.graph.ir import OPS, Graph, Node, Sample, verify
from midge.graph.quantizing import QUANTIZING
from midge.quantize.options import Options
from midge.quantize.quantizer import quantize
from midge.quantize.report import as_inputs, output_noise
from oracle import OPTIMISED, REFERENCE, litert

driver.load_operators()
WITHOUT_REFERENCE = ("elu",)  # kernels
RULES = [name for name in QUANTIZING if name in EXPORTERS["tflite"]]


def float_samples(name: str) -> list[Sample]:
    """Those on floats that are not empty and whose values a batch can lead."""
    return [
        s
        for s in OPS[name].samples
        if s.inputs[0].dtype is DType.F32
        and {t.dtype for t in s.inputs} <= {DType.F32}
        and all(t.elements and 1 <= len(t.shape) <= 4 for t in s.inputs)
    ]


def graph_of(name: str, sample: Sample, rng: np.random.Generator) -> Graph:
    """A graph of one node; weights are constants."""
    weighted = QUANTIZING[name].weighted
    names = tuple(f"x{i}" for i in range(len(sample.inputs)))
    types = dict(zip(names, sample.inputs, strict=True))
    consts: dict[str, Array] = {names[i]: a for i, a in sample.consts.items()}
    for i, t in enumerate(sample.inputs):
        if weighted and i > 0:
            consts[names[i]] = rng.standard_normal(t.shape).astype(np.float32)
    attrs = {k: v for k, v in sample.attrs.items() if k not in ("x_zero", "pad_value")}
    outputs = OPS[name].infer(sample.inputs, attrs)
    results = tuple(f"y{i}" for i in range(len(outputs)))
    types |= dict(zip(results, outputs, strict=True))
    node = Node(name, names, results, attrs, "operator 0", name.upper())
    inputs = tuple(n for n in names if n not in consts)
    graph = Graph("g", inputs, results, types, consts, (node,))
    verify(graph)
    return graph


def data(graph: Graph, sample: Sample, rng: np.random.Generator) -> list[dict[str, Array]]:
    low = -3.0 if sample.low is None else float(max(sample.low, -6))
    high = 3.0 if sample.high is None else float(min(sample.high, 6))
    return [
        {n: rng.uniform(low, high, graph.types[n].shape).astype(np.float32) for n in graph.inputs}
        for _ in range(8)
    ]


@pytest.mark.parametrize("dtype", [DType.I8, DType.I16], ids=lambda d: d.value)
@pytest.mark.parametrize("name", RULES)
def test_the_quantised_operator_has_the_frameworks_bytes(name: str, dtype: DType) -> None:
    samples = float_samples(name)
    if not samples:
        pytest.skip("it has no samples on floats alone")
    rng = np.random.default_rng(3)
    kernels = OPTIMISED if name in WITHOUT_REFERENCE else REFERENCE
    compared = 0
    for sample in samples:
        graph = graph_of(name, sample, rng)
        inputs = data(graph, sample, rng)
        quantized = quantize(graph, inputs, Options(activations=dtype, method="minmax"))
        if dtype not in QUANTIZING[name].dtypes:
            assert quantized.left
            compared += 1
            continue
        if quantized.left:
            continue  # scales that its kernel refuses
        try:
            file = write(quantized.graph)
        except ModelError:
            continue  # attributes that TFLite does not have
        compared += 1
        for given in inputs[:3]:
            integers = as_inputs(quantized.graph, given)
            want, have = evaluate(quantized.graph, integers), litert(file, integers, kernels)
            for output in quantized.graph.outputs:
                np.testing.assert_array_equal(have[output], want[output], err_msg=str(sample))
        assert output_noise(quantized, inputs) > 15, sample
    assert compared
