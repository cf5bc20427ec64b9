"""metadata.json has the keys that its schema says, and tells only what is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

import midge
from conftest import DIGITS
from midge.codegen.metadata import SCHEMA
from midge.core.options import flags
from midge.core.package import Package
from midge.toolchain import build_image

pytestmark = pytest.mark.slow

PORT = {
    "name", "c_name", "c_alias", "dtype", "shape", "offset", "size", "scale", "zero_point",
}  # fmt: skip
# What SCHEMA stands for. A key that goes, or means something else, is another number; one that is
# added is added here.
KEYS: dict[str, set[str]] = {
    "": {
        "schema", "midge", "license", "name", "target", "model_sha256", "options", "arena",
        "weights_size", "kernels", "inputs", "outputs", "classes", "tensors", "operators", "build",
        "sha256",
    },
    "arena": {"size", "align", "lower_bound"},
    "kernels": {"code", "compiler"},
    "inputs": PORT,
    "outputs": PORT,
    "tensors": {"label", "offset", "size", "alive", "born", "dies"},
    "operators": {
        "name", "kinds", "src", "output", "macs", "constants", "live", "channels", "kernel",
        "schedule",
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def searched() -> Package:
    return midge.compile(DIGITS, name="digits")


@pytest.fixture(scope="module")
def quick() -> Package:
    return midge.compile(DIGITS, name="digits", search=False, prove=False)


def tables(metadata: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = metadata[key] if key else metadata
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize("key", KEYS)
def test_the_keys_of_the_schema(searched: Package, key: str) -> None:
    assert SCHEMA == 1, "another schema has other keys: say which"
    assert searched.metadata["schema"] == SCHEMA
    for table in tables(searched.metadata, key):
        assert set(table) == KEYS[key]


def test_keys_that_depend_on_options() -> None:
    two = midge.compile(DIGITS, search=False, prove=False, pools={"a": 1024, "b": 65536})
    assert set(two.metadata["arena"]) == KEYS["arena"] | {"pools"}
    assert list(two.metadata["options"]) == list(flags())


def test_what_the_search_measured_is_said(searched: Package) -> None:
    found = searched.metadata["kernels"]
    image = build_image(searched)
    linked = sum(s.size for n, s in image.symbols.items() if s.kind == "func" and is_kernel(n))
    assert found["code"] == linked
    assert found["compiler"].endswith(" -O3")
    readme = searched.files["README.md"]
    row = f"| code | {found['code']} | flash; kernels alone, by {found['compiler']}: "
    assert re.search(f"\n{re.escape(row)}.*\n\\| stack ", readme), "in one table"


def is_kernel(symbol: str) -> bool:
    """And not what calls them: init, run, and those that say where tensors are."""
    return re.fullmatch(r"(digits|midge)_\w+_[0-9a-f]+\w*", symbol) is not None


def test_nothing_is_guessed(quick: Package) -> None:
    assert quick.metadata["kernels"] is None
    readme = quick.files["README.md"]
    assert "| code | | flash; depends on the compiler: `midge run` measures it |\n| stack" in readme


def test_tables_of_bands_show_what_is_alive(quick: Package, searched: Package) -> None:
    """The sizes of whole tensors say nothing of an arena that holds rows of them."""
    rows = quick.metadata["tensors"]
    assert any(r["alive"] < r["size"] for r in rows)
    for row in rows:
        assert f"{row['offset']:>8}{row['alive']:>8}{row['size']:>8}  " in quick.files["digits.c"]
        ends = row["offset"] + row["alive"]
        assert ends <= quick.arena_size
    assert "  lowest   alive   whole  tensor" in quick.files["digits.c"]
    whole = midge.compile(DIGITS, name="digits", search=False, prove=False, bands=False)
    assert all(r["alive"] == r["size"] for r in whole.metadata["tensors"])
    assert "  offset   bytes  tensor" in whole.files["digits.c"]
