"""ONNX models in several files: read as if they were one, and nothing else is opened."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import midge as midge_package
from conftest import Cli
from midge.core.errors import ModelError
from midge.frontends import model_files, read_file
from onnx_builder import OnnxModel


def whole() -> Any:
    """A model with tensors in initializers, in an attribute and in a branch, of several types."""
    m = OnnxModel()
    y = m.op("Add", "x", m.op("Constant", value=onnx.numpy_helper.from_array(np.float32([1, 2]))))
    branch = onnx.helper.make_graph(
        [onnx.helper.make_node("Mul", [y, "half"], ["z"])],
        "branch",
        [],
        [onnx.helper.make_tensor_value_info("z", 1, None)],
        [onnx.numpy_helper.from_array(np.float32([0.5, 0.25]), "half")],
    )
    y = m.op("If", m.const(True, bool), then_branch=branch, else_branch=branch)
    m.op("Reshape", m.op("Mul", y, m.const([3, 4])), m.ints(2, 1), output="y")
    return onnx.ModelProto.FromString(m.build([("x", [2])], ["y"]))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """The model with its data beside it, as the package `onnx` writes that."""
    folder = tmp_path / "model"
    folder.mkdir()
    onnx.save(
        whole(), folder / "m.onnx", save_as_external_data=True, location="m.onnx.data",
        size_threshold=0, convert_attribute=True,
    )  # fmt: skip
    return folder / "m.onnx"


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    """The model with the first tensor that lies elsewhere changed."""
    model = onnx.load(path, load_external_data=False)
    change(next(t for t in model.graph.initializer if t.external_data))
    path.write_bytes(model.SerializeToString())
    return path


def entry(key: str, value: str) -> Callable[[Any], None]:
    def change(tensor: Any) -> None:
        for found in tensor.external_data:
            if found.key == key:
                found.value = value
                return
        tensor.external_data.add(key=key, value=value)

    return change


def test_the_graph_and_the_code_are_those_of_one_file(saved: Path, tmp_path: Path) -> None:
    assert saved.with_name("m.onnx.data").stat().st_size > 0
    alone = tmp_path / "m.onnx"
    onnx.save(whole(), alone)
    one, several = midge_package.load(alone), midge_package.load(saved)
    assert str(one) == str(several)
    assert all(np.array_equal(one.consts[n], several.consts[n]) for n in one.consts)
    codes = [midge_package.compile(g, search=False).files for g in (one, several)]
    assert codes[0] == codes[1]


def test_verify_asks_onnx_runtime(midge: Cli, saved: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs pip install '.[verify]'")
    result = midge("verify", saved, "--on", "host", "--no-search", "-n", "1")
    assert result.code == 0, result.err
    assert "ONNX Runtime" in result.out


def test_a_model_in_one_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(whole().SerializeToString())
    assert read_file(path) == path.read_bytes()
    assert [*model_files(path)] == [path]
    assert [*model_files(tmp_path / "nothing")] == [tmp_path / "nothing"]


@pytest.mark.parametrize(
    "location",
    [
        "", "/etc/passwd", "../secret", "sub/../../secret", "C:\\secret", "..\\secret", "\\secret",
        "C:secret", "//host/share", "nul\0l",
    ],
)  # fmt: skip
def test_nothing_outside_of_the_folder_is_opened(
    saved: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (saved.parent.parent / "secret").write_bytes(bytes(100))
    path = changed(saved, entry("location", location))
    opened = Path.read_bytes
    seen: list[Path] = []
    monkeypatch.setattr(Path, "read_bytes", lambda self: [seen.append(self), opened(self)][1])
    with pytest.raises(ModelError, match="not a file in the model's folder"):
        midge_package.load(path)
    assert {p.name for p in seen} <= {"m.onnx", "m.onnx.data"}


@pytest.mark.parametrize("kind", ["link", "folder link", "folder", "pipe"])
def test_a_way_out_of_the_folder_is_not_taken(saved: Path, kind: str) -> None:
    (saved.parent.parent / "secret").write_bytes(bytes(100))
    place = saved.parent / "other"
    if kind == "link":
        place.symlink_to(saved.parent.parent / "secret")
    elif kind == "folder link":
        place.symlink_to(saved.parent.parent)
    elif kind == "folder":
        place.mkdir()
    else:
        os.mkfifo(place)
    name = "other/secret" if kind == "folder link" else "other"
    with pytest.raises(ModelError, match="no file in the model's folder"):
        midge_package.load(changed(saved, entry("location", name)))


def test_links_into_one_folder_as_download_caches_have_them(saved: Path, tmp_path: Path) -> None:
    blobs, links = tmp_path / "blobs", tmp_path / "links"
    saved.parent.rename(blobs)
    links.mkdir()
    for number, name in enumerate(("m.onnx", "m.onnx.data")):
        (blobs / name).rename(blobs / str(number))
        (links / name).symlink_to(Path("..", "blobs", str(number)))
    assert midge_package.load(links / "m.onnx").types["y"].shape == (2, 1)


def test_files_in_folders_below(saved: Path) -> None:
    (saved.parent / "weights").mkdir()
    saved.with_name("m.onnx.data").rename(saved.parent / "weights" / "a b")
    model = onnx.load(saved, load_external_data=False)
    text = model.SerializeToString()
    assert b"m.onnx.data" in text
    for tensor in model.graph.initializer:
        if tensor.external_data:
            entry("location", "weights/a b")(tensor)
    saved.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="not there"):  # the attribute's still lies in the old one
        midge_package.load(saved)
    (saved.parent / "m.onnx.data").write_bytes((saved.parent / "weights" / "a b").read_bytes())
    assert midge_package.load(saved).types["y"].shape == (2, 1)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("offset", "-1", "no number"),
        ("offset", "x", "no number"),
        ("offset", "9" * 30, "no number"),
        ("offset", "999999", "its data ends at"),
        ("length", "7", "bytes of data for a tensor of"),
        ("length", "999999999", "bytes of data for a tensor of"),
        ("checksum", "0" * 40, "is not the file of this model"),
        ("location", "missing", "which is not there"),
    ],
)
def test_what_does_not_fit_is_refused(saved: Path, key: str, value: str, match: str) -> None:
    with pytest.raises(ModelError, match=match) as caught:
        midge_package.load(changed(saved, entry(key, value)))
    assert "initializer" in caught.value.where
    assert caught.value.hint


def test_a_file_that_was_cut_short(saved: Path) -> None:
    data = saved.with_name("m.onnx.data")
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ModelError, match="its data ends at"):
        midge_package.load(saved)
    data.unlink()
    with pytest.raises(ModelError, match="not there") as caught:
        midge_package.load(saved)
    assert "together with its data files" in caught.value.hint


def test_the_right_checksum(saved: Path) -> None:
    sha1 = hashlib.sha1(saved.with_name("m.onnx.data").read_bytes()).hexdigest()
    midge_package.load(changed(saved, entry("checksum", sha1)))


def test_a_model_that_claims_to_be_huge(saved: Path) -> None:
    """One region of a file for many tensors: their data is not multiplied without end."""
    saved.with_name("m.onnx.data").write_bytes(bytes(1 << 22))
    model = onnx.load(saved, load_external_data=False)
    (first, *_) = [t for t in model.graph.initializer if t.external_data]
    first.dims[:] = [1 << 20]
    entry("offset", "0")(first)
    entry("length", str(1 << 22))(first)
    for number in range(600):
        model.graph.initializer.add().CopyFrom(first)
        model.graph.initializer[-1].name = f"t{number}"
    saved.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="bytes of data"):
        midge_package.load(saved)


def test_no_command_writes_over_the_data(midge: Cli, saved: Path) -> None:
    data = saved.with_name("m.onnx.data")
    before = data.read_bytes()
    result = midge("compile", saved, "-o", data, "--no-search")
    assert result.code == 2
    result = midge("inspect", saved, "--no-search", "--memory", data)
    assert (result.code, data.read_bytes()) == (2, before)
    assert "m.onnx.data" in result.err
