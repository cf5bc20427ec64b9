"""What a Python program gives: every argument of the interface refuses what it cannot be, by its
name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge
from conftest import DIGITS, Cli
from midge.core.types import DType, Quant, TensorType
from midge.graph.ir import Graph, Node
from midge.quantize.report import check_labels

TYPES = {n: TensorType((1, 4), DType.F32) for n in ("x", "y")}
FLOAT = Graph("g", ("x",), ("y",), TYPES, {}, (Node("softmax", ("x",), ("y",), {"beta": 1.0}),))
Given = tuple[Any, ...]
PATHS: Given = (None, 5, b"digits", "", "a\0b", ["digits"])
TEXTS: Given = (7, b"x", ["x"])
SWITCHES: Given = ("x", 1, None)
ARRAYS: Given = (None, "x", {"x": 1}, object(), [[1], [2, 3]])
WRONG: dict[str, dict[str, Given]] = {
    "load": {"path": PATHS, "name": TEXTS, "shapes": (5, {"x": "y"}, {"x": (1.5,)})},
    "compile": {
        "model": PATHS,
        "target": (None, *PATHS),
        "options": (5, {}),
        "name": TEXTS,
        "shapes": ({"x": 5},),
        "optimize": (None, "fast", *TEXTS),
        "search": SWITCHES,
        "prove": SWITCHES,
        "static_arena": SWITCHES,
        "max_ram": ("x", -1, 1.5, True, [1], 1 << 40),
        "max_flash": ("x", -1, 1.5, True, [1], 1 << 40),
        "oversize": SWITCHES,
        "bands": SWITCHES,
        "stream_input": SWITCHES,
        "stream_time": ("x", -1, 1.5, True),
        "pools": (5, "a=1K", {"a": None}, {"a": 0}, {"a b": 1}),
        "hot_weights": (*SWITCHES, True),
        "reserve": (5, "r99", [9]),
        "unroll": SWITCHES,
        "channels_last": SWITCHES,
        "check_memory": SWITCHES,
    },
    "run": {
        "package": (None, DIGITS, 5),
        "inputs": ARRAYS,
        "on": (None, "mainframe", *TEXTS),
        "toolchain": ("tcc", *TEXTS),
        "optimize": ("fast", *TEXTS),
        "quantize_inputs": SWITCHES,
        "labels": ("x", [0.5], [10], [-1], [1, 2]),
    },
    "quantize": {
        "model": PATHS,
        "data": ARRAYS,
        "method": (None, "best", *TEXTS),
        "percentile": (None, "x", 20, float("nan")),
        "activations": (None, "int4", *TEXTS),
        "int16": (5, None, "nobody", [5]),
        "float_io": SWITCHES,
        "bias_correction": SWITCHES,
        "equalize": SWITCHES,
    },
    "save": {"model": (None, DIGITS), "path": PATHS},
    "Package.save": {"folder": PATHS, "force": SWITCHES},
    "from_torch": {
        "module": (None, 5), "example_inputs": (None, [1]), "name": (None, "9", *TEXTS),
    },
    "from_sklearn": {
        "model": (None, 5),
        "dtype": (None, "int4", *TEXTS),
        "outputs": (None, 5, "nobody", [5]),
        "name": (None, "9", *TEXTS),
    },
}  # fmt: skip
CASES = [(function, word) for function, words in WRONG.items() for word in words]


@pytest.fixture(scope="module")
def package() -> midge.Package:
    return midge.compile(DIGITS, search=False, prove=False)


def calls(package: midge.Package) -> dict[str, Callable[..., object]]:
    """Each function with its arguments as they should be, if none is given."""
    x, many = np.zeros((1, 8, 8, 1), np.int8), np.eye(4, dtype=np.float32)
    return {
        "load": lambda path=DIGITS, **more: midge.load(path, **more),
        "compile": lambda model=DIGITS, target="cortex-m4", **more: midge.compile(
            model, target, **{"search": False, "prove": False, **more}
        ),
        "run": lambda package=package, inputs=x, on="host", **more: midge.run(
            package, inputs, on=on, **more
        ),
        "quantize": lambda model=FLOAT, data=many, **more: midge.quantize(model, data, **more),
        "save": lambda model=None, path="x.midge": midge.save(model, path),
        "Package.save": lambda folder="x", **more: package.save(folder, **more),
        "from_torch": partial(from_torch, midge.from_torch),
        "from_sklearn": partial(from_sklearn, midge.from_sklearn),
    }


def from_torch(function: Any, module: Any = ..., example_inputs: Any = ..., **more: Any) -> object:
    torch = pytest.importorskip("torch")
    module = torch.nn.ReLU() if module is ... else module
    example_inputs = (torch.zeros(1, 2),) if example_inputs is ... else example_inputs
    return function(module, example_inputs, **more)


def from_sklearn(function: Any, model: Any = ..., **more: Any) -> object:
    if model is ...:
        tree = pytest.importorskip("sklearn.tree")
        model = tree.DecisionTreeClassifier().fit([[0.0], [1.0]], [0, 1])
    return function(model, **more)


@pytest.mark.parametrize(("function", "word"), CASES)
def test_what_an_argument_cannot_be(function: str, word: str, package: midge.Package) -> None:
    for wrong in WRONG[function][word]:
        call = calls(package)[function]
        if function == "save" and word == "path":
            call = partial(midge.save, midge.load(DIGITS))
        with pytest.raises(midge.MidgeError) as caught:
            call(**{word: wrong})
        said = str(caught.value)
        assert not re.search(r"--[a-z]", caught.value.where), said
        assert re.search(NAMED.get(word, word), said), said


# What else an argument is called in an error.
NAMED = {
    "model": "model|NoneType|int of builtins",
    "module": "torch.export refuses the module",
    "target": "target",
    "name": "name",
    "inputs": "input",
    "data": "data|array",
    "on": "on|runner",
    "optimize": "optimi[sz]",
    "reserve": "reserve",
    "outputs": "output",
}


def test_every_argument_is_tried() -> None:
    functions: dict[str, Callable[..., object]] = {
        name: getattr(midge, name) for name in midge.__all__ if name[0].islower()
    }
    functions["Package.save"] = midge.Package.save
    for name, function in functions.items():
        words = [w for w in inspect.signature(function).parameters if w not in ("self", "settings")]
        assert list(WRONG[name]) == words


@pytest.mark.parametrize(
    ("type_", "right", "wrong"),
    [
        (TensorType((1,), DType.F32), (0, 1), (-1, 2)),
        (TensorType((1,), DType.I8, Quant((0.1,), (0,))), (0, 1), (-1, 2)),
        (TensorType((1,), DType.I8), (0, 1), (-1, 2)),
        (TensorType((1,), DType.I32), (-7, 0, 99), ()),
        (TensorType((1, 3), DType.F32), (0, 2), (-1, 3)),
    ],
)
def test_labels_that_an_output_can_have(
    type_: TensorType, right: tuple[int, ...], wrong: tuple[int, ...]
) -> None:
    for label in right:
        check_labels(np.array([0, label]), type_)
    for label in wrong:
        with pytest.raises(midge.UsageError, match=f"labels: label {label}, but the output has"):
            check_labels(np.array([0, label]), type_)


@pytest.mark.parametrize(
    ("words", "where"),
    [
        (["compile", DIGITS, "-o", ""], "-o"),
        (["compile", DIGITS, "--output="], "--output"),
        (["run", DIGITS, "--output", ""], "--output"),
        (["run", ""], "command line"),
        (["quantize", DIGITS, "-o", ""], "-o"),
        (["quantize", DIGITS, "--picture", ""], "--picture"),
        (["inspect", DIGITS, "--memory", ""], "--memory"),
        (["inspect", DIGITS, "--trade-off", ""], "--trade-off"),
        (["verify", DIGITS, "-i", ""], "-i"),
    ],
)
def test_an_empty_word_is_no_path(
    words: list[Any], where: str, midge: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = midge(*words)
    assert (result.code, result.out) == (2, "")
    assert f"{where}: there is" in result.err
    assert not [*tmp_path.iterdir()]
