"""Fitted scikit-learn trees, forests and gradient boosting to graphs, from the objects themselves.

Every sample takes the same way through every tree: scikit-learn compares binary32 features with
binary64 thresholds, and x <= t is the same as x <= (t rounded down to a value of the features'
type). What leaves add up to is summed in integers: exactly where all leaves hold fractions with a
small common denominator (as votes do), else in steps of 2^-k with about 60 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from midge.core.errors import ModelError
from midge.core.types import Array, DType, TensorType
from midge.graph.ir import OPS, Attr, Attrs, Graph, Node, verify
from midge.graph.trees import MISSING, Leaf, Row, Split, Trees, fixed_point

DTYPES = {
    "float32": DType.F32, "int8": DType.I8, "uint8": DType.U8, "int16": DType.I16,
}  # fmt: skip
OUTPUTS = ("label", "probabilities", "scores", "value")

_SINGLE = ("DecisionTree", "ExtraTree")
_FORESTS = ("RandomForest", "ExtraTrees")
_BOOSTED = ("GradientBoosting", "HistGradientBoosting")


@dataclass(frozen=True, slots=True)
class _Source:
    """A tree of scikit-learn. leaf: the values of a node (targets,)."""

    split: Callable[[int], Split | None]
    leaf: Callable[[int], Array]
    leaves: Array  # the numbers of nodes that are leaves


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

    def graph(self, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
        graph = Graph(self.name, tuple(inputs), tuple(outputs), self.types, self.consts, ())
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
    known = (*_SINGLE, *_FORESTS, *_BOOSTED)
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
        boosted = self.family in _BOOSTED
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
        return self.writer.graph(["x"], list(outputs))

    # Families.

    def trees(self) -> list[_Source]:
        return [_of_tree(t) for t in (
            [self.model] if self.family in _SINGLE else self.model.estimators_
        )]  # fmt: skip

    def votes(self, outputs: Sequence[str]) -> None:
        """The mean of what each tree holds probable; the greatest, of equal ones the first."""
        if self.model.n_outputs_ != 1:
            raise self.fail("has several outputs", "train one model for each")
        sources = self.trees()
        count = len(self.model.classes_)
        shares = [_shares(s, count) for s in sources]
        if tuple(outputs) == ("label",) and len(sources) == 1:
            self.single(sources[0], shares[0])
            return
        flat = [v for own in shares for p in own.values() for v in p.tolist()]
        factor, sums = fixed_point(flat, len(sources))
        dense = any(2 * np.count_nonzero(p) > count for own in shares for p in own.values())
        rows = [{n: _row(p, factor, dense, sums) for n, p in own.items()} for own in shares]
        totals = self.ensemble(sources, rows, count, sums)
        if "label" in outputs:
            place = self.writer.emit("arg_max", [totals], {"axis": 1, "dtype": "i32"})
            self.label(place)
        if "probabilities" in outputs:
            self.scaled(totals, factor * len(sources), "probabilities")

    def single(self, source: _Source, shares: dict[int, Array]) -> None:
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
        """The mean of the trees' values."""
        sources = self.trees()
        targets = int(self.model.n_outputs_)
        values = [{int(n): s.leaf(n)[:, 0] for n in s.leaves} for s in sources]
        if len(sources) == 1:
            rows = [{n: _row(p, 1, True, DType.F32) for n, p in values[0].items()}]
            self.ensemble(sources, rows, targets, DType.F32, "value")
            return
        flat = [v for own in values for p in own.values() for v in p.tolist()]
        factor, sums = fixed_point(flat, len(sources))
        rows = [{n: _row(p, factor, True, sums) for n, p in own.items()} for own in values]
        totals = self.ensemble(sources, rows, targets, sums)
        self.scaled(totals, factor * len(sources), "value")

    def boosted(self, outputs: Sequence[str]) -> None:
        """The sum of what the trees add to a start."""
        start, stages, rate = _stages(self)
        targets = len(start)
        flat = [v * rate for own in stages for s in own for v in _values(s).values()]
        factor, sums = fixed_point([*flat, *start.tolist()], len(stages) + 1)
        sums = DType.I32 if sums is DType.U8 else sums
        rows: list[dict[int, Row]] = []
        sources: list[_Source] = []
        for own in stages:
            for target, source in enumerate(own):
                sources.append(source)
                rows.append({
                    n: ((target, _fixed(v * rate, factor)),) for n, v in _values(source).items()
                })  # fmt: skip
        w = self.writer
        totals = self.ensemble(sources, rows, targets, sums)
        first = np.array([[_fixed(v, factor) for v in start]], sums.numpy)
        totals = w.emit("add", [totals, w.const("start", first)])
        if "label" in outputs:
            self.boosted_label(totals, sums)
        if not self.classifier:
            self.scaled(totals, factor, "value")
        elif set(outputs) & {"scores", "probabilities"}:
            scores = self.scaled(totals, factor, "scores")
            if "probabilities" in outputs:
                self.probabilities(scores)

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

    def probabilities(self, scores: str) -> None:
        w = self.writer
        if w.types[scores].shape[1] > 1:
            w.emit("softmax", [scores], {"beta": 1.0}, "probabilities")
            return
        second = w.emit("logistic", [scores])
        one = w.const("one", np.ones((1, 1), np.float32))
        first = w.emit("sub", [one, second])
        w.emit("concat", [first, second], {"axis": 1}, "probabilities")

    # Parts.

    def ensemble(
        self,
        sources: Sequence[_Source],
        rows: Sequence[dict[int, Row]],
        targets: int,
        values: DType,
        to: str = "",
    ) -> str:
        """The node that adds up the rows of the leaves."""
        trees = Trees(self.dtype)
        for source, own in zip(sources, rows, strict=True):
            trees.add(_nodes(source, own))
        made, w = trees.tables(values), self.writer
        arrays = {
            "thresholds": made.thresholds, "splits": made.splits, "roots": made.roots,
            "targets": made.targets, "values": made.values,
        }  # fmt: skip
        inputs = ["x", *(w.const(n, a) for n, a in arrays.items())]
        attrs: dict[str, Attr] = {"targets": targets, "depth": made.depth, "aggregate": "sum"}
        return w.emit("tree_ensemble", inputs, attrs, to)

    def scaled(self, totals: str, divisor: int, to: str) -> str:
        """Integer totals as real numbers."""
        w = self.writer
        real = w.emit("cast", [totals], {"dtype": "f32"})
        by = w.const(f"{to}/divisor", np.full((1, 1), divisor, np.float32))
        return w.emit("div", [real, by], {}, to)

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

    def label(self, place: str) -> None:
        """The class at `place` [1, 1] in `classes_`."""
        w, classes = self.writer, self.classes()
        if classes is None:
            w.emit("reshape", [place], {"shape": (1,)}, "label")
            return
        index = w.emit("reshape", [place], {"shape": (1,)})
        w.emit("gather", [w.const("classes", classes), index], {"axis": 0}, "label")


def _of_tree(estimator: Any) -> _Source:
    tree = estimator.tree_
    missing = tree.missing_go_to_left

    def split(number: int) -> Split | None:
        then, other = int(tree.children_left[number]), int(tree.children_right[number])
        if then < 0:
            return None
        mode = MISSING if missing[number] else 0
        threshold = float(tree.threshold[number])
        return Split(int(tree.feature[number]), threshold, then, other, mode)

    return _Source(split, lambda n: tree.value[n], np.flatnonzero(tree.children_left < 0))


def _of_histogram(predictor: Any, fail: Callable[[str, str], ModelError]) -> _Source:
    nodes = predictor.nodes
    if nodes["is_categorical"].any():
        raise fail("splits by categories", "encode them as numbers: OrdinalEncoder, OneHotEncoder")

    def split(number: int) -> Split | None:
        node = nodes[number]
        if node["is_leaf"]:
            return None
        mode = MISSING if node["missing_go_to_left"] else 0
        then, other = int(node["left"]), int(node["right"])
        return Split(int(node["feature_idx"]), float(node["num_threshold"]), then, other, mode)

    leaves = np.flatnonzero(nodes["is_leaf"])
    return _Source(split, lambda n: np.array([[nodes["value"][n]]]), leaves)


def _nodes(source: _Source, rows: dict[int, Any]) -> Callable[[int], Leaf | Split]:
    def node(number: int) -> Leaf | Split:
        found = source.split(number)
        return found if found is not None else Leaf(rows[number])

    return node


def _values(source: _Source) -> dict[int, float]:
    """The value of each leaf of a tree with one."""
    return {int(n): float(source.leaf(n)[0, 0]) for n in source.leaves}


def _shares(source: _Source, count: int) -> dict[int, Array]:
    """What each leaf holds probable."""
    result = {}
    for n in source.leaves:
        own = np.asarray(source.leaf(n)[0, :count], np.float64)
        # fractions since scikit-learn 1.3, weights of samples before
        result[int(n)] = own if abs(own.sum() - 1) < 1e-9 else own / own.sum()
    return result


def _fixed(value: float, factor: int) -> int:
    """value * factor to the nearest integer, without rounding in between."""
    numerator, denominator = float(value).as_integer_ratio()
    return (2 * numerator * factor + denominator) // (2 * denominator)


def _row(values: Array, factor: int, dense: bool, dtype: DType) -> Row:
    """What a leaf adds; all targets where it is dense."""
    stored = values.astype(np.float32).tolist() if dtype is DType.F32 else [
        _fixed(v, factor) for v in values.tolist()
    ]  # fmt: skip
    return tuple((t, v) for t, v in enumerate(stored) if dense or v != 0)


def _stages(e: _Estimator) -> tuple[Array, list[list[_Source]], float]:
    """What boosting starts with, its trees (one per target in each stage), and their factor."""
    model = e.model
    if e.family == "HistGradientBoosting":
        loss = type(model._loss).__name__
        if not e.classifier and type(model._loss.link).__name__ != "IdentityLink":
            raise e.fail(f"predicts the exponential of its sum ({loss})", "use another loss")
        start = np.asarray(model._baseline_prediction, np.float64).reshape(-1)
        stages = [[_of_histogram(p, e.fail) for p in own] for own in model._predictors]
        return start, stages, 1.0
    zero = np.zeros((1, model.n_features_in_), np.float32)
    init = model.init_
    constant = init == "zero" if isinstance(init, str) else type(init).__name__.startswith("Dummy")
    if not constant:
        raise e.fail("starts from another estimator", 'leave init out, or use init="zero"')
    start = np.asarray(model._raw_predict_init(zero), np.float64).reshape(-1)
    stages = [[_of_tree(t) for t in own] for own in model.estimators_]
    return start, stages, float(model.learning_rate)
