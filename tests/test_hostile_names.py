"""Names out of a model are text wherever they are written: nothing in them is markup, HTML, code or
an order to the terminal, whatever the terminal can write."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import midge as package
from conftest import DIGITS, ROOT, Cli
from midge.cli.output import clean, table
from midge.codegen.names import comment_safe, markdown_safe
from onnx_builder import OnnxModel

pytestmark = pytest.mark.slow

NAMES = {
    "markup": "[/red][bold]x",
    "escaped markup": "\\[/red]\\\\[bold]x",
    "closing": "[/]",
    "html": "<script>alert(1)</script><img src=x onerror=y>",
    "code span": "`<b>`|`",
    "comment": "*| int evil; /\\*",
    "escape": "\x1b[31m\x07red\x9b2J",
    "bidirectional": "abc\u202egnp.exe",
    "mathematics": r"$\frac{$ a $x_1$",
    "letters": "\u5165\u529b caf\u00e9 \U0001f600",
    "lines": "a\nb\r\nc",
}
QUICK = ("--no-search",)


def model(folder: Path, name: str) -> Path:
    """Two layers; the input, a tensor between and the output are called so."""
    m = OnnxModel()
    m.op("Relu", m.linear(f"in {name}", 4, 6), output=f"mid {name}")
    m.linear(f"mid {name}", 6, 3, output=f"out {name}")
    path = folder / "net.onnx"
    path.write_bytes(m.build([(f"in {name}", (1, 4))], [f"out {name}"]))
    return path


@pytest.mark.parametrize("kind", NAMES)
def test_every_command_prints_them_as_they_are(midge: Cli, tmp_path: Path, kind: str) -> None:
    name = NAMES[kind]
    path = model(tmp_path, name)
    commands = (
        ("run", path, "--on", "host", *QUICK),
        ("verify", path, "--on", "host", "-n", "1", "--layers", *QUICK),
        ("inspect", path, *QUICK),
        ("inspect", path, "--show", "graph", *QUICK),
        ("compile", path, "-o", tmp_path / "out", *QUICK),
    )
    for command in commands:
        result = midge(*command)
        assert result.code == 0, result.err
        for stream in (result.out, result.err):
            assert all(c.isprintable() or c == "\n" for c in stream), command
    shown = midge(*commands[0]).out
    if kind in ("markup", "escaped markup", "closing"):
        assert f"out {name}[0] = " in shown
    c = (tmp_path / "out" / "net.h").read_text(encoding="utf-8")
    assert c.isascii()
    assert "int evil" not in outside_comments(c)


def outside_comments(text: str) -> str:
    parts = text.split("*/")
    return "".join(p.split("/*")[0] for p in parts)


def test_a_readme_has_no_html(tmp_path: Path, midge: Cli) -> None:
    for kind in ("html", "code span", "lines"):
        path = model(tmp_path, NAMES[kind])
        assert midge("compile", path, "-o", tmp_path / kind, *QUICK).code == 0
        text = (tmp_path / kind / "README.md").read_text(encoding="utf-8")
        for line in "".join(text.split("```")[::2]).splitlines():
            assert "<" not in "".join(line.split("`")[::2])  # outside of spans of code
            assert line.count("`") % 2 == 0


@given(st.text(st.sampled_from("*/\\|?`<>[]ab\n\x00\u20ac"), max_size=90))
def test_text_in_comments_and_tables(text: str) -> None:
    safe = comment_safe(text)
    assert safe.isascii()
    assert safe.isprintable()
    assert len(safe) <= 64
    assert not any(risky in safe for risky in ("*/", "/*", "??", "`", "|", "\\"))
    assert "<" not in markdown_safe(text)
    assert clean(text).replace("\n", "").isprintable()


def test_pictures_are_xml_with_names_as_text(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pip install '.[plot]'")
    from midge.cli.quality import draw
    from midge.core.types import DType
    from midge.quantize.report import Layer

    layers = [
        Layer(name=name[:36], op="dense", where="node 1", dtype=DType.I8, signal_to_noise=30.0,
              largest=1.0)
        for name in NAMES.values()
    ]  # fmt: skip
    draw(layers, tmp_path / "layers.svg", "net")
    root = ET.parse(tmp_path / "layers.svg").getroot()
    assert not [e for e in root.iter() if e.tag.rpartition("}")[2] in ("script", "img", "b")]
    texts = "".join(e.text or "" for e in root.iter())
    assert "<script>" in texts
    assert r"$\frac{$" in texts


def test_tables_do_not_read_markup() -> None:
    from rich.console import Console

    out = Console(width=80, record=True, file=io.StringIO())
    out.print(table(("a", "b"), [(n, "1") for n in NAMES.values()], title="[/red] \\[bold]"))
    text = out.export_text()
    for kind in ("markup", "escaped markup", "closing"):
        assert NAMES[kind] in text
    assert "[/red] \\[bold]" in text


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "latin-1"])
def test_terminals_that_are_not_utf_8(tmp_path: Path, encoding: str) -> None:
    path = model(tmp_path, NAMES["letters"])
    environment = {
        **os.environ, "PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0",
        "PYTHONPATH": str(Path(package.__file__).parents[1]), "COLUMNS": "80",
    }  # fmt: skip
    script = f"""
from midge.cli.app import run
codes = [run(words) for words in (
    ["inspect", {str(DIGITS)!r}, "--no-search"],
    ["run", {str(path)!r}, "--on", "host", "--no-search"],
    ["inspect", {str(path)!r}, "--show", "model", "--no-search"],
    ["verify", {str(path)!r}, "--on", "host", "-n", "1", "--no-search", "--layers"],
    ["run", "no \\u5165 file"], ["--help"], ["verify", "--help"],
)]
assert codes == [0, 0, 0, 0, 2, 0, 0], codes
"""
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr.decode("utf-8", "replace")
    done.stdout.decode(encoding)
    assert b"internal error" not in done.stderr
    assert b"Arena: " in done.stdout


def test_surrogates_can_be_printed(midge: Cli, tmp_path: Path) -> None:
    """Of file names that are no UTF-8, and of JSON."""
    result = midge("run", tmp_path / "\udcff.onnx")
    assert result.code == 2
    assert np.all([c.isprintable() or c == "\n" for c in result.err])
