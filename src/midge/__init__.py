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

import sys
from types import ModuleType

__version__: str  # of what is installed, found when it is asked for
TYPE_CHECKING = False  # `typing` would be the slowest import of all
if TYPE_CHECKING:
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

_HOMES = {
    "CompileOptions": "midge.core.options",
    "Package": "midge.core.package",
    "Run": "midge.core.runner",
}


class _Midge(ModuleType):
    """Names are imported when they are first used: the command has to be ready for Ctrl-C before
    anything takes time. `run` and `quantize` are functions here; Python would bind the folders of
    these names in their place when they are first imported."""

    def __getattr__(self, name: str) -> object:
        if name not in (*__all__, "__version__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        from importlib import import_module

        if name == "__version__":
            return str(import_module("midge.core.version").version())
        home = "midge.core.errors" if name.endswith("Error") else _HOMES.get(name, "midge.api")
        value: object = getattr(import_module(home), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        if name not in __all__ or not isinstance(value, ModuleType):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        own = (name for name in super().__dir__() if name.startswith("__"))
        return sorted({*own, *__all__, "__version__"})


sys.modules[__name__].__class__ = _Midge
