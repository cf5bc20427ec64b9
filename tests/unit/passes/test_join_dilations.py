"""Dilated convolutions written as splits into images, and what only looks like one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from plain_nets import plain

from midge.data import random_inputs
from midge.graph.evaluate import evaluate
from midge.graph.ir import Graph
from midge.passes import run
from midge.passes.join_dilations import join_dilations

NUMBERS = ", ".join(map(str, range(-12, 12)))
IMAGE = f"""graph g(x: f32[1x3x4x2]):
  const w: f32[3x2x2x2] = [{NUMBERS}]
  p: f32[1x4x6x2] = pad(x, paddings=(0 0 1 0 1 1 0 0), value=0)
  r: f32[1x2x2x3x2x2] = reshape(p, shape=(1 2 2 3 2 2))
  t: f32[2x2x1x2x3x2] = transpose(r, perm=(2 4 0 1 3 5))
  i: f32[4x2x3x2] = reshape(t, shape=(4 2 3 2))
  u: f32[4x1x2x3] = conv2d(i, w, dilations=(1 1), padding=(0 0 0 0), strides=(1 1))
  q: f32[2x2x1x1x2x3] = reshape(u, shape=(2 2 1 1 2 3))
  v: f32[1x1x2x2x2x3] = transpose(q, perm=(2 3 0 4 1 5))
  m: f32[1x2x4x3] = reshape(v, shape=(1 2 4 3))
  z: f32[1x2x3x3] = slice(m, begin=(0 0 1 0), size=(1 2 3 3), strides=(1 1 1 1))
  return z"""
SIGNAL = f"""graph g(x: f32[1x6x2]):
  const w: f32[3x1x2x2] = [{", ".join(map(str, range(12)))}]
  r: f32[1x3x2x2] = reshape(x, shape=(1 3 2 2))
  t: f32[2x1x3x2] = transpose(r, perm=(2 0 1 3))
  i: f32[2x1x3x2] = reshape(t, shape=(2 1 3 2))
  u: f32[2x1x2x3] = conv2d(i, w, dilations=(1 1), padding=(0 0 0 0), strides=(1 1))
  q: f32[2x1x2x3] = reshape(u, shape=(2 1 2 3))
  v: f32[1x2x2x3] = transpose(q, perm=(1 2 0 3))
  m: f32[1x4x3] = reshape(v, shape=(1 4 3))
  return m"""
Lines = tuple[str, ...]
# Lines by their first word that stand in the place of others; `return` among them.
STAY: dict[str, tuple[str, Lines]] = {
    "steps of two": (IMAGE, (
        "u: f32[4x1x1x3] = conv2d(i, w, dilations=(1 1), padding=(0 0 0 0), strides=(2 2))",
        "q: f32[2x2x1x1x1x3] = reshape(u, shape=(2 2 1 1 1 3))",
        "v: f32[1x1x2x1x2x3] = transpose(q, perm=(2 3 0 4 1 5))",
        "m: f32[1x2x2x3] = reshape(v, shape=(1 2 2 3))",
        "z: f32[1x2x1x3] = slice(m, begin=(0 0 1 0), size=(1 2 1 3), strides=(1 1 1 1))",
    )),
    "columns in front of rows": (IMAGE, (
        "t: f32[2x2x1x2x3x2] = transpose(r, perm=(4 2 0 1 3 5))",
    )),
    "an image of other rows": (IMAGE.replace("1x3x4x2", "1x5x2x2"), (
        "p: f32[1x6x4x2] = pad(x, paddings=(0 0 1 0 1 1 0 0), value=0)",
    )),
    "images of other rows": (IMAGE, (
        "i: f32[4x3x2x2] = reshape(t, shape=(4 3 2 2))",
        "u: f32[4x2x1x3] = conv2d(i, w, dilations=(1 1), padding=(0 0 0 0), strides=(1 1))",
        "q: f32[2x2x1x2x1x3] = reshape(u, shape=(2 2 1 2 1 3))",
        "v: f32[1x2x2x1x2x3] = transpose(q, perm=(2 3 0 4 1 5))",
        "m: f32[1x4x2x3] = reshape(v, shape=(1 4 2 3))",
        "z: f32[1x2x2x3] = slice(m, begin=(0 0 0 0), size=(1 2 2 3), strides=(1 1 1 1))",
    )),
    "merged the other way round": (IMAGE, (
        "v: f32[1x1x2x2x2x3] = transpose(q, perm=(2 3 1 4 0 5))",
    )),
    "other parts are merged": (IMAGE, (
        "q: f32[1x2x2x1x2x3] = reshape(u, shape=(1 2 2 1 2 3))",
        "v: f32[2x1x1x2x2x3] = transpose(q, perm=(2 3 0 4 1 5))",
    )),
    "merged to another shape": (IMAGE, (
        "m: f32[1x4x2x3] = reshape(v, shape=(1 4 2 3))",
        "z: f32[1x2x2x3] = slice(m, begin=(0 0 0 0), size=(1 2 2 3), strides=(1 1 1 1))",
    )),
    "an operator behind the convolution": (IMAGE, (
        "k: f32[4x1x2x3] = tanh(u)", "q: f32[2x2x1x1x2x3] = reshape(k, shape=(2 2 1 1 2 3))",
    )),
    "an operator before the images are one": (IMAGE, (
        "k: f32[1x1x2x2x2x3] = tanh(v)", "m: f32[1x2x4x3] = reshape(k, shape=(1 2 4 3))",
    )),
    "an operator before the convolution": (IMAGE, (
        "k: f32[4x2x3x2] = tanh(i)",
        "u: f32[4x1x2x3] = conv2d(k, w, dilations=(1 1), padding=(0 0 0 0), strides=(1 1))",
    )),
    "what the convolution makes is an output": (IMAGE, ("return z, u",)),
    "what is merged is an output": (IMAGE, ("return z, v",)),
    "a signal whose classes change places": (SIGNAL, (
        "t: f32[2x3x1x2] = transpose(r, perm=(2 1 0 3))",
    )),
    "a signal that was an image": (SIGNAL.replace("x: f32[1x6x2]", "x: f32[3x2x2]"), ()),
    "a signal that becomes an image": (SIGNAL, (
        "u: f32[2x2x2x3] = conv2d(i, w, dilations=(1 1), padding=(0 1 0 0), strides=(1 1))",
        "q: f32[2x1x4x3] = reshape(u, shape=(2 1 4 3))",
        "v: f32[1x4x2x3] = transpose(q, perm=(1 2 0 3))",
        "m: f32[1x8x3] = reshape(v, shape=(1 8 3))",
    )),
    "a signal that is merged otherwise": (SIGNAL, (
        "v: f32[1x2x2x3] = transpose(q, perm=(1 0 2 3))",
    )),
    "an operator that adds axes": ("""graph g(x: f32[1x1x1x2]):
  const w: f32[3x1x1x2] = [1, 2, 3, 4, 5, 6]
  const c: f32[1x1x1x1x1x2] = [3, 4]
  r: f32[1x1x1x1x1x2] = add(x, c)
  t: f32[1x1x1x1x1x2] = transpose(r, perm=(2 4 0 1 3 5))
  i: f32[1x1x1x2] = reshape(t, shape=(1 1 1 2))
  u: f32[1x1x1x3] = conv2d(i, w, dilations=(1 1), padding=(0 0 0 0), strides=(1 1))
  q: f32[1x1x1x1x1x3] = reshape(u, shape=(1 1 1 1 1 3))
  v: f32[1x1x1x1x1x3] = transpose(q, perm=(2 3 0 4 1 5))
  m: f32[1x1x1x3] = reshape(v, shape=(1 1 1 3))
  return m""", ()),
}  # fmt: skip
# And the operators that are left beside the convolution.
JOINED: dict[str, tuple[str, Lines, Lines]] = {
    "an image": (IMAGE, (), ()),
    "a signal": (SIGNAL, (), ("reshape", "reshape")),
    "of what an operator makes": (IMAGE, (
        "k: f32[1x3x4x2] = tanh(x)",
        "p: f32[1x4x6x2] = pad(k, paddings=(0 0 1 0 1 1 0 0), value=0)",
    ), ("tanh",)),
    "of what an operator makes of the padding": (IMAGE, (
        "k: f32[1x4x6x2] = tanh(p)", "r: f32[1x2x2x3x2x2] = reshape(k, shape=(1 2 2 3 2 2))",
    ), ("pad", "slice", "tanh")),
    "padded with another value": (IMAGE, (
        "p: f32[1x4x6x2] = pad(x, paddings=(0 0 1 0 1 1 0 0), value=1)",
    ), ("pad", "slice")),
    "channels that are padded": (IMAGE.replace("x: f32[1x3x4x2]", "x: f32[1x3x4x1]"), (
        "p: f32[1x4x6x2] = pad(x, paddings=(0 0 1 0 1 1 0 1), value=0)",
    ), ("pad", "slice")),
    "a batch that is padded": (IMAGE, (
        "p: f32[2x4x6x2] = pad(x, paddings=(1 0 1 0 1 1 0 0), value=0)",
        "r: f32[2x2x2x3x2x2] = reshape(p, shape=(2 2 2 3 2 2))",
        "t: f32[2x2x2x2x3x2] = transpose(r, perm=(2 4 0 1 3 5))",
        "i: f32[8x2x3x2] = reshape(t, shape=(8 2 3 2))",
        "u: f32[8x1x2x3] = conv2d(i, w, dilations=(1 1), padding=(0 0 0 0), strides=(1 1))",
        "q: f32[2x2x2x1x2x3] = reshape(u, shape=(2 2 2 1 2 3))",
        "v: f32[2x1x2x2x2x3] = transpose(q, perm=(2 3 0 4 1 5))",
        "m: f32[2x2x4x3] = reshape(v, shape=(2 2 4 3))",
        "z: f32[2x2x3x3] = slice(m, begin=(0 0 1 0), size=(2 2 3 3), strides=(1 1 1 1))",
    ), ("pad", "slice")),
    "an operator behind it": (IMAGE, ("z: f32[1x2x4x3] = tanh(m)",), ("tanh",)),
    "every other column of it": (IMAGE, (
        "z: f32[1x2x2x3] = slice(m, begin=(0 0 0 0), size=(1 2 2 3), strides=(1 1 2 1))",
    ), ("slice",)),
    "some channels of it": (IMAGE, (
        "z: f32[1x2x3x2] = slice(m, begin=(0 0 1 1), size=(1 2 3 2), strides=(1 1 1 1))",
    ), ("slice",)),
    "its first channels": (IMAGE, (
        "z: f32[1x2x3x2] = slice(m, begin=(0 0 1 0), size=(1 2 3 2), strides=(1 1 1 1))",
    ), ("slice",)),
}  # fmt: skip


def net(base: str, lines: Sequence[str]) -> Graph:
    """`base` with `lines`: in the place of those of their name, or behind the one they read."""
    body = base.splitlines()
    for line in lines:
        first = line.split(" = ")[0].split(":")[0].split()[0]
        at = [i for i, own in enumerate(body) if own.split(":")[0].split()[0] == first]
        if at:
            body[at[0]] = f"  {line}"
        else:
            read = line.partition("(")[2].rstrip(")").split(",")[0]
            at = [i for i, own in enumerate(body) if own.strip().startswith(f"{read}:")]
            body.insert(at[0] + 1 if at else 2, f"  {line}")
    return plain("\n".join(body))


@pytest.mark.parametrize("name", STAY)
def test_what_only_looks_like_one_stays(name: str) -> None:
    graph = net(*STAY[name])
    assert str(run([join_dilations], graph)) == str(graph)


@pytest.mark.parametrize("name", JOINED)
def test_one_convolution(name: str) -> None:
    base, lines, left = JOINED[name]
    graph = net(base, lines)
    made = run([join_dilations], graph)
    (conv,) = [n for n in made.nodes if n.op == "conv2d"]
    assert conv.attrs["dilations"] == ((2, 2) if base[:20] == IMAGE[:20] else (1, 2))
    assert sorted(n.op for n in made.nodes if n is not conv) == sorted(left)
    for inputs in random_inputs(graph, 3, 0):
        have, want = evaluate(made, inputs), evaluate(graph, inputs)
        assert all(np.array_equal(have[n], want[n]) for n in graph.outputs)


def test_padding_of_another_scale_stays() -> None:
    """Its zero is not the image's."""
    body = IMAGE.replace("f32[", "i8[")
    for name in "xprti":
        body = _scaled(body, name, "{0.1; 7}" if name == "x" else "{0.2; 7}")
    body = _scaled(body, "w", "{0.5; 0}").replace("value=0", "value=7")
    for name in "uqvmz":
        body = _scaled(body, name, "{0.3; -4}")
    graph = plain(body)
    made = run([join_dilations], graph)
    assert [n.op for n in made.nodes] == ["pad", "conv2d", "slice"]
    alike = plain(body.replace("{0.1; 7}", "{0.2; 7}"))
    assert [n.op for n in run([join_dilations], alike).nodes] == ["conv2d"]


def _scaled(body: str, name: str, quant: str) -> str:
    head, _, rest = body.partition(f"{name}: i8[")
    return f"{head}{name}: i8[{rest.replace(']', ']' + quant, 1)}"
