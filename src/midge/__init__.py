"""Midge compiles trained neural networks to small, fast, exact C for microcontrollers.

    import midge

    package = midge.compile("kws.tflite", target="cortex-m4")
    print(package.arena_size, package.weights_size)
    package.save("kws")
    run = midge.run(package, {"input": samples})
    print(run.outputs, run.cycles)

Errors that a user can cause are `MidgeError`s: they say what, where, and what to do.
"""

from __future__ import annotations

# The folders `quantize/` and `run/` before the functions of these names: Python binds a submodule's
# name in its package when it is first imported, and would put the folder in the function's place.
from midge import quantize as _quantizer  # noqa: F401
from midge import run as _runners  # noqa: F401
from midge.api import compile, from_sklearn, from_torch, load, quantize, run, save
from midge.core.errors import (
    CompileError,
    MidgeError,
    ModelError,
    PlanError,
    RunError,
    ScheduleError,
    TargetError,
    ToolchainError,
    UsageError,
    VerifyError,
)
from midge.core.options import CompileOptions
from midge.core.package import Package
from midge.core.runner import Run

__all__ = [
    "CompileError",
    "CompileOptions",
    "MidgeError",
    "ModelError",
    "Package",
    "PlanError",
    "Run",
    "RunError",
    "ScheduleError",
    "TargetError",
    "ToolchainError",
    "UsageError",
    "VerifyError",
    "compile",
    "from_sklearn",
    "from_torch",
    "load",
    "quantize",
    "run",
    "save",
]
