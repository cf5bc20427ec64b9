"""Every generated file says its licence, and it is the one that Midge states."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import midge
from conftest import DIGITS, ROOT
from midge.core.package import Package
from midge.core.seal import METADATA
from midge.runtime import LICENSE, headers
from small_models import MODELS, graph

LINE = f"SPDX-License-Identifier: {LICENSE}"
SETTINGS = {
    "digits": {}, "rows": {"stream_input": True}, "static": {"static_arena": True}, "float": {},
}  # fmt: skip


def package_of(kind: str) -> Package:
    model = graph(MODELS[kind](), "net") if kind in MODELS else DIGITS
    return midge.compile(model, search=False, prove=False, **SETTINGS[kind])


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_file_says_it(kind: str) -> None:
    package = package_of(kind)
    for name, text in package.files.items():
        if name != METADATA:
            readable = text.partition("## Licence\n\n")[2] if name == "README.md" else text
            assert LINE in readable.splitlines()[0], name
            assert text.count("SPDX-License-Identifier") == 1, name
    assert package.metadata["license"] == LICENSE


def test_what_a_build_number_is_made_of_has_no_licence_in_it() -> None:
    """The line is a comment: another licence is no other build."""
    package = package_of("float")
    for name, text in package.files.items():
        if name.endswith((".c", ".h")):
            assert "SPDX" not in re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL), name


def test_the_runtime_has_its_text_and_the_project_says_both() -> None:
    assert all(LINE in text.splitlines()[0] for text in headers())
    runtime = Path(midge.__file__).parent / "runtime" / "LICENSE"
    assert runtime.read_text().startswith("MIT No Attribution")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == f"Apache-2.0 AND {LICENSE}"
    for path in project["license-files"]:
        assert (ROOT / path).is_file()
    for page in ("README.md", "CONTRIBUTING.md"):
        assert LICENSE in (ROOT / page).read_text()
