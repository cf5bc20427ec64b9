"""midge compile --dry-run: everything but writing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import DIGITS, Cli, as_nobody
from folder_cases import contents

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

WORDS = ("compile", DIGITS, "--name", "net", "-o", "out", "--no-search", "--no-prove")


def there(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_nothing_is_written_and_all_is_said(midge: Cli, tmp_path: Path) -> None:
    before = there(tmp_path)
    shown = midge(*WORDS, "--dry-run")
    assert shown.code == 0
    assert there(tmp_path) == before
    assert "Dry run: nothing was written to out/" in shown.out
    assert all(len(line) <= 80 for line in shown.out.splitlines())
    said = midge(*WORDS, "--dry-run", "--json").json
    written = midge(*WORDS, "--json").json
    assert sorted(said["dry_run"]["new"]) == written["files"] == said["files"]
    assert {**said, "dry_run": None} == {**written, "dry_run": None}
    for name in written["files"]:
        (row,) = (line for line in shown.out.splitlines() if line.startswith(f"{name} "))
        assert row.split()[-1] == "new"
        assert row.split()[1:-1] == f"{(tmp_path / 'out' / name).stat().st_size:,}".split(",")


def test_what_would_change_in_a_folder_that_is_there(midge: Cli, tmp_path: Path) -> None:
    midge(*WORDS)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    before = contents(tmp_path / "out")
    same = midge(*WORDS, "--dry-run", "--json").json["dry_run"]
    assert (same["new"], same["replaced"], same["removed"]) == ([], [], [])
    other = midge(*WORDS[:3], "other", *WORDS[4:], "--dry-run", "--json").json["dry_run"]
    assert {"other.c", "other.h"} <= {*other["new"]}
    assert {"net.c", "net.h"} <= {*other["removed"]}
    assert "README.md" in other["replaced"]
    assert "midge_status.h" in other["same"]
    assert contents(tmp_path / "out") == before
    shown = midge(*WORDS[:3], "other", *WORDS[4:], "--dry-run").out
    rows = [line.split() for line in shown.splitlines() if line.startswith("net.c ")]
    assert rows == [["net.c", "removed"]]


def test_what_would_be_refused_is_refused(midge: Cli, tmp_path: Path, open_folder: Path) -> None:
    midge(*WORDS)
    (tmp_path / "out" / "net.c").write_text("mine")
    for words in (WORDS, (*WORDS, "--dry-run")):
        refused = midge(*words)
        assert refused.code == 2
        assert "edited, or not written by Midge: net.c" in " ".join(refused.err.split())
    assert midge(*WORDS, "--dry-run", "--force").code == 0
    assert (tmp_path / "out" / "net.c").read_text() == "mine"
    shutil.rmtree(tmp_path / "out")
    (tmp_path / "out").write_text("a file")
    assert "is not a folder" in midge(*WORDS, "--dry-run").err
    (open_folder / "locked").mkdir(mode=0o555)
    with as_nobody():
        refused = midge(*WORDS[:4], "-o", open_folder / "locked" / "out", *WORDS[6:], "--dry-run")
    assert refused.code == 2
    assert "cannot be written: Permission denied" in " ".join(refused.err.split())
