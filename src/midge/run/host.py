"""Runs a package in this process: its C as a shared library, called through ctypes.

Fast and exact in results, silent about cost. Faulty generated code can take this process down.
"""

from __future__ import annotations

import ctypes
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midge.core import leaving
from midge.core.errors import RunError
from midge.core.package import Package, Tensor
from midge.core.runner import Run, Sizes
from midge.core.types import Array
from midge.run.base import RUNNERS
from midge.run.memory_check import MemoryCheck
from midge.run.tensors import (
    CONTEXT_SIZE,
    FILL,
    GUARD,
    GUARD_SIZE,
    arena_start,
    check_guards,
    check_status,
    decode,
    decode_part,
    encode_frames,
    encode_inputs,
    portions,
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
        self._checked: MemoryCheck | None = None
        if package.places:
            self._checked = MemoryCheck(package, self._read_arena, self._write_arena)
        size = package.arena_size
        self._memory = (ctypes.c_uint8 * (size + 2 * GUARD_SIZE + 4 * CONTEXT_SIZE))()
        base = ctypes.addressof(self._memory)
        self._context = (base + CONTEXT_SIZE - 1) // CONTEXT_SIZE * CONTEXT_SIZE
        self._arena = arena_start(self._context + CONTEXT_SIZE + GUARD_SIZE)
        ctypes.memset(self._context, FILL, CONTEXT_SIZE)
        ctypes.memset(self._arena, FILL, size)
        ctypes.memmove(self._arena - GUARD_SIZE, GUARD, GUARD_SIZE)
        ctypes.memmove(self._arena + size, GUARD, GUARD_SIZE)
        start = self._plain.init(self._context, self._arena, package.first_size)
        check_status(package, "init", start)
        for name, base, bytes_ in package.pools[1:]:
            use = self._plain.use(name, self._context, self._arena + base, bytes_)
            check_status(package, f"use_{name}", use)
        self._check_guards()

    @property
    def sizes(self) -> Sizes | None:
        """None: what this machine's compiler makes says nothing about a microcontroller's."""
        return None

    def run(self, inputs: Mapping[str, Array], *, layers: bool = False) -> Run:
        """One inference. UsageError for wrong inputs, RunError when the code fails."""
        if self._plain is None:
            raise RunError("the session is closed", where=self._package.name)
        given = encode_inputs(self._package, inputs)
        seen: dict[str, Array] = {}
        watched = layers or bool(self._package.places)
        library = self._watched(seen) if watched else self._plain
        if self._package.pushes is not None:
            ((_, data),) = given
            status = library.reset(self._context)
            for portion in portions(self._package, data):
                status = status or library.push(self._context, portion)
        elif self._package.arriving:
            ((tensor, data),) = given
            self._start_check()
            status = library.feed(self._context, data, tensor.type.shape[1])
        else:
            for tensor, data in given:
                ctypes.memmove(self._arena + tensor.offset, data, len(data))
            self._start_check()
            status = library.run(self._context)
        if self._checked is not None and self._checked.error is not None:
            raise self._checked.error
        check_status(self._package, "run", status)
        self._check_guards()
        return Run({t.name: self._read(t) for t in self._package.outputs}, layers=seen)

    def push(self, frames: Array) -> dict[str, Array] | None:
        """The next frames, [hop, ...]: the outputs of the last window, None while it is not whole.
        UsageError for frames that do not fit or a package that takes none."""
        if self._plain is None:
            raise RunError("the session is closed", where=self._package.name)
        data = encode_frames(self._package, frames)
        check_status(self._package, "push", self._plain.push(self._context, data))
        self._check_guards()
        if self._plain.missing(self._context):
            return None
        return {t.name: self._read(t) for t in self._package.outputs}

    def reset(self) -> None:
        """Forget all frames that were pushed."""
        if self._plain is None:
            raise RunError("the session is closed", where=self._package.name)
        check_status(self._package, "reset", self._plain.reset(self._context))

    def _watched(self, seen: dict[str, Array]) -> _Library:
        """The build with hooks that puts layers into `seen`. It runs over the same context and
        arena: state carries over."""
        if self._hooked is None:
            self._hooked = _load(self._package, *self._build, hooks=True)
        calls = enumerate(self._package.all_calls)

        def after(_context: int | None, _index: int) -> None:
            number, call = next(calls)
            for part in call.parts:
                data = ctypes.string_at(self._arena + part.offset, part.size)
                decode_part(part, data, seen)
            if self._checked is not None:
                self._checked.after(number)

        self._hook = _Hook(after)  # kept alive while the library may call it
        self._hooked.set_hook(self._hook)
        return self._hooked

    def close(self) -> None:
        """Unload; closing twice is fine."""
        for library in (self._plain, self._hooked):
            if library is not None:
                library.unload()
        self._plain = self._hooked = None

    def _read(self, tensor: Tensor) -> Array:
        address = self._arena + tensor.offset
        return decode(tensor, ctypes.string_at(address, tensor.type.size))

    def _start_check(self) -> None:
        if self._checked is not None:
            self._checked.begin()
            self._checked.after(-1)

    def _read_arena(self) -> bytes:
        return ctypes.string_at(self._arena, self._package.arena_size)

    def _write_arena(self, data: bytes) -> None:
        ctypes.memmove(self._arena, data, len(data))

    def _check_guards(self) -> None:
        below = ctypes.string_at(self._arena - GUARD_SIZE, GUARD_SIZE)
        above = ctypes.string_at(self._arena + self._package.arena_size, GUARD_SIZE)
        check_guards(self._package, below, above)


class _Library:
    """The functions of a shared library, from a copy that no one else has loaded.

    The loader hands out the same library for the same file, and never unloads a busy one.
    """

    def __init__(self, path: Path, package: Package) -> None:
        name = package.name
        self._folder: Path | None = None
        try:
            self._folder = leaving.temporary_folder("midge-host-")
            copy = shutil.copyfile(path, self._folder / path.name)
            self._handle: Any = ctypes.CDLL(str(copy))
        except OSError as error:
            self._remove()
            raise RunError(
                f"the built library does not load: {error}",
                where=name,
                hint="let TMPDIR name a folder that can be written, and libraries loaded from",
            ) from error
        if sys.platform != "win32":
            self._remove()  # loaded, it is no longer needed; Windows keeps it open
        self._init = self._handle[f"{name}_init"]
        self._init.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        self._name = name
        more: tuple[Any, ...] = ()
        if package.pushes is not None:
            more = (ctypes.c_char_p,)
            self._function("reset").argtypes = (ctypes.c_void_p,)
            self._function("frames_missing").argtypes = (ctypes.c_void_p,)
            self._function("frames_missing").restype = ctypes.c_uint32
        elif package.arriving:
            more = (ctypes.c_char_p, ctypes.c_size_t)
        self._run = self._function(package.entry)
        self._run.argtypes = (ctypes.c_void_p, *more)

    def _function(self, name: str) -> Any:
        return getattr(self._handle, f"{self._name}_{name}")

    def init(self, context: int, arena: int, size: int) -> int:
        return int(self._init(context, arena, size))

    def use(self, pool: str, context: int, memory: int, size: int) -> int:
        function = self._function(f"use_{pool}")
        function.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        return int(function(context, memory, size))

    def run(self, context: int) -> int:
        return int(self._run(context))

    def feed(self, context: int, data: bytes, rows: int) -> int:
        return int(self._run(context, data, rows))

    def push(self, context: int, data: bytes) -> int:
        return int(self._run(context, data))

    def reset(self, context: int) -> int:
        return int(self._function("reset")(context))

    def missing(self, context: int) -> int:
        return int(self._function("frames_missing")(context))

    def set_hook(self, hook: Any) -> None:
        """What a build with hooks calls after each operator; the caller keeps it alive."""
        self._handle.midge_host_set_hook(hook)

    def unload(self) -> None:
        import _ctypes

        if sys.platform == "win32":
            _ctypes.FreeLibrary(self._handle._handle)
        else:
            _ctypes.dlclose(self._handle._handle)
        self._remove()

    def _remove(self) -> None:
        if self._folder is not None:
            leaving.remove(self._folder)


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
    return _Library(path, package)


RUNNERS.add("host", HostRunner())
