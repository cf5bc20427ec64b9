"""An arena in several memories, and constants that are worth a copy in the fastest."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from midge.codegen.names import port_names
from midge.codegen.reserved import is_c_word
from midge.core.errors import UsageError
from midge.loop.program import Program
from midge.plan.arena import Arena

_ALIGN = 4


def check_pool_names(names: Iterable[str], inputs: int, outputs: int) -> None:
    """UsageError where the macro of a memory, MODEL_NAME_SIZE, is that of an input or output."""
    ports = {*port_names("input", inputs), *port_names("output", outputs)}
    for name in names:
        if name in ports or is_c_word(name):
            raise UsageError(
                f"{name} is a word of C" if is_c_word(name) else f"{name} is a tensor's name in C",
                where="--pool",
                hint=f"call it otherwise, e.g. {name}_ram",
            )


def hot_constants(program: Program, arena: Arena, room: int) -> Mapping[str, int]:
    """Constants and the addresses of their copies, behind what the arena's first memory holds:
    those of which a byte is read most often, as long as all fits `room` bytes of that memory."""
    if not arena.plan.pools or room == 0:
        return {}
    _, base, used = arena.plan.pools[0]
    reads: dict[str, float] = {}
    for op in program.operations:
        own = {a for _, args in op.uses for a in args if a in program.consts}
        size = sum(program.consts[a].nbytes for a in own)
        for name in own:
            reads[name] = reads.get(name, 0.0) + max(op.macs, 1) / max(size, 1)
    at = base + -(-used // _ALIGN) * _ALIGN
    found: dict[str, int] = {}
    for name in sorted(reads, key=lambda n: (-reads[n], n)):
        size = -(-program.consts[name].nbytes // _ALIGN) * _ALIGN
        if at + size <= base + room:
            found[name] = at
            at += size
    return found


def used_pools(
    program: Program, arena: Arena, hot: Mapping[str, int]
) -> tuple[tuple[str, int, int], ...]:
    """Name, first address and bytes of each memory of the arena that is used, copies of constants
    included; () if there is one memory. The first is always among them."""
    found = list(arena.plan.pools)
    if found and hot:
        name, base, _ = found[0]
        found[0] = (name, base, max(at + program.consts[n].nbytes for n, at in hot.items()) - base)
    return tuple(pool for i, pool in enumerate(found) if i == 0 or pool[2])


def pool_rows(used: Sequence[tuple[str, int, int]]) -> list[dict[str, Any]]:
    """What the templates must know of each memory; field: of the context."""
    return [
        {"name": name, "base": base, "used": size, "field": f"{name}_memory" if i else "arena"}
        for i, (name, base, size) in enumerate(used)
    ]
