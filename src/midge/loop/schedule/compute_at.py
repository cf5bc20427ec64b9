"""ComputeAt: compute a local buffer where it is used, and only the window that is used."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from midge.loop import ir
from midge.loop.affine import Bounds, Linear, constant, linear
from midge.loop.rewrite import allocs_in, loops_in, map_stmts, substitute, touched, walk
from midge.loop.schedule.access import Access, Instructions, accesses
from midge.loop.schedule.base import Place, Refused, StepText, find
from midge.loop.schedule.region import Window, redirect, window_of


@dataclass(frozen=True, slots=True)
class ComputeAt(StepText):
    """Move the loops that fill a local buffer into the loop that reads it.

        alloc t: i32[10]                         for o in 8:
        for i in 10:                               alloc t: i32[3]
          t[i] = i32(x[i]) * 2                     for i in 3:
        for o in 8:                      ->          t[i] = i32(x[o + i]) * 2
          for k in 3:                              for k in 3:
            acc = acc + t[o + k]                     acc = acc + t[k]

    Elements that several iterations need are computed again. Refused if the loops that fill the
    buffer do anything else, if what they read changes before the loop, or if anything but the
    body of the loop reads the buffer.
    """

    buffer: str
    loop: str


@dataclass(frozen=True, slots=True)
class _Block:
    """The block that allocates a buffer: statements that fill it, the one with the loop, others."""

    alloc: ir.Alloc
    producers: tuple[ir.Stmt, ...]
    others: tuple[ir.Stmt, ...]
    consumer: ir.Stmt


def compute_buffer_at(func: ir.Func, step: ComputeAt, instructions: Instructions) -> ir.Func:
    place = find(func, step.loop)
    block = _block_of(func, step, place)
    bounds = place.bounds(func).loop(place.loop.var, place.loop.extent)
    _check_pure(block, accesses(block.producers, bounds, instructions))
    _check_unchanged(block, place.loop, instructions)
    found = [a for a in accesses(place.loop.body, bounds, instructions) if a.buffer == step.buffer]
    if not found:
        raise Refused(f"{step.loop} does not read {step.buffer}")
    if any(a.write for a in found):
        raise Refused(f"{step.loop} writes {step.buffer}")
    axes = [_axes(s, block.alloc, instructions) for s in block.producers]
    window = _restrictable(window_of(found, block.alloc.shape), block.alloc.shape, axes)
    moved = tuple(_restricted(s, of, window) for s, of in zip(block.producers, axes, strict=True))
    body = redirect((*moved, *place.loop.body), step.buffer, step.buffer, window)
    local = replace(block.alloc, shape=window.sizes)
    return _rebuilt(func, block, place.loop, replace(place.loop, body=(local, *body)))


def _block_of(func: ir.Func, step: ComputeAt, place: Place) -> _Block:
    """The statements after the allocation, up to the one that is or contains the loop."""
    for body in _blocks(func.body):
        position = next((i for i, s in enumerate(body) if _allocates(s, step.buffer)), None)
        if position is None:
            continue
        alloc, rest = body[position], body[position + 1 :]
        assert isinstance(alloc, ir.Alloc)
        at = next((i for i, s in enumerate(rest) if any(x is place.loop for x in walk((s,)))), None)
        if at is None:
            raise Refused(f"{step.loop} is not where {step.buffer} is alive")
        before, after = rest[:at], rest[at + 1 :]
        if step.buffer in touched(after):
            raise Refused(f"{step.buffer} is used after {step.loop}")
        producers = tuple(s for s in before if step.buffer in touched((s,)))
        if not producers:
            raise Refused(f"nothing fills {step.buffer} before {step.loop}")
        start = next(i for i, s in enumerate(before) if s is producers[0])
        others = tuple(s for s in before[start:] if not any(s is p for p in producers))
        return _Block(alloc, producers, others, rest[at])
    raise Refused(f"there is no local buffer {step.buffer!r}")


def _allocates(s: ir.Stmt, buffer: str) -> bool:
    return isinstance(s, ir.Alloc) and s.buffer == buffer


def _blocks(body: ir.Block) -> Iterator[ir.Block]:
    yield body
    for s in body:
        if isinstance(s, ir.Loop | ir.Guard):
            yield from _blocks(s.body)
        if isinstance(s, ir.Guard):
            yield from _blocks(s.other)


def _check_pure(block: _Block, found: Sequence[Access]) -> None:
    own = {a.buffer for a in allocs_in(block.producers)} | {block.alloc.buffer}
    for a in found:
        if a.write and a.buffer not in own:
            raise Refused(f"what fills {block.alloc.buffer} also writes {a.buffer}")


def _check_unchanged(block: _Block, loop: ir.Loop, instructions: Instructions) -> None:
    """What producers read is not written up to the loop, and nothing else reads the buffer."""
    name = block.alloc.buffer
    found = accesses((*block.others, block.consumer), Bounds(), instructions)
    read = touched(block.producers) - {name}
    changed = sorted({a.buffer for a in found if a.write} & read)
    if changed:
        raise Refused(f"{changed[0]}, which {name} is made of, is written before it is used")
    if sum(a.buffer == name for a in found) != sum(
        a.buffer == name for a in accesses(loop.body, Bounds(), instructions)
    ):
        raise Refused(f"{name} is also used outside {loop.var}")


@dataclass(frozen=True, slots=True)
class _Axes:
    """Loops of a producer that run over dimensions of the buffer, so that any of their iterations
    can be left out.

    loops: variable v -> (dimension, offset), where v + offset is the index.
    whole: dimensions that must be computed in full.
    """

    loops: Mapping[str, tuple[int, int]]
    whole: frozenset[int]


def _axes(s: ir.Stmt, alloc: ir.Alloc, instructions: Instructions) -> _Axes:
    found = accesses((s,), Bounds(), instructions)
    own = [a for a in found if a.buffer == alloc.buffer]
    loops: dict[str, tuple[int, int]] = {}
    whole: set[int] = set()
    for a in own:
        for d in range(len(alloc.shape)):
            axis = _axis(a, d)
            if axis is None:
                whole.add(d)
            elif loops.setdefault(axis[0], (d, axis[1])) != (d, axis[1]):
                whole |= {d, loops[axis[0]][0]}
    for v, (d, offset) in loops.items():
        elsewhere = any(v in a.inner and _axis(a, d) != (v, offset) for a in own)
        if elsewhere or _carries(s, v, alloc.buffer, found):
            whole.add(d)
    return _Axes({v: at for v, at in loops.items() if at[0] not in whole}, frozenset(whole))


def _axis(a: Access, d: int) -> tuple[str, int] | None:
    """(v, offset) if index `d` is a loop variable v of the producer plus an offset."""
    index = linear(a.index[d])
    match list(index.terms.items()):
        case [(ir.Var(v), 1)] if v in a.inner and a.sizes[d] == 1:
            return v, index.const
    return None


def _carries(s: ir.Stmt, var: str, buffer: str, found: Sequence[Access]) -> bool:
    """Whether iterations of a loop write a buffer that outlives them, other than `buffer`."""
    loop = next(x for x in loops_in((s,)) if x.var == var)
    own = {buffer, *(x.buffer for x in allocs_in(loop.body))}
    return any(a.write and var in a.inner and a.buffer not in own for a in found)


def _restrictable(window: Window, shape: tuple[int, ...], axes: Sequence[_Axes]) -> Window:
    """The window, grown to the whole of dimensions that some producer must compute in full."""
    whole = frozenset[int]().union(*(a.whole for a in axes))
    first = tuple(constant(0) if d in whole else f for d, f in enumerate(window.first))
    sizes = tuple(
        n if d in whole else size
        for d, (n, size) in enumerate(zip(shape, window.sizes, strict=True))
    )
    return Window(first, sizes)


def _restricted(s: ir.Stmt, axes: _Axes, window: Window) -> ir.Stmt:
    """The producer over the window alone."""

    def stmt(x: ir.Stmt) -> ir.Stmt:
        if not isinstance(x, ir.Loop) or x.var not in axes.loops:
            return x
        d, offset = axes.loops[x.var]
        at = (window.first[d] + Linear({ir.Var(x.var): 1}, -offset)).expr()
        body = substitute(x.body, {x.var: at})
        return replace(x, extent=window.sizes[d], body=(ir.Guard(ir.in_range(at, x.extent), body),))

    [result] = map_stmts((s,), stmt)
    return result


def _rebuilt(func: ir.Func, block: _Block, loop: ir.Loop, now: ir.Loop) -> ir.Func:
    gone = (block.alloc, *block.producers)

    def stmt(s: ir.Stmt) -> ir.Stmt | ir.Block:
        if any(s is x for x in gone):
            return ()
        return now if s is loop else s

    return replace(func, body=map_stmts(func.body, stmt))
