"""What a build is refused for (`#error`), because the kernels in a package cannot run there."""

from __future__ import annotations

import re
from collections.abc import Iterable

from midge.codegen.c import headers
from midge.core.target import Target
from midge.loop.program import Program


def right_cpu(program: Program, target: Target) -> list[str]:
    """Conditions of the preprocessor that hold on CPUs which the kernels are made for; on others
    they are plain C."""
    used = (i for kernel in program.kernels for i in kernel.instructions.values())
    found = {i.cpu or i.needs for i in used if i.needs}
    if "dsp" in target.features and any(
        "midge_dsp.h" in headers(kernel.func, kernel.instructions) for kernel in program.kernels
    ):
        found.add("MIDGE_ARM_DSP_ASM")
    return sorted(found)


def uses_r9(texts: Iterable[str]) -> bool:
    """Whether the C of an instruction writes r9, which some builds keep for other things."""
    return any(re.search(r"\br9\b", text) for text in texts)
