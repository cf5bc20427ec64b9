"""midge profile: the table adds up, and so does the machine code."""

from __future__ import annotations

import shutil
from typing import Any

import pytest

from conftest import DIGITS, Cli
from midge.cli.operators import find_operator
from midge.core.errors import UsageError
from midge.core.package import Operator

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("compiled_once")]


M3 = ("-t", "cortex-m3", "--no-search")


def costs(answer: Any) -> list[int]:
    return [op["cycles"] for op in answer["operators"]]


def test_operators_add_up(midge: Cli) -> None:
    answer = midge("profile", DIGITS, "--json").json
    run = midge("run", DIGITS, "--json").json
    assert (answer["cycles"], answer["instructions"]) == (run["cycles"], run["instructions"])
    assert [op["name"] for op in answer["operators"]] == [op["name"] for op in run["operators"]]
    assert sum(costs(answer)) == answer["cycles"]
    macs = midge("inspect", DIGITS, "--json").json["macs"]
    assert sum(op["macs"] for op in answer["operators"]) == macs > 0
    assert sum(op["share"] for op in answer["operators"]) == pytest.approx(1, abs=1e-5)
    assert "asm" not in answer


def test_the_table_says_the_same(midge: Cli) -> None:
    answer = midge("profile", DIGITS, "--json").json
    lines = midge("profile", DIGITS).out.splitlines()
    assert lines[0].startswith("digits_int8 on cortex-m4 (emulator)")
    for op, line in zip(answer["operators"], lines[2:], strict=False):
        assert line.startswith(op["name"])
        assert f" {op['cycles']:,} ".replace(",", " ") in line
        if op["macs"]:
            assert f" {op['cycles'] / op['macs']:.2f} " in line
    total = lines[2 + len(answer["operators"])]
    macs = sum(op["macs"] for op in answer["operators"])
    per_mac = f"{answer['cycles'] / macs:.2f}"
    wanted = f"total {macs:,} {answer['cycles']:,} {per_mac} 100.0".replace(",", " ")
    assert total.split() == wanted.split()


@pytest.mark.parametrize("columns", [80, 120])
def test_bars_take_the_room_there_is(
    midge: Cli, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    cycles = costs(midge("profile", DIGITS, "--json").json)
    lines = midge("profile", DIGITS).out.splitlines()
    assert max(map(len, lines)) <= columns
    bars = [line.count("\u2588") for line in lines[2 : 2 + len(cycles)]]
    longest = max(bars)
    assert (6 if columns == 80 else 20) <= longest <= 24
    assert bars == [round(longest * n / max(cycles)) for n in cycles]


def test_an_operator_may_be_named_in_four_ways(midge: Cli) -> None:
    answer = midge("profile", DIGITS, "--asm", "hottest", "--json").json
    hottest = answer["asm"]["operator"]
    index = costs(answer).index(max(costs(answer)))
    assert hottest == answer["operators"][index]["name"]
    src = answer["operators"][index]["src"].removeprefix("operator ").partition(",")[0]
    for name in (hottest, str(index), f"@{src}"):
        again = midge("profile", DIGITS, "--asm", name, "--json").json
        assert again["asm"] == answer["asm"]


def test_the_machine_code_adds_up(midge: Cli) -> None:
    answer = midge("profile", DIGITS, *M3, "--asm", "2", "--json").json
    stretches = answer["asm"]["stretches"]
    assert sum(s["spent"] for s in stretches) == answer["operators"][2]["cycles"]
    for stretch in stretches:
        lines = stretch["instructions"]
        assert stretch["spent"] == sum(line["spent"] for line in lines)
        assert {line["count"] for line in lines} == {stretch["count"]}
    assert stretches[0]["place"].startswith("digits_int8_conv2d_2+0x")
    assert stretches == sorted(stretches, key=lambda s: -s["spent"])


def test_the_listing_shows_the_hottest_code_first(midge: Cli) -> None:
    answer = midge("profile", DIGITS, *M3, "--asm", "2", "--json").json
    stretches, spent = answer["asm"]["stretches"], answer["operators"][2]["cycles"]
    lines = midge("profile", DIGITS, *M3, "--asm", "2").out.splitlines()
    assert lines[0].startswith("conv2d_2: CONV_2D (operator 2), ")
    assert not [line for line in lines if len(line) > 80]
    heads = [line for line in lines if line.startswith("digits_int8_")]
    assert [h.partition(":")[0] for h in heads] == [s["place"] for s in stretches[: len(heads)]]
    shown = 100 * sum(s["spent"] for s in stretches[: len(heads)]) / spent
    before = 100 * sum(s["spent"] for s in stretches[: len(heads) - 1]) / spent
    assert before < 90 <= shown
    assert heads[-1].endswith(f"so far {shown:.1f} %")
    assert lines[-1].startswith(f"{100 - shown:.1f} % in {len(stretches) - len(heads)} more places")
    first = lines.index(heads[0])
    rows = lines[first + 2 : first + 2 + len(stretches[0]["instructions"])]
    for row, line in zip(rows, stretches[0]["instructions"], strict=True):
        count = f"{line['count']:,}".replace(",", " ")
        cycles = f"{line['cycles']}+{line['cycles_when_taken']}".removesuffix("+0")
        assert row.startswith(f"{count:>11}  {cycles:>6}  {100 * line['spent'] / spent:5.1f}  +0x")
        assert row.endswith(line["text"].replace("digits_int8_conv2d_2", ""))


def test_a_cpu_without_a_cycle_model(midge: Cli) -> None:
    words = ("profile", DIGITS, "-t", "rv32imac", "--no-search")
    answer = midge(*words, "--asm", "hottest", "--json").json
    assert answer["cycles"] is None
    spent = sum(s["spent"] for s in answer["asm"]["stretches"])
    assert spent == max(op["instructions"] for op in answer["operators"])
    table = midge(*words).out
    assert "instr/MAC" in table
    assert "cyc/MAC" not in table
    assert "cycles  " not in midge(*words, "--asm", "0").out


def test_qemu_counts_instructions(midge: Cli) -> None:
    if shutil.which("qemu-system-arm") is None:
        pytest.skip("qemu-system-arm is not on this machine")
    answer = midge("profile", DIGITS, "--on", "qemu", "-t", "cortex-m55", "--json").json
    assert sum(op["instructions"] for op in answer["operators"]) == answer["instructions"]
    assert answer["operators"][2]["instructions"] > 1000


def test_what_cannot_be_shown_is_explained(midge: Cli) -> None:
    typo = midge("profile", DIGITS, "--asm", "conv2d2")
    assert typo.code == 2
    assert "there is no operator 'conv2d2'" in typo.err
    assert "did you mean conv2d_2" in typo.err
    assert "it has conv2d_0, depthwise_conv2d_1, " in typo.err
    for runner in ("qemu", "host"):
        elsewhere = midge("profile", DIGITS, "--asm", "1", "--on", runner)
        assert elsewhere.code == 2
        assert f"in the emulator only, not on {runner}" in elsewhere.err
    assert "use --on emulator" in midge("profile", DIGITS, "--on", "host").err


def test_finding_operators() -> None:
    operators = [
        Operator(name, "", (), src, 0, ())
        for name, src in (
            ("add_0", "operator 3"),
            ("conv2d_1", "operator 1, operator 2"),
            ("conv2d_2", "node 7 'it\\'s, node 9', node 8"),
        )
    ]

    def find(text: str) -> int:
        return find_operator(operators, text, "OP")

    assert [find("add_0"), find("0"), find("@3"), find("operator 3")] == [0] * 4
    assert [find("conv2d_1"), find(" 1 "), find("@1"), find("@2")] == [1] * 4
    assert [find("node 7"), find("@7"), find("@8"), find("it's, node 9")] == [2] * 4
    for wrong in ("3", "-1", "@0", "@9", "it", "@", "", "operator", "conv2d_1, add_0"):
        with pytest.raises(UsageError, match="there is no operator"):
            find(wrong)
