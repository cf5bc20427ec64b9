"""What passes make of what nearly is what they look for, against what they made of it before, and
the same meaning in any case."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from test_random_graphs import digest, passed
from test_transformer_passes import Net

from conftest import Golden
from islands import BOUNDED, EXACT, Island
from midge import driver
from midge.core.errors import MidgeError
from midge.data import random_inputs
from midge.frontends import onnx
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.passes import GraphPass, run
from midge.passes.avoid_division import avoid_division
from midge.passes.drop_dead import drop_dead
from midge.passes.fuse_gelu import fuse_gelu
from midge.passes.fuse_hard_swish import fuse_hard_swish
from midge.passes.merge_clips import merge_clips
from midge.passes.sink_reshapes import sink_reshapes
from near_misses import near_misses
from test_passes import CASES, text


def gelu_by_erf(net: Net) -> str:
    one = net("add", net("erf", net("div", "x", math.sqrt(2))), 1.0)
    return net("mul", net("mul", "x", one), 0.5)


def gelu_by_tanh(net: Net) -> str:
    cube = net("mul", net("pow", "x", 3.0), 0.044715)
    inner = net("mul", math.sqrt(2 / math.pi), net("add", "x", cube))
    return net("mul", net("mul", 0.5, "x"), net("add", 1.0, net("tanh", inner)))


def gelu_of_products(net: Net) -> str:
    cube = net("mul", net("mul", 0.044715, "x"), net("mul", "x", "x"))
    inner = net("mul", net("add", "x", cube), math.sqrt(2 / math.pi))
    return net("mul", net("add", 1.0, net("tanh", inner)), net("div", "x", 2.0))


def clipped(net: Net) -> str:
    return net("clip", net("add", "x", 3.0), low=0.0, high=6.0)


def swish_divided_after(net: Net) -> str:
    return net("div", net("mul", "x", clipped(net)), 6.0)


def swish_divided_before(net: Net) -> str:
    return net("mul", net("mul", clipped(net), 1 / 6), "x")


def swish_of_a_ramp(net: Net) -> str:
    return net("mul", net("hard_sigmoid", "x", alpha=1 / 6, beta=0.5), "x")


def two_clips(net: Net) -> str:
    return net("clip", net("clip", "x", low=0.0, high=6.0), low=-1.0, high=4.0)


def divided(net: Net) -> str:
    mean = net("mean", "x", axes=(1,))
    root = net("sqrt", net("add", net("mul", mean, mean), 1.0))
    return net("add", net("div", "x", root), net("div", "x", 3.0))


def reshaped(net: Net) -> str:
    flat = net("reshape", net("mul", "x", np.arange(4)), shape=(12,))
    back = net("reshape", net("tanh", flat), shape=(3, 4))
    return net("add", back, 1.0)


def built(make: Callable[[Net], str]) -> Graph:
    net = Net((3, 4))
    return net.graph(make(net))


SPELLED: dict[str, tuple[Callable[[Net], str], Sequence[GraphPass]]] = {
    **{f.__name__: (f, (fuse_gelu, drop_dead)) for f in (gelu_by_erf, gelu_by_tanh,
                                                         gelu_of_products)},
    **{f.__name__: (f, (fuse_hard_swish, drop_dead)) for f in (
        swish_divided_after, swish_divided_before, swish_of_a_ramp)},
    "two_clips": (two_clips, (merge_clips, drop_dead)),
    "divided": (divided, (avoid_division, drop_dead)),
    "reshaped": (reshaped, (sink_reshapes, drop_dead)),
}  # fmt: skip


def tried(graph: Graph, passes: Sequence[GraphPass]) -> str:
    """A line for each neighbour: what is left of it; the same meaning, checked."""
    lines = []
    for what, other in near_misses(graph):
        try:
            with np.errstate(all="ignore"):
                after = run(passes, other)
        except MidgeError as error:
            lines.append(f"{what}: {' '.join(str(error).split())}")
            continue
        lines.append(f"{what}: {' '.join(n.op for n in after.nodes)} {digest(after)}")
        same_meaning(other, after)
    return "\n".join(lines) + "\n"


def same_meaning(before: Graph, after: Graph, steps: int = 0) -> None:
    """Integers but for so many steps, where floats may be summed in another order."""
    for given in random_inputs(before, 1, 3):
        with np.errstate(all="ignore"):
            try:
                want = evaluate(before, given)
            except MidgeError:
                return
            have = evaluate(after, given)
        for theirs, mine in zip(before.outputs, after.outputs, strict=True):
            if want[theirs].dtype.kind == "f":
                np.testing.assert_allclose(have[mine], want[theirs], rtol=1e-3, atol=1e-3)
            else:
                wide = have[mine].astype(np.int64), want[theirs].astype(np.int64)
                np.testing.assert_allclose(*wide, rtol=0, atol=steps)


@pytest.mark.parametrize("name", SPELLED)
def test_what_is_spelled_out(name: str, golden: Golden) -> None:
    make, passes = SPELLED[name]
    golden(tried(built(make), passes))


@pytest.mark.parametrize("name", CASES)
def test_what_one_pass_looks_for(name: str, golden: Golden) -> None:
    step, body = CASES[name]
    golden(tried(text(body), (step, drop_dead)))


QUANTISED = (
    "average 3x3, padding counted", "global average", "linear, half pixel",
    "padding by a dequantised value", "limits from dequantised values", "a sum of products",
    "HardSwish", "Sqrt", "Softmax", "gelu of a sum", "powers", "layer norm", "convolution",
    "convolution by floats", "Gemm by floats", "MatMul", "ReduceMean",
)  # fmt: skip


@pytest.mark.parametrize("name", QUANTISED)
def test_what_all_passes_make_of_quantised_models(name: str, golden: Golden) -> None:
    driver.load_operators()
    model = Island(0)
    data = model.finished([(EXACT | BOUNDED)[name](model)])
    graph = onnx.read(data, "model")
    golden("".join(f"{what}: {whole(other)}\n" for what, other in near_misses(graph)))


def whole(graph: Graph) -> str:
    text, made = passed(graph)
    for one in made:
        same_meaning(graph, one, 1)
    return text
