"""A package as a whole program for a board of QEMU: start-up code and a server of inferences."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path

from midge.core.package import Package
from midge.core.target import Target
from midge.run.tensors import FILL, GUARD, GUARD_SIZE, push_size
from midge.toolchain import Image, build_image

_FOLDER = Path(__file__).parent / "qemu_boards"
_START = {"arm": "start_arm.c", "riscv": "start_riscv.c"}
_BOARD_KEYS = ("flash_start", "flash_size", "ram_start", "ram_size")

_PACKAGE_HEADER = """\
/* What driver.c must know about this package; offsets into the arena and sizes in bytes. */
#ifndef MIDGE_QEMU_PACKAGE_H
#define MIDGE_QEMU_PACKAGE_H

#include "{name}.h"

#define MIDGE_QEMU_NAME(function) {name}_##function
#define MIDGE_QEMU_CONTEXT {name}_context
#define MIDGE_QEMU_ARENA_SIZE {arena_size}U
#define MIDGE_QEMU_FIRST_SIZE {first_size}U
#define MIDGE_QEMU_USE_POOLS(context, arena) do {{ {uses} }} while (0)
#define MIDGE_QEMU_GUARD_SIZE {guard_size}U
#define MIDGE_QEMU_GUARD {guard}
#define MIDGE_QEMU_FILL {fill}
#define MIDGE_QEMU_INPUTS {inputs}U
#define MIDGE_QEMU_OUTPUTS {outputs}U
#define MIDGE_QEMU_ARRIVING {arriving}
#define MIDGE_QEMU_PUSHES {pushes}
#define MIDGE_QEMU_INPUT_SIZE {input_size}U
#define MIDGE_QEMU_INPUT_ROWS {input_rows}U

typedef struct midge_qemu_span {{
    uint32_t offset;
    uint32_t size;
}} midge_qemu_span;

/* Each table ends in an entry that is not used, so that none is empty. */
static const midge_qemu_span midge_qemu_inputs[] = {{{input_spans}}};
static const midge_qemu_span midge_qemu_outputs[] = {{{output_spans}}};
static const midge_qemu_span midge_qemu_layers[] = {{{layer_spans}}};
static const uint32_t midge_qemu_first_layer[] = {{{first_layers}}};

#endif
"""


def build_qemu_image(package: Package, *, toolchain: str | None, optimize: str | None) -> Image:
    """An ELF that serves inferences on the board in the target's `qemu` table."""
    target = package.target
    sources = {
        "board.h": (_FOLDER / "board.h").read_text(),
        "midge_qemu_package.h": _package_header(package),
        "midge_qemu_start.c": (_FOLDER / _START[target.arch]).read_text(),
        "midge_qemu_driver.c": (_FOLDER / "driver.c").read_text(),
    }
    return build_image(
        package,
        toolchain=toolchain,
        optimize=optimize,
        defines=("MIDGE_HOOKS",),
        sources=sources,
        script=_script(target),
    )


def _script(target: Target) -> str:
    text = (_FOLDER / "board.ld").read_text()
    for key in _BOARD_KEYS:
        text = text.replace(f"@{key}@", hex(int(target.qemu[key])))
    return text


def _package_header(package: Package) -> str:
    calls = package.all_calls
    layers = ((part.offset, part.size) for call in calls for part in call.parts)
    counts = (len(call.parts) for call in calls)
    inputs = [(t.offset, t.type.size) for t in package.inputs]
    return _PACKAGE_HEADER.format(
        name=package.name,
        arena_size=package.arena_size,
        guard_size=GUARD_SIZE,
        guard=GUARD[0],
        fill=FILL,
        inputs=len(package.inputs),
        outputs=len(package.outputs),
        first_size=package.first_size,
        uses=" ".join(
            f"(void){package.name}_use_{name}(&(context), &(arena)[{base}], {size}U);"
            for name, base, size in package.pools[1:]
        ),
        arriving=int(package.arriving),
        pushes=package.pushes.count if package.pushes is not None else 0,
        input_size=_input_size(package),
        input_rows=package.inputs[0].type.shape[1] if package.arriving else 0,
        input_spans=_spans(inputs),
        output_spans=_spans((t.offset, t.type.size) for t in package.outputs),
        layer_spans=_spans(layers),
        first_layers=", ".join(f"{first}U" for first in accumulate(counts, initial=0)),
    )


def _input_size(package: Package) -> int:
    """Bytes of an input that has no place in the arena."""
    if package.pushes is not None:
        return package.pushes.count * push_size(package)
    return package.inputs[0].type.size if package.arriving else 1


def _spans(found: Iterable[tuple[int, int]]) -> str:
    spans = [f"{{{offset}U, {size}U}}" for offset, size in found]
    return ", ".join([*spans, "{0U, 0U}"])
