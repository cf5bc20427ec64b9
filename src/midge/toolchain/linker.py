"""The linker script of an image that has no start-up code: an emulator calls its functions."""

from __future__ import annotations

from collections.abc import Sequence

from midge.core.errors import TargetError
from midge.core.target import Memory, Target

# A region at least this long: whether a model fits its target is for the planner and the size
# table to say. An image that is too large still runs in an emulator, so that it can be improved.
_ROOM = 64 * 1024 * 1024
_ADDRESS_SPACE = 1 << 32

_SCRIPT = """\
ENTRY({entry})
EXTERN({roots})
MEMORY {{
  FLASH (rx) : ORIGIN = {flash.start:#x}, LENGTH = {flash_size:#x}
  RAM (rw) : ORIGIN = {ram.start:#x}, LENGTH = {ram_size:#x}
}}
SECTIONS {{
  .text : {{ *(.text .text.*) }} > FLASH
  .rodata : {{ *(.rodata .rodata.* .srodata .srodata.*) }} > FLASH
  .data : {{
    *(.data .data.*)
    __global_pointer$ = . + 0x800;
    *(.sdata .sdata.*)
  }} > RAM AT > FLASH
  .bss (NOLOAD) : {{ *(.sbss .sbss.* .bss .bss.* COMMON) }} > RAM
  /DISCARD/ : {{ *(.ARM.exidx* .ARM.extab* .eh_frame* .note* .comment) }}
}}
"""


def linker_script(target: Target, roots: Sequence[str]) -> str:
    """A script for the target's flash and RAM that keeps the functions `roots`.

    TargetError when the target has no such memories.
    """
    flash, ram = target.memory("flash"), target.memory("ram")
    if flash is None or ram is None:
        raise TargetError(
            "a bare-metal image needs a flash and a RAM",
            where=f"target {target.name}",
            hint="give it [[memories]], or run on the host",
        )
    return _SCRIPT.format(
        entry=roots[-1],
        roots=" ".join(roots),
        flash=flash,
        flash_size=_room(target, flash),
        ram=ram,
        ram_size=_room(target, ram),
    )


def _room(target: Target, memory: Memory) -> int:
    """Bytes of a region: generous, but not into the next memory."""
    above = [m.start for m in target.memories if m.start > memory.start]
    limit = min(above, default=_ADDRESS_SPACE) - memory.start
    return min(limit, max(memory.size, _ROOM))
