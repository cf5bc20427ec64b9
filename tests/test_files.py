"""Files that commands write: whole or not at all, where and how the user has them."""

from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import numpy as np
import pytest

import midge
from conftest import Cli, as_nobody
from midge.core.files import write_file


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_gets_the_mode_of_the_umask_and_keeps_its_own(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_file(tmp_path / "deep" / "a", b"1")
        assert mode(tmp_path / "deep" / "a") == 0o640
        (tmp_path / "deep" / "a").chmod(0o604)
        write_file(tmp_path / "deep" / "a", b"2")
    finally:
        os.umask(before)
    assert mode(tmp_path / "deep" / "a") == 0o604
    assert (tmp_path / "deep" / "a").read_bytes() == b"2"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a"]


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    link = tmp_path / "link"
    link.symlink_to("data/file")
    for text in (b"1", b"2"):  # to nothing, to a file
        write_file(link, text)
        assert link.is_symlink()
        assert (tmp_path / "data" / "file").read_bytes() == text
    assert len([*(tmp_path / "data").iterdir()]) == 1


def test_what_is_no_file_is_written_to_as_it_is(tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    write_file(pipe, b"12")
    reader.join(10)
    assert read == [b"12"]
    with pytest.raises(midge.UsageError, match=r"Is a directory\n  hint: "):
        write_file(tmp_path, b"1")


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    write_file(tmp_path / ("n" * 255), b"1")
    with pytest.raises(midge.UsageError, match="too long\n  hint: choose a shorter name"):
        write_file(tmp_path / ("n" * 256), b"1")


def test_what_is_read_only_stays(open_folder: Path) -> None:
    path = open_folder / "file"
    path.write_bytes(b"1")
    open_folder.chmod(0o777)
    path.chmod(0o444)
    with as_nobody(), pytest.raises(midge.UsageError, match="Permission denied"):
        write_file(path, b"2")
    open_folder.chmod(0o555)
    with as_nobody(), pytest.raises(midge.UsageError, match="Permission denied"):
        write_file(open_folder / "other", b"2")
    assert path.read_bytes() == b"1"


@pytest.mark.parametrize("step", ["write", "replace"])
def test_a_full_disk_leaves_the_old_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "file"
    write_file(path, b"1")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full) if step == "write" else patch.setattr(os, step, full)
        with pytest.raises(midge.UsageError, match="No space left on device\n  hint: free space"):
            write_file(path, b"2")
    assert path.read_bytes() == b"1"
    assert [*tmp_path.iterdir()] == [path]


def test_commands_write_where_links_lead(midge: Cli, digits: Path, tmp_path: Path) -> None:
    (tmp_path / "out.npz").symlink_to("kept.npz")
    assert midge("run", digits, "--on", "host", "--no-search", "-o", "out.npz").code == 0
    assert (tmp_path / "out.npz").is_symlink()
    assert len(np.load(tmp_path / "kept.npz").files) == 1
    refused = midge("run", digits, "--on", "host", "--no-search", "-o", tmp_path)
    assert (refused.code, "hint:" in refused.err) == (2, True)
