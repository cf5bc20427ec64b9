"""midge schedule: the loops of an operator, step by step."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from conftest import DIGITS, Cli
from midge.cli.commands.schedule import changes, stages
from midge.loop.schedule import Reorder, Split, Tensorize, Unroll, apply
from midge.lower.space import parse_point
from programs import dot_instruction, matmul

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]

DOT = dot_instruction(2, "i8", "i8")
STEPS = (Split("k", 2), Tensorize("k_i", DOT.name))


def kernel(steps: tuple[Any, ...], instructions: Any) -> Any:
    func = apply(matmul(), steps, instructions)
    return SimpleNamespace(plain=matmul(), func=func, steps=steps, instructions=instructions)


def test_a_stage_is_the_loops_after_a_step() -> None:
    steps = (Split("n", 2), Reorder(("k", "n_i")), Unroll("n_i"))
    made = stages(kernel(steps, {}))
    assert [s.step for s in made] == ["", *map(str, steps)]
    assert [s.func for s in made] == [str(matmul())] + [
        str(apply(matmul(), steps[:i])) for i in (1, 2, 3)
    ]
    assert len({s.func for s in made}) == 4


def test_steps_may_use_instructions() -> None:
    made = stages(kernel(STEPS, {DOT.name: DOT}))
    assert f"{DOT.name}(" in made[-1].func
    assert f"{DOT.name}(" not in made[-2].func


def test_changes_are_a_diff_without_its_head() -> None:
    before, after = (s.func for s in stages(kernel(STEPS, {DOT.name: DOT}))[1:])
    lines = list(changes(before, after))
    assert lines[0].startswith("@@ ")
    assert not any(line.startswith(("---", "+++")) for line in lines)
    assert [line for line in lines if line[0] == "+"] == [
        f"+        {DOT.name}(x[m, k_o * 2], w[n, k_o * 2], acc)"
    ]
    assert list(changes(before, before)) == []


def longest(midge: Cli) -> Any:
    """What is listed of the operator with most steps."""
    return max(midge("schedule", DIGITS, "--json").json, key=lambda e: len(e["schedule"]))


def test_all_schedules_are_listed(midge: Cli) -> None:
    entries = midge("schedule", DIGITS, "--json").json
    text = midge("schedule", DIGITS).out
    operators = midge("profile", DIGITS, "--json").json["operators"]
    assert [e["operator"] for e in entries] == [op["name"] for op in operators]
    assert [e["src"] for e in entries] == [op["src"] for op in operators]
    for entry in entries:
        assert entry["operator"] in text
        for step in entry["schedule"]:
            assert any(line.rstrip().endswith(f"  {step}") for line in text.splitlines())
    assert sum(bool(e["schedule"]) for e in entries) >= 5


def test_an_operator_is_shown_step_by_step(midge: Cli) -> None:
    entry = longest(midge)
    answer = midge("schedule", DIGITS, entry["operator"], "--json").json
    assert {k: answer[k] for k in entry} == entry
    assert [s["step"] for s in answer["stages"]] == [None, *entry["schedule"]]
    assert answer["stages"][-1]["func"] in midge("inspect", DIGITS, "--show", "loops").out
    assert answer["c"] in midge("inspect", DIGITS, "--show", "c").out
    shown = midge("schedule", DIGITS, entry["operator"]).out
    at = -1
    for i, stage in enumerate(answer["stages"]):
        heading = f"{i}. {stage['step']}" if i else "As written"
        assert (at := shown.find(f"\n{heading}\n\n{stage['func']}", at + 1)) >= 0
    assert shown.endswith(f"\nIn C\n\n{answer['c']}")


def test_diff_shows_what_steps_change(midge: Cli) -> None:
    name = longest(midge)["operator"]
    answer = midge("schedule", DIGITS, name, "--json").json
    shown = midge("schedule", DIGITS, name, "--diff").out
    funcs = [s["func"] for s in answer["stages"]]
    assert len(funcs) > 2
    for i, func in enumerate(funcs):
        assert (func in shown) == (i < 2)
    for before, after in pairwise(funcs[1:]):
        assert "\n".join(changes(before, after)) in shown


@pytest.mark.parametrize("name", ["conv2d_9", "10", "@11"])
def test_an_unknown_operator(midge: Cli, name: str) -> None:
    result = midge("schedule", DIGITS, name)
    assert (result.code, result.out) == (2, "")
    assert f"error: OP: there is no operator '{name}'" in result.err
    assert "it has conv2d_0, " in result.err


def test_the_space_of_an_operator_is_shown(midge: Cli) -> None:
    result = midge("schedule", DIGITS, "conv2d_2", "--space", "--no-search", "--whole-tensors")
    assert result.code == 0, result.err
    assert result.out.startswith("conv2d_2: arm_dsp.pixels(block=2, straight=8, room=512) is taken")
    assert "\narm_dsp.pixels: 24 points\nknob      values" in result.out
    assert "\n* arm_dsp.pixels(block=2, straight=8, room=512)\n" in result.out
    assert "\n  generic.blocks(channels=2, pixels=2, packed=1, taps=0, peel=1)\n" in result.out


def test_spaces_as_json_are_those_of_every_call(midge: Cli) -> None:
    words = ("conv2d_2", "--space", "--no-search", "--max-ram", "1500", "-t", "cortex-m3")
    found = midge("schedule", DIGITS, *words, "--json").json
    assert found["operator"] == "conv2d_2"
    for own in found["calls"]:
        assert own["rows"]
        assert own["taken"] in [text for space in own["spaces"] for text in space["usual"]]
        for space in own["spaces"]:
            points = [parse_point(text) for text in space["usual"]]
            assert {p.template for p in points} <= {space["template"]}
            assert all(v in space["knobs"][n] for p in points for n, v in p.values)


def test_a_space_is_of_an_operator(midge: Cli) -> None:
    result = midge("schedule", DIGITS, "--space")
    assert result.code == 2
    assert "--space: needs an operator" in result.err
