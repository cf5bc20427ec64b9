"""PyTorch's recurrent layers, as ONNX's, layer after layer."""

from __future__ import annotations

import numpy as np

from midge.graph.importers import IMPORTERS, Foreign
from midge.graph.ir import Node
from midge.ops._torch import Aten
from midge.ops.onnx_rnn import projected_lstm

_BIASED = 4  # weights of a layer that has biases
_GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}  # ONNX's order of PyTorch's


def recurrent(op: Foreign) -> tuple[Node, ...]:
    """lstm, gru, rnn_tanh, rnn_relu: layer after layer, as ONNX's."""
    a = Aten(op)
    name = op.kind.split(".")[1]
    kind = {"lstm": "LSTM", "gru": "GRU"}.get(name, "RNN")
    if a.op.attrs.get("train") is True or "data" in op.attrs:
        raise op.error("training mode and packed sequences are not supported", "call model.eval()")
    x = a.tensor("input")
    batch_first = op.attrs.get("batch_first") is True
    if len(a.shape(x)) != 3:
        raise op.error(f"the input is {a.type(x)}", "expected [batch, time, features]")
    if batch_first:
        x = a.permute(x, (1, 0, 2))
    states = a.tensors("hx") if kind == "LSTM" else [a.tensor("hx")]
    directions = 2 if op.attrs.get("bidirectional") is True else 1
    layers = a.integer("num_layers")
    weights = a.tensors("params")
    each = len(weights) // max(layers * directions, 1)
    biases = 4 if op.attrs.get("has_biases") is not False else 2
    known = (biases, biases + 1) if kind == "LSTM" else (biases,)  # one more for projections
    if len(weights) != each * layers * directions or each not in known:
        raise op.error(f"{len(weights)} weights for {layers} layers")
    last: list[list[str]] = [[] for _ in states]
    for layer in range(layers):
        own = weights[layer * directions * each : (layer + 1) * directions * each]
        rows = range(layer * directions, (layer + 1) * directions)
        initial = [_rows(a, s, rows) for s in states]
        x, ends = _layer(a, kind, x, own, initial, directions, name)
        for found, end in zip(last, ends, strict=True):
            found.append(end)
    if batch_first:
        x = a.permute(x, (1, 0, 2))
    results = [f[0] if len(f) == 1 else a.onnx("Concat", f, axis=0) for f in last]
    return a.finished([x, *results])


def _rows(a: Aten, state: str, rows: range) -> str:
    if a.shape(state)[0] == len(rows):
        return state
    ends = [a.value([n]) for n in (rows.start, rows.stop, 0)]
    return a.onnx("Slice", [state, *ends])


def _layer(
    a: Aten, kind: str, x: str, weights: list[str], initial: list[str], directions: int, name: str
) -> tuple[str, list[str]]:
    """One layer: its sequence [time, batch, directions * hidden] and last states. An odd number of
    weights: the last ones project the state."""
    each = len(weights) // directions
    parts = [weights[d * each : (d + 1) * each] for d in range(directions)]
    projected = each % 2 == 1
    hidden = a.shape(parts[0][1])[0] // len(_GATES[kind])
    w, r = (_stacked(a, kind, [p[i] for p in parts]) for i in (0, 1))
    inputs = [x, w, r, "", "", *initial]
    if each >= _BIASED:
        biases = [_stacked(a, kind, [p[i] for p in parts]) for i in (2, 3)]
        inputs[3] = a.onnx("Concat", biases, axis=1)
    attrs: dict[str, object] = {"hidden_size": hidden}
    attrs["direction"] = "bidirectional" if directions == 2 else "forward"
    if kind == "GRU":
        attrs["linear_before_reset"] = 1
    if name == "rnn_relu":
        attrs["activations"] = ("Relu",) * directions
    ends = [a.named() for _ in initial]
    if projected:
        rows = [a.reshape(p[-1], (1, *a.shape(p[-1]))) for p in parts]
        inputs += ["", rows[0] if len(rows) == 1 else a.onnx("Concat", rows, axis=0)]
    y = a.call(
        kind, inputs, attrs, a.named(), *ends, importer=projected_lstm if projected else None
    )
    length, _, batch, width = a.shape(y)
    y = a.reshape(a.permute(y, (0, 2, 1, 3)), (length, batch, directions * width))
    return y, ends


def _stacked(a: Aten, kind: str, parts: list[str]) -> str:
    """Weights of all directions with the gates in ONNX's order."""
    order = _GATES[kind]
    found = []
    for value in parts:
        rows = a.shape(value)[0] // len(order)
        index = np.concatenate([np.arange(g * rows, (g + 1) * rows) for g in order])
        own = value if len(order) == 1 else a.onnx("Gather", [value, a.value(index)], axis=0)
        found.append(a.reshape(own, (1, *a.shape(own))))
    return found[0] if len(found) == 1 else a.onnx("Concat", found, axis=0)


def cell(op: Foreign) -> tuple[Node, ...]:
    """lstm_cell, gru_cell, rnn_tanh_cell, rnn_relu_cell: one step."""
    a = Aten(op)
    name = op.kind.split(".")[1].removesuffix("_cell")
    kind = {"lstm": "LSTM", "gru": "GRU"}.get(name, "RNN")
    x = a.tensor("input")
    states = a.tensors("hx") if kind == "LSTM" else [a.tensor("hx")]
    weights = [a.tensor(n) for n in ("w_ih", "w_hh", "b_ih", "b_hh")]
    rows = [a.reshape(v, (1, *a.shape(v))) for v in (x, *states)]
    _, ends = _layer(a, kind, rows[0], [w for w in weights if w], rows[1:], 1, name)
    return a.finished([a.reshape(e, a.shape(s)) for e, s in zip(ends, states, strict=True)])


for _name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
    IMPORTERS["torch"].add(f"aten.{_name}", recurrent)
    IMPORTERS["torch"].add(f"aten.{_name}_cell", cell)
