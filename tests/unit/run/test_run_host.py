"""The host runner: the package's C in this process."""

from __future__ import annotations

import numpy as np
import pytest

from midge.core.errors import RunError, ToolchainError, UsageError
from midge.run import RUNNERS
from midge.run.host import HostRunner
from midge.toolchain import HOST_TOOLCHAINS, TOOLCHAINS
from midge.toolchain.zig import Zig
from tiny_package import expected, some_input, tiny_package


@pytest.mark.parametrize("toolchain", HOST_TOOLCHAINS)
def test_computes_what_numpy_does(toolchain: str) -> None:
    if TOOLCHAINS[toolchain].find() is None:
        pytest.skip(f"{toolchain} is not on this machine")
    session = HostRunner().load(tiny_package(), toolchain=toolchain)
    for seed in range(5):
        x = some_input(seed)
        run = session.run({"x": x})
        np.testing.assert_array_equal(run.outputs["y"], expected(x)["y"])
        assert (run.instructions, run.cycles, run.operators, run.layers) == (None, None, (), {})
    session.close()


def test_layers_are_what_each_operator_leaves() -> None:
    session = HostRunner().load(tiny_package("cortex-m4"))
    x = some_input()
    layers = session.run({"x": x}, layers=True).layers
    assert list(layers) == ["middle", "scaled", "y"]
    for name, value in expected(x).items():
        np.testing.assert_array_equal(layers[name], value)


def test_state_carries_over_between_plain_runs_and_layers() -> None:
    package = tiny_package(
        after="*(int32_t *)(void *)(arena + 48) += (int32_t)ctx->runs * 1000000;"
    )
    session = HostRunner().load(package)
    x = some_input()
    plain = int(expected(x)["y"][0])
    seen = [session.run({"x": x}, layers=layers).outputs["y"][0] for layers in (False, True, False)]
    assert seen == [plain, plain + 1_000_000, plain + 2_000_000]


def test_two_sessions_do_not_share() -> None:
    counter = "static int32_t calls;"
    package = tiny_package(prelude=counter, after="*(int32_t *)(void *)(arena + 48) = calls++;")
    one, two = HostRunner().load(package), HostRunner().load(package)
    x = some_input()
    assert [one.run({"x": x}).outputs["y"][0] for _ in range(3)] == [0, 1, 2]
    assert two.run({"x": x}).outputs["y"][0] == 0


@pytest.mark.parametrize(
    ("offset", "message"), [("-1", "1 bytes before its start"), ("83", "up to 4 bytes after")]
)
def test_writing_around_the_arena_is_found(offset: str, message: str) -> None:
    session = HostRunner().load(tiny_package(before=f"arena[{offset}] = 1U;"))
    with pytest.raises(RunError, match=message):
        session.run({"x": some_input()})


def test_a_failed_run_is_an_error() -> None:
    session = HostRunner().load(tiny_package(before="if (arena != NULL) { return MIDGE_ERR_ARG; }"))
    with pytest.raises(RunError, match="tiny_run returned status 1"):
        session.run({"x": some_input()})


def test_wrong_inputs_are_told() -> None:
    session = HostRunner().load(tiny_package())
    x = some_input()
    with pytest.raises(UsageError, match="input x: is not given"):
        session.run({})
    with pytest.raises(UsageError, match=r"no input 'z'.*\n.*inputs: x"):
        session.run({"x": x, "z": x})
    with pytest.raises(UsageError, match=r"has shape \(24,\) of int8.*\n.*expected \(2, 12\)"):
        session.run({"x": x.ravel()})
    with pytest.raises(UsageError, match="of int16"):
        session.run({"x": x.astype(np.int16)})


def test_a_closed_session_refuses() -> None:
    session = HostRunner().load(tiny_package())
    session.close()
    session.close()
    with pytest.raises(RunError, match="closed"):
        session.run({"x": some_input()})


def test_without_a_compiler_it_is_not_available(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RUNNERS["host"].available() is None
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(Zig, "find", lambda _: None)
    assert "pip install ziglang" in str(RUNNERS["host"].available())
    with pytest.raises(ToolchainError, match="not found"):
        RUNNERS["host"].load(tiny_package(), toolchain=None, optimize="speed")
