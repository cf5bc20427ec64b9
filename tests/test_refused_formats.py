"""Files that cannot be read say what they are and what to give instead."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest

import midge
from conftest import DIGITS, Cli
from midge.core.errors import ModelError


def zipped(*names: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        for name in names:
            file.writestr(f"archive/{name}", b"x")
    return out.getvalue()


TORCHSCRIPT = zipped("data.pkl", "code/a.py", "constants.pkl")
WEIGHTS = zipped("data.pkl", "data/0", "version")


@pytest.mark.parametrize(
    ("name", "data", "what", "hint"),
    [
        ("m.tflite", b"a text, no model", "no TFL3 mark", "convert again"),
        ("m.tflite", b"", "the file is empty", "export again"),
        ("m.onnx", b"", "the file is empty", "export again"),
        ("m.pt", TORCHSCRIPT, "TorchScript", "torch.export.save"),
        ("m.onnx", TORCHSCRIPT, "TorchScript", "torch.export.save"),
        ("m.pt", WEIGHTS, "torch.save", "torch.export.save"),
        ("m.pth", b"\x80\x02old", "torch.save", "torch.export.save"),
        ("m.bin", WEIGHTS, "torch.save", "torch.export.save"),
        ("m.pkl", b"\x80\x04x", "pickle", "from_sklearn"),
        ("m.joblib", b"\x80\x04x", "pickle", "from_sklearn"),
        ("m.safetensors", b"\x10\0\0\0\0\0\0\0{}", "no operators", ".pt2"),
        ("m.bin", b"GGUF\x03\0\0\0", "language model", "too large"),
        ("m.pb", b"\x0a\x05", "graph definitions", "SavedModel"),
        ("m.xml", b"<net/>", "OpenVINO", ".onnx"),
        ("m.mlmodel", b"\x08\x99", "Core ML", ".onnx"),
        ("m.unknown", b"????????", "unknown model format", ".tflite"),
    ],
)
def test_what_it_is_and_what_to_do(
    name: str, data: bytes, what: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelError) as caught:
        midge.load(tmp_path / name)
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert ".joblib" not in caught.value.hint
    assert name in caught.value.where or caught.value.where == "m"


@pytest.mark.parametrize("suffix", [".pt", ".pkl", ".bin", ""])
def test_what_a_file_holds_counts_before_its_name(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"m{suffix}").write_bytes(DIGITS.read_bytes())
    assert midge.load(tmp_path / f"m{suffix}").nodes


def test_the_command_says_it(midge: Cli, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(WEIGHTS)
    result = midge("compile", tmp_path / "m.pt")
    assert result.code == 3
    assert "m.pt" in result.err
    assert "torch.export.save" in result.err
