"""An emulated core with a package's image, arena and stack in its memory.

flash   code and constants, read only
ram     .data and .bss | context | guard | arena | guard up to the end of the page
stack   far from the rest, with nothing below it: an overflow faults
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from midge.core.errors import RunError
from midge.core.package import Package, Tensor
from midge.core.types import Array
from midge.run.machine_code import riscv_sizes, thumb_sizes
from midge.run.tensors import (
    CONTEXT_SIZE,
    FILL,
    GUARD,
    GUARD_SIZE,
    arena_start,
    check_guards,
    decode,
)
from midge.toolchain import Image

PAGE = 4096
STACK_SIZE = 64 * 1024
_NEAR = 1024 * 1024  # how far away a bad address is still told what it is near to
_PAINT = 0x5AA5C33C
# Addresses that microcontrollers keep no memory at: the stack's end, with nothing around it for
# far longer than code goes astray, and where a called function returns to.
_STACK_END = 0x7F80_0000
_RETURN = 0x7FFF_0000


@dataclass(frozen=True, slots=True)
class Core:
    """How Unicorn is told about an architecture: its constants, and the roles of registers.

    thumb: 1 where the lowest bit of a code address says "Thumb".  nop: a 16-bit NOP.
    sizes: the bytes of each instruction in code.  global_pointer: set from the image's symbol.
    """

    arch: int
    mode: int
    pc: int
    sp: int
    link: int
    arguments: tuple[int, ...]
    thumb: int
    nop: bytes
    sizes: Callable[[bytes], Iterator[int]]
    global_pointer: int | None = None


def arm_core() -> Core:
    """A Cortex-M."""
    from unicorn import UC_ARCH_ARM, UC_MODE_MCLASS, UC_MODE_THUMB, arm_const

    return Core(
        arch=UC_ARCH_ARM,
        mode=UC_MODE_THUMB | UC_MODE_MCLASS,
        pc=arm_const.UC_ARM_REG_PC,
        sp=arm_const.UC_ARM_REG_SP,
        link=arm_const.UC_ARM_REG_LR,
        arguments=(arm_const.UC_ARM_REG_R0, arm_const.UC_ARM_REG_R1, arm_const.UC_ARM_REG_R2),
        thumb=1,
        nop=bytes.fromhex("00bf"),
        sizes=thumb_sizes,
    )


def riscv_core() -> Core:
    """A 32-bit RISC-V."""
    from unicorn import UC_ARCH_RISCV, UC_MODE_RISCV32, riscv_const

    return Core(
        arch=UC_ARCH_RISCV,
        mode=UC_MODE_RISCV32,
        pc=riscv_const.UC_RISCV_REG_PC,
        sp=riscv_const.UC_RISCV_REG_SP,
        link=riscv_const.UC_RISCV_REG_RA,
        arguments=(
            riscv_const.UC_RISCV_REG_A0,
            riscv_const.UC_RISCV_REG_A1,
            riscv_const.UC_RISCV_REG_A2,
        ),
        thumb=0,
        nop=bytes.fromhex("0100"),
        sizes=riscv_sizes,
        global_pointer=riscv_const.UC_RISCV_REG_GP,
    )


def _model(name: str, where: str) -> int:
    """Unicorn's number of a CPU model, e.g. "UC_CPU_ARM_CORTEX_M4"."""
    from unicorn import arm_const, riscv_const

    for constants in (arm_const, riscv_const):
        number = getattr(constants, name, None)
        if isinstance(number, int) and name.startswith("UC_CPU_"):
            return number
    raise RunError(
        f"Unicorn has no CPU {name}", where=where, hint="for example UC_CPU_ARM_CORTEX_M4"
    )


def _unicorn() -> Any:
    """The module, which states types for only a part of what it has."""
    return import_module("unicorn")


def weakly(method: Callable[..., Any]) -> Callable[..., Any]:
    """A hook that does not keep alive what it is a method of: engines outlive their sessions."""
    known = weakref.WeakMethod(method)

    def hook(*arguments: Any) -> Any:
        own = known()
        assert own is not None, "a session that is gone does not run"
        return own(*arguments)

    return hook


class Machine:
    """One core. `engine` is the Unicorn engine, for counters and hooks."""

    def __init__(self, package: Package, image: Image) -> None:
        unicorn = _unicorn()
        target = package.target
        self._package, self._image = package, image
        self.core = riscv_core() if target.arch == "riscv" else arm_core()
        self.engine: Any = unicorn.Uc(self.core.arch, self.core.mode)
        self.engine.ctl_set_cpu_model(_model(target.emulator["model"], f"target {target.name}"))
        self._fault = ""
        self._map()
        self.engine.hook_add(unicorn.UC_HOOK_MEM_INVALID, weakly(self._on_memory))
        self.engine.hook_add(unicorn.UC_HOOK_INTR, weakly(self._on_exception))

    def _map(self) -> None:
        from unicorn import UC_PROT_EXEC, UC_PROT_READ, UC_PROT_WRITE

        code = UC_PROT_READ | UC_PROT_EXEC
        data = UC_PROT_READ | UC_PROT_WRITE
        fixed = [section for section in self._image.sections if not section.writable]
        moving = [section for section in self._image.sections if section.writable]
        start = fixed[0].address // PAGE * PAGE
        self._flash = range(start, _page_end(max(s.address + s.size for s in fixed)))
        memory = self._package.target.memory("ram")
        assert memory is not None, "an image was linked for a target without RAM"
        lowest = max(memory.start, CONTEXT_SIZE)  # what lies at address 0 is nothing to C
        data_end = max([lowest, *(s.address + s.size for s in moving)])
        self.context = -(-data_end // CONTEXT_SIZE) * CONTEXT_SIZE
        self.arena = arena_start(self.context + CONTEXT_SIZE + GUARD_SIZE)
        guard_end = self.arena + self._package.arena_size + GUARD_SIZE
        self.feed = guard_end  # the caller's memory for an input that is fed row by row
        if self._package.arriving or self._package.pushes is not None:
            guard_end += sum(t.type.size for t in self._package.inputs)
        self._ram = range(memory.start // PAGE * PAGE, _page_end(guard_end))
        self._stack = range(_STACK_END - STACK_SIZE, _STACK_END)
        for area, protection in ((self._flash, code), (self._ram, data), (self._stack, data)):
            self.engine.mem_map(area.start, len(area), protection)
        self.engine.mem_map(_RETURN, PAGE, code)
        self.engine.mem_write(_RETURN, self.core.nop * 2)
        for section in self._image.sections:  # in place: there is no start-up code that copies
            self.engine.mem_write(section.address, section.data)
        self._fill()

    def _fill(self) -> None:
        size = self._package.arena_size
        self.engine.mem_write(self.context, bytes([FILL]) * CONTEXT_SIZE)
        self.engine.mem_write(self.arena - GUARD_SIZE, GUARD)
        self.engine.mem_write(self.arena, bytes([FILL]) * size)
        self.engine.mem_write(self.arena + size, GUARD)

    def call(self, function: str, arguments: Sequence[int]) -> int:
        """Call a function of the image and give what it returns; RunError on a fault."""
        entry = self._image.symbols[function].address
        registers = dict(zip(self.core.arguments, arguments, strict=False))
        registers[self.core.sp] = self._stack.stop
        registers[self.core.link] = _RETURN | self.core.thumb
        pointer = self._image.symbols.get("__global_pointer$")
        if self.core.global_pointer is not None and pointer is not None:
            registers[self.core.global_pointer] = pointer.address
        for register, value in registers.items():
            self.engine.reg_write(register, value)
        self._fault = ""
        try:
            self.engine.emu_start(entry | self.core.thumb, _RETURN)
        except _unicorn().UcError as error:
            raise self.error(self._fault or self._reason(error)) from error
        if self._fault:
            raise self.error(self._fault)
        return int(self.engine.reg_read(self.core.arguments[0]))

    def forget_hooks(self) -> None:
        """Let hooks that were removed cost nothing more.

        Unicorn drops them at its next start, so start on a NOP; then drop the code translated
        with them.
        """
        self.engine.emu_start(_RETURN | self.core.thumb, _RETURN + len(self.core.nop))
        self.engine.ctl_flush_tb()

    def close(self) -> None:
        """Give back the core's memory now: the engine and its hooks know each other and would stay
        until a collection, with the code that was translated and 1 GB of addresses. Nothing of the
        machine can be used after."""
        self.engine._Uc__finalizer()

    def read(self, address: int, size: int) -> bytes:
        return bytes(self.engine.mem_read(address, size))

    def read_tensor(self, tensor: Tensor) -> Array:
        """A tensor of the package, as the arena now holds it."""
        return decode(tensor, self.read(self.arena + tensor.offset, tensor.type.size))

    def write(self, address: int, data: bytes) -> None:
        self.engine.mem_write(address, data)

    def check_guards(self) -> None:
        """RunError when the last calls wrote around the arena."""
        below = self.read(self.arena - GUARD_SIZE, GUARD_SIZE)
        above = self.read(self.arena + self._package.arena_size, GUARD_SIZE)
        check_guards(self._package, below, above)

    def paint_stack(self) -> None:
        """Fill the stack, so that `stack_used` can see how far it was written."""
        words = np.full(STACK_SIZE // 4, _PAINT, np.uint32)
        self.engine.mem_write(self._stack.start, words.tobytes())

    def stack_used(self, lowest: int) -> int:
        """Bytes from the stack's end down to the lowest word written since `paint_stack`, or to
        `lowest` if that is lower: what lies above the stack pointer is in use, written or not."""
        words = np.frombuffer(self.read(self._stack.start, STACK_SIZE), np.uint32)
        written = np.flatnonzero(words != _PAINT)
        first = 4 * int(written[0]) if len(written) else STACK_SIZE
        return STACK_SIZE - min(first, lowest - self._stack.start)

    def _on_memory(
        self, _engine: Any, access: int, address: int, size: int, _value: int, _data: Any
    ) -> bool:
        self._fault = f"{_access_name(access)} of {size} bytes at {address:#x}"
        self._fault += self._describe(address)
        return False

    def _on_exception(self, engine: Any, number: int, _data: Any) -> None:
        self._fault = f"exception {number} of the core (an invalid or trapping instruction)"
        engine.emu_stop()

    def _reason(self, error: Exception) -> str:
        """Unicorn's reason; of an instruction that it refuses, the bytes too."""
        from unicorn import UC_ERR_INSN_INVALID

        if getattr(error, "errno", None) != UC_ERR_INSN_INVALID:
            return str(error)
        code = self.read(int(self.engine.reg_read(self.core.pc)), 2)
        return f"invalid instruction {code[::-1].hex()}"

    def _describe(self, address: int) -> str:
        """What a bad address may tell."""
        if self._stack.start - _NEAR <= address < self._stack.start:
            return f": the stack is full after {STACK_SIZE} bytes"
        if self._ram.stop <= address < self._ram.stop + _NEAR:
            return ": behind the arena"
        if address in self._flash:
            return ": flash cannot be written"
        return ": there is no memory"

    def error(self, what: str) -> RunError:
        """An error about where the core now stands."""
        pc = int(self.engine.reg_read(self.core.pc))
        link = int(self.engine.reg_read(self.core.link)) & ~self.core.thumb
        place = self._image.function_at(pc)
        if not place:
            place = f"no function, called from {self._image.function_at(link) or hex(link)}"
        return RunError(
            f"{what}, pc {pc:#x} in {place}",
            where=f"{self._package.name} on {self._package.target.name}",
            hint="this is a bug in Midge or in the compiler: please report the model",
        )


def _access_name(access: int) -> str:
    from unicorn import unicorn_const as const

    if access in (const.UC_MEM_READ_UNMAPPED, const.UC_MEM_READ_PROT):
        return "invalid read"
    if access in (const.UC_MEM_WRITE_UNMAPPED, const.UC_MEM_WRITE_PROT):
        return "invalid write"
    return "invalid instruction fetch"


def _page_end(address: int) -> int:
    return -(-address // PAGE) * PAGE
