"""Stage: keep the window of a buffer that a loop's body uses in a local buffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from midge.core.types import DType
from midge.loop import ir
from midge.loop.affine import Bounds
from midge.loop.rewrite import allocs_in, fresh, map_stmts, names, stores
from midge.loop.schedule.access import Access, Instructions, accesses
from midge.loop.schedule.base import Refused, StepText, find, put
from midge.loop.schedule.region import (
    Window,
    covers,
    in_bounds,
    loops_over,
    redirect,
    window_of,
)
from midge.loop.types import buffer_types


@dataclass(frozen=True, slots=True)
class Stage(StepText):
    """Copy what the body of `loop` reads of `buffer` to a local `{buffer}_s` at its top.

        for i in n:                                  for i in n:
          for k in 3:                                  alloc x_s: i16[3]
            acc = acc + i32(x[i + k])      ->          for x_s0 in 3:
                                                         x_s[x_s0] = i16(x[i + x_s0])
                                                       for k in 3:
                                                         acc = acc + i32(x_s[k])

    `dtype` widens the copy. Elements of the window outside the buffer are left out of it. If the
    body writes `buffer`, the window is written back at the end, and read at the start only if
    that is needed. Refused if the window has no constant size, or if it may hold elements of a
    local buffer that were never written.
    """

    buffer: str
    loop: str
    dtype: DType | None = None


def stage_buffer(func: ir.Func, step: Stage, instructions: Instructions) -> ir.Func:
    place = find(func, step.loop)
    loop = place.loop
    shape, is_local = shape_of(func, step.buffer)
    if step.buffer in {a.buffer for a in allocs_in(loop.body)}:
        raise Refused(f"{step.buffer} is allocated inside {step.loop}")
    bounds = place.bounds(func).loop(loop.var, loop.extent)
    found = [a for a in accesses(loop.body, bounds, instructions) if a.buffer == step.buffer]
    if not found:
        raise Refused(f"{step.loop} does not use {step.buffer}")
    dtype = _staged_type(step, buffer_types(func)[step.buffer], found)
    window = window_of(found, shape)
    fill = _needs_fill(loop.body, bounds, window, step.buffer, instructions)
    if fill and is_local and not _was_written(loop.body, found, window, step.buffer):
        raise Refused(f"the window of {step.buffer} may hold elements that were never written")
    used = names(func)
    copy = _Copy(fresh(f"{step.buffer}_s", used), step.buffer, window, shape, used)
    body = redirect(loop.body, step.buffer, copy.name, window)
    if dtype is not bounds.buffers[step.buffer]:
        body = _narrowed(body, copy.name, bounds.buffers[step.buffer])
    parts: list[ir.Stmt] = [ir.Alloc(copy.name, dtype, window.sizes)]
    parts += copy.fill(dtype, bounds.buffers[step.buffer]) if fill else ()
    parts += body
    parts += copy.write_back() if any(a.write for a in found) else ()
    return put(func, loop, replace(loop, body=tuple(parts)))


def shape_of(func: ir.Func, buffer: str) -> tuple[tuple[int, ...], bool]:
    """Shape of a buffer, and whether it is local."""
    for p in func.params:
        if p.name == buffer:
            return p.shape, False
    for a in allocs_in(func.body):
        if a.buffer == buffer:
            return a.shape, True
    raise Refused(f"there is no buffer {buffer!r}")


def _staged_type(step: Stage, dtype: DType, found: Sequence[Access]) -> DType:
    if step.dtype is None or step.dtype is dtype:
        return dtype
    if any(a.write for a in found):
        raise Refused(f"{step.buffer} is written, so its copy must be {dtype.value}")
    if any(a.sizes != (1,) * len(a.sizes) for a in found):
        raise Refused(f"an instruction reads {step.buffer}, so its copy must be {dtype.value}")
    wide = step.dtype
    integers = dtype.is_integer and wide.is_integer
    fits = integers and wide.min <= dtype.min and dtype.max <= wide.max
    if not fits and (dtype, wide) != (DType.F16, DType.F32):
        raise Refused(f"{wide.value} does not hold every {dtype.value}")
    return wide


def _needs_fill(
    body: ir.Block, bounds: Bounds, window: Window, buffer: str, instructions: Instructions
) -> bool:
    """Whether something may be left of what the buffer held before the body."""
    for s in body:
        own = [a for a in accesses((s,), bounds, instructions) if a.buffer == buffer]
        if any(not a.write for a in own):
            return True
        if any(covers(a, window) for a in own):
            return False
    return True


def _was_written(body: ir.Block, found: Sequence[Access], window: Window, buffer: str) -> bool:
    """Whether the body certainly reads every element of the window before it writes it."""
    own = [s for s in stores(body) if s.buffer == buffer]
    reads_first = all(ir.Load(buffer, s.index) in _certain_loads(s.value) for s in own)
    windows = any(a.write and a.sizes != (1,) * len(a.sizes) for a in found)
    return reads_first and not windows and any(not a.write and covers(a, window) for a in found)


def _certain_loads(e: ir.Expr) -> list[ir.Load]:
    """The loads in `e` that no condition inside it can skip."""
    match e:
        case ir.Load():
            return [e]
        case ir.Bin(op, lhs, rhs):
            return _certain_loads(lhs) + ([] if op in ir.LOGIC else _certain_loads(rhs))
        case ir.Cast(_, arg):
            return _certain_loads(arg)
        case ir.Call(_, args):
            return [x for a in args for x in _certain_loads(a)]
    return []


@dataclass(frozen=True, slots=True)
class _Copy:
    """A local buffer `name` that holds `window` of `source`, whose shape is `shape`."""

    name: str
    source: str
    window: Window
    shape: tuple[int, ...]
    used: set[str]

    def fill(self, dtype: DType, source_dtype: DType) -> ir.Block:
        names, here, there = self._box(f"{self.source}_s")
        value = ir.cast(dtype, ir.Load(self.source, there), source_dtype)
        return self._nest(names, there, ir.Store(self.name, here, value))

    def write_back(self) -> ir.Block:
        names, here, there = self._box(f"{self.source}_w")
        return self._nest(names, there, ir.Store(self.source, there, ir.Load(self.name, here)))

    def _box(self, wish: str) -> tuple[list[str], tuple[ir.Expr, ...], tuple[ir.Expr, ...]]:
        loops = [fresh(f"{wish}{d}", self.used) for d in range(len(self.shape))]
        here = tuple(ir.Var(n) for n in loops)
        return loops, here, self.window.outside(here)

    def _nest(self, names: list[str], there: tuple[ir.Expr, ...], s: ir.Stmt) -> ir.Block:
        cond = in_bounds(there, self.shape)
        body: ir.Block = (s,) if cond is None else (ir.Guard(cond, (s,)),)
        return loops_over(names, self.window.sizes, body)


def _narrowed(body: ir.Block, name: str, dtype: DType) -> ir.Block:
    """Loads of the widened copy as the type they had; a conversion that follows takes it all."""

    def expr(e: ir.Expr) -> ir.Expr:
        match e:
            case ir.Load(buffer, _) if buffer == name:
                return ir.Cast(dtype, e)
            case ir.Cast(wide, ir.Cast(inner, ir.Load(buffer, _) as load)) if (
                buffer == name and inner is dtype
            ):
                return ir.Cast(wide, load)
        return e

    return map_stmts(body, expr=expr)
