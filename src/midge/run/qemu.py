"""Runs a package as a whole program on a board that QEMU emulates: Arm M-profile, RV32.

The emulator in this process counts cycles too and starts faster. QEMU is another implementation of
the CPUs, has one with Helium (MVE), and runs what a board runs: start-up code, vectors, faults.
Instructions are exact, but those of a build with hooks: three to five more for each operator.
"""

from __future__ import annotations

import shutil
import struct
import sys
from collections.abc import Mapping

from midge.core.errors import RunError, TargetError
from midge.core.package import Package, Tensor
from midge.core.runner import Run, Sizes
from midge.core.target import Target
from midge.core.types import Array
from midge.run.base import RUNNERS
from midge.run.qemu_counts import Counts
from midge.run.qemu_image import build_qemu_image
from midge.run.qemu_process import Message, QemuProcess, What
from midge.run.tensors import (
    GUARD_SIZE,
    check_guards,
    check_status,
    decode,
    decode_part,
    encode_inputs,
    portions,
)
from midge.toolchain import Image, build_image

TIMEOUT_S = 300.0
_INSTALL = {
    "arm": "install qemu-system-arm (Debian and Ubuntu: apt install qemu-system-arm)",
    "riscv32": "install qemu-system-riscv32 (Debian and Ubuntu: apt install qemu-system-misc)",
}
_WINDOWS = "talks to QEMU over named pipes, which Windows lacks"
_EXCEPTIONS = {
    3: "hard fault",
    4: "memory management fault",
    5: "bus fault",
    6: "usage fault",
    7: "secure fault",
}
_TRAPS = {
    0: "instruction address misaligned",
    1: "instruction access fault",
    2: "illegal instruction",
    3: "breakpoint",
    4: "load address misaligned",
    5: "load access fault",
    6: "store address misaligned",
    7: "store access fault",
}


class QemuRunner:
    """Builds a program around the package and starts QEMU with it, once per session."""

    name = "qemu"

    def available(self) -> str | None:
        """None when there is a QEMU for some target, else how to get one."""
        if sys.platform == "win32":
            return _WINDOWS
        if any(shutil.which(f"qemu-system-{system}") for system in _INSTALL):
            return None
        return "no QEMU: " + "; ".join(_INSTALL.values())

    def load(
        self,
        package: Package,
        *,
        toolchain: str | None = None,
        optimize: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> QemuSession:
        """Build, start and call the package's init.

        timeout_s: what one inference may take. RunError when QEMU is missing or the code fails,
        TargetError when QEMU has no board for the target, ToolchainError when it does not build.
        """
        if sys.platform == "win32":
            raise RunError(_WINDOWS, where="qemu", hint="use --on emulator")
        program = _program(package.target)
        image = build_qemu_image(package, toolchain=toolchain, optimize=optimize)
        command = _command(program, package.target, image)
        counting = Counts(package, image).options(program)
        build = (toolchain, optimize)
        try:
            return QemuSession(package, image, (*command, *counting), timeout_s, build)
        except RunError as error:
            if "plugin" not in error.what:
                raise
        # This QEMU takes no plugins, or not ours: results alone.
        return QemuSession(package, image, command, timeout_s, build)


class QemuSession:
    """A package on a running board; state carries over from run to run."""

    def __init__(
        self,
        package: Package,
        image: Image,
        command: tuple[str, ...],
        timeout_s: float,
        build: tuple[str | None, str | None],
    ) -> None:
        self._package, self._image, self._build = package, image, build
        self._where = f"{package.name} on {package.target.name}"
        self._counts = Counts(package, image)
        self._process = QemuProcess(command, timeout_s=timeout_s, where=self._where)
        ready = self._receive()
        if ready.value != 0:
            self._process.close()
        check_status(package, "init", ready.value)

    @property
    def sizes(self) -> Sizes | None:
        """Of an image of the package alone, without what serves inferences here."""
        toolchain, optimize = self._build
        return build_image(self._package, toolchain=toolchain, optimize=optimize).sizes

    def run(self, inputs: Mapping[str, Array], *, layers: bool = False) -> Run:
        """One inference. UsageError for wrong inputs, RunError when the code or QEMU fails."""
        if not self._process.alive:
            raise RunError("the session is closed", where=self._where)
        data = b"".join(data for _, data in encode_inputs(self._package, inputs))
        if self._package.pushes is not None:
            data = b"".join(portions(self._package, data))
        self._process.send(struct.pack("<I", layers) + data)
        seen: dict[str, Array] = {}
        while (message := self._receive()).what is What.LAYER:
            data = message.data
            for part in self._package.all_calls[message.value].parts:
                decode_part(part, data[: part.size], seen)
                data = data[part.size :]
        records = self._counts.take(self._process.folder)
        check_status(self._package, "run", message.value)
        below, above = message.data[:GUARD_SIZE], message.data[GUARD_SIZE : 2 * GUARD_SIZE]
        check_guards(self._package, below, above)
        outputs = _tensors(self._package.outputs, message.data[2 * GUARD_SIZE :])
        if records is None or layers:
            return Run(outputs, layers=seen)
        operators = self._counts.operators(records)
        total = sum(operator.instructions or 0 for operator in operators)
        return Run(outputs, instructions=total, operators=operators)

    def close(self) -> None:
        """End QEMU; closing twice is fine."""
        self._process.close()

    def _receive(self) -> Message:
        message = self._process.receive()
        if message.what is not What.FAULT:
            return message
        self._process.close()
        pc, address = struct.unpack("<II", message.data)
        names = _EXCEPTIONS if self._package.target.arch == "arm" else _TRAPS
        what = names.get(message.value, f"exception {message.value}")
        place = self._image.function_at(pc) or "no function"
        raise RunError(
            f"{what}, pc {pc:#x} in {place}" + (f", address {address:#x}" if address else ""),
            where=self._where,
            hint="this is a bug in Midge or in the compiler: please report the model",
        )


def _tensors(tensors: tuple[Tensor, ...], data: bytes) -> dict[str, Array]:
    """The arrays that `data` holds one after the other."""
    found, at = {}, 0
    for tensor in tensors:
        found[tensor.name] = decode(tensor, data[at : at + tensor.type.size])
        at += tensor.type.size
    return found


def _program(target: Target) -> str:
    """The QEMU for a target. TargetError when it has no board, RunError when not installed."""
    if not target.qemu:
        raise TargetError(
            "QEMU has no board for this target",
            where=f"target {target.name}",
            hint="use --on emulator or --on host" if target.emulator else "use --on host",
        )
    system = str(target.qemu["system"])
    program = shutil.which(f"qemu-system-{system}")
    if program is None:
        raise RunError(
            f"qemu-system-{system} is not on this machine",
            where=f"target {target.name}",
            hint=_INSTALL.get(system, "install QEMU"),
        )
    return program


def _command(program: str, target: Target, image: Image) -> tuple[str, ...]:
    board = ("-machine", str(target.qemu["machine"]), "-cpu", str(target.qemu["cpu"]))
    # -bios none: RISC-V boards would load their firmware where the image is.
    firmware = ("-bios", "none") if target.arch == "riscv" else ()
    quiet = ("-display", "none", "-monitor", "none", "-serial", "none", "-nic", "none")
    semihosting = ("-semihosting-config", "enable=on,target=native")
    return (program, *board, *firmware, *quiet, *semihosting, "-kernel", str(image.path))


RUNNERS.add("qemu", QemuRunner())
