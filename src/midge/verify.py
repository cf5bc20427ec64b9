"""Is the C right? One model, several ways of computing it, compared pair by pair.

framework == NumPy reference == C on the host == C in the emulator (== C in QEMU). Each stage is
compared with the framework, or with the reference where that cannot be asked. Integer tensors must
agree in every byte, but for those that the framework's floats decide: these are bounded by a step
(`oracle.steps`), and what depends on them is judged from the framework's integers in NumPy, by
NumPy in C; how far the outputs are from the framework's in the end is counted beside. Of float
tensors the largest error must stay below FLOAT_BOUND_ULP units in the last
place of the largest value that the model computes for that input (sums of products in another order
differ by so much, and a small result may be the difference of large ones: `oracle.units`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import numpy as np

from midge.core.errors import ModelError, RunError
from midge.core.types import Array
from midge.driver import Compiled
from midge.frontends import usual_name
from midge.graph.evaluate import evaluate_all
from midge.graph.ir import OPS, Graph
from midge.oracle import ORACLES, oracle_for
from midge.oracle.steps import Steps, bounded, evaluate_beside
from midge.oracle.units import Units
from midge.quantize.report import as_real
from midge.run import RUNNERS

FLOAT_BOUND_ULP = 32.0
_OF_TREES = """TFLite has no operator for trees. scikit-learn judges them by --input X.npy \
--accuracy LABELS.npy, with the labels that its predict(X) gives; see docs/trees.md"""
FRAMEWORK, REFERENCE = "framework", "reference"  # names of stages


@dataclass(frozen=True, slots=True)
class Difference:
    """How one tensor of one stage compares. differing: elements; ulp: the largest error in units
    in the last place of the largest value of the inference."""

    tensor: str
    elements: int
    differing: int
    max_error: float
    ulp: float
    exact: bool

    @property
    def ok(self) -> bool:
        return self.differing == 0 if self.exact else self.ulp <= FLOAT_BOUND_ULP

    def merged(self, other: Difference) -> Difference:
        """Over several inputs."""
        return Difference(
            self.tensor,
            self.elements + other.elements,
            self.differing + other.differing,
            max(self.max_error, other.max_error),
            max(self.ulp, other.ulp),
            self.exact,
        )


@dataclass(slots=True)
class Stage:
    """One way of computing. skipped: why not.  notes: how it judges, where that is not as usual.
    apart: tensor -> how it computes otherwise than the format says; these the reference judges.
    answers: the first output for each input, as real numbers.
    steps: bounded tensors and how they compare.
    outputs, layers: tensor -> comparison, in order.  ends: the outputs as they come out, compared
    with the framework's, where bounded tensors make that another comparison.
    makers: tensor -> the operator that makes it, for people; in the order of the model."""

    name: str
    title: str
    skipped: str = ""
    notes: tuple[str, ...] = ()
    apart: Mapping[str, str] = field(default_factory=dict)
    answers: list[Array] = field(default_factory=list)
    steps: dict[str, Steps] = field(default_factory=dict)
    outputs: dict[str, Difference] = field(default_factory=dict)
    layers: dict[str, Difference] = field(default_factory=dict)
    ends: dict[str, Difference] = field(default_factory=dict)
    makers: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        compared = all(d.ok for d in (*self.outputs.values(), *self.layers.values()))
        return compared and all(s.ok for s in self.steps.values())

    @property
    def first_bad(self) -> str | None:
        """The first tensor, in the order of the model, that differs."""
        bad = [t for t, s in self.steps.items() if not s.ok]
        bad += [t for t, d in (*self.layers.items(), *self.outputs.items()) if not d.ok]
        return next(iter(bad), None)

    @property
    def first_difference(self) -> str | None:
        """The operator that makes `first_bad`, its place in the model file, and the tensor."""
        return None if self.first_bad is None else self.makers.get(self.first_bad, self.first_bad)


@dataclass(frozen=True, slots=True)
class Verdict:
    """against: the stage that the others are compared with."""

    against: str
    inputs: int
    stages: tuple[Stage, ...]

    @property
    def judged(self) -> bool:
        """Whether somebody else than Midge has said what is right."""
        return self.against == FRAMEWORK

    @property
    def ok(self) -> bool:
        return all(s.ok for s in self.stages)

    @property
    def ran(self) -> bool:
        """Whether some of the C ran, if any was asked to."""
        runners = [s for s in self.stages if s.name not in (FRAMEWORK, REFERENCE)]
        return not runners or not all(s.skipped for s in runners)

    @property
    def steps(self) -> dict[str, Steps]:
        """The bounded tensors."""
        return {tensor: found for s in self.stages for tensor, found in s.steps.items()}

    @property
    def apart(self) -> int:
        """The bounded tensors of which elements differ."""
        return sum(found.differing > 0 for found in self.steps.values())

    @property
    def ends(self) -> Difference | None:
        """How far all outputs of the last stage that ran are from the framework's, where that is
        not what they are judged by."""
        ran = [s for s in self.stages if s.ends]
        return reduce(Difference.merged, ran[-1].ends.values()) if ran else None


Values = Mapping[str, Array]
Computation = Callable[[Values], Values]


def verify(
    compiled: Compiled,
    path: Path,
    inputs: Sequence[Mapping[str, Array]],
    *,
    runners: Sequence[str] = ("host", "emulator"),
    toolchain: str | None = None,
    optimize: str | None = None,
    layers: bool = False,
    progress: Callable[[str, int], None] = lambda stage, done: None,
) -> Verdict:
    """Run `inputs` through every stage; `progress` is told the stage and how many are done."""
    file = usual_name(path)
    framework, expected = _judged(compiled, path, file, inputs, progress)
    reference = Stage(REFERENCE, "NumPy reference")
    stages = [framework, reference]
    framework_says, largest = dict[int, Values](), list[float]()
    loose, units = bounded(compiled.graph, file), Units.of(compiled.model)
    for i, given in enumerate(inputs):
        values = _reference(compiled, given)
        reference.answers.append(_answer(compiled, values))
        ours = _depending(compiled, compiled.model, framework.apart, values)
        judged = {**expected[i], **ours} if i in expected else values
        unit = units.largest(judged, {**values, **given})
        largest.append(unit)
        if i in expected and loose:
            framework_says[i] = judged
            _compare_outputs(compiled, reference.ends, judged, values, unit)
        if i in expected:
            beside = _beside(compiled, reference, given, judged, loose) if loose else values
            _compare(compiled, reference, judged, beside, unit, layers, {})
        expected[i] = {**judged, **_depending(compiled, compiled.graph, loose, values)}
        progress(reference.title, i + 1)
    for name in runners:
        with ExitStack() as sessions:
            stage, run = _runner(compiled, name, toolchain, optimize, layers, sessions)
            stages.append(stage)
            for i, found in enumerate(map(run, inputs) if run is not None else ()):
                stage.answers.append(_answer(compiled, found))
                kept = compiled.dropped.kept
                _compare(compiled, stage, expected[i], found, largest[i], layers, kept)
                if i in framework_says:
                    _compare_outputs(compiled, stage.ends, framework_says[i], found, largest[i])
                progress(stage.title, i + 1)
    makers = {o: n.where for n in compiled.graph.nodes for o in n.outputs}
    for stage in stages:
        stage.makers = makers
    return Verdict(REFERENCE if framework.skipped else FRAMEWORK, len(inputs), tuple(stages))


def _nobody(path: Path) -> str:
    """Why no framework is asked."""
    asked = sorted({s for name in ORACLES for s in ORACLES[name].suffixes})
    return f"no framework is asked of {path.suffix} files, only of {', '.join(asked)}"


def _judged(
    compiled: Compiled,
    path: Path,
    file: Path,
    inputs: Sequence[Values],
    progress: Callable[[str, int], None],
) -> tuple[Stage, dict[int, Values]]:
    """The framework's stage, and what it computes for each of the inputs: nothing if it is not
    asked, or refuses the model or one of the inputs. file: as its format is usually called."""
    oracle = oracle_for(file)
    if oracle is None:
        return Stage(FRAMEWORK, "framework", _nobody(path)), {}
    stage, found = Stage(FRAMEWORK, oracle.title), dict[int, Values]()
    if (reason := oracle.available()) is not None:
        stage.skipped = f"{oracle.title}: {reason}"
        return stage, {}
    try:
        session = oracle.load(path, compiled.model)
        for i, given in enumerate(inputs):
            found[i] = session.run(given)
            stage.answers.append(_answer(compiled, found[i]))
            progress(stage.title, i + 1)
    except (ModelError, RunError) as error:
        trees = any(n.op == "tree_ensemble" for n in compiled.model.nodes)
        asked = trees and path.suffix == ".midge"
        stage.skipped = _OF_TREES if asked else " ".join(error.what.split())
        return stage, {}
    stage.notes, stage.apart = tuple(session.notes), dict(session.apart)
    if set(compiled.model.outputs) <= _reached(compiled.model, stage.apart):
        stage.skipped = "; ".join(dict.fromkeys(stage.apart.values()))
        return stage, {}
    return stage, found


def _reference(compiled: Compiled, given: Values) -> Values:
    values = evaluate_all(compiled.graph, _last(compiled, given))
    return {**values, **_first(compiled, {n: values[n] for n in compiled.graph.outputs})}


def _reached(graph: Graph, names: Iterable[str]) -> set[str]:
    """The values of the graph that depend on `names`, themselves included."""
    found = set(names)
    for node in graph.nodes:
        if found.intersection(node.inputs):
            found.update(node.outputs)
    return found


def _depending(compiled: Compiled, graph: Graph, names: Iterable[str], values: Values) -> Values:
    """Those of the reference's `values` that depend on `names` of `graph`, which is the model as
    read or after its passes; outputs under the model's names too."""
    reached = _reached(graph, names)
    outputs = zip(graph.outputs, compiled.model.outputs, compiled.graph.outputs, strict=True)
    return {n: values[n] for n in reached if n in values} | {
        theirs: values[mine] for name, theirs, mine in outputs if name in reached
    }


def _runner(
    compiled: Compiled,
    name: str,
    toolchain: str | None,
    optimize: str | None,
    layers: bool,
    sessions: ExitStack,
) -> tuple[Stage, Computation | None]:
    target = compiled.package.target
    title = "C on this host" if name == "host" else f"C on {target.name} ({name})"
    stage = Stage(name, title)
    if name == "emulator" and "model" not in target.emulator:
        other = "; --on qemu runs it" if target.qemu else ""
        stage.skipped = f"the emulator has no {target.name}{other}"
        return stage, None
    runner = RUNNERS[name]
    if (reason := runner.available()) is not None:
        stage.skipped = reason
        return stage, None
    build = None if name == "host" else toolchain
    session = runner.load(compiled.package, toolchain=build, optimize=optimize)
    sessions.callback(session.close)

    def run(given: Values) -> Values:
        result = session.run(_last(compiled, given), layers=layers)
        return {**result.layers, **_first(compiled, result.outputs)}

    return stage, run


def _last(compiled: Compiled, given: Values) -> Values:
    """The model's inputs with their channels where C has them."""
    turned = compiled.turned
    return {n: np.moveaxis(a, 1, -1).copy() if n in turned else a for n, a in given.items()}


def _first(compiled: Compiled, outputs: Values) -> Values:
    """Outputs of C, or of the graph, with their channels where the model has them."""
    theirs = dict(zip(compiled.package_outputs, compiled.model.outputs, strict=True))
    return {
        n: np.moveaxis(a, -1, 1) if theirs.get(n, n) in compiled.turned else a
        for n, a in outputs.items()
    }


def _compare(
    compiled: Compiled,
    stage: Stage,
    expected: Values,
    values: Values,
    largest: float,
    layers: bool,
    kept: Mapping[str, tuple[int, ...]],
) -> None:
    """largest: whose unit counts.  kept: the channels that `values` has of those tensors of the
    model that lost some."""
    _compare_outputs(compiled, stage.outputs, expected, values, largest)
    if not layers:
        return
    outputs = set(compiled.package_outputs)
    for node in compiled.graph.nodes:
        for name in node.outputs:
            if OPS[node.op].alias or name in outputs or name not in values:
                continue
            if name not in expected:
                continue
            wanted = expected[name]
            if name in kept:
                wanted = wanted[..., kept[name]]
            if wanted.shape == values[name].shape:
                _note(stage.layers, difference(name, wanted, values[name], largest))


def _compare_outputs(
    compiled: Compiled,
    into: dict[str, Difference],
    expected: Values,
    values: Values,
    largest: float,
) -> None:
    outputs = zip(compiled.package_outputs, compiled.model.outputs, strict=True)
    for mine, theirs in outputs:
        wanted, got = _pick(expected, theirs, mine), _pick(values, mine, theirs)
        _note(into, difference(theirs, wanted, got, largest))


def _answer(compiled: Compiled, values: Values) -> Array:
    """The model's first output, as real numbers."""
    theirs, mine = compiled.model.outputs[0], compiled.package_outputs[0]
    return as_real(_pick(values, mine, theirs), compiled.model.types[theirs])


def _pick(values: Values, *names: str) -> Array:
    return next(values[n] for n in names if n in values)


def _beside(
    compiled: Compiled, stage: Stage, given: Values, judged: Values, loose: frozenset[str]
) -> Values:
    """The reference's values, computed from the framework's where these are bounded; `stage` notes
    how those compare."""
    values, steps = evaluate_beside(compiled.graph, _last(compiled, given), judged, loose)
    for name, found in steps.items():
        known = stage.steps.get(name)
        stage.steps[name] = found if known is None else known.merged(found)
    return {**values, **_first(compiled, {n: values[n] for n in compiled.graph.outputs})}


def _note(into: dict[str, Difference], found: Difference) -> None:
    name = found.tensor
    into[name] = into[name].merged(found) if name in into else found


def difference(tensor: str, expected: Array, value: Array, largest: float) -> Difference:
    """Compare two arrays of one type; `largest` is the magnitude whose ulp counts."""
    exact = not np.issubdtype(expected.dtype, np.floating)
    a, b = expected.astype(np.float64), value.reshape(expected.shape).astype(np.float64)
    with np.errstate(invalid="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        error = np.where(same, 0.0, np.abs(a - b))
    error = np.where(np.isnan(error), np.inf, error)
    worst = float(error.max(initial=0.0))
    unit = float(np.spacing(np.float32(min(largest, 2.0**127))))  # the largest number's is no more
    return Difference(tensor, a.size, int((~same).sum()), worst, worst / unit, exact)
