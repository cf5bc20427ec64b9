"""Fitted scikit-learn trees, forests and gradient boosting to graphs, from the objects themselves.

Every sample takes the same way through every tree: scikit-learn compares binary32 features with
binary64 thresholds, and x <= t is the same as x <= (t rounded down to a value of the features'
type). What leaves add up to is summed in integers: exactly where all leaves hold fractions with a
small common denominator (as votes do), else in steps of 2^-k with about 60 bits, for each target
its own. `sklearn_table.py` lists what decides a prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.frontends.sklearn_table import BOOSTED, FORESTS, SINGLE, check_parameters
from midge.frontends.sklearn_trees import (
    Source,
    check_values,
    fixed,
    nodes_of,
    of_histogram,
    of_tree,
    row_of,
    shares_of,
    values_of,
)
from midge.graph.ir import OPS, Attr, Attrs, Graph, Node, verify
from midge.graph.trees import Row, Trees, fixed_point

DTYPES = {
    "float32": DType.F32, "int8": DType.I8, "uint8": DType.U8, "int16": DType.I16,
}  # fmt: skip
OUTPUTS = ("label", "probabilities", "scores", "value")

# Of the losses of boosting, by their link: what is done with the sum of the trees.
_IDENTITY, _LOGIT, _HALF_LOGIT, _SOFTMAX, _LOG = (
    "IdentityLink", "LogitLink", "HalfLogitLink", "MultinomialLogit", "LogLink"
)  # fmt: skip
_LINKS = {True: (_LOGIT, _HALF_LOGIT, _SOFTMAX), False: (_IDENTITY, _LOG)}
_STEP = 1 << 110  # the greatest power of two that a binary32 number is divided by at once


@dataclass(slots=True)
class Writer:
    """Nodes of a graph that is made by hand."""

    name: str
    types: dict[str, TensorType] = field(default_factory=dict)
    consts: dict[str, Array] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)

    def const(self, name: str, value: Array) -> str:
        self.consts[name] = value
        self.types[name] = TensorType(value.shape, DType.of(value))
        return name

    def emit(self, op: str, inputs: Sequence[str], attrs: Attrs | None = None, to: str = "") -> str:
        out = to or f"{op}_{len(self.nodes)}"
        (result,) = OPS[op].infer([self.types[n] for n in inputs], attrs or {})
        self.nodes.append(Node(op, tuple(inputs), (out,), attrs or {}, "scikit-learn", op))
        self.types[out] = result
        return out

    def graph(self, inputs: Sequence[str], outputs: Sequence[str], classes: Sequence[str]) -> Graph:
        names = (tuple(inputs), tuple(outputs))
        graph = Graph(self.name, *names, self.types, self.consts, (), tuple(classes))
        graph = graph.with_nodes(self.nodes)
        verify(graph)
        return graph


def read(model: Any, name: str, dtype: str, outputs: Sequence[str]) -> Graph:
    """The graph of a fitted estimator; ModelError for one that has no rule here.

    Input "x" [1, features] of `dtype`. Outputs as asked for: "label" i32[1] (the class, or its
    position in `classes_` where classes are no integers), "probabilities" f32[1, classes],
    "scores" (what boosted trees add up to) f32[1, 1 or classes], "value" f32[1, outputs].
    """
    kind = type(model).__name__
    family, _, rest = kind.partition("Classifier")
    classifier = family != kind
    family = family if classifier else kind.removesuffix("Regressor")
    known = (*SINGLE, *FORESTS, *BOOSTED)
    module = type(model).__module__.partition(".")[0]
    if module != "sklearn" or rest or family not in known:
        raise ModelError(
            f"{kind} of {module} is not supported",
            where="from_sklearn",
            hint=f"known: {', '.join(known)} (Classifier, Regressor); others: write an ONNX file "
            "with skl2onnx or onnxmltools",
        )
    if "n_features_in_" not in vars(model):
        raise ModelError("is not fitted", where=kind, hint="call fit first")
    check_parameters(model, family)
    writer = _Estimator(model, kind, family, classifier, DTYPES[dtype], Writer(name))
    return writer.graph(outputs or (("label",) if classifier else ("value",)))


@dataclass(slots=True)
class _Estimator:
    model: Any
    kind: str
    family: str
    classifier: bool
    dtype: DType
    writer: Writer

    def fail(self, what: str, hint: str) -> ModelError:
        return ModelError(what, where=self.kind, hint=hint)

    def graph(self, outputs: Sequence[str]) -> Graph:
        self.writer.types["x"] = TensorType((1, int(self.model.n_features_in_)), self.dtype)
        boosted = self.family in BOOSTED
        able = {
            (True, False): ("label", "probabilities"),
            (True, True): ("label", "probabilities", "scores"),
        }.get((self.classifier, boosted), ("value",))
        for wanted in outputs:
            if wanted not in able:
                raise self.fail(f"has no output {wanted!r}", f"one of {', '.join(able)}")
        if boosted:
            self.boosted(outputs)
        elif self.classifier:
            self.votes(outputs)
        else:
            self.mean()
        return self.writer.graph(["x"], list(outputs), self.class_names())

    # Families.

    def trees(self) -> list[Source]:
        return [of_tree(t) for t in (
            [self.model] if self.family in SINGLE else self.model.estimators_
        )]  # fmt: skip

    def votes(self, outputs: Sequence[str]) -> None:
        """The mean of what each tree holds probable; the greatest, of equal ones the first."""
        if self.model.n_outputs_ != 1:
            raise self.fail("has several outputs", "train one model for each")
        sources = self.trees()
        count = len(self.model.classes_)
        shares = [shares_of(s, count) for s in sources]
        check_values(np.array([p for own in shares for p in own.values()]), self.fail)
        if tuple(outputs) == ("label",) and len(sources) == 1:
            self.single(sources[0], shares[0])
            return
        flat = [v for own in shares for p in own.values() for v in p.tolist()]
        factor, sums = fixed_point(flat, len(sources))
        dense = any(2 * np.count_nonzero(p) > count for own in shares for p in own.values())
        same = [factor] * count
        rows = [{n: row_of(p, same, dense, sums) for n, p in own.items()} for own in shares]
        totals = self.ensemble(sources, rows, count, sums)
        if "label" in outputs:
            place = self.writer.emit("arg_max", [totals], {"axis": 1, "dtype": "i32"})
            self.label(place)
        if "probabilities" in outputs:
            self.scaled(totals, [factor * len(sources)], "probabilities")

    def single(self, source: Source, shares: dict[int, Array]) -> None:
        """The class of a tree's leaf: the greatest share, of equal ones the first."""
        names = self.classes()
        best = {n: int(np.argmax(p)) for n, p in shares.items()}
        rows: dict[int, Row] = {
            n: ((0, k if names is None else int(names[k])),) for n, k in best.items()
        }
        labels = [row[0][1] for row in rows.values()]
        small = min(labels) >= 0 and max(labels) <= DType.U8.max
        dtype = DType.U8 if small else DType.I32
        total = self.ensemble([source], [rows], 1, dtype)
        if dtype is DType.U8:
            total = self.writer.emit("cast", [total], {"dtype": "i32"})
        self.writer.emit("reshape", [total], {"shape": (1,)}, "label")

    def mean(self) -> None:
        """The mean of the trees' values; each target on a scale of its own."""
        sources = self.trees()
        targets = int(self.model.n_outputs_)
        values = [{int(n): s.leaf(n)[:, 0] for n in s.leaves} for s in sources]
        table = np.array([p for own in values for p in own.values()])
        check_values(table, self.fail)
        scales = [fixed_point(column.tolist(), len(sources)) for column in table.T]
        factors = [factor for factor, _ in scales]
        single = len(sources) == 1
        sums = DType.F32 if single else max((d for _, d in scales), key=lambda d: d.size)
        rows = [{n: row_of(p, factors, True, sums) for n, p in own.items()} for own in values]
        if single:
            self.ensemble(sources, rows, targets, sums, "value")
            return
        totals = self.ensemble(sources, rows, targets, sums)
        self.scaled(totals, [factor * len(sources) for factor in factors], "value")

    def boosted(self, outputs: Sequence[str]) -> None:
        """The sum of what the trees add to a start."""
        start, stages, rate = _stages(self)
        targets = len(start)
        held = [[values_of(s) for s in own] for own in stages]
        flat = [v * rate for own in held for tree in own for v in tree.values()]
        check_values(np.abs(start).max() + _reach(held, rate), self.fail)
        factor, sums = fixed_point([*flat, *start.tolist()], len(stages) + 1)
        sums = DType.I32 if sums is DType.U8 else sums
        sources = [source for own in stages for source in own]
        rows: list[dict[int, Row]] = [
            {n: ((target, fixed(v * rate, factor)),) for n, v in tree.items()}
            for own in held
            for target, tree in enumerate(own)
        ]
        w = self.writer
        totals = self.ensemble(sources, rows, targets, sums)
        first = np.array([[fixed(v, factor) for v in start]], sums.numpy)
        totals = w.emit("add", [totals, w.const("start", first)])
        if "label" in outputs:
            self.boosted_label(totals, sums)
        link = type(self.model._loss.link).__name__
        if not self.classifier:
            self.value(totals, factor, link)
        elif set(outputs) & {"scores", "probabilities"}:
            scores = self.scaled(totals, [factor], "scores")
            if "probabilities" in outputs:
                self.probabilities(scores, link)

    def value(self, totals: str, factor: Fraction, link: str) -> None:
        """What a sum of boosted trees predicts."""
        if link == _LOG:
            self.writer.emit("exp", [self.scaled(totals, [factor], "logarithm")], {}, "value")
        else:
            self.scaled(totals, [factor], "value")

    def boosted_label(self, totals: str, sums: DType) -> None:
        """The class with the greatest score; of two, the second for a score above 0 (at 0 too
        where the histogram is not used)."""
        w = self.writer
        if w.types[totals].shape[1] > 1:
            self.label(w.emit("arg_max", [totals], {"axis": 1, "dtype": "i32"}))
            return
        zero = w.const("zero", np.zeros((1, 1), sums.numpy))
        above = w.emit("less" if self.family.startswith("Hist") else "less_equal", [zero, totals])
        self.label(w.emit("cast", [above], {"dtype": "i32"}))

    def probabilities(self, scores: str, link: str) -> None:
        """Of the classes, from scores: their softmax, or expit of one score (of twice the score
        for the exponential loss)."""
        w = self.writer
        if link == _SOFTMAX:
            w.emit("softmax", [scores], {"beta": 1.0}, "probabilities")
            return
        if link == _HALF_LOGIT:
            two = w.const("two", np.full((1, 1), 2, np.float32))
            scores = w.emit("mul", [scores, two])
        second = w.emit("logistic", [scores])
        one = w.const("one", np.ones((1, 1), np.float32))
        first = w.emit("sub", [one, second])
        w.emit("concat", [first, second], {"axis": 1}, "probabilities")

    # Parts.

    def ensemble(
        self,
        sources: Sequence[Source],
        rows: Sequence[dict[int, Row]],
        targets: int,
        values: DType,
        to: str = "",
    ) -> str:
        """The node that adds up the rows of the leaves."""
        trees = Trees(self.dtype)
        for source, own in zip(sources, rows, strict=True):
            trees.add(nodes_of(source, own))
        made, w = trees.tables(values), self.writer
        arrays = {
            "thresholds": made.thresholds, "splits": made.splits, "roots": made.roots,
            "targets": made.targets, "values": made.values,
        }  # fmt: skip
        inputs = ["x", *(w.const(n, a) for n, a in arrays.items())]
        attrs: dict[str, Attr] = {"targets": targets, "depth": made.depth, "aggregate": "sum"}
        return w.emit("tree_ensemble", inputs, attrs, to)

    def scaled(self, totals: str, divisors: Sequence[Fraction], to: str) -> str:
        """Integer totals as real numbers: each divided by the divisor of its target."""
        w = self.writer
        steps = [[d / _STEP, Fraction(_STEP)] if d > _STEP else [d, Fraction(1)] for d in divisors]
        first, second = (np.array([[float(s[i]) for s in steps]], np.float32) for i in (0, 1))
        real = w.emit("cast", [totals], {"dtype": "f32"})
        if (second != 1).any():
            real = w.emit("div", [real, w.const(f"{to}/step", second)])
        return w.emit("div", [real, w.const(f"{to}/divisor", first)], {}, to)

    def classes(self) -> Array | None:
        """The classes as integers; None if their positions stand for them."""
        classes = np.asarray(self.model.classes_)
        numbers = np.issubdtype(classes.dtype, np.integer) or classes.dtype == np.bool_
        whole = np.issubdtype(classes.dtype, np.floating) and (classes == np.rint(classes)).all()
        if not (numbers or whole) or (classes == np.arange(len(classes))).all():
            return None
        if np.abs(classes.astype(np.float64)).max() > DType.I32.max:
            raise self.fail("has classes beyond 32 bits", "number the classes from 0")
        return classes.astype(np.int32)

    def class_names(self) -> list[str]:
        """What the classes are called whose positions are the labels, if not by these."""
        if not self.classifier or self.classes() is not None:
            return []
        classes = np.asarray(self.model.classes_)
        numbers = np.issubdtype(classes.dtype, np.number)
        if numbers and (classes == np.arange(len(classes))).all():
            return []
        return [str(c) for c in classes.tolist()]

    def label(self, place: str) -> None:
        """The class at `place` [1, 1] in `classes_`."""
        w, classes = self.writer, self.classes()
        if classes is None:
            w.emit("reshape", [place], {"shape": (1,)}, "label")
            return
        index = w.emit("reshape", [place], {"shape": (1,)})
        w.emit("gather", [w.const("classes", classes), index], {"axis": 0}, "label")


def _reach(held: Sequence[Sequence[dict[int, float]]], rate: float) -> Array:
    """How far the trees of each target can go, at most."""
    largest = [[max(map(abs, tree.values())) for tree in own] for own in held]
    return np.asarray(np.array(largest).sum(0) * abs(rate))


def _stages(e: _Estimator) -> tuple[Array, list[list[Source]], float]:
    """What boosting starts with, its trees (one per target in each stage), and their factor."""
    model = e.model
    link = type(model._loss.link).__name__
    if link not in _LINKS[e.classifier]:
        raise e.fail(
            f"has a loss of unknown form ({type(model._loss).__name__})", "use another loss"
        )
    if e.family == "HistGradientBoosting":
        if getattr(model, "_preprocessor", None) is not None:
            raise e.fail(
                "has categorical features", "encode them as numbers before: OrdinalEncoder"
            )
        start = np.asarray(model._baseline_prediction, np.float64).reshape(-1)
        stages = [[of_histogram(p, e.fail) for p in own] for own in model._predictors]
        return start, stages, 1.0
    if not _starts_constant(model.init_):
        raise e.fail("starts from another estimator", 'leave init out, or use init="zero"')
    zero = np.zeros((1, model.n_features_in_), np.float32)
    start = np.asarray(model._raw_predict_init(zero), np.float64).reshape(-1)
    stages = [[of_tree(t) for t in own] for own in model.estimators_]
    return start, stages, float(model.learning_rate)


def _starts_constant(init: Any) -> bool:
    """Whether boosting starts with the same numbers for every sample."""
    if isinstance(init, str):
        return init == "zero"
    plain = type(init).__module__ == "sklearn.dummy"
    return plain and getattr(init, "strategy", "") != "stratified"  # which draws at random
