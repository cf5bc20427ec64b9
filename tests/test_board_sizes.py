"""A board's own memories are limits, a CPU's typical ones are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import midge as midge_package
from conftest import Cli
from midge import driver
from midge.cascading import Chosen
from midge.cli.commands.compile import misfits
from midge.core.errors import PlanError, TargetError, UsageError
from midge.frontends.onnx import read
from midge.graph.ir import Graph
from midge.limits import calls_of, flash_of
from midge.target import TARGETS, load_target
from onnx_builder import OnnxModel

BOARD = """
name = "board"
base = "cortex-m4"
{typical}
[[memories]]
name = "sram1"
kind = "ram"
start = 0x20000000
size = {ram}
{typical}
[[memories]]
name = "flash"
kind = "flash"
start = 0x08000000
size = {flash}
{typical}
"""


@pytest.fixture
def graph() -> Graph:
    """Two layers, larger than 64 bytes by any plan."""
    m = OnnxModel()
    m.op("Relu", m.conv(m.conv("x", 2, 4), 4, 2), output="y")
    driver.load_operators()
    return read(m.build([("x", (1, 2, 6, 6))], ["y"]), "net")


def board(folder: Path, ram: int, flash: int = 1 << 20, *, typical: bool = False) -> Path:
    path = folder / "board.toml"
    text = BOARD.replace("{typical}", "", 1).replace("{typical}", "typical = true" * typical)
    path.write_text(text.replace("{ram}", str(ram)).replace("{flash}", str(flash)))
    return path


def compiled(graph: Graph, target: Path, **settings: object) -> midge_package.Package:
    return midge_package.compile(graph, target, search=False, prove=False, **settings)


def test_every_target_of_midge_has_typical_sizes() -> None:
    assert all(m.typical for name in TARGETS for m in TARGETS[name].memories)
    assert TARGETS["cortex-m4"].memories


def test_more_ram_than_the_board_has(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"RAM for the arena, sram1 has 64") as caught:
        compiled(graph, board(tmp_path, 64))
    assert "--oversize" in caught.value.hint
    assert caught.value.where.endswith("on board")
    assert compiled(graph, board(tmp_path, 64), oversize=True).arena_size > 64
    assert compiled(graph, board(tmp_path, 64, typical=True)).arena_size > 64


def test_as_much_as_the_board_has(graph: Graph, tmp_path: Path) -> None:
    need = compiled(graph, board(tmp_path, 1 << 20)).arena_size
    assert compiled(graph, board(tmp_path, need)).arena_size == need


def test_more_flash_than_the_board_has(graph: Graph, tmp_path: Path) -> None:
    own = compiled(graph, board(tmp_path, 1 << 20)).weights_size
    with pytest.raises(PlanError, match="flash for constants alone, flash has") as caught:
        compiled(graph, board(tmp_path, 1 << 20, own - 1))
    assert "--oversize" in caught.value.hint
    assert compiled(graph, board(tmp_path, 1 << 20, own)).weights_size == own
    assert compiled(graph, board(tmp_path, 1 << 20, own - 1), oversize=True).files


def test_the_smaller_plan_is_looked_for_before_that(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The usual plan may be larger than what would fit."""
    asked: list[int | None] = []
    choose = driver.choose

    def noted(*given: object, **named: object) -> Chosen:
        wish = given[5]
        assert isinstance(wish, driver.Wish)
        asked.append(wish.max_ram)
        return choose(*given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(driver, "choose", noted)
    need = compiled(graph, board(tmp_path, 1 << 20)).arena_size
    compiled(graph, board(tmp_path, need - 1, typical=True))
    assert asked == [None, None]
    with pytest.raises(PlanError, match="sram1 has 64"):
        compiled(graph, board(tmp_path, 64))
    assert asked == [None, None, None, 64]
    with pytest.raises(PlanError, match="64"):
        compiled(graph, board(tmp_path, 64), max_ram=1 << 20)
    assert asked[4:] == [64]
    compiled(graph, board(tmp_path, 64), max_ram=1 << 20, oversize=True)
    assert asked[5:] == [1 << 20]


def test_limits_of_several_memories_are_their_own(graph: Graph, tmp_path: Path) -> None:
    compiled(graph, board(tmp_path, 64), pools={"a": 1 << 20})


def test_a_pool_that_is_called_like_a_memory_is_that_memory(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="1048576 bytes of sram1, which has 64") as caught:
        compiled(graph, board(tmp_path, 64), pools={"sram1": 1 << 20})
    assert caught.value.hint == "--pool sram1=64"
    assert compiled(graph, board(tmp_path, 64), pools={"sram1": 1 << 20}, oversize=True).files
    assert compiled(graph, board(tmp_path, 64, typical=True), pools={"sram1": 1 << 20}).files
    assert compiled(graph, board(tmp_path, 64), pools={"sram1": 64, "psram": 1 << 20}).files


def with_more(path: Path, name: str, start: int, size: int) -> Path:
    path.write_text(
        f'{path.read_text()}[[memories]]\nname = "{name}"\nkind = "ram"\n'
        f"start = {start}\nsize = {size}\n"
    )
    return path


def test_of_several_memories_the_largest_counts(graph: Graph, tmp_path: Path) -> None:
    """An arena lies in one piece, and may lie in any."""
    both = with_more(board(tmp_path, 64), "sram2", 0x30000000, 1 << 16)
    memory = load_target(str(both)).memory("ram")
    assert memory is not None
    assert (memory.name, memory.size) == ("sram2", 1 << 16)
    assert compiled(graph, both).arena_size > 64


def test_what_several_memories_have_together_is_named(graph: Graph, tmp_path: Path) -> None:
    need = least_arena(graph)
    both = with_more(board(tmp_path, need - 8), "sram2", 0x30000000, 128)
    with pytest.raises(PlanError, match=f"sram1 has {need - 8}") as caught:
        compiled(graph, both)
    assert f"--pool sram1={need - 8} --pool sram2=128 may help" in caught.value.hint
    small = with_more(board(tmp_path, 64), "sram2", 0x30000000, 60)
    with pytest.raises(PlanError, match="sram1 has 64") as caught:
        compiled(graph, small)
    assert "--pool" not in caught.value.hint


@pytest.mark.slow
def test_memory_at_address_zero(graph: Graph, tmp_path: Path) -> None:
    """As a Cortex-M7 has it: what lies at 0 is no memory to C."""
    path = board(tmp_path, 1 << 14)
    path.write_text(path.read_text().replace("0x20000000", "0x0"))
    package = midge_package.compile(graph, path, prove=False)
    assert package.arena_size > 64
    x = np.zeros((1, 2, 6, 6), np.float32)
    assert midge_package.run(package, x, on="emulator").cycles


def test_flash_and_ram_are_told_together(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"sram1 has 64, and \d+ bytes of flash .* has 16") as both:
        compiled(graph, board(tmp_path, 64, 16))
    assert both.value.hint.count("a smaller model may help") == 1
    with pytest.raises(PlanError, match=r"63 are allowed, and \d+ bytes of flash .* has 16"):
        compiled(graph, board(tmp_path, 64, 16), max_ram=63)


def test_what_goes_on_in_any_case_needs_least(digits: Path, tmp_path: Path) -> None:
    """As what would fit does, and not as if there were no limit."""
    options: dict[str, Any] = {"prove": False, "oversize": True}
    usual = midge_package.compile(digits, "cortex-m4", prove=False)
    small = midge_package.compile(digits, board(tmp_path, 1024), **options)
    assert 1024 < small.arena_size < usual.arena_size


def test_what_is_too_large_is_said_before_it_is_proved(
    graph: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proof of float kernels on a core without an FPU takes minutes."""

    def prove(*_: object) -> None:
        raise AssertionError("proved")

    monkeypatch.setattr(driver, "prove", prove)
    with pytest.raises(PlanError, match="63 are allowed"):
        midge_package.compile(graph, "cortex-m4", search=False, max_ram=63)
    with pytest.raises(AssertionError, match="proved"):
        midge_package.compile(graph, "cortex-m4", search=False)


def test_hints_are_ways_that_can_be_enough() -> None:
    """What saves too little is not named."""
    m = OnnxModel()
    m.op("Relu", m.conv(m.conv("x", 2, 4), 4, 2), output="y")
    driver.load_operators()
    image = read(m.build([("x", (1, 2, 24, 24))], ["y"]), "net")
    size = image.types[image.inputs[0]].size

    def hint(**limits: int) -> str:
        with pytest.raises(PlanError) as caught:
            compiled(image, Path("cortex-m4"), **limits)
        return caught.value.hint

    least = least_arena(image)
    assert "int8 instead of float (midge quantize)" in hint(max_ram=least // 4 + 64)
    assert "int8" not in hint(max_ram=least // 8)
    assert "--stream-input" in hint(max_ram=least - 64)
    assert "--stream-input" not in hint(max_ram=least - size - 64)
    assert "a smaller model may help" in hint(max_ram=64)


def test_the_input_that_following_bands_wait_for_may_come_row_by_row() -> None:
    """The peak is at a later operator, which is computed in between."""
    m = OnnxModel()
    x = m.op("Relu", m.conv("x", 2, 4))
    m.op("Relu", m.conv(m.conv(x, 4, 8), 8, 2), output="y")
    driver.load_operators()
    image = read(m.build([("x", (1, 2, 32, 32))], ["y"]), "net")
    with pytest.raises(PlanError) as caught:
        compiled(image, Path("cortex-m4"), max_ram=9_000, channels_last=True)
    assert caught.value.hint.startswith("the peak is at conv2d_1")
    assert "--stream-input" in caught.value.hint


def test_what_was_built_and_is_larger_than_the_flash_is_warned_of(
    midge: Cli, digits: Path, tmp_path: Path
) -> None:
    words = (digits, "--no-search", "--no-prove", "--no-operators")
    flash = midge("run", *words, "--json").json["flash"]
    for size, warned in ((flash, False), (flash - 4, True)):
        told = midge("run", *words, "-t", board(tmp_path, 1 << 16, size), "--oversize").err
        what = f"code need {flash:,} bytes of flash".replace(",", " ")
        assert (what in told) == warned, told


def test_calls_beside_kernels_are_warned_of(digits: Path, tmp_path: Path) -> None:
    package = midge_package.compile(digits, prove=False)
    need, calls = flash_of(package)[0], calls_of(package)
    for size, warned in ((need + calls, False), (need + calls - 4, True)):
        target = load_target(str(board(tmp_path, 1 << 16, size)))
        assert ("midge run" in " ".join(misfits(replace(package, target=target)))) == warned


def test_nothing_is_searched_for_inputs_that_are_too_large(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr(driver, "rank", never)
    size = sum(graph.types[n].size for n in graph.inputs)
    small = board(tmp_path, size - 1)
    for target, limits in ((small, {}), (Path("cortex-m4"), {"max_ram": size - 1})):
        with pytest.raises(PlanError, match="bytes of RAM for the arena"):
            midge_package.compile(graph, target, **limits)
    with pytest.raises(AssertionError, match="searched"):
        midge_package.compile(graph, small, stream_input=True)


def least_arena(graph: Graph) -> int:
    """Bytes of the smallest plan."""
    with pytest.raises(PlanError, match=r"needs (\d+)") as caught:
        compiled(graph, Path("cortex-m4"), max_ram=1)
    return int(str(caught.value).partition("needs ")[2].split()[0])


def test_a_pool_of_flash_is_refused(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="flash is flash") as caught:
        compiled(graph, board(tmp_path, 64), pools={"flash": 4096})
    assert caught.value.where == "--pool"


def test_pools_that_are_small_take_smaller_plans(digits: Path) -> None:
    """As one memory of that size does."""
    options: dict[str, Any] = {"prove": False}
    usual = midge_package.compile(digits, **options)
    one = midge_package.compile(digits, max_ram=2048, **options)
    assert one.arena_size <= 2048 < usual.arena_size
    for pools in ({"a": 2048}, {"a": 1024, "b": 1024}):
        assert midge_package.compile(digits, pools=pools, **options).arena_size <= 2048
    with pytest.raises(PlanError, match="bytes are missing"):
        midge_package.compile(digits, pools={"a": 512}, **options)


def test_a_chip_is_described_in_a_file() -> None:
    with pytest.raises(TargetError, match="unknown target") as caught:
        load_target("stm32f103")
    assert 'a .toml with base = "cortex-m' in caught.value.hint


def test_a_limit_that_is_asked_for_comes_first(graph: Graph, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="63 are allowed"):
        compiled(graph, board(tmp_path, 64), max_ram=63)


def test_a_board_is_told_as_an_error_and_a_cpu_as_a_warning(
    midge: Cli, graph: Graph, tmp_path: Path
) -> None:
    path = tmp_path / "net.midge"
    midge_package.save(graph, path)
    words = ("--no-search", "--no-prove", "-o", tmp_path / "out")
    result = midge("compile", path, "-t", board(tmp_path, 64), *words)
    assert (result.code, (tmp_path / "out").exists()) == (3, False)
    result = midge("compile", path, "-t", board(tmp_path, 64), "--oversize", *words)
    assert result.code == 0
    assert "sram1 has 64" in result.out
    result = midge("compile", path, "-t", board(tmp_path, 64, typical=True), *words)
    assert result.code == 0
    assert "typically have 64" in result.out.replace("\n", " ")


def test_whether_a_size_is_typical_is_true_or_false(tmp_path: Path) -> None:
    path = board(tmp_path, 64, typical=True)
    path.write_text(path.read_text().replace("typical = true", 'typical = "yes"'))
    with pytest.raises(TargetError, match="true or false"):
        load_target(path)
