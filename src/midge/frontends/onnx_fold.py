"""Operators of constants, computed while reading: the arithmetic of shapes.

The reference implementation of the package `onnx` computes; how much it may is decided before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, prod
from typing import Any

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array
from midge.frontends.onnx_scope import Call
from midge.graph.importers import IMPORTERS

_MOST = 1 << 22  # elements of one result
_BUDGET = 1 << 28  # of all results
_ENDLESS = 1 << 62

Inputs = Sequence[Array | None]


class Folder:
    """Computes operators and counts what that costs."""

    def __init__(self) -> None:
        self.spent = 0

    def spend(self, elements: int, where: str) -> None:
        self.spent += elements
        if self.spent > _BUDGET:
            what = f"more than {_BUDGET} elements are computed from constants"
            raise ModelError(what, where=where, hint="simplify the model before export")

    def run(self, call: Call, inputs: Inputs) -> list[Array] | None:
        """The outputs, or None for an operator that is none of these or is too large."""
        if call.kind not in _SIZES or call.domain:
            return None
        size = _SIZES[call.kind](inputs, call.attrs)
        if size > _MOST:
            if call.kind not in IMPORTERS["onnx"]:
                raise _too_large(call, size)
            return None
        self.spend(max(size, sum(a.size for a in inputs if a is not None)), call.where)
        results = _computed(call, inputs)
        if len(results) != len(call.outputs) or sum(a.size for a in results) > 2 * _MOST:
            raise call.error(f"computes {len(results)} outputs, not {len(call.outputs)}")
        return results


def _too_large(call: Call, size: int) -> ModelError:
    """Of an operator that only constants have."""
    if size == _ENDLESS:
        return call.error("has no end: its step is 0", "mend the model, or export it again")
    what = f"{size} elements are made of constants, at most {_MOST} can be"
    return call.error(what, "make it smaller, or store what it makes in the file (an initializer)")


def _computed(call: Call, inputs: Inputs) -> list[Array]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    names = [f"i{k}" if a is not None else "" for k, a in enumerate(inputs)]
    outputs = [f"o{k}" for k in range(len(call.outputs))]
    attrs = {k: _as_attribute(v) for k, v in call.attrs.items()}
    node = helper.make_node(call.kind, names, outputs, **attrs)
    values = [helper.make_tensor_value_info(n, 1, None) for n in names if n]
    results = [helper.make_tensor_value_info(n, 1, None) for n in outputs]
    graph = helper.make_graph([node], "constant", values, results)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", call.opset)])
    feeds = {n: a for n, a in zip(names, inputs, strict=True) if a is not None}
    try:
        found: list[Any] = ReferenceEvaluator(model).run(None, feeds)  # type: ignore[assignment]
        return [np.ascontiguousarray(a).reshape(np.shape(a)) for a in found]
    except Exception as error:
        what = "cannot be computed from its constants: they do not fit it, or each other"
        raise call.error(what, "mend the model, or export it again") from error


def _as_attribute(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        from onnx import numpy_helper

        return numpy_helper.from_array(value)
    return list(value) if isinstance(value, tuple) else value


def _arrays(inputs: Inputs) -> list[Array]:
    return [a for a in inputs if a is not None]


def _broadcast(inputs: Inputs, attrs: Any) -> int:
    shapes = [a.shape for a in _arrays(inputs)]
    rank = max(map(len, shapes))
    aligned = [(1,) * (rank - len(s)) + s for s in shapes]
    return prod(max(sizes) for sizes in zip(*aligned, strict=True))


def _total(inputs: Inputs, attrs: Any) -> int:
    return sum(a.size for a in _arrays(inputs))


def _gather(inputs: Inputs, attrs: Any) -> int:
    data, indices = _arrays(inputs)[:2]
    axis = int(attrs.get("axis", 0))
    length = data.shape[axis] if -data.ndim <= axis < data.ndim else 1
    return data.size * indices.size // max(length, 1)


def _product(inputs: Inputs, attrs: Any) -> int:
    return prod(max(a.size, 1) for a in _arrays(inputs)[:2])


def _shape(inputs: Inputs, attrs: Any) -> int:
    return prod(max(int(n), 1) for n in _arrays(inputs)[0].reshape(-1)[:64])


def _expand(inputs: Inputs, attrs: Any) -> int:
    data, shape = _arrays(inputs)[:2]
    return data.size * prod(max(int(n), 1) for n in shape.reshape(-1)[:64])


def _pad(inputs: Inputs, attrs: Any) -> int:
    data, pads = _arrays(inputs)[:2]
    extra = sum(abs(int(p)) for p in pads.reshape(-1)[:64])
    return prod(n + extra for n in data.shape)


def _range(inputs: Inputs, attrs: Any) -> int:
    start, limit, delta = (float(a.reshape(-1)[0]) for a in _arrays(inputs)[:3])
    return max(0, ceil((limit - start) / delta)) if delta else _ENDLESS


def _one_hot(inputs: Inputs, attrs: Any) -> int:
    indices, depth = _arrays(inputs)[:2]
    return indices.size * max(int(depth.reshape(-1)[0]), 1)


def _split(inputs: Inputs, attrs: Any) -> int:
    """`num_outputs` is how often the reference loops."""
    return max(_total(inputs, attrs), int(attrs.get("num_outputs", 0)))


_SIZES: dict[str, Callable[[Inputs, Any], int]] = {
    "ConstantOfShape": _shape, "Range": _range, "Expand": _expand, "Tile": _expand, "Pad": _pad,
    "OneHot": _one_hot, "Gather": _gather, "GatherND": _product, "GatherElements": _total,
    "ScatterND": _total, "ScatterElements": _total, "Split": _split,
}  # fmt: skip
_SIZES |= dict.fromkeys(
    """
    Abs And BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Ceil Clip Div Equal Exp Floor Greater
    GreaterOrEqual Less LessOrEqual Log Max Mean Min Mod Mul Neg Not Or Pow Reciprocal Round Sign
    Sqrt Sub Sum Where Xor Add IsNaN IsInf Erf Sigmoid Tanh Sin Cos
    """.split(),
    _broadcast,
)
_SIZES |= dict.fromkeys(
    """
    ArgMax ArgMin Cast CastLike Compress Concat CumSum Flatten NonZero ReduceMax ReduceMean
    ReduceMin ReduceProd ReduceSum Reshape Shape Size Slice Squeeze TopK Transpose Trilu Unsqueeze
    Unique
    """.split(),
    _total,
)
_SIZES["NonZero"] = lambda inputs, attrs: 8 * _total(inputs, attrs)
FOLDED = frozenset(_SIZES)  # operators that are computed where all that they read is constant
