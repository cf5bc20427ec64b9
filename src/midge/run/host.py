"""Runs a package in this process: its C as a shared library, called through ctypes.

Fast and exact in results, silent about cost. Faulty generated code can take this process down.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midge.core.errors import RunError
from midge.core.package import Package, Tensor
from midge.core.runner import Run, Sizes
from midge.core.types import Array
from midge.run.base import RUNNERS
from midge.run.tensors import (
    CONTEXT_SIZE,
    FILL,
    GUARD,
    GUARD_SIZE,
    arena_start,
    check_guards,
    check_status,
    decode,
    encode_inputs,
)
from midge.toolchain import HOST_TOOLCHAINS, TOOLCHAINS, build_shared

_Hook = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint32)

# A library cannot call into Python by name, so it calls what the session sets.
_HOOK_SOURCE = """\
#include "{name}.h"

typedef void hook({name}_context *ctx, uint32_t index);

static hook *chosen;

void midge_host_set_hook(hook *function);
void midge_host_set_hook(hook *function)
{{
    chosen = function;
}}

hook {name}_after_operator;
void {name}_after_operator({name}_context *ctx, uint32_t index)
{{
    chosen(ctx, index);
}}
"""


class HostRunner:
    """Builds with this machine's compiler, whatever the package's target is."""

    name = "host"

    def available(self) -> str | None:
        """None when there is a compiler, else how to get one."""
        known = [TOOLCHAINS[name] for name in HOST_TOOLCHAINS]
        if any(toolchain.find() for toolchain in known):
            return None
        return "no C compiler: " + " or ".join(toolchain.install for toolchain in known)

    def load(
        self, package: Package, *, toolchain: str | None = None, optimize: str | None = None
    ) -> HostSession:
        """Build and load; a toolchain that only knows other machines is a ToolchainError."""
        return HostSession(package, toolchain, optimize)


class HostSession:
    """A loaded package with its arena. Not for several threads at once."""

    def __init__(self, package: Package, toolchain: str | None, optimize: str | None) -> None:
        self._package = package
        self._build = (toolchain, optimize)
        self._plain: _Library | None = _load(package, *self._build, hooks=False)
        self._hooked: _Library | None = None
        size = package.arena_size
        self._memory = (ctypes.c_uint8 * (size + 2 * GUARD_SIZE + 4 * CONTEXT_SIZE))()
        base = ctypes.addressof(self._memory)
        self._context = (base + CONTEXT_SIZE - 1) // CONTEXT_SIZE * CONTEXT_SIZE
        self._arena = arena_start(self._context + CONTEXT_SIZE + GUARD_SIZE)
        ctypes.memset(self._context, FILL, CONTEXT_SIZE)
        ctypes.memset(self._arena, FILL, size)
        ctypes.memmove(self._arena - GUARD_SIZE, GUARD, GUARD_SIZE)
        ctypes.memmove(self._arena + size, GUARD, GUARD_SIZE)
        check_status(package, "init", self._plain.init(self._context, self._arena, size))
        self._check_guards()

    @property
    def sizes(self) -> Sizes | None:
        """None: what this machine's compiler makes says nothing about a microcontroller's."""
        return None

    def run(self, inputs: Mapping[str, Array], *, layers: bool = False) -> Run:
        """One inference. UsageError for wrong inputs, RunError when the code fails."""
        if self._plain is None:
            raise RunError("the session is closed", where=self._package.name)
        for tensor, data in encode_inputs(self._package, inputs):
            ctypes.memmove(self._arena + tensor.offset, data, len(data))
        seen: dict[str, Array] = {}
        status = self._run_layers(seen) if layers else self._plain.run(self._context)
        check_status(self._package, "run", status)
        self._check_guards()
        return Run({t.name: self._read(t) for t in self._package.outputs}, layers=seen)

    def _run_layers(self, seen: dict[str, Array]) -> int:
        """Run the build with hooks over the same context and arena: state carries over."""
        if self._hooked is None:
            self._hooked = _load(self._package, *self._build, hooks=True)

        def after(_context: int | None, index: int) -> None:
            for tensor in self._package.operators[index].outputs:
                seen[tensor.name] = self._read(tensor)

        hook = _Hook(after)
        self._hooked.set_hook(hook)
        return self._hooked.run(self._context)

    def close(self) -> None:
        """Unload; closing twice is fine."""
        for library in (self._plain, self._hooked):
            if library is not None:
                library.unload()
        self._plain = self._hooked = None

    def _read(self, tensor: Tensor) -> Array:
        address = self._arena + tensor.offset
        return decode(tensor, ctypes.string_at(address, tensor.type.size))

    def _check_guards(self) -> None:
        below = ctypes.string_at(self._arena - GUARD_SIZE, GUARD_SIZE)
        above = ctypes.string_at(self._arena + self._package.arena_size, GUARD_SIZE)
        check_guards(self._package, below, above)


class _Library:
    """The functions of a shared library, from a copy that no one else has loaded.

    The loader hands out the same library for the same file, and never unloads a busy one.
    """

    def __init__(self, path: Path, name: str) -> None:
        handle, copy = tempfile.mkstemp(prefix=f"midge-{name}-", suffix=path.suffix)
        os.close(handle)
        self._copy = Path(copy)
        try:
            shutil.copyfile(path, copy)
            self._handle: Any = ctypes.CDLL(copy)
        except OSError as error:
            self._copy.unlink(missing_ok=True)
            raise RunError(f"the built library does not load: {error}", where=name) from error
        if sys.platform != "win32":
            self._copy.unlink()  # loaded, it is no longer needed; Windows keeps it open
        self._init = self._handle[f"{name}_init"]
        self._init.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        self._run = self._handle[f"{name}_run"]
        self._run.argtypes = (ctypes.c_void_p,)

    def init(self, context: int, arena: int, size: int) -> int:
        return int(self._init(context, arena, size))

    def run(self, context: int) -> int:
        return int(self._run(context))

    def set_hook(self, hook: Any) -> None:
        """What a build with hooks calls after each operator; the caller keeps it alive."""
        self._handle.midge_host_set_hook(hook)

    def unload(self) -> None:
        import _ctypes

        if sys.platform == "win32":
            _ctypes.FreeLibrary(self._handle._handle)
        else:
            _ctypes.dlclose(self._handle._handle)
        self._copy.unlink(missing_ok=True)


def _load(
    package: Package, toolchain: str | None, optimize: str | None, *, hooks: bool
) -> _Library:
    sources = {"midge_host_hook.c": _HOOK_SOURCE.format(name=package.name)} if hooks else {}
    path = build_shared(
        package,
        toolchain=toolchain,
        optimize=optimize,
        defines=("MIDGE_HOOKS",) if hooks else (),
        sources=sources,
    )
    return _Library(path, package.name)


RUNNERS.add("host", HostRunner())
