"""The benchmark: what it prints and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from conftest import DIGITS, ROOT

pytestmark = pytest.mark.slow

BENCH = ROOT / "benchmarks" / "bench.py"
sys.path.append(str(BENCH.parent))


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return import_module("bench")


def operator(kind: str, macs: int, elements: int, cost: int) -> dict[str, object]:
    return {
        "name": kind, "kind": kind, "macs": macs // 2, "model_macs": macs, "elements": elements,
        "instructions": cost, "cycles": 2 * cost,
    }  # fmt: skip


def test_it_prints_operators_beside_the_peer(tmp_path: Path) -> None:
    words = [sys.executable, str(BENCH), str(DIGITS), "--optimize", "size", "--json", "out.json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= 80
    (result,) = json.loads((tmp_path / "out.json").read_text())
    assert [op["kind"] for op in result["operators"]][:3] == [
        "first conv", "depthwise 3x3", "pointwise",
    ]  # fmt: skip
    assert sum(op["cycles"] for op in result["operators"]) == result["cycles"]
    op = result["operators"][2]
    row = next(x for x in done.stdout.splitlines() if x.startswith("conv2d_2 ")).split()
    per_mac = [f"{op[figure] / op['model_macs']:.2f}" for figure in ("cycles", "instructions")]
    assert row[-3:] == [*per_mac, "2.1-2.4"]
    assert "--optimize size" in done.stdout


def test_whole_models_alone(tmp_path: Path) -> None:
    words = [sys.executable, str(BENCH), str(DIGITS), "--no-operators", "--target", "cortex-m7"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "digits" in done.stdout
    assert "conv2d" not in done.stdout
    assert "tflm" not in done.stdout  # whose figures are of another CPU


def test_other_scripts_write_their_figures_down(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cost, trees = import_module("cost"), import_module("trees")
    costs = dict.fromkeys("operators weights arena c cpu rss child empty".split(), 7)
    monkeypatch.setattr(cost, "measure", lambda name, args: costs)
    monkeypatch.setattr(trees, "measure", lambda name, goal: trees.Row(name, 1, 2, 3, 1.0, 0.5))
    path = tmp_path / "out.json"
    monkeypatch.setattr(sys, "argv", ["cost.py", "lstm_200", "--json", str(path)])
    assert cost.main() == 0
    assert json.loads(path.read_text()) == {"lstm_200.onnx": costs}
    monkeypatch.setattr(sys, "argv", ["trees.py", "forest of 10", "--json", str(path)])
    assert trees.main() == 0
    (row,) = json.loads(path.read_text())
    assert (row["name"], row["cycles"], row["agreement"]) == ("forest of 10", 2, 1.0)


def test_a_fused_add_costs_the_peer_more(bench: ModuleType) -> None:
    known = {"pointwise": [2.0, 3.0], "add": [80.0, 80.0]}
    assert bench.of_peer(operator("pointwise", 1000, 50, 1), known) == (2.0, 3.0)
    assert bench.of_peer(operator("pointwise+add", 1000, 50, 1), known) == (6.0, 7.0)
    assert bench.of_peer(operator("add", 0, 50, 1), known) == (80.0, 80.0)
    assert bench.of_peer(operator("softmax", 0, 50, 1), known) is None
    assert bench.of_peer(operator("depthwise 3x3+add", 10, 5, 1), known) is None


def test_costs_are_per_unit_of_all_operators(bench: ModuleType) -> None:
    operators = [operator("pointwise", 100, 1, 250), operator("pointwise", 300, 1, 450)]
    assert bench.per_unit(operators, "instructions") == "1.75"
    assert bench.per_unit([operator("mean", 0, 10, 45)], "cycles") == "9.00"
    assert bench.per_unit([{**operators[0], "cycles": None}], "cycles") == "-"


def test_every_kind_of_the_peers_is_one_that_is_found(bench: ModuleType) -> None:
    import tomllib

    known = tomllib.loads((ROOT / "benchmarks" / "peers.toml").read_text())["operators"]["tflm"]
    assert all(0 < least <= most for least, most in known.values())
    assert set(known) == {
        "pointwise", "pointwise of 8", "conv 3x3", "first conv", "depthwise 3x3", "dense", "add",
    }  # fmt: skip
