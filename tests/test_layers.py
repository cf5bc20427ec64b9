"""The house plan, checked from the source: import direction, file length, public names."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import midge

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "midge"
MODULES = sorted(SOURCE.rglob("*.py"))

# DESIGN, section 2. Every folder and file of the package must stand here.
MAY_IMPORT = {
    "core": set(),
    "runtime": set(),
    "graph": {"core"},
    "loop": {"core"},
    "plan": {"core"},
    "target": {"core", "loop"},
    "lower": {"core", "graph", "loop", "plan", "target"},
    "ops": {"core", "graph", "loop", "lower"},
    "kernels": {"core", "graph", "loop", "target", "lower"},
    "frontends": {"core", "graph"},
    "passes": {"core", "graph"},
    "export": {"core", "graph"},
    "quantize": {"core", "graph", "passes"},
    "codegen": {"core", "loop", "plan", "target", "runtime"},
    "toolchain": {"core"},
    "run": {"core", "toolchain"},
    "oracle": {"core", "graph", "frontends", "export"},
    "tune": {"core", "loop", "plan", "target", "codegen", "toolchain", "run", "runtime"},
}
# They see the whole house, but not what is above them.
TOP = (
    "pipeline",
    "ranking",
    "cascading",
    "trade_off",
    "limits",
    "driver",
    "onnx_backend",
    "data",
    "batch",
    "verify",
    "api",
    "cli",
    "__init__",
    "__main__",
)
HEAVY = (
    "rich", "typer", "jinja2", "tflite", "flatbuffers", "unicorn", "capstone", "elftools",
    "ziglang", "matplotlib", "ai_edge_litert", "onnx", "onnxruntime", "google.protobuf",
)  # fmt: skip
DOCUMENTED = [
    "CompileError", "CompileOptions", "MidgeError", "ModelError", "Package", "PlanError", "Run",
    "RunError", "ScheduleError", "TargetError", "ToolchainError", "UsageError", "VerifyError",
    "compile", "from_sklearn", "from_torch", "load", "quantize", "run", "save",
]  # fmt: skip


def layer_of(path: Path) -> str:
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every imported midge module of a file with its line, those inside functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            module = node.module or ""
            if module == "midge":
                yield from ((f"midge.{a.name}", node.lineno) for a in node.names)
            else:
                yield module, node.lineno


def test_every_layer_has_a_place() -> None:
    assert {layer_of(p) for p in MODULES} <= {*MAY_IMPORT, *TOP}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_point_downwards(path: Path) -> None:
    layer = layer_of(path)
    if layer in MAY_IMPORT:
        allowed = MAY_IMPORT[layer] | {layer}
    else:
        allowed = {*MAY_IMPORT, *TOP[: TOP.index(layer) + 1]}
    for name, line in imports(path):
        parts = name.split(".")
        if parts[0] == "midge" and len(parts) > 1:
            assert parts[1] in allowed, f"{path}:{line}: {layer} may not import {name}"


@pytest.mark.parametrize(
    "path", [*MODULES, *sorted(TESTS.rglob("*.py"))], ids=lambda p: str(p.relative_to(TESTS.parent))
)
def test_files_stay_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 400


def test_the_public_names_are_the_documented_ones() -> None:
    assert midge.__all__ == DOCUMENTED
    for name in midge.__all__:
        item = getattr(midge, name)
        assert item.__doc__, f"midge.{name} has no docstring"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_every_module_imports_and_says_what_it_is(path: Path) -> None:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    if path.read_text().strip():
        assert module.__doc__
    for name in getattr(module, "__all__", ()):
        assert hasattr(module, name)


def test_importing_midge_imports_nothing_heavy() -> None:
    code = f"import sys, midge; print(*[m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


@pytest.mark.parametrize(
    "module", ["midge.driver", "midge.run", "midge.toolchain", "midge.cli.app"]
)
def test_heavy_packages_wait_until_they_are_used(module: str) -> None:
    heavy = (
        "unicorn",
        "capstone",
        "elftools",
        "ziglang",
        "matplotlib",
        "ai_edge_litert",
        "tflite",
        "onnx",
    )
    code = f"import sys, {module}; print(*[m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stdout.strip()) == (0, ""), result.stderr


@pytest.mark.parametrize("word", ["--version", "targets", "doctor", "cache"])
def test_quick_commands_wait_for_no_other(word: str) -> None:
    code = (
        "import sys; from midge.cli.app import run; run(sys.argv[1:])\n"
        "print(*[m for m in ('midge.driver', 'midge.verify') if m in sys.modules])"
    )
    words = [sys.executable, "-c", code, word, *(["info"] if word == "cache" else [])]
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == [""], result.stdout + result.stderr


def test_files_of_commands_are_named_as_they_are() -> None:
    from midge.cli import commands

    names = sorted(p.stem for p in (SOURCE / "cli" / "commands").glob("[!_]*.py"))
    commands.load([])
    assert sorted(commands.COMMANDS) == names
