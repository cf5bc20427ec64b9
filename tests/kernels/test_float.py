"""Float layers: instructions against what they mean, layers against the reference, on a core."""

from __future__ import annotations

import numpy as np
import pytest
from instruction_checks import Bench
from layer_checks import check, layer, options_of

from conftest import NO_SEARCH
from midge import driver
from midge.core.types import Array, DType
from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.kernels.arm_fpu.products import Products
from midge.run import RUNNERS
from midge.run.machine_code import disassemble
from midge.target import load_target
from midge.toolchain import build_image

pytestmark = pytest.mark.slow

F32 = DType.F32
ULPS = 32  # what `midge verify` allows

# pixels, channels, blocks, steps, skip, x_pixel, y_pixel
SHAPES = [
    (4, 4, 1, 1, 0, 1, 4),
    (4, 4, 3, 16, 0, 16, 12),
    (4, 4, 2, 19, 5, 7, 300),
    (3, 4, 2, 9, 12, 3, 9),
    (2, 4, 1, 33, 0, 40, 2000),
    (1, 4, 2, 5, 3, 0, 0),
    (4, 3, 2, 11, 0, 4, 8),
    (4, 1, 3, 8, 1, 2, 5),
    (1, 1, 1, 1, 0, 0, 0),
    (1, 8, 4, 17, 0, 0, 0),
    (1, 7, 1, 40, 0, 0, 0),
]


def products(*, fused: bool) -> list[Products]:
    return [Products(*s, fused, straight) for s in SHAPES for straight in (1, 4, 8)]


def operands(p: Products, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    params = p.instruction().meaning.params
    return {q.name: rng.standard_normal(q.shape).astype(np.float32) for q in params}


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m3"])
def test_rounded_products_are_what_they_mean(target: str) -> None:
    """Bit for bit, where there is no FPU too."""
    every = products(fused=False)
    bench = Bench([p.instruction() for p in every], target)
    for seed, p in enumerate(every):
        bench.check(p.name, operands(p, seed))


@pytest.mark.parametrize("target", ["cortex-m7", "cortex-m33"])
def test_fused_products_round_once(target: str) -> None:
    """The sums in double precision, to the last digits of the largest product."""
    every = products(fused=True)
    bench = Bench([p.instruction() for p in every], target)
    for seed, p in enumerate(every):
        memory = operands(p, seed)
        np.testing.assert_allclose(
            bench.run(p.name, memory)["y"], exact(p, memory), rtol=0, atol=p.steps * 1e-6
        )


def exact(p: Products, memory: dict[str, Array]) -> Array:
    w, x, y = (memory[n].astype(np.float64) for n in "wxy")
    for b in range(p.blocks):
        start = b * (p.steps * p.channels + p.skip)
        own = w[start : start + p.steps * p.channels].reshape(p.steps, p.channels)
        for pixel in range(p.pixels):
            at = pixel * p.y_pixel + b * p.channels
            y[at : at + p.channels] += x[pixel * p.x_pixel :][: p.steps] @ own
    return y


def test_names_tell_products_apart() -> None:
    every = products(fused=False) + products(fused=True)
    assert len({p.name for p in every}) == len(every)


SAME = (1, 1, 1, 1)
LAYERS = {
    "3x3": layer("conv2d", (1, 5, 7, 3), (5, 3, 3, 3), F32, padding=SAME),
    "3x3 and more": layer("conv2d", (1, 4, 6, 2), (4, 3, 3, 2), F32, padding=SAME, residual=True),
    "stride 2": layer(
        "conv2d", (1, 7, 9, 2), (6, 3, 3, 2), F32, strides=(2, 2), padding=(0, 1, 0, 1), bias=False
    ),
    "wide window": layer("conv2d", (1, 5, 6, 1), (3, 5, 4, 1), F32, padding=(2, 2, 2, 1)),
    "one tap": layer("conv2d", (1, 3, 5, 6), (9, 1, 1, 6), F32, residual=True),
    "one tap, stride": layer("conv2d", (1, 5, 5, 3), (4, 1, 1, 3), F32, strides=(2, 2)),
    "one pixel": layer("conv2d", (1, 1, 1, 7), (4, 1, 1, 7), F32),
    "only border": layer("conv2d", (1, 2, 2, 2), (4, 3, 3, 2), F32, padding=SAME),
    "beside the image": layer("conv2d", (1, 2, 3, 1), (2, 1, 2, 1), F32, padding=(0, 0, 3, 0)),
    "depthwise": layer("depthwise_conv2d", (1, 5, 6, 4), (1, 3, 3, 4), F32, padding=SAME),
    "depthwise, odd": layer("depthwise_conv2d", (1, 4, 5, 3), (1, 3, 2, 3), F32, padding=SAME),
    "dense": layer("dense", (1, 21), (19, 21), F32),
    "dense, rows": layer("dense", (6, 5), (7, 5), F32, bias=False, residual=True),
}


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_form_keeps_the_order_of_the_sums(name: str, target: str) -> None:
    for optimize in ("speed", "size"):
        every = check(LAYERS[name], target, optimize)
        assert 3 <= len(every) <= 11


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m7", "cortex-m33"])
@pytest.mark.parametrize("name", LAYERS)
def test_layers_on_a_core(name: str, target: str) -> None:
    graph = LAYERS[name]
    (inputs,) = random_inputs(graph, 1, 0)
    first, second = on_core(graph, target, inputs), on_core(graph, target, inputs)
    (want,) = evaluate(graph, inputs).values()
    limit = ULPS * float(np.spacing(np.abs(want).max()))
    np.testing.assert_allclose(first, want, rtol=0, atol=limit)
    np.testing.assert_array_equal(first, second)


def on_core(graph: Graph, target: str, inputs: dict[str, Array]) -> Array:
    package = driver.compile_graph(graph, load_target(target), NO_SEARCH).package
    session = RUNNERS["emulator"].load(package, toolchain=None, optimize="speed")
    try:
        (output,) = session.run(inputs).outputs.values()
    finally:
        session.close()
    return output


def test_who_gets_the_instructions() -> None:
    def first(name: str, target: str) -> str:
        return options_of(LAYERS[name], target)[0].candidate.name

    for name in ("3x3", "one tap", "dense"):
        assert first(name, "cortex-m4") == "rounded"
        assert first(name, "cortex-m7") == "fused"
        assert first(name, "cortex-m3") == "loops"
    padded = layer("conv2d", (1, 2, 9, 1), (1, 1, 9, 1), F32, padding=(0, 0, 4, 4))
    assert first_name(padded) == "loops"  # all but one column are border


def first_name(graph: Graph) -> str:
    return options_of(graph, "cortex-m4")[0].candidate.name


@pytest.mark.parametrize("toolchain", ["zig", "arm-none-eabi-gcc"])
def test_nothing_is_computed_in_double_precision(toolchain: str) -> None:
    for name in ("3x3 and more", "depthwise", "dense, rows"):
        package = driver.compile_graph(LAYERS[name], load_target("cortex-m4"), NO_SEARCH).package
        image = build_image(package, toolchain=toolchain)
        text = next(s for s in image.sections if s.executable)
        code = list(disassemble(text.data, text.address, "arm"))
        assert any(i.mnemonic in ("vmul.f32", "vfma.f32") for i in code)
        assert not [i.mnemonic for i in code if ".f64" in i.mnemonic]
        assert not [s for s in image.symbols if s.startswith("__aeabi_d")]
