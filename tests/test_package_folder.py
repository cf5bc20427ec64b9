"""A package's folder on disk: Midge's own files are replaced, whatever happens in the middle, and
nobody else's is touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import midge
from conftest import DIGITS, NO_SEARCH, Cli, as_nobody
from folder_cases import contents, files, new, old
from midge import driver
from midge.core.folder import write_folder
from midge.core.seal import METADATA, listed, sealed, text_of
from midge.target import load_target
from small_models import graph, two_ports

# Whose file is it?


def test_a_later_package_replaces_and_removes_its_own_files(tmp_path: Path) -> None:
    folder = old().save(tmp_path / "out")
    (folder / "notes.txt").write_text("kept")
    (folder / "src").mkdir()
    (folder / "src" / "net.c").write_text("kept too")
    new().save(folder)
    assert contents(folder) == files(new(), notes_txt="kept") | {"src/net.c": "kept too"}
    old().save(folder)
    assert contents(folder) == files(old(), notes_txt="kept") | {"src/net.c": "kept too"}


def test_a_package_of_another_name_takes_the_place_of_the_first(tmp_path: Path) -> None:
    other = driver.compile_graph(
        graph(two_ports(), "other"), load_target("cortex-m4"), NO_SEARCH
    ).package
    folder = old().save(tmp_path / "out")
    assert contents(other.save(folder)) == dict(other.files)


@pytest.mark.parametrize("name", ["net.c", "README.md", "midge_status.h", METADATA])
def test_an_edited_file_is_kept_unless_forced(name: str, tmp_path: Path) -> None:
    folder = old().save(tmp_path / "out")
    path = folder / name
    path.write_text(path.read_text() + " ")
    before = contents(folder)
    with pytest.raises(midge.UsageError, match="edited"):
        new().save(folder)
    assert contents(folder) == before
    new().save(folder, force=True)
    assert path.read_text() == new().files[name]


def test_an_edited_file_without_a_successor_is_left_even_if_forced(tmp_path: Path) -> None:
    folder = old().save(tmp_path / "out")
    (folder / "net_weights.c").write_text("mine now")
    with pytest.raises(midge.UsageError, match=r"edited.* net_weights\.c"):
        new().save(folder)
    new().save(folder, force=True)
    assert contents(folder) == files(new()) | {"net_weights.c": "mine now"}


def test_a_file_that_someone_added_under_the_name_of_a_new_one(tmp_path: Path) -> None:
    folder = new().save(tmp_path / "out")
    (folder / "net_weights.c").write_text("mine")
    with pytest.raises(midge.UsageError, match=r"not written by Midge: net_weights\.c"):
        old().save(folder)
    assert contents(folder) == files(new()) | {"net_weights.c": "mine"}


def test_a_folder_of_someone_else_whose_names_are_others(tmp_path: Path) -> None:
    """Is as good as an empty one; what is there stays, whatever comes later."""
    folder = tmp_path / "out"
    (folder / ".git").mkdir(parents=True)
    (folder / ".git" / "HEAD").write_text("ref")
    (folder / "notes.txt").write_text("three years")
    (folder / "src").symlink_to(".git")
    mine = {".git/HEAD": "ref", "notes.txt": "three years"}
    for package in (old(), new(), old()):
        package.save(folder)
        assert contents(folder) == files(package) | mine
    assert (folder / "src").is_symlink()


@pytest.mark.parametrize("name", ["README.md", "net.c", METADATA])
def test_one_of_their_files_that_has_the_name_of_ours_is_named(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / name).write_text("three years")
    (folder / "notes.txt").write_text("three years")
    with pytest.raises(midge.UsageError, match=rf"not written by Midge.*: {name}\n.*--force"):
        old().save(folder)
    assert contents(folder) == dict.fromkeys((name, "notes.txt"), "three years")
    old().save(folder, force=True)
    assert contents(folder) == files(old()) | {"notes.txt": "three years"}


def test_files_that_are_gone_come_back_and_the_same_are_not_written_again(tmp_path: Path) -> None:
    folder = old().save(tmp_path / "out")
    (folder / "net.h").unlink()
    os.utime(folder / "net.c", (1, 1))
    old().save(folder)
    assert contents(folder) == files(old())
    assert (folder / "net.c").stat().st_mtime == 1


def foreign_metadata() -> list[str]:
    listing = {"sha256": {"../thesis.txt": "0" * 64, METADATA: "0" * 64}}
    return ['{"mine": 1}', '{"midge": "0.1.0", "name": "net"}', "[]", "{", "[" * 9999, '"sha256"',
            '{"sha256": 1}', '{"sha256": {"net.c": 7}}', json.dumps(listing)]  # fmt: skip


@pytest.mark.parametrize("text", foreign_metadata(), ids=lambda t: t[:20])
def test_a_folder_with_another_metadata_json_is_not_midges(text: str, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (tmp_path / "thesis.txt").write_text("three years")
    (folder / METADATA).write_text(text)
    (folder / "thesis.txt").write_text("three years")
    before = contents(tmp_path)
    with pytest.raises(midge.UsageError, match="not written by Midge"):
        old().save(folder)
    assert contents(tmp_path) == before
    old().save(folder, force=True)
    assert contents(folder) == files(old(), thesis_txt="three years")


@pytest.mark.parametrize("name", ["../thesis.txt", "{}/thesis.txt", "deep/../../thesis.txt"])
def test_a_list_of_files_elsewhere_is_not_midges(name: str, tmp_path: Path) -> None:
    """Though its hashes are right."""
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("three years")
    (tmp_path / "out" / "deep").mkdir(parents=True)
    path = name.format(tmp_path)
    assert (tmp_path / "out" / path).samefile(thesis)
    (tmp_path / "out" / METADATA).write_text(text_of(sealed({}, {path: "three years"})))
    with pytest.raises(midge.UsageError, match="not written by Midge"):
        old().save(tmp_path / "out")
    old().save(tmp_path / "out", force=True)
    assert thesis.read_text() == "three years"


def test_a_folder_of_midge_without_hashes_counts_as_edited(tmp_path: Path) -> None:
    """As 0.1.0 wrote them: what has no successor stays, even if forced."""
    folder = old().save(tmp_path / "out")
    metadata = json.loads((folder / METADATA).read_text())
    del metadata["sha256"], metadata["build"]
    (folder / METADATA).write_text(json.dumps(metadata))
    with pytest.raises(midge.UsageError, match=r"not written by Midge, or its metadata\.json"):
        new().save(folder)
    new().save(folder, force=True)
    assert contents(folder) == dict(old().files) | files(new())
    assert set(listed((folder / METADATA).read_text())) == {*new().files} - {METADATA}


# Where it lies.


def test_a_link_to_a_folder_is_as_the_folder(tmp_path: Path) -> None:
    place, link = tmp_path / "place", tmp_path / "link"
    place.mkdir()
    link.symlink_to(place, target_is_directory=True)
    assert old().save(link) == link
    (place / "notes.txt").write_text("kept")
    new().save(link)
    assert link.is_symlink()
    assert contents(place) == files(new(), notes_txt="kept")


def test_links_inside_are_not_written_through(tmp_path: Path) -> None:
    folder = old().save(tmp_path / "out")
    precious = tmp_path / "precious.c"
    precious.write_text("three years")
    (folder / "net.c").unlink()
    (folder / "net.c").symlink_to(precious)
    with pytest.raises(midge.UsageError, match=r"not written by Midge: net\.c"):
        new().save(folder)
    new().save(folder, force=True)
    assert precious.read_text() == "three years"
    assert contents(folder) == files(new())
    assert not (folder / "net.c").is_symlink()


def test_what_is_no_file_is_in_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    (folder / "net.c").mkdir(parents=True)
    with pytest.raises(midge.UsageError, match=r"in the way of net\.c"):
        old().save(folder, force=True)
    assert [*folder.iterdir()] == [folder / "net.c"]
    (folder / "net.c").rmdir()
    os.mkfifo(folder / "net.c")
    with pytest.raises(midge.UsageError, match="not written by Midge"):
        old().save(folder)
    old().save(folder, force=True)
    assert contents(folder) == files(old())


def test_files_in_folders_of_their_own(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write_folder(tmp_path / "out", {"src/a.c": "a"}, force=False)
    assert contents(tmp_path / "out") == {"src/a.c": "a"}
    (tmp_path / "out" / "lib").symlink_to(elsewhere)
    with pytest.raises(midge.UsageError, match=r"in the way of lib/a\.c"):
        write_folder(tmp_path / "out", {"lib/a.c": "b"}, force=True)
    assert [*elsewhere.iterdir()] == []


@pytest.mark.parametrize("name", ["with blanks", "Gewürz-網", "-o", "a'b\"c", "n" * 255, "a\nb"])
def test_unusual_names(name: str, tmp_path: Path) -> None:
    folder = old().save(tmp_path / name)
    new().save(folder)
    assert contents(folder) == files(new())
    with pytest.raises(midge.UsageError, match=r"cannot be written.*\n  hint: choose a shorter"):
        old().save(tmp_path / ("n" * 256))


def test_the_current_folder(midge: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("kept")
    (tmp_path / "Makefile").write_text("all:")
    refused = midge("compile", DIGITS, "--no-search", "-o", ".")
    assert refused.code == 2
    assert "--force" in refused.err
    assert contents(tmp_path) == {"notes.txt": "kept", "Makefile": "all:"}
    assert midge("compile", DIGITS, "--no-search", "-o", ".", "--force").code == 0
    assert midge("compile", DIGITS, "--no-search", "-o", ".", "--name", "d").code == 0
    assert (tmp_path / "notes.txt").read_text() == "kept"
    assert {p.name for p in tmp_path.iterdir()} >= {"d.c", METADATA, "Makefile"}
    assert not (tmp_path / "digits_int8.c").exists()


def test_modes_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        folder = old().save(tmp_path / "out")
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o750
    assert {p.stat().st_mode & 0o777 for p in folder.iterdir()} == {0o640}


def test_a_folder_that_is_read_only(open_folder: Path) -> None:
    folder = old().save(open_folder / "out")
    folder.chmod(0o555)
    before = contents(open_folder)
    with as_nobody(), pytest.raises(midge.UsageError, match=r"Permission denied\n.*permissions"):
        new().save(folder)
    with as_nobody(), pytest.raises(midge.UsageError, match=r"Permission denied"):
        new().save(folder / "below")
    assert contents(open_folder) == before
