"""What exceeds the memory that there is, and what would help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from midge.core.errors import PlanError
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.core.target import Memory


def check_limits(package: Package, options: CompileOptions) -> None:
    """PlanError that says what is needed, which operator takes most of it and what would help."""
    rows: list[dict[str, Any]] = package.metadata["operators"]
    ram = None if options.check_memory else options.max_ram
    if ram is not None and package.arena_size > ram:
        most = max(rows, key=lambda row: int(row["live"]))
        helps = " or ".join(_for_less_ram(package, options))
        raise _too_large(
            package, package.arena_size, "RAM for the arena", ram,
            f"the peak is at {_place(most)}: {most['live']} bytes alive; {helps} would help",
        )  # fmt: skip
    flash, what = flash_of(package)
    if options.max_flash is not None and flash > options.max_flash:
        most = max(rows, key=lambda row: int(row["constants"]))
        helps = " or ".join(_for_less_flash(package, options))
        raise _too_large(
            package, flash, what, options.max_flash,
            f"{package.weights_size} are constants, most of them of {_place(most)}: "
            f"{most['constants']}; {helps} may help",
        )  # fmt: skip
    _check_board(package, options)


def _check_board(package: Package, options: CompileOptions) -> None:
    """PlanError for what exceeds the board's own memories, before its stack and code are counted.
    A CPU's typical ones are for `midge compile` to warn of."""
    if options.oversize or options.check_memory:
        return
    for memory, size in exceeded(package):
        if memory.typical:
            continue
        what, found = flash_of(package)[1], _for_less_flash(package, options)
        if memory.kind == "ram":
            what, found = "RAM for the arena", _for_less_ram(package, options)
        if options.pools and memory.kind == "ram":
            found = [f"--pool {memory.name}={memory.size}"]
        helps = " or ".join(found)
        raise PlanError(
            f"needs {size} bytes of {what}, {memory.name} has {memory.size}",
            where=f"{package.name} on {package.target.name}",
            hint=f"{helps} may help; --oversize goes on in any case",
        )


def flash_of(package: Package) -> tuple[int, str]:
    """The bytes of flash that are known to be needed, and what for: kernels count where they were
    measured. What calls them comes on top."""
    measured = package.metadata["kernels"]
    if measured is None:
        return package.weights_size, "flash for constants alone"
    return package.weights_size + int(measured["code"]), "flash for constants and kernels"


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


def _place(row: Mapping[str, Any]) -> str:
    return f"{row['name']} ({row['src']})"


def _for_less_ram(package: Package, options: CompileOptions) -> list[str]:
    """Options and changes of the model that could make the arena smaller."""
    found = [] if options.bands else ["--bands"]
    sizes = [t.type.size for t in package.inputs]
    image = len(sizes) == 1 and len(package.inputs[0].type.shape) == 4
    turns = any(o.name.startswith("transpose") for o in package.operators)
    if image and turns and not options.channels_last:
        found.append("--channels-last (an image that is not transposed)")
    streams = options.stream_input or options.stream_time is not None
    if not streams and image and 4 * sizes[0] >= package.arena_size:
        found.append(f"--stream-input (the input takes {sizes[0]} bytes)")
    if any(t.type.dtype.is_float for o in package.operators for t in o.outputs):
        found.append("int8 instead of float")
    return found or ["a smaller model"]


def _for_less_flash(package: Package, options: CompileOptions) -> list[str]:
    """Options and changes of the model that could make kernels and constants smaller."""
    found = [] if options.search else ["a search (no --no-search)"]
    found += [] if options.goal == "size" else ["--optimize size"]
    floats = any(t.type.dtype.is_float for o in package.operators for t in o.outputs)
    return [*found, *(["int8 instead of float"] if floats else [])] or ["a smaller model"]


def _too_large(package: Package, need: int, what: str, limit: int, hint: str) -> PlanError:
    return PlanError(
        f"needs {need} bytes of {what}, {limit} are allowed", where=package.name, hint=hint
    )
