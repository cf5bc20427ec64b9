"""The QEMU runner: whole programs on the boards of QEMU, Arm and RISC-V."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from midge.core.errors import RunError, TargetError, UsageError
from midge.core.package import Package
from midge.run import RUNNERS
from midge.run.emulator import EmulatorRunner
from midge.run.qemu import QemuRunner, QemuSession
from midge.run.qemu_counts import Counts
from midge.target import TARGETS, load_target
from midge.toolchain import TOOLCHAINS
from tiny_package import expected, some_input, tiny_package

pytestmark = pytest.mark.slow

# Least and most instructions that each of the three operators has more with hooks than without.
_MORE = ((0, 1), (3, 5), (3, 14))
BOARDS = [name for name in TARGETS if load_target(name).qemu]


@pytest.fixture(autouse=True)
def _folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test does, no folder of a session may be left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.glob("midge-qemu-*")) == []


def load(package: Package, toolchain: str | None = None, *, timeout_s: float = 10) -> QemuSession:
    system = package.target.qemu["system"]
    if shutil.which(f"qemu-system-{system}") is None:
        pytest.skip(f"qemu-system-{system} is not on this machine")
    return QemuRunner().load(package, toolchain=toolchain, timeout_s=timeout_s)


def failure(package: Package, *, timeout_s: float = 10) -> RunError:
    """The error of one run; QEMU has ended by then."""
    session = load(package, timeout_s=timeout_s)
    with pytest.raises(RunError) as caught:
        session.run({"x": some_input()})
    with pytest.raises(RunError, match="closed"):
        session.run({"x": some_input()})
    return caught.value


@pytest.mark.parametrize("target", BOARDS)
def test_computes_what_numpy_does(target: str) -> None:
    session = load(tiny_package(target))
    for seed in range(5):
        x = some_input(seed)
        run = session.run({"x": x}, layers=seed % 2 == 0)
        np.testing.assert_array_equal(run.outputs["y"], expected(x)["y"])
        assert (run.cycles, run.stack) == (None, None)
        for name, value in run.layers.items():
            np.testing.assert_array_equal(value, expected(x)[name])
        assert list(run.layers) == (["middle", "scaled", "y"] if seed % 2 == 0 else [])
    session.close()


@pytest.mark.parametrize(
    ("target", "toolchain"),
    [
        ("cortex-m4", "arm-none-eabi-gcc"),
        ("cortex-m55", "arm-none-eabi-gcc"),
        ("cortex-m33", "clang"),
        ("rv32imac", "riscv64-unknown-elf-gcc"),
        ("rv32imac", "clang"),
    ],
)
def test_start_up_code_suits_every_compiler(target: str, toolchain: str) -> None:
    if TOOLCHAINS[toolchain].find() is None:
        pytest.skip(f"{toolchain} is not on this machine")
    session = load(tiny_package(target), toolchain)
    x = some_input()
    np.testing.assert_array_equal(session.run({"x": x}).outputs["y"], expected(x)["y"])
    session.close()


def test_initialised_data_and_state_carry_over() -> None:
    package = tiny_package(
        "cortex-m4",
        prelude="static volatile int32_t step = 1000; static volatile int32_t zero;",
        after="*(int32_t *)(void *)(arena + 48) += step * (int32_t)ctx->runs + zero; zero = 0;",
    )
    session = load(package)
    x = some_input()
    plain = int(expected(x)["y"][0])
    seen = [session.run({"x": x}, layers=layers).outputs["y"][0] for layers in (False, True, False)]
    session.close()
    assert seen == [plain, plain + 1000, plain + 2000]


def test_tensors_larger_than_a_pipe_pass() -> None:
    # Linux gives a pipe 64 KiB: the message must be sent and read in parts.
    package = tiny_package("rv32imac")
    big = replace(package.inputs[0].type, shape=(300_000,))
    tensor = replace(package.inputs[0], name="big", type=big, offset=80)
    output = replace(tensor, name="same")
    package = replace(
        package,
        inputs=(*package.inputs, tensor),
        outputs=(*package.outputs, output),
        arena_size=80 + 300_000,
    )
    session = load(package)
    data = np.random.default_rng(1).integers(-128, 128, 300_000, dtype=np.int8)
    run = session.run({"x": some_input(), "big": data})
    session.close()
    np.testing.assert_array_equal(run.outputs["same"], data)


def test_sizes_are_those_of_the_package_alone() -> None:
    session = load(tiny_package("cortex-m4"))
    sizes = session.sizes
    session.close()
    assert sizes is not None
    assert sizes.weights == 24
    assert 0 < sizes.code < 1000


@pytest.mark.parametrize("target", ["cortex-m3", "cortex-m33", "rv32imac"])
def test_counts_are_the_emulators_but_for_the_calls_of_the_hook(target: str) -> None:
    package = tiny_package(target)
    session = load(package)
    inputs = {"x": some_input()}
    counted = [session.run(inputs, layers=layers) for layers in (False, True, False)]
    session.close()
    if counted[0].instructions is None:
        pytest.skip("this QEMU takes no plugins, or there is no compiler for one")
    emulator = EmulatorRunner().load(package)
    exact = emulator.run(inputs)
    emulator.close()
    assert exact.instructions is not None
    assert counted[0].operators == counted[2].operators
    assert counted[1].operators == ()
    # More by the call of the hook behind an operator, and by the end of run with what marks it.
    more = [
        (with_hook.instructions or 0) - (plain.instructions or 0)
        for with_hook, plain in zip(counted[0].operators, exact.operators, strict=True)
    ]
    assert all(low <= n <= high for n, (low, high) in zip(more, _MORE, strict=True)), more
    assert counted[0].instructions == sum(run.instructions or 0 for run in counted[0].operators)


def test_counts_are_left_out_when_qemu_takes_no_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = ("-plugin", "/nowhere/plugin.so")
    monkeypatch.setattr(Counts, "options", lambda self, program: unknown)
    session = load(tiny_package("rv32imac"))
    x = some_input()
    run = session.run({"x": x})
    session.close()
    np.testing.assert_array_equal(run.outputs["y"], expected(x)["y"])
    assert (run.instructions, run.operators) == (None, ())


@pytest.mark.parametrize("target", ["cortex-m4", "cortex-m33", "rv32imac"])
def test_a_wild_store_names_the_function(target: str) -> None:
    # Nothing is mapped there on any of the boards.
    package = tiny_package(target, before="*(volatile uint32_t *)0xC0000001U = (uint32_t)1;")
    message = str(failure(package))
    assert "in tiny_run+0x" in message
    assert "fault" in message


@pytest.mark.parametrize(
    ("target", "code", "what"),
    [("cortex-m7", "udf #0", "hard fault"), ("rv32imac", "unimp", "illegal instruction")],
)
def test_an_illegal_instruction_is_reported(target: str, code: str, what: str) -> None:
    error = failure(tiny_package(target, before=f'__asm__ volatile("{code}");'))
    assert what in error.what
    assert "in tiny_run+0x" in error.what
    assert error.where == f"tiny on {target}"


def test_a_stack_that_is_lost_ends_qemu() -> None:
    # Not even the fault's frame can be stored: the core locks up, and QEMU says so.
    lost = '__asm__ volatile("mov sp, %0\\n\\tpush {r0}" : : "r"(0xC0000000) : "memory");'
    error = failure(tiny_package("cortex-m4", before=lost))
    assert "QEMU ended" in error.what
    assert "Lockup" in error.what


def test_code_that_does_not_end_is_stopped() -> None:
    package = tiny_package("cortex-m4", before="volatile uint32_t on = 1U; while (on != 0U) { }")
    error = failure(package, timeout_s=0.5)
    assert "no answer within 0.5 s" in error.what


@pytest.mark.parametrize(
    ("statement", "place"),
    [("arena[82] = 1U;", "after its end"), ("arena[-1] = 1U;", "before its start")],
)
def test_a_write_next_to_the_arena_is_found(statement: str, place: str) -> None:
    session = load(tiny_package("cortex-m4", after=statement))
    with pytest.raises(RunError, match=place):
        session.run({"x": some_input()})
    session.close()


def test_a_failing_init_is_an_error() -> None:
    package = replace(tiny_package("cortex-m4"), arena_size=64)
    with pytest.raises(RunError, match="tiny_init returned status 2"):
        load(package)


def test_a_failing_run_is_an_error_and_the_next_one_counts_again() -> None:
    early = "if (((const int8_t *)arena)[0] == 77) { return MIDGE_ERR_ARG; }"
    session = load(tiny_package("cortex-m4", before=early))
    x = some_input()
    x[0, 0] = 77
    with pytest.raises(RunError, match="tiny_run returned status 1"):
        session.run({"x": x})
    x[0, 0] = 5
    np.testing.assert_array_equal(session.run({"x": x}).outputs["y"], expected(x)["y"])
    session.close()


def test_wrong_inputs_leave_the_session_usable() -> None:
    session = load(tiny_package("cortex-m4"))
    with pytest.raises(UsageError, match="is not given"):
        session.run({})
    x = some_input()
    np.testing.assert_array_equal(session.run({"x": x}).outputs["y"], expected(x)["y"])
    session.close()
    session.close()


def test_a_target_without_a_board_is_refused() -> None:
    with pytest.raises(TargetError, match="no board"):
        QemuRunner().load(tiny_package("host"))


def test_a_missing_qemu_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for target, package in (("cortex-m4", "qemu-system-arm"), ("rv32imac", "qemu-system-misc")):
        with pytest.raises(RunError, match="is not on this machine") as caught:
            QemuRunner().load(tiny_package(target))
        assert package in caught.value.hint
    reason = QemuRunner().available()
    assert reason is not None
    assert reason.startswith("no QEMU")


def test_is_registered_by_name() -> None:
    assert RUNNERS["qemu"].name == "qemu"
