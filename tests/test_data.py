"""Inputs and labels from files and arrays: batches, other types, and files that are damaged."""

from __future__ import annotations

import contextlib
import io
import random
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge as package
from conftest import DIGITS, Cli
from midge import data
from midge.core import arrays
from midge.core.errors import MidgeWarning, UsageError
from midge.core.types import Array, DType, Quant, TensorType

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

HELDOUT = np.load(DIGITS.parent / "heldout.npz")
F32 = TensorType((1, 3), DType.F32)
I8 = TensorType((1, 3), DType.I8, Quant.per_tensor(0.5, 3))
TINY = TensorType((1, 1000), DType.I8, Quant.per_tensor(0.0625, 3))


@pytest.fixture(scope="module")
def digits() -> package.Package:
    return package.compile(DIGITS, "host", name="digits")


def images() -> Array:
    """Held-out digits as real numbers [360, 8, 8, 1], as they were in training."""
    return np.asarray(HELDOUT["images"].reshape(-1, 8, 8, 1) / 16, np.float32)


def labels() -> Array:
    return np.asarray(HELDOUT["labels"])


# Types.


def test_float64_becomes_float32_and_it_is_said() -> None:
    notes: list[str] = []
    found = data.fitted(np.array([[0.1, 1, 2]]), F32, "here", False, notes.append)
    assert found.dtype == np.float32
    assert notes == ["here: float64 becomes float32, which the model takes"]
    with pytest.warns(UserWarning, match="float64 becomes float32"):
        data.fitted(np.array([[0.1, 1, 2]]), F32, "here", False)


def test_floats_are_quantised_only_when_asked() -> None:
    real = np.array([[0.24, 0.25, -70.0]])
    for values in (real, real.astype(np.float32), real.astype(np.float16)):
        with pytest.warns(MidgeWarning, match="33 % of the values"):
            found = data.fitted(values, I8, "here", True)
        assert found.dtype == np.int8
        np.testing.assert_array_equal(found, [[3, 4, -128]])
        with pytest.raises(UsageError, match="is float") as error:
            data.fitted(values, I8, "here", False)
        assert "--quantize-inputs" in error.value.hint


@pytest.mark.parametrize(
    ("values", "t", "what"),
    [
        (np.array([[1e300, 0, 0]]), F32, "beyond float32"),
        (np.array([[np.nan, 0, 0]]), I8, "not finite"),
        (np.array([[1, 2, 3]]), I8, "is int64"),
        (np.array([[1, 2, 3]]), F32, "is int64"),
        (np.array([[1, 2, 3]], np.uint8), I8, "is uint8"),
    ],
)
def test_other_numbers_are_refused(values: Array, t: TensorType, what: str) -> None:
    with pytest.raises(UsageError, match=what) as error:
        data.fitted(values, t, "here", True)
    assert error.value.hint


def test_values_that_are_cut_are_told_with_the_range() -> None:
    inside = np.array([[-65.7, 0, 62.2]])  # which round to what int8 ends with
    assert data.fitted(inside, I8, "here", True).tolist() == [[-128, 3, 127]]
    with pytest.warns(MidgeWarning, match=r"here: 67 % .* outside -65\.5 to 62, which"):
        found = data.fitted(np.array([[-65.8, 0, 1e9]]), I8, "here", True)
    assert found.tolist() == [[-128, 3, 127]]
    many = np.ones((1, 1000), np.float32)
    many[0, 0] = 3e38  # which overflows, divided by a scale below 1
    for values, share in ((many, "0.1 %"), (np.full((1, 1000), many[0, 0]), "100 %")):
        with pytest.warns(match=f"here: {share} of the values are outside") as told:
            found = data.fitted(values, TINY, "here", True)
        assert len(told) == 1
        assert found.max() == 127


@pytest.mark.parametrize("dtype", [DType.F32, DType.I8, DType.BOOL, DType.I64])
@pytest.mark.parametrize("limits", [None, (np.int64(0), np.int64(2))])
def test_one_number_at_random_is_an_array(dtype: DType, limits: Any) -> None:
    """ONNX Runtime takes no scalars of NumPy."""
    made = data._random(TensorType((), dtype), limits, np.random.default_rng(0))
    assert isinstance(made, np.ndarray)
    assert (made.shape, made.dtype) == ((), dtype.numpy)


def test_the_command_line_says_it_on_the_error_stream(midge: Cli, tmp_path: Path) -> None:
    from small_models import cnn_float

    (tmp_path / "net.tflite").write_bytes(cnn_float())
    np.save(tmp_path / "x.npy", np.zeros((2, 8, 6, 2)))
    result = midge("run", "net.tflite", "-i", "x.npy", "--on", "host", "--no-search", "--json")
    assert result.code == 0
    assert len(result.json["outputs"]) == 2
    assert "float64 becomes float32" in " ".join(result.err.split())


# Batches.


def test_a_batch_gives_outputs_of_a_batch(digits: package.Package) -> None:
    x = images()[:5]
    (name,) = (t.name for t in digits.outputs)
    alone = [package.run(digits, i[None], on="host", quantize_inputs=True) for i in x]
    many = package.run(digits, x, on="host", quantize_inputs=True)
    assert many.outputs[name].shape == (5, 10)
    np.testing.assert_array_equal(many.outputs[name], [r.outputs[name][0] for r in alone])
    assert [r.outputs[name].shape for r in many.each] == [(1, 10)] * 5
    stacked = package.run(digits, x[:, None], on="host", quantize_inputs=True)
    assert stacked.outputs[name].shape == (5, 1, 10)
    one = package.run(digits, x[:1], on="host", quantize_inputs=True)
    assert (one.outputs[name].shape, one.each) == ((1, 10), ())


def test_accuracy_is_the_share_of_right_labels(digits: package.Package) -> None:
    x, wanted = images()[:60], labels()[:60]
    (name,) = (t.name for t in digits.outputs)
    found = package.run(digits, x, on="host", quantize_inputs=True, labels=wanted)
    right = (found.outputs[name].argmax(1) == wanted).mean()
    assert found.accuracy == right > 0.9
    assert package.run(digits, x, on="host", quantize_inputs=True).accuracy is None
    for wrong in (wanted[:5], wanted.astype(np.float32), wanted - 1, wanted + 9):
        with pytest.raises(UsageError, match="labels"):
            package.run(digits, x, on="host", quantize_inputs=True, labels=wrong)


def test_accuracy_on_the_command_line(midge: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", images()[:40])
    given = labels()[:40]
    given[0] = (given[0] + 1) % 10  # the one that the network gets wrong
    np.save(tmp_path / "labels.npy", given)
    words = (DIGITS, "-i", "x.npy", "--accuracy", "labels.npy", "--on", "host", "--no-search")
    assert midge("run", *words).code == 2  # floats, and nobody asked to quantise them
    result = midge("run", *words, "--quantize-inputs")
    assert "Top-1: 97.50 % of 40 labels" in result.out
    found = midge("run", *words, "--quantize-inputs", "--json").json
    assert found["accuracy"] == 0.975
    verified = midge("verify", *words, "--quantize-inputs")
    assert verified.code == 0
    assert "Top-1: 97.50 % by NumPy reference" in verified.out
    shares = midge("verify", *words, "--quantize-inputs", "--json").json["accuracy"]
    assert set(shares.values()) == {0.975}
    assert "--input" in midge("run", DIGITS, "--accuracy", "labels.npy", "--no-search").err
    np.save(tmp_path / "labels.npy", np.where(given == 4, 14, given))
    for command in ("run", "verify"):
        told = midge(command, *words, "--quantize-inputs")
        assert told.code == 2
        assert "label 14, but the output has 10 elements" in told.err
    np.save(tmp_path / "labels.npy", labels()[:39])
    assert "39 labels for 40 inputs" in midge("run", *words, "--quantize-inputs").err


def test_labels_of_models_that_give_labels() -> None:
    """A number of 32 bits alone is the class itself."""
    from midge.quantize.report import top_1

    outputs = [np.array([v], np.int32) for v in (7, 3, 7)]
    assert top_1(outputs, np.array([7, 3, 3])) == pytest.approx(2 / 3)
    assert top_1([np.array([[0.7]], np.float32)], np.array([1])) == 1.0


# Damaged files.


def npy(value: Any, **options: Any) -> bytes:
    out = io.BytesIO()
    np.save(out, value, **options)
    return out.getvalue()


def header(descr: str, shape: str, data_: bytes = b"") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + data_


def packed(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return out.getvalue()


GOOD = npy(np.zeros((8, 8, 1), np.int8))
SHORT = bytes(64)
DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "text": b"1, 2, 3",
    "cut": GOOD[:-5],
    "cut in the header": GOOD[:40],
    "more than it says": GOOD + b"\0",
    "a pickle": b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00}\x94.",
    "objects": npy(np.array([{}], object), allow_pickle=True),
    "huge": header("'|i1'", "(1099511627776,)", SHORT),
    "huge, many dimensions": header("'<f8'", f"({'4294967296, ' * 9})", SHORT),
    "negative": header("'|i1'", "(-1,)", SHORT),
    "words": header("'<U4'", "(4,)", SHORT),
    "records": header("[('a', '<i4'), ('b', 'O')]", "(4,)", SHORT),
    "no type": header("'nothing'", "(4,)", SHORT),
    "code": header("'|i1'", "__import__('os').getpid()", SHORT),
    "deep": header("'|i1'", "(" * 50 + ")" * 50, SHORT),
    "version 9": GOOD.replace(b"NUMPY\x01", b"NUMPY\x09"),
    "cut zip": packed(x=GOOD)[:30],
    "only the mark of a zip": b"PK\x03\x04abc",
    "empty zip": packed(),
    "other names": packed(other=GOOD),
    "huge in a zip": packed(input=header("'|i1'", "(1099511627776,)", SHORT)),
    "bomb": packed(input=header("'|i1'", "(67108864,)", bytes(1 << 20))),
    "objects in a zip": packed(input=npy(np.array([{}], object), allow_pickle=True)),
    "no array in a zip": packed(input=b"nothing"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_damaged_files_are_refused(midge: Cli, tmp_path: Path, kind: str) -> None:
    (tmp_path / "x.npz").write_bytes(DAMAGED[kind])
    result = midge("run", DIGITS, "-i", "x.npz", "--on", "host", "--no-search")
    assert result.code == 2
    assert "x.npz" in " ".join(result.err.split())
    with pytest.raises(UsageError):
        data.load_labels(tmp_path / "x.npz", 1)


def test_cut_and_flipped_files_are_refused_or_read(tmp_path: Path) -> None:
    rng, graph = random.Random(0), package.load(DIGITS)
    path = tmp_path / "x.npz"
    for good in (GOOD, packed(input=GOOD), npy(np.zeros((3, 8, 8, 1), np.int8))):
        for _ in range(150):
            bad = bytearray(good[: rng.randrange(len(good))] if rng.random() < 0.3 else good)
            for _ in range(rng.choice([1, 2, 8])):
                if bad:
                    bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
            path.write_bytes(bytes(bad))
            with contextlib.suppress(UsageError):
                data.load_inputs(path, graph)


def test_what_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "MOST_BYTES", 100)
    np.save(tmp_path / "x.npy", np.zeros(101, np.int8))
    with pytest.raises(UsageError, match="101 bytes are too many"):
        arrays.read_npy(tmp_path / "x.npy")


def test_every_order_of_bytes_and_axes(tmp_path: Path) -> None:
    want = np.arange(6, dtype=np.float32).reshape(2, 3)
    for stored in (want.astype(">f4"), np.asfortranarray(want), want):
        np.save(tmp_path / "x.npy", stored)
        found = arrays.read_npy(tmp_path / "x.npy")
        assert found.dtype == np.dtype("float32")
        np.testing.assert_array_equal(found, want)
    (tmp_path / "x.npy").write_bytes(header("'|b1'", "(3,)", b"\x00\x01\x07"))
    np.testing.assert_array_equal(arrays.read_npy(tmp_path / "x.npy").view(np.uint8), [0, 1, 1])


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.npy"):
        with pytest.raises(UsageError, match="cannot be read"):
            arrays.read_npy(path)


@pytest.mark.parametrize("command", ["run", "verify"])
@pytest.mark.parametrize("option", ["-i", "--accuracy"])
def test_arrays_that_are_not_there_are_told_before_the_model_is_read(
    midge: Cli, command: str, option: str, tmp_path: Path
) -> None:
    (tmp_path / "net.tflite").write_bytes(b"no model")
    np.save(tmp_path / "x.npy", np.zeros(1, np.int8))
    words = {"-i": (), "--accuracy": ("-i", "x.npy")}[option]
    answer = midge(command, "net.tflite", option, "nothere.npy", *words)
    assert answer.code == 2
    assert "nothere.npy" in answer.err


def test_arrays_for_no_input_are_refused() -> None:
    graph = package.load(DIGITS)
    (name,) = graph.inputs
    given = {name: np.zeros(graph.types[name].shape, np.int8), "z": np.zeros(1)}
    with pytest.raises(UsageError, match="no input 'z'"):
        data.input_sets(given, graph, "data")
