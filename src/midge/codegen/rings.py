"""Which rows of which buffers a program keeps that takes frames as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from midge.loop.program import Operation, Program, Pushes, Ring


@dataclass(frozen=True, slots=True)
class Moving:
    """A value whose rows move with the window. height: of a window.  rows: that come at a time."""

    height: int
    rows: int


def pushed(
    program: Program, hop: int, moving: Mapping[str, Moving], unordered: frozenset[str]
) -> Program:
    """`program`, whose operations with bands make the last rows of a window, as one that is
    computed for `hop` frames at a time.

    moving: the values that move.  unordered: outputs of operations that read rows in any order.
    """
    by_buffer = {program.buffer(v): own for v, own in moving.items()}
    operations = [_of_push(program, op) for op in program.operations]
    flows = [op for op in operations if op.output in by_buffer]
    others = [op for op in operations if op.output not in by_buffer]
    needs: dict[str, list[_Need]] = {v: [] for v in by_buffer}
    for op in program.operations:
        for value, need in _needs(program, op, by_buffer, op.output in unordered):
            needs[value].append(need)
    for value in map(program.buffer, program.outputs):
        if value in by_buffer:
            needs[value].append(_Need(0, by_buffer[value].height))
    rings = {v: _ring(own, needs[v]) for v, own in by_buffer.items()}
    (x,) = program.inputs
    frames = moving[x].height
    return replace(
        program,
        operations=(*flows, *others),
        arriving=frozenset({x}),
        pushes=Pushes(hop, frames, rings, len(flows)),
    )


def _of_push(program: Program, op: Operation) -> Operation:
    """The operation with the multiply-accumulates of the rows that it makes."""
    if op.bands is None:
        return op
    (call,) = op.bands.calls
    return replace(op, macs=op.macs * call.count // program.types[op.output].shape[1])


@dataclass(frozen=True, slots=True)
class _Need:
    """Rows `first` to `first + count` of a window. apart: each of them wherever it is.  unordered:
    all that are kept, in any order."""

    first: int
    count: int
    apart: bool = False
    unordered: bool = False


def _needs(
    program: Program, op: Operation, moving: Mapping[str, Moving], unordered: bool
) -> Iterator[tuple[str, _Need]]:
    """What an operation reads of values that move."""
    if op.bands is None:
        for value in dict.fromkeys(op.args[:-1]):
            if value in moving:
                yield value, _Need(0, moving[value].height, unordered=unordered)
        return
    (call,) = op.bands.calls
    start = program.types[op.output].shape[1] - call.count
    for value, rows in zip(call.args[:-1], call.rows[:-1], strict=True):
        if value in moving:
            assert rows is not None, f"{op.name} reads {value} as a whole"
            first = start * rows.stride - rows.top
            yield value, _Need(first, rows.count, rows.pointers or rows.count == 1)


def _ring(own: Moving, needs: list[_Need]) -> Ring:
    """Room for the rows that are read, and how they lie."""
    last = own.height - own.rows
    depth = own.height - min([last, *(need.first for need in needs)])
    slots = -(-depth // own.rows) * own.rows
    in_order = not all(_fits(own, need, slots) for need in needs)
    # To move a few rows on costs less than the rows that fill up a multiple.
    little = slots > depth and depth <= 2 * own.rows
    shifts = in_order or little or depth == own.rows
    return Ring(own.rows, own.height, depth if shifts else slots, shifts)


def _fits(own: Moving, need: _Need, slots: int) -> bool:
    """Whether rows that lie in slots can be read so: one by one, or within a band."""
    if need.unordered:
        return slots == own.height
    before = need.first - (own.height - own.rows)
    return need.apart or (before % own.rows == 0 and need.count <= own.rows)
