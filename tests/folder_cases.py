"""Packages of one name, to be written into one folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from conftest import NO_SEARCH
from midge import driver
from midge.core.package import Package
from midge.target import load_target
from small_models import cnn_int8, graph, two_ports


@cache
def old() -> Package:
    """With weights."""
    return driver.compile_graph(
        graph(cnn_int8(), "net"), load_target("cortex-m4"), NO_SEARCH
    ).package


@cache
def new() -> Package:
    """Of the same name, without weights: three files fewer."""
    return driver.compile_graph(
        graph(two_ports(), "net"), load_target("cortex-m4"), NO_SEARCH
    ).package


def contents(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def files(package: Package, **more: str) -> dict[str, str]:
    return {**package.files, **{n.replace("_", "."): text for n, text in more.items()}}


@cache
def seeded() -> Package:
    """The same files with other contents."""
    return driver.compile_graph(
        graph(cnn_int8(1), "net"), load_target("cortex-m4"), NO_SEARCH
    ).package


def code(package: Package) -> dict[str, str]:
    return {n: text for n, text in package.files.items() if n.endswith((".c", ".h"))}
