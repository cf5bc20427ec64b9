"""The Python interface. Heavy parts are imported when they are used."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType, NoneType
from typing import TYPE_CHECKING, Any

from midge.core.errors import UsageError
from midge.core.given import in_python, of_kind, path_of, texts_of
from midge.core.options import CompileOptions, flags
from midge.core.package import Package
from midge.core.runner import Run
from midge.core.settings import options_of, shapes_of
from midge.core.target import Target

if TYPE_CHECKING:
    from midge.core.types import Array
    from midge.graph.ir import Graph


def load(
    path: str | Path,
    *,
    name: str | None = None,
    shapes: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> Graph:
    """The graph of a model file.

    name: prefix of the C symbols; default: made of the file's name. `str(graph)` prints it.
    shapes: of inputs whose dimensions the file leaves open (an open batch alone is 1).
    Raises ModelError if the file is malformed or uses something unsupported, UsageError if it
    cannot be read or the name is no C prefix.
    """
    from midge import driver

    file = path_of(path, "path")
    return driver.load(file, None if name is None else _name(name), shapes_of(shapes))


def _name(name: object) -> str:
    """A prefix, which `check_prefix` then looks at."""
    of_kind(name, "name", str)
    return str(name)


def compile(
    model: str | Path | Graph,
    target: str | Path | Target = "cortex-m4",
    options: CompileOptions | None = None,
    **settings: Any,
) -> Package:
    """A model as a package of C.

    model: a file, or a graph of `load`.  target: a name of `midge targets`, the path of a TOML
    file, or a Target.  options: how; default: the usual.  settings: any of its fields by name, in
    place of what `options` says; `pools` and `shapes` may be mappings.
    Raises ModelError, TargetError, PlanError or UsageError.

    The settings:
    """
    from midge import driver
    from midge.graph.ir import Graph
    from midge.target import load_target

    of_kind(model, "model", str, Path, Graph)
    of_kind(target, "target", str, Path, Target)
    chosen = target if isinstance(target, Target) else load_target(path_of(target, "target"))
    wanted = options_of(settings, options)
    if isinstance(model, Graph):
        compiled = driver.compile_graph(model, chosen, wanted)
    else:
        compiled = driver.compile_file(path_of(model, "model"), chosen, wanted)
    return driver.beside_others(compiled, wanted)


def _documented(function: Callable[..., Any]) -> None:
    """Let `help` and editors see each setting of `function`."""
    own = inspect.signature(function)
    fixed = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    by_name = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type
        )
        for f in fields(CompileOptions)
    ]
    function.__signature__ = own.replace(parameters=[*fixed, *by_name])  # type: ignore[attr-defined]
    lines = (f"    {name}: {flag.help}" for name, flag in flags().items())
    function.__doc__ = "\n".join([(function.__doc__ or "").rstrip(), *lines, ""])


_documented(compile)


def run(
    package: Package,
    inputs: Mapping[str, Array] | Array,
    *,
    on: str = "emulator",
    toolchain: str | None = None,
    optimize: str | None = None,
    quantize_inputs: bool = False,
    labels: Array | None = None,
) -> Run:
    """One inference of a package, or one for each input of a batch.

    inputs: arrays by tensor name, of the model's shapes and types; or one array if the model has
    one input. A leading axis more, or another number than 1 on the first axis, is a batch: outputs
    are then batches too, and `each` of the result has the inferences alone. float64 becomes the
    float32 that a model takes, with a warning.  on: "emulator", "host" or "qemu".  toolchain:
    default: the target's first that is found.  optimize: "speed", "balanced", "size" or "debug";
    default: what it was compiled for.
    quantize_inputs: floats for a quantised input are rounded to its integers.
    labels: class numbers, one for each input: `accuracy` of the result is the share of them at
    which the first output is greatest.
    The result has outputs by tensor name and, where the runner counts them, instructions,
    estimated cycles, stack bytes, and the same per operator.
    Raises RunError, ToolchainError or UsageError.
    """
    from midge.batch import as_batch, of_batch
    from midge.run import RUNNERS

    of_kind(package, "package", Package)
    of_kind(on, "on", str)
    of_kind(toolchain, "toolchain", str, NoneType)
    of_kind(optimize, "optimize", str, NoneType)
    of_kind(quantize_inputs, "quantize_inputs", bool)
    batch = as_batch(package, inputs, quantize_inputs, labels)
    session = RUNNERS[on].load(package, toolchain=toolchain, optimize=optimize)
    try:
        runs = [session.run(given) for given in batch.sets]
    finally:
        session.close()
    return of_batch(package, batch, runs)


def from_torch(module: Any, example_inputs: tuple[Any, ...], *, name: str = "model") -> Graph:
    """The graph of a PyTorch module, as `torch.export` sees it with those inputs.

    module: in eval mode, or a torch.export.ExportedProgram (then the inputs do not matter).
    name: prefix of the C symbols. A .pt2 file is read by `load`, without PyTorch.
    Raises ModelError if the module cannot be exported or uses something unsupported, UsageError
    without PyTorch.
    """
    from midge import driver
    from midge.codegen.names import check_prefix
    from midge.core.extras import how_to_get
    from midge.frontends.torch_program import graph_of

    try:
        import torch  # noqa: F401
    except ImportError:
        raise UsageError(
            "PyTorch is not installed", where="from_torch", hint=how_to_get("torch")
        ) from None
    of_kind(example_inputs, "example_inputs", tuple)
    driver.load_operators()
    return graph_of(module, example_inputs, check_prefix(_name(name)))


def from_sklearn(
    model: Any, *, dtype: str = "float32", outputs: Collection[str] = (), name: str = "model"
) -> Graph:
    """The graph of a fitted scikit-learn tree, forest or gradient boosting model.

    dtype: of the features: "float32", as scikit-learn has them, or "int8", "uint8", "int16" for
    features that are such integers in training, too: thresholds are rounded down, which changes
    nothing for integers.  outputs: one or several, in the order that the model is to have them.
    Of a classifier "label" (the default; i32 [1]: the class, or its position in `classes_` where
    classes are no integers) and "probabilities" (f32 [1, classes]); where it is boosted "scores" as
    well (f32 [1, 1 or classes], what the trees add up to). A regressor has "value" (f32 [1,
    outputs]).  name: prefix of the C symbols.
    What `classes_` calls the classes goes with the graph, and into the package's README and C.
    Every sample takes the way through the trees that it takes in scikit-learn. Raises ModelError
    for an estimator that is not supported, UsageError for options that do not exist.
    """
    from midge import driver
    from midge.codegen.names import check_prefix
    from midge.frontends import sklearn

    of_kind(dtype, "dtype", str)
    if dtype not in sklearn.DTYPES:
        raise UsageError(
            "unknown type", where=f"dtype {dtype!r}", hint=f"one of {', '.join(sklearn.DTYPES)}"
        )
    wanted = texts_of(outputs, "outputs")
    driver.load_operators()
    return sklearn.read(model, check_prefix(_name(name)), dtype, wanted)


def quantize(
    model: str | Path | Graph,
    data: Mapping[str, Array] | Array,
    *,
    method: str = "percentile",
    percentile: float = 99.99,
    activations: str = "int8",
    int16: Collection[str] = (),
    float_io: bool = False,
    bias_correction: bool = True,
    equalize: bool = False,
) -> Graph:
    """A float model as an integer one, by TFLite's rules: int8 weights per channel.

    data: calibration inputs by name, with a leading axis of samples; or one such array if the
    model has one input.  method: how the ranges of activations are chosen: "minmax", "percentile",
    "entropy" or "mse".  activations: "int8" or "int16".  int16: layers, by the names of their
    outputs ("@4": operator 4), that compute on int16 in any case.  float_io: inputs and outputs
    stay floats.  bias_correction: take the mean error of rounded weights from the biases.
    equalize: balance the weights of successive layers.
    Operators without an integer form stay float. `save` writes the result.
    Raises ModelError or UsageError.
    """
    import numpy as np

    from midge import driver
    from midge.core.types import DType
    from midge.data import input_sets
    from midge.graph.ir import Graph
    from midge.quantize.options import Options, check_choice
    from midge.quantize.prepare import check_float
    from midge.quantize.quantizer import check_some, quantize

    of_kind(model, "model", str, Path, Graph)
    of_kind(data, "data", Mapping, np.ndarray)
    for name, choice in (("method", method), ("activations", activations)):
        of_kind(choice, name, str)
    check_choice(activations, ("int8", "int16"), "activations")
    switches = {"float_io": float_io, "bias_correction": bias_correction, "equalize": equalize}
    for name, switch in switches.items():
        of_kind(switch, name, bool)
    with in_python():
        options = Options(
            method=method,
            percentile=percentile,
            activations=DType.I8 if activations == "int8" else DType.I16,
            int16=frozenset(texts_of(int16, "int16")),
            **switches,
        )
    graph = model if isinstance(model, Graph) else driver.load(path_of(model, "model"))
    check_float(graph)
    if not isinstance(data, Mapping):
        data = dict.fromkeys(graph.inputs, data) if len(graph.inputs) == 1 else {}
    for name, value in data.items():
        of_kind(value, f"data: {name!r}", np.ndarray)
    if missing := [n for n in graph.inputs if n not in data]:
        raise UsageError(
            f"there is no {missing[0]!r}", where="data", hint=f"name {', '.join(graph.inputs)}"
        )
    with in_python():
        found = quantize(graph, input_sets(data, graph, "data"), options)
    check_some(found)
    return found.graph


def save(model: Graph, path: str | Path) -> None:
    """Write a graph as a file: .midge, which loads back equal, or .tflite, which LiteRT runs with
    the same result. ModelError for what TFLite has no operator for."""
    from midge import driver, export
    from midge.graph.ir import Graph

    of_kind(model, "model", Graph)
    file = path_of(path, "path")
    driver.load_operators()
    export.save(model, file)
