"""What a command writes never takes the place of a file that it was given."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from conftest import Cli
from small_models import cnn_float

QUICK = ("--on", "host", "--no-search", "--no-prove")
COMMAND_LINES = {
    "quantize, as it is usual": ("quantize net.midge -d cal.npy", "net.midge"),
    "quantize": ("quantize net.tflite -d cal.npy -o net.tflite", "net.tflite"),
    "quantize to halves": ("quantize net.midge --float16-weights", "net.midge"),
    "quantize data": ("quantize net.tflite -d cal.npy -o same.midge", "cal.npy"),
    "quantize picture": ("quantize net.svg -d cal.npy -o q.midge --picture net.svg", "net.svg"),
    "run": ("run net.tflite -o net.tflite", "net.tflite"),
    "run by another way": ("run net.tflite -o folder/../net.tflite", "net.tflite"),
    "run link": ("run net.tflite -o link.npz", "net.tflite"),
    "run second name": ("run net.tflite -o twin.npz", "net.tflite"),
    "run input": ("run net.tflite -i cal.npy -o cal.npy", "cal.npy"),
    "run labels": ("run net.tflite -i x.npy --accuracy cal.npy -o cal.npy", "cal.npy"),
    "run board": ("run net.tflite -t board.toml -o board.toml", "board.toml"),
    "run into a model": ("run saved -o saved/out.npz", "saved"),
    "inspect": ("inspect net.svg --memory net.svg", "net.svg"),
    "compile": ("compile net.tflite -o net.tflite", "net.tflite"),
    "compile into a model": ("compile saved", "saved"),
    "compile over a model": ("compile README.md --name n -o . --force", "README.md"),
}


@pytest.fixture
def folder(tmp_path: Path, midge: Cli) -> Path:
    data = cnn_float()
    for name in ("net.tflite", "net.svg", "README.md"):
        (tmp_path / name).write_bytes(data)
    assert midge("quantize", "net.tflite", "--float16-weights", "-o", "net.midge").code == 0
    np.save(tmp_path / "cal.npy", np.zeros((2, 8, 6, 2), np.float32))
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.npz").symlink_to("net.tflite")
    (tmp_path / "same.midge").symlink_to("cal.npy")
    os.link(tmp_path / "net.tflite", tmp_path / "twin.npz")
    (tmp_path / "board.toml").write_text('name = "b"\nbase = "cortex-m4"\n')
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize("kind", COMMAND_LINES)
def test_it_is_refused(midge: Cli, folder: Path, kind: str) -> None:
    words, kept = COMMAND_LINES[kind]
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    more = QUICK if words.startswith("run") else ()
    result = midge(*words.split(), *more)
    assert result.code == 2
    assert f"would take the place of {kept}" in result.err
    assert "hint: choose another --" in result.err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
