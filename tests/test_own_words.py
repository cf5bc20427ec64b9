"""What NumPy and other libraries raise is told in our words: where, what, and what to do."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge as package
from conftest import DIGITS, Cli
from midge.core import arrays
from midge.core.damage import DamageError, damage
from midge.core.errors import MidgeError, UsageError
from onnx_builder import OnnxModel
from small_models import cnn_float
from test_data import DAMAGED

# Words of libraries, and of Python, that users are not to read.
THEIRS = re.compile(
    r"\w+Error\b|ndarray|dtype\(|allow_pickle|buffer|cannot reshape|truth value|not subscriptable|"
    r"object has no|unpack requires|Traceback|not aligned|inhomogeneous|setting an array|magic|"
    r"invalid literal|could not convert|NoneType|codec|zip file|zipfile|struct\.|line 1 column"
)


def check(error: MidgeError, own: str = "") -> None:
    assert error.where
    assert error.hint
    said = f"{error.what} {error.hint}".replace(own, "")
    assert THEIRS.search(said) is None, said


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_arrays(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(DAMAGED[kind])
    with pytest.raises(UsageError) as error:
        arrays.read_npy(path)
    check(error.value)
    assert "makes no sense" not in error.value.what
    if kind not in ("empty zip", "other names"):
        with pytest.raises(UsageError) as error:
            arrays.read_npz(path, ["input"])
        check(error.value)


def models() -> dict[str, bytes]:
    m = OnnxModel()
    m.linear("x", 4, 6, output="y")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("net/models/model.json", "{")
    return {
        "tflite": cnn_float(),
        "onnx": m.build([("x", (1, 4))], ["y"]),
        "pt2": packed.getvalue(),
    }


@pytest.mark.parametrize("kind", ["tflite", "onnx", "midge", "pt2"])
def test_damaged_models(kind: str, tmp_path: Path) -> None:
    if kind == "midge":
        (tmp_path / "a.tflite").write_bytes(cnn_float())
        package.save(package.load(tmp_path / "a.tflite"), tmp_path / "a.midge")
        good = (tmp_path / "a.midge").read_bytes()
    else:
        good = models()[kind]
    path, told = tmp_path / f"net.{kind}", []
    rng = np.random.default_rng(0)
    for n in range(60):
        bad = bytearray(good)
        if n % 3 == 0:
            del bad[rng.integers(len(bad)) :]
        for _ in range(n % 7):
            if bad:
                bad[rng.integers(len(bad))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(bad))
        try:
            package.load(path)
        except MidgeError as error:
            told.append(error.what)
    assert len(told) >= 20
    assert [what for what in told if THEIRS.search(what)] == []


def test_constants_that_do_not_fit(tmp_path: Path) -> None:
    m = OnnxModel()
    shape = m.op("Concat", m.const([1, 2]), m.const([[3]]), axis=0)
    m.op("Reshape", "x", shape, output="y")
    (tmp_path / "net.onnx").write_bytes(m.build([("x", (1, 6))], ["y"]))
    with pytest.raises(MidgeError, match="cannot be computed from its constants") as error:
        package.load(tmp_path / "net.onnx")
    check(error.value)


class Foreign:
    """An array of another library, which does not want to be NumPy's."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


@pytest.mark.parametrize("value", [[[1, 2], [3]], Foreign(), "text", [None], {"a": 1}, b"1"])
def test_inputs_that_are_no_arrays(value: Any) -> None:
    compiled = package.compile(DIGITS, "host", search=False, prove=False)
    (name,) = (t.name for t in compiled.inputs)
    for inputs, labels in ((value, None), ({name: value}, None), (np.zeros((8, 8, 1)), value)):
        if isinstance(inputs, dict) and inputs is value:
            continue
        with pytest.raises(UsageError) as error:
            package.run(compiled, inputs, on="host", labels=labels, quantize_inputs=True)
        check(error.value, name)


def test_more_memory_than_there_is(midge: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 9. TiB for an array with shape (3,)")

    monkeypatch.setattr("midge.cli.commands.targets._as_json", fail)
    found = midge("targets", "--json")
    assert found.code == 4
    assert found.json["error"] == {
        "what": "this takes more memory than the system gives",
        "where": "memory",
        "hint": "give fewer inputs at once, or a smaller model",
    }


@pytest.mark.parametrize(
    "error",
    [
        zipfile.BadZipFile("x"), UnicodeDecodeError("utf-8", b"", 0, 1, "x"), EOFError("x"),
        MemoryError("x"), RecursionError("x"), SyntaxError("x"), KeyError("x"), ValueError("x"),
        OverflowError("x"), RuntimeError("x"), NotImplementedError("x"),
    ],
)  # fmt: skip
def test_no_text_of_theirs_is_passed_on(error: Exception) -> None:
    assert "x" not in damage(error).split()
    assert damage(DamageError("it is short")) == "it is short"
