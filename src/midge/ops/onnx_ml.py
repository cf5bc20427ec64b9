"""What stands around trees in ai.onnx.ml: scaling, linear models, labels."""

from __future__ import annotations

from typing import Any

import numpy as np

from midge.core.types import Array, DType
from midge.graph.importers import IMPORTERS, Foreign, Steps
from midge.graph.ir import Node
from midge.ops import _onnx

_POSTS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO")
_NEAR_ZERO = 1e-7  # what SOFTMAX_ZERO takes for 0, as onnxruntime does


def classes_of(op: Foreign, numbers: str, strings: str) -> Array:
    """The labels; positions for strings."""
    given: Any = op.attrs.get(numbers, ())
    words: Any = op.attrs.get(strings, ())
    if not isinstance(given, tuple) or not isinstance(words, tuple) or bool(given) == bool(words):
        raise op.error(f"has both or none of {numbers} and {strings}")
    return np.array(given if given else range(len(words)), np.int64)


def label(op: Foreign, steps: Steps, scores: str, names: Array) -> None:
    """Write the first output: the name of the greatest score, of equal ones the first; with a bool
    in place of scores the second name if it is true."""
    t = steps.type(scores)
    if t.dtype is DType.BOOL:
        place = steps.emit("cast", [scores], {"dtype": "i64"})
    else:
        place = steps.emit("arg_max", [scores], {"axis": 1, "dtype": "i64"})
    shape = {"shape": (t.shape[0],)}
    if (names == np.arange(len(names))).all():
        steps.emit("reshape", [place], shape, output=op.outputs[0])
        return
    index = steps.emit("reshape", [place], shape)
    table = steps.const(names, "labels")
    steps.emit("gather", [table, index], {"axis": 0}, output=op.outputs[0])


def post_transform(op: Foreign, steps: Steps, scores: str, post: str) -> str:
    """Scores [rows, classes] as attribute post_transform wants them."""
    match post:
        case "SOFTMAX":
            return steps.emit("softmax", [scores], {"beta": 1.0})
        case "LOGISTIC":
            return steps.emit("logistic", [scores])
        case "SOFTMAX_ZERO":
            return _softmax_zero(steps, scores)
    return scores


def _softmax_zero(steps: Steps, scores: str) -> str:
    """A softmax in which what is 0 stays 0."""
    most = steps.emit("reduce_max", [scores], {"axes": (1,)})
    powers = steps.emit("exp", [steps.emit("sub", [scores, most])])
    limit = steps.const(np.full((1, 1), _NEAR_ZERO, np.float32), "near_zero")
    counts = steps.emit("less", [limit, steps.emit("abs", [scores])])
    zero = steps.const(np.zeros((1, 1), np.float32), "zero")
    kept = steps.emit("where", [counts, powers, zero])
    whole = steps.emit("sum", [kept], {"axes": (1,)})
    return _divided(steps, kept, whole)


def _divided(steps: Steps, value: str, by: str) -> str:
    """value / by; where `by` is 0, value."""
    one = steps.const(np.ones((1, 1), np.float32), "one")
    zero = steps.const(np.zeros((1, 1), np.float32), "none")
    safe = steps.emit("where", [steps.emit("equal", [by, zero]), one, by])
    return steps.emit("div", [value, safe])


def _row(op: Foreign, name: str, count: int) -> Array:
    """An attribute of floats, one for each feature or one for all."""
    value: Any = op.attrs.get(name, ())
    numbers = isinstance(value, tuple) and all(isinstance(v, int | float) for v in value)
    if not numbers or len(value) not in (1, count):
        raise op.error(f"attribute {name} does not fit {count} features")
    return np.array(value, np.float32)


def _real(op: Foreign, steps: Steps) -> str:
    """Input 0 [rows, features] or [features] as f32."""
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32, DType.I32, DType.I64)
    if len(op.type(0).shape) not in (1, 2) or op.type(0).elements == 0:
        raise op.error(f"the input is {op.type(0)}", "expected [rows, features]")
    if op.type(0).dtype is DType.F32:
        return op.inputs[0]
    return steps.emit("cast", [op.inputs[0]], {"dtype": "f32"})


def scaler(op: Foreign) -> tuple[Node, ...]:
    """Scaler: (x - offset) * scale."""
    steps = Steps(op)
    x = _real(op, steps)
    count = op.type(0).shape[-1]
    moved = steps.emit("sub", [x, steps.const(_row(op, "offset", count), "offset")])
    return steps.finish("mul", [moved, steps.const(_row(op, "scale", count), "scale")])


def normalizer(op: Foreign) -> tuple[Node, ...]:
    """Normalizer: a row divided by its greatest value, its sum of magnitudes or its length; one for
    which that is 0 stays. The greatest magnitude, which ONNX's reference implementation takes, is
    neither in ONNX's text nor in ONNX Runtime."""
    steps = Steps(op)
    x = _real(op, steps)
    norm = _onnx.word(op, "norm", "MAX", ("MAX", "L1", "L2"))
    axes = {"axes": (len(op.type(0).shape) - 1,)}
    if norm == "L2":
        size = steps.emit("sqrt", [steps.emit("sum", [steps.emit("mul", [x, x])], axes)])
    elif norm == "L1":
        size = steps.emit("sum", [steps.emit("abs", [x])], axes)
    else:
        size = steps.emit("reduce_max", [x], axes)
    _divided(steps, x, size)
    return steps.renamed()


def binarizer(op: Foreign) -> tuple[Node, ...]:
    """Binarizer: 1 above the threshold, else 0."""
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    steps = Steps(op)
    threshold = steps.const(np.array([_onnx.number(op, "threshold", 0.0)], np.float32), "threshold")
    above = steps.emit("less", [threshold, op.inputs[0]])
    return steps.finish("cast", [above], {"dtype": "f32"})


def feature_extractor(op: Foreign) -> tuple[Node, ...]:
    """ArrayFeatureExtractor: columns of the last axis, by their numbers."""
    op.expect_inputs(2)
    rank = len(op.type(0).shape)
    op.expect_dtype(1, DType.I64)
    if rank == 0 or op.type(0).elements == 0 or op.type(1).elements == 0:
        raise op.error(f"columns {op.type(1)} of {op.type(0)}")
    steps = Steps(op)
    index = steps.emit("reshape", [op.inputs[1]], {"shape": (op.type(1).elements,)})
    x, axis = op.inputs[0], rank - 1
    if rank == 1:
        x, axis = steps.emit("reshape", [x], {"shape": (1, op.type(0).elements)}), 1
    return steps.finish("gather", [x, index], {"axis": axis})


def imputer(op: Foreign) -> tuple[Node, ...]:
    """Imputer: what is the replaced value, or NaN if that is NaN, becomes another."""
    steps = Steps(op)
    op.expect_inputs(1)
    op.expect_dtype(0, DType.F32)
    x, count = op.inputs[0], op.type(0).shape[-1]
    replaced: Any = op.attrs.get("replaced_value_float", 0.0)
    if not isinstance(replaced, float):
        raise op.error(f"attribute replaced_value_float is {replaced!r}")
    if np.isnan(replaced):
        gone = steps.emit("isnan", [x])
    else:
        gone = steps.emit("equal", [x, steps.const(np.array([replaced], np.float32), "gone")])
    filled = steps.const(_row(op, "imputed_value_floats", count), "filled")
    return steps.finish("where", [gone, filled, x])


def linear_regressor(op: Foreign) -> tuple[Node, ...]:
    """LinearRegressor: x * coefficients + intercepts."""
    steps = Steps(op)
    targets = _onnx.integer(op, "targets", 1)
    scores = _linear(op, steps, targets)
    post_transform(op, steps, scores, _onnx.word(op, "post_transform", "NONE", _POSTS))
    return steps.renamed()


def linear_classifier(op: Foreign) -> tuple[Node, ...]:
    """LinearClassifier: a row of coefficients for each class."""
    steps = Steps(op)
    names = classes_of(op, "classlabels_ints", "classlabels_strings")
    scores = _linear(op, steps, len(names))
    label(op, steps, scores, names)
    if len(op.outputs) > 1:
        post = _onnx.word(op, "post_transform", "NONE", _POSTS)
        steps.emit("copy", [post_transform(op, steps, scores, post)], output=op.outputs[1])
    return tuple(steps.nodes)


def _linear(op: Foreign, steps: Steps, count: int) -> str:
    x = _real(op, steps)
    if len(op.type(0).shape) == 1:
        x = steps.emit("reshape", [x], {"shape": (1, op.type(0).elements)})
    width = op.type(0).shape[-1]
    weights, bias = op.attrs.get("coefficients", ()), op.attrs.get("intercepts", ())
    if not isinstance(weights, tuple) or len(weights) != count * width or count < 1:
        raise op.error(f"coefficients do not fit {count} rows of {width}")
    if not isinstance(bias, tuple) or len(bias) not in (0, count):
        raise op.error(f"intercepts do not fit {count} rows")
    w = steps.const(np.array(weights, np.float32).reshape(count, width), "coefficients")
    b = steps.const(np.array(bias or [0.0] * count, np.float32), "intercepts")
    return steps.emit("dense", [x, w, b])


for _name, _importer in (
    ("Scaler", scaler),
    ("Normalizer", normalizer),
    ("Binarizer", binarizer),
    ("ArrayFeatureExtractor", feature_extractor),
    ("Imputer", imputer),
    ("LinearRegressor", linear_regressor),
    ("LinearClassifier", linear_classifier),
):
    IMPORTERS["onnx"].add(f"ai.onnx.ml.{_name}", _importer)
