"""ONNX's RNN, GRU and LSTM, unrolled over time.

The inputs of all steps are multiplied at once; each step then multiplies the state. All steps share
the same weights, so that their C is one set of functions called again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from midge.core.types import DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Node
from midge.ops.onnx_slices import slice_attrs

_PARTS = 128  # operands of one concat
_MOST_STEPS = 4096
_STATE = 5  # the input that has the initial state

Function = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class _Kind:
    """gates: matrices in W and R.  functions: the default activations of one direction."""

    gates: int
    functions: tuple[str, ...]


_KINDS = {
    "RNN": _Kind(1, ("Tanh",)),
    "GRU": _Kind(3, ("Sigmoid", "Tanh")),
    "LSTM": _Kind(4, ("Sigmoid", "Tanh", "Tanh")),
}


class _Unrolled:
    """One operator: its dimensions, attributes, and how small pieces of it are written.

    projected: the state of an LSTM is its output times one more input, number 8,
    [directions, state, hidden].
    """

    def __init__(self, op: Foreign, *, projected: bool = False) -> None:
        self.op, self.kind = op, _KINDS[op.kind]
        op.expect_inputs(3, (9 if projected else 8) if op.kind == "LSTM" else 6)
        for i in (0, 1, 2):
            op.expect_dtype(i, DType.F32)
        self.steps = Steps(op)
        self.batch_first = bool(op.attrs.get("layout", 0))
        x, w, r = (op.type(i) for i in (0, 1, 2))
        names = {"forward": 1, "reverse": 1, "bidirectional": 2}
        self.direction = op.attrs.get("direction", "forward")
        self.directions = names.get(self.direction, 0)
        if len(x.shape) != 3 or len(w.shape) != 3 or len(r.shape) != 3 or 0 in x.shape:
            raise op.error(f"input {x}, weights {w}, {r}", "expected three dimensions each")
        self.length, self.batch, self.features = x.shape
        if self.batch_first:
            self.batch, self.length, _ = x.shape
        self.hidden = int(op.attrs.get("hidden_size", r.shape[2]))
        self.rows = self.kind.gates * self.hidden
        self.state = r.shape[2] if projected else self.hidden
        wanted = tuple((self.directions, self.rows, n) for n in (self.features, self.state))
        if (w.shape, r.shape) != wanted or self.hidden < 1 or self.length > _MOST_STEPS:
            raise op.error(f"input {x}, weights {w}, {r}, direction {self.direction}")
        if projected:
            self.check(8, (self.directions, self.state, self.hidden))
        self.check_lengths()
        self.clip = op.attrs.get("clip")

    def check_lengths(self) -> None:
        if not self.op.has(4):
            return
        lengths = self.op.const(4, "sequence_lens")
        if (lengths != self.length).any():
            raise self.op.error(
                f"sequence_lens {lengths.tolist()} differ from the length {self.length}",
                "sequences of different lengths are not supported",
            )

    def sequence(self) -> str:
        """All steps as rows, [length * batch, features]."""
        x = self.op.inputs[0]
        if self.batch_first:
            x = self.steps.emit("transpose", [x], {"perm": (1, 0, 2)})
        shape = (self.length * self.batch, self.features)
        return self.steps.emit("reshape", [x], {"shape": shape})

    def matrix(self, i: int, direction: int, start: int = 0, stop: int | None = None) -> str:
        """Rows of the weights (input `i`) of one direction."""
        shape = self.steps.type(self.op.inputs[i]).shape
        rows = range(shape[1])[start:stop]
        ranges = [range(direction, direction + 1), rows, *(range(n) for n in shape[2:])]
        part = self.steps.emit("slice", [self.op.inputs[i]], slice_attrs(ranges))
        return self.steps.emit("reshape", [part], {"shape": (len(rows), *shape[2:])})

    def bias(self, direction: int, start: int, stop: int) -> str:
        """Elements of the bias of one direction."""
        self.check(3, (self.directions, 2 * self.rows))
        return self.matrix(3, direction, start, stop)

    def check(self, i: int, shape: tuple[int, ...]) -> None:
        """ModelError unless optional input `i` has `shape`."""
        if self.op.type(i).shape != shape:
            raise self.op.error(f"input {i} is {self.op.type(i)}, expected shape {shape}")

    def initial(self, i: int, direction: int) -> str:
        """The initial state in input `i`, "" for zeros."""
        if not self.op.has(i):
            return ""
        width = self.state if i == _STATE else self.hidden
        ranges = [range(n) for n in (self.directions, self.batch, width)]
        axis = 0
        if self.batch_first:
            ranges, axis = [ranges[1], ranges[0], ranges[2]], 1
        self.check(i, tuple(map(len, ranges)))
        name = self.op.inputs[i]
        if name in self.op.consts and not self.op.consts[name].any():
            return ""
        ranges[axis] = range(direction, direction + 1)
        part = self.steps.emit("slice", [name], slice_attrs(ranges))
        return self.steps.emit("reshape", [part], {"shape": (self.batch, width)})

    def emit(self, op: str, *inputs: str, **attrs: Any) -> str:
        return self.steps.emit(op, inputs, attrs)

    def added(self, a: str, b: str) -> str:
        """a + b, either of them "" for nothing."""
        return self.emit("add", a, b) if a and b else a or b

    def gate(self, value: str, number: int) -> str:
        """The columns of one gate in [batch, gates * hidden]."""
        columns = range(number * self.hidden, (number + 1) * self.hidden)
        return self.steps.emit("slice", [value], slice_attrs([range(self.batch), columns]))

    def limited(self, value: str) -> str:
        """Within `clip` of 0, where there is that."""
        if self.clip is None:
            return value
        return self.emit("clip", value, low=-float(self.clip), high=float(self.clip))

    def functions(self, direction: int) -> list[Function]:
        """The activations of one direction."""
        count = len(self.kind.functions)
        names = self.op.attrs.get("activations", self.kind.functions * self.directions)
        if len(names) != count * self.directions:
            raise self.op.error(f"{len(names)} activations, expected {count * self.directions}")
        parameters = {k: list(self.op.attrs.get(f"activation_{k}", ())) for k in ("alpha", "beta")}
        made = []
        for name in names:
            chosen = {k: parameters[k].pop(0) for k in _taken(str(name)) if parameters[k]}
            made.append(self.function(str(name), **chosen))
        return made[direction * count : (direction + 1) * count]

    def function(self, name: str, alpha: float = 0.2, beta: float = 0.5) -> Function:
        a, b = np.array([alpha], np.float32), np.array([beta], np.float32)

        def hard_sigmoid(x: str) -> str:
            scaled = self.emit("mul", x, self.steps.const(a, "alpha"))
            straight = self.emit("add", scaled, self.steps.const(b, "beta"))
            return self.emit("clip", straight, low=0.0, high=1.0)

        table: dict[str, Function] = {
            "sigmoid": lambda x: self.emit("logistic", x),
            "tanh": lambda x: self.emit("tanh", x),
            "relu": lambda x: self.emit("clip", x, low=0.0, high=float("inf")),
            "hardsigmoid": hard_sigmoid,
        }
        if name.lower() not in table:
            raise self.op.error(f"activation {name} is not supported", f"known: {', '.join(table)}")
        return table[name.lower()]

    def projected(self, direction: int, bias: str) -> list[str]:
        """W * x + bias of each step, [batch, gates * hidden]."""
        inputs = [self.sequence(), self.matrix(1, direction), *([bias] if bias else [])]
        total = self.steps.emit("dense", inputs)
        if self.length == 1:
            return [total]
        rows = (range(t * self.batch, (t + 1) * self.batch) for t in range(self.length))
        columns = range(self.rows)
        return [self.steps.emit("slice", [total], slice_attrs([r, columns])) for r in rows]

    def order(self, direction: int) -> Sequence[int]:
        backwards = direction == 1 or self.direction == "reverse"
        return range(self.length)[:: -1 if backwards else 1]

    # Results.

    def finish(self, every: list[list[str]], last: list[list[str]]) -> tuple[Node, ...]:
        """Y of the states of every step, Y_h and Y_c of the last ones; by direction."""
        outputs = self.op.outputs
        shape = (self.length, self.batch, self.state)
        sequences = [
            self.emit("reshape", self.joined([self.row(h) for h in states]), shape=shape)
            for states in every
        ]
        self.write(outputs[0], sequences, (self.length, 1, self.batch, self.state))
        for output, states, width in zip(
            outputs[1:], last, (self.state, self.hidden), strict=False
        ):
            self.write(output, states, (1, self.batch, width))
        return tuple(self.steps.nodes)

    def row(self, state: str) -> str:
        return self.emit("reshape", state, shape=(1, self.batch * self.state))

    def joined(self, parts: list[str]) -> str:
        """Any number of tensors along their first axis."""
        while len(parts) > 1:
            groups = [parts[i : i + _PARTS] for i in range(0, len(parts), _PARTS)]
            parts = [self.emit("concat", *g, axis=0) if len(g) > 1 else g[0] for g in groups]
        return parts[0]

    def write(self, output: str, parts: list[str], shape: tuple[int, ...]) -> None:
        """An output of the parts of each direction, each of `shape`."""
        axis = len(shape) - 3
        end = "" if self.batch_first else output
        if len(parts) == 1:
            whole = self.steps.emit("reshape", parts, {"shape": shape}, output=end)
        else:
            shaped = [self.emit("reshape", p, shape=shape) for p in parts]
            whole = self.steps.emit("concat", shaped, {"axis": axis}, output=end)
        if self.batch_first:
            perm = (2, 0, 1, 3) if len(shape) == 4 else (1, 0, 2)
            self.steps.emit("transpose", [whole], {"perm": perm}, output=output)


def _taken(name: str) -> tuple[str, ...]:
    """The parameters that an activation takes from the lists."""
    return ("alpha", "beta") if name.lower() == "hardsigmoid" else ()


def rnn_from_onnx(op: Foreign) -> tuple[Node, ...]:
    u = _Unrolled(op)
    every, last = [], []
    for d in range(u.directions):
        (f,) = u.functions(d)
        n = u.rows
        bias = u.emit("add", u.bias(d, 0, n), u.bias(d, n, 2 * n)) if op.has(3) else ""
        steps, r, h = u.projected(d, bias), u.matrix(2, d), u.initial(5, d)
        states = {}
        for t in u.order(d):
            total = u.added(steps[t], u.emit("dense", h, r) if h else "")
            states[t] = h = f(u.limited(total))
        every.append([states[t] for t in range(u.length)])
        last.append(h)
    return u.finish(every, [last])


def gru_from_onnx(op: Foreign) -> tuple[Node, ...]:
    u = _Unrolled(op)
    every, last = [], []
    for d in range(u.directions):
        step = _gru_step(u, d)
        h = u.initial(5, d)
        states = {}
        for t in u.order(d):
            states[t] = h = step(t, h)
        every.append([states[t] for t in range(u.length)])
        last.append(h)
    return u.finish(every, [last])


def _gru_step(u: _Unrolled, d: int) -> Callable[[int, str], str]:
    """(step, state or "") -> next state; the gates are update, reset, hidden."""
    n, m = u.hidden, u.rows
    f, g = u.functions(d)
    after = bool(u.op.attrs.get("linear_before_reset", 0))
    w_bias = r_bias = ""
    if u.op.has(3):
        gates = u.emit("add", u.bias(d, 0, 2 * n), u.bias(d, m, m + 2 * n))
        hidden, r_bias = u.bias(d, 2 * n, m), u.bias(d, m + 2 * n, 2 * m)
        if not after:
            hidden = u.emit("add", hidden, r_bias)
        w_bias = u.emit("concat", gates, hidden, axis=0)
    inputs = u.projected(d, w_bias)
    r_gates, r_hidden = u.matrix(2, d, 0, 2 * n), u.matrix(2, d, 2 * n, m)
    one = u.steps.const(np.ones(1, np.float32), "one")

    def recurrent(h: str, reset: str) -> str:
        """What the state adds to the hidden gate."""
        if after:
            bias = [r_bias] if r_bias else []
            if h:
                return u.emit("mul", reset, u.emit("dense", h, r_hidden, *bias))
            return u.emit("mul", reset, *bias) if bias else ""
        return u.emit("dense", u.emit("mul", reset, h), r_hidden) if h else ""

    def step(t: int, h: str) -> str:
        parts = [u.gate(inputs[t], i) for i in range(3)]
        state = u.emit("dense", h, r_gates) if h else ""
        update, reset = (
            f(u.limited(u.added(parts[i], u.gate(state, i) if state else ""))) for i in (0, 1)
        )
        candidate = g(u.limited(u.added(parts[2], recurrent(h, reset))))
        fresh = u.emit("mul", u.emit("sub", one, update), candidate)
        return u.added(fresh, u.emit("mul", update, h) if h else "")

    return step


def lstm_from_onnx(op: Foreign) -> tuple[Node, ...]:
    return _lstm(_Unrolled(op))


def projected_lstm(op: Foreign) -> tuple[Node, ...]:
    """An LSTM whose state is a projection of its output (Sak et al. 2014, "Long Short-Term Memory
    Recurrent Neural Network Architectures"): input 8 has the weights, [directions, state, hidden].
    ONNX has no words for that; PyTorch calls it proj_size."""
    return _lstm(_Unrolled(op, projected=True))


def _lstm(u: _Unrolled) -> tuple[Node, ...]:
    every, last, cells = [], [], []
    for d in range(u.directions):
        step = _lstm_step(u, d)
        h, c = u.initial(5, d), u.initial(6, d)
        states = {}
        for t in u.order(d):
            h, c = step(t, h, c)
            states[t] = h
        every.append([states[t] for t in range(u.length)])
        last.append(h)
        cells.append(c)
    return u.finish(every, [last, cells])


def _lstm_step(u: _Unrolled, d: int) -> Callable[[int, str, str], tuple[str, str]]:
    """(step, state, cell) -> the next ones; the gates are input, output, forget, cell."""
    n, m = u.hidden, u.rows
    f, g, last = u.functions(d)
    bias = u.emit("add", u.bias(d, 0, m), u.bias(d, m, 2 * m)) if u.op.has(3) else ""
    inputs, r = u.projected(d, bias), u.matrix(2, d)
    peepholes = ["", "", ""]
    if u.op.has(7):
        u.check(7, (u.directions, 3 * n))
        peepholes = [u.matrix(7, d, i * n, (i + 1) * n) for i in range(3)]
    projection = u.matrix(8, d) if u.op.has(8) else ""
    one = u.steps.const(np.ones(1, np.float32), "one")

    def step(t: int, h: str, c: str) -> tuple[str, str]:
        total = u.added(inputs[t], u.emit("dense", h, r) if h else "")

        def gate(i: int, function: Function, cell: str = "") -> str:
            seen = u.emit("mul", peepholes[i], cell) if cell and peepholes[i] else ""
            return function(u.limited(u.added(u.gate(total, i), seen)))

        into = gate(0, f, c)
        forget = u.emit("sub", one, into) if u.op.attrs.get("input_forget", 0) else gate(2, f, c)
        fresh = u.emit("mul", into, u_cell(total))
        cell = u.added(u.emit("mul", forget, c) if c else "", fresh)
        out = u.emit("mul", gate(1, f, cell), last(cell))
        return u.emit("dense", out, projection) if projection else out, cell

    def u_cell(total: str) -> str:
        return g(u.limited(u.gate(total, 3)))

    return step


for _name, _importer in (
    ("RNN", rnn_from_onnx),
    ("GRU", gru_from_onnx),
    ("LSTM", lstm_from_onnx),
):
    IMPORTERS["onnx"].add(_name, _importer)
