"""What exceeds the memory that there is, and what would help."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from midge.codegen.calls import flash_of_calls
from midge.codegen.picture import CALLER
from midge.core.errors import PlanError
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.core.target import Memory, Target
from midge.graph.ir import Graph

# What may be left at best: of constants and of code by other kernels, of floats as int8.
_CONSTANTS_LEFT, _CODE_LEFT, _INT8_LEFT = 0.75, 0.5, 0.25
_UNSURE = 4  # times what calls are estimated at, what they may take


@dataclass(frozen=True, slots=True)
class _Excess:
    """need: bytes of `what`.  whose: what they exceed.  place: where most of it is.  ways: what may
    help.  board: whether it is the board's own memory that is too small."""

    need: int
    what: str
    whose: str
    place: str
    ways: str
    board: bool = False

    def __str__(self) -> str:
        return f"{self.need} bytes of {self.what}, {self.whose}"


def is_hopeless(graph: Graph, target: Target, options: CompileOptions) -> bool:
    """Whether the inputs alone, which are all there before anything is computed, take more RAM than
    there is: no search finds less."""
    if options.check_memory or options.stream_input or options.stream_time is not None:
        return False
    memory = target.memory("ram")
    own = memory is not None and not (memory.typical or options.oversize or options.pools)
    limits = (options.max_ram, memory.size if memory is not None and own else None)
    size = sum(graph.types[name].size for name in graph.inputs)
    return any(limit is not None and size > limit for limit in limits)


def flash_limit(target: Target, options: CompileOptions, plain: Graph) -> int | None:
    """Bytes of flash that kernels and constants may take. Where constants alone are more than chips
    typically have, small kernels save nothing."""
    memory = target.memory("flash")
    if memory is not None and memory.typical:
        least = sum(array.nbytes for array in plain.consts.values())
        memory = memory if least <= memory.size else None
    sizes = [options.max_flash, None if memory is None else memory.size]
    return min((size for size in sizes if size is not None), default=None)


def check_limits(package: Package, options: CompileOptions) -> None:
    """PlanError that says what is needed, which operator takes most of it and what may help."""
    found = [*_excesses(package, options)]
    if not found:
        return
    board = any(excess.board for excess in found)
    hints: list[str] = []
    for excess, following in zip(found, [*found[1:], None], strict=True):
        hints += [excess.place] if excess.place else []
        if following is None or excess.ways != following.ways:
            hints.append(f"{excess.ways} may help")
    raise PlanError(
        "needs " + ", and ".join(str(excess) for excess in found),
        where=f"{package.name} on {package.target.name}" if board else package.name,
        hint="; ".join([*hints, *(["--oversize goes on in any case"] if board else [])]),
    )


def _excesses(package: Package, options: CompileOptions) -> Iterator[_Excess]:
    """Before stack and calls are counted. A CPU's typical memories are for `midge compile` to warn
    of."""
    if options.check_memory:
        return
    ram, flash = options.max_ram, options.max_flash
    arena, what = package.arena_size, "RAM for the arena"
    bytes_, of = flash_of(package)
    if ram is not None and arena > ram:
        ways = _for_less_ram(package, options, ram)
        yield _Excess(arena, what, f"{ram} are allowed", _peak(package), ways)
    if flash is not None and bytes_ > flash:
        ways = _for_less_flash(package, options, flash)
        yield _Excess(bytes_, of, f"{flash} are allowed", _constants(package), ways)
    for memory, size in () if options.oversize else exceeded(package):
        if memory.typical:
            continue
        whose = f"{memory.name} has {memory.size}"
        if memory.kind == "flash" and (flash is None or bytes_ <= flash):
            ways = _for_less_flash(package, options, memory.size)
            yield _Excess(size, of, whose, _constants(package), ways, True)
        if memory.kind == "ram" and (ram is None or arena <= ram):
            ways = _in_others(package, options, memory)
            ways = ways or _for_less_ram(package, options, memory.size)
            yield _Excess(size, what, whose, "" if options.pools else _peak(package), ways, True)


def flash_of(package: Package) -> tuple[int, str]:
    """The bytes of flash that are known to be needed, and what for: kernels count where they were
    measured. What calls them comes on top, unless all was linked."""
    if package.flash is not None:
        return package.flash, "flash for constants and code"
    code = kernels_of(package)
    if code is None:
        return package.weights_size, "flash for constants alone"
    return package.weights_size + code, "flash for constants and kernels"


def kernels_of(package: Package) -> int | None:
    """Bytes of flash of its kernels; None where they were not measured."""
    measured = package.metadata["kernels"]
    return None if measured is None else int(measured["code"])


def calls_of(package: Package) -> int:
    """About the bytes of flash of what calls the kernels."""
    count = Counter(call.operator for call in package.calls)
    return flash_of_calls(count[i] > 1 for i in range(len(package.operators)))


def is_near(package: Package, limit: int) -> bool:
    """Whether what calls the kernels decides if the package fits `limit` bytes of flash."""
    need = flash_of(package)[0]
    unsure = kernels_of(package) is not None and package.flash is None
    return unsure and need <= limit < need + _UNSURE * calls_of(package)


def exceeded(package: Package) -> list[tuple[Memory, int]]:
    """The target's memories that are too small before stack and code are counted, and the bytes
    that are needed. Of several pools those that are called like one of its memories."""
    target = package.target
    named = {memory.name: memory for memory in target.memories}
    pools: Mapping[str, int] = package.metadata["arena"].get("pools", {})
    needs = [
        (target.memory("ram"), 0 if pools else package.arena_size),
        *((named.get(name), size) for name, size in pools.items()),
        (target.memory("flash"), flash_of(package)[0]),
    ]
    return [(memory, size) for memory, size in needs if memory is not None and size > memory.size]


def whose(memory: Memory, package: Package) -> str:
    """Who has so much of the memory, for people, e.g. "sram has"."""
    if memory.typical:
        return f"chips with a {package.target.name} typically have"
    return f"{memory.name} has"


def _peak(package: Package) -> str:
    most = _most(package, "live")
    return f"the peak is at {most['name']} ({most['src']}): {most['live']} bytes alive"


def _constants(package: Package) -> str:
    if not package.weights_size:
        return ""
    most = _most(package, "constants")
    where = f"{most['name']} ({most['src']}): {most['constants']}"
    return f"{package.weights_size} are constants, most of them of {where}"


def _most(package: Package, key: str) -> Mapping[str, Any]:
    rows: list[Mapping[str, Any]] = package.metadata["operators"]
    return max(rows, key=lambda row: int(row[key]))


def _in_others(package: Package, options: CompileOptions, memory: Memory) -> str:
    """What the board's other memories could do; "" if they could not."""
    own = [m for m in package.target.memories if m.kind == "ram"]
    if options.pools:
        named = [f"--pool {memory.name}={memory.size}"]
        named += [f"--pool {m.name}={m.size}" for m in own if m.name not in dict(options.pools)]
    elif len(own) > 1 and sum(m.size for m in own) >= package.arena_size:
        named = [f"--pool {m.name}={m.size}" for m in sorted(own, key=lambda m: m.cost)]
    else:
        return ""
    return " ".join(named)


def _for_less_ram(package: Package, options: CompileOptions, limit: int) -> str:
    """Options and changes of the model that could make the arena so small."""
    found = [] if options.bands else ["--bands"]
    need = package.arena_size
    floats = [t for o in package.operators for t in o.outputs if t.type.dtype.is_float]
    if max((t.type.size for t in floats), default=0) * 4 >= need and need * _INT8_LEFT <= limit:
        found.append("int8 instead of float (midge quantize)")
    sizes = [t.type.size for t in package.inputs]
    image = len(sizes) == 1 and len(package.inputs[0].type.shape) == 4
    if image and need - sizes[0] <= limit:
        turns = any(o.name.startswith("transpose") for o in package.operators)
        if turns and not options.channels_last:
            found.append("--channels-last (an image that is not transposed)")
        streams = options.stream_input or options.stream_time is not None
        if not streams and 4 * sizes[0] >= need and _waits(package):
            found.append(f"--stream-input (the input takes {sizes[0]} bytes)")
    return " or ".join(found) or "a smaller model"


def _waits(package: Package) -> bool:
    """Whether the input is still there at the peak: what follows its last reader band by band is
    computed in between."""
    names = [row["name"] for row in package.metadata["operators"]]
    tensors: list[dict[str, Any]] = package.metadata["tensors"]
    dies = [t["dies"] for t in tensors if t["born"] == CALLER]
    last = max((names.index(d) for d in dies if d in names), default=len(names))
    banded = {t["born"] for t in tensors if t["alive"] < t["size"]}
    while last < len(names) and names[last] in banded:
        last += 1
    return names.index(_most(package, "live")["name"]) <= last


def _for_less_flash(package: Package, options: CompileOptions, limit: int) -> str:
    """Options and changes of the model that could make kernels and constants so small."""
    need, size = flash_of(package)[0], package.weights_size
    able = size * _CONSTANTS_LEFT + (need - size) * _CODE_LEFT <= limit
    found = ["a search (no --no-search)"] if able and not options.search else []
    found += ["--optimize size"] if able and options.goal != "size" else []
    trees = "tree_ensemble" in _most(package, "constants")["kinds"]
    floats = any(t.type.dtype.is_float for o in package.operators for t in o.outputs)
    if floats and not trees and 2 * size >= need and size * _INT8_LEFT <= limit:
        found.append("int8 instead of float (midge quantize)")
    return " or ".join(found) or "a smaller model"
