"""The tensors of a program in one arena."""

from __future__ import annotations

from midge.core.types import DType
from midge.loop.program import BandCall, BandRows, Operation, Program, Pushes, Ring
from midge.plan.arena import Arena, Layout, Planner, Stream, Work, place
from midge.plan.offsets import plan
from midge.plan.rows import Call, Read, Span, Stage, interleave, one_by_one


def align_of(dtype: DType) -> int:
    """Bytes to which tensors of `dtype` are aligned."""
    return max(4, dtype.size)


def arrange(program: Program, planner: Planner = plan) -> Arena:
    """Offsets of every tensor of `program` in one arena, and the order of the calls: band by band
    where operations have bands."""
    layout = layout_of(program)
    return place(layout, calls_of(program, layout), planner)


def calls_of(program: Program, layout: Layout) -> tuple[Call, ...]:
    """The calls in their order."""
    if program.pushes is not None or not any(op.bands for op in program.operations):
        return one_by_one(layout.stages)
    return interleave(layout.stages, layout.outputs)


def layout_of(program: Program) -> Layout:
    """What is to be placed for `program`. Its stages are the operations, behind one for each input
    that comes row by row."""
    if program.pushes is not None:
        return _layout_of_push(program, program.pushes)
    arriving = [program.buffer(v) for v in program.inputs if v in program.arriving]
    names = dict.fromkeys(map(program.buffer, program.inputs))
    names |= dict.fromkeys(program.home(op.output) for op in program.operations)
    streams = {name: stream_of(program, name) for name in names}
    stages = [_stage(program, op, streams) for op in program.operations]
    works = [_works(program, op) for op in program.operations]
    for name in reversed(arriving):
        bands = tuple((r, r + 1) for r in range(streams[name].height))
        stages.insert(0, Stage(name, name, bands, ()))
        works.insert(0, (Work(),) * len(bands))
    outputs = tuple(dict.fromkeys(map(program.buffer, program.outputs)))
    inputs = tuple(map(program.buffer, program.inputs))
    return Layout(tuple(stages), tuple(works), streams, inputs, outputs)


def writers_of(program: Program) -> dict[str, str]:
    """Buffer -> the operations that write it, for the reader."""
    names: dict[str, list[str]] = {}
    for op in program.operations:
        names.setdefault(program.home(op.output), []).append(op.name)
    return {v: n[0] if len(n) == 1 else f"{n[0]} and {len(n) - 1} more" for v, n in names.items()}


def _layout_of_push(program: Program, pushes: Pushes) -> Layout:
    """One push: rows that stay until the next one are there from the start, and nobody writes
    them."""
    rings = pushes.rings
    names = dict.fromkeys((*map(program.buffer, program.inputs), *rings))
    names |= dict.fromkeys(op.output for op in program.operations)
    streams = {n: stream_of(program, n) for n in names if n not in rings}
    streams |= {n: _ring_stream(program, n, ring) for n, ring in rings.items()}
    streams = {n: streams[n] for n in names}
    kept = [name for name, ring in rings.items() if ring.kept]

    def stage(name: str, writes: str, args: tuple[str, ...]) -> Stage:
        band = (0, 0 if writes in kept else streams[writes].height)
        read = dict.fromkeys(a for a in args if a in streams)
        return Stage(name, writes, (band,), tuple(Read(a, ((0, streams[a].height),)) for a in read))

    inputs = tuple(map(program.buffer, program.inputs))
    stages = [stage(x, x, ()) for x in inputs]
    stages += [stage(op.name, op.output, op.args[:-1]) for op in program.operations]
    works: list[tuple[Work, ...]] = [(Work(),) for _ in inputs]
    works += [_works(program, op) for op in program.operations]
    outputs = tuple(dict.fromkeys((*map(program.buffer, program.outputs), *kept)))
    return Layout(tuple(stages), tuple(works), streams, inputs, outputs)


def _ring_stream(program: Program, name: str, ring: Ring) -> Stream:
    t = program.types[name]
    row = t.size // ring.height
    pixel = t.shape[-1] * t.dtype.size
    return Stream(name, ring.slots, row, pixel, align_of(t.dtype))


def stream_of(program: Program, name: str) -> Stream:
    """A tensor as rows; one without rows is one row."""
    t = program.seen.get(name, program.types[name])
    align = align_of(t.dtype)
    images = len(t.shape) == 4 and t.shape[0] == 1 and name not in _reordered(program)
    if not images or t.elements == 0:
        return Stream(name, 1, t.size, max(t.size, 1), align)
    _, height, width, channels = t.shape
    pixel = channels * t.dtype.size
    bands = program.scattered.get(name, ())
    plane = channel = 0
    if name in program.planes:
        plane, channel = program.planes[name] * t.dtype.size, width * t.dtype.size
    return Stream(name, height, width * pixel, pixel, align, bands, plane, channel)


def _reordered(program: Program) -> set[str]:
    """Tensors in one piece whose axes lie in another order."""
    return {v for v in program.layouts if v not in program.scattered}


def _stage(program: Program, op: Operation, streams: dict[str, Stream]) -> Stage:
    home = program.home(op.output)
    if op.bands is None:
        read = [a for a in op.args[:-1] if a in streams]
        everything = [Read(a, ((0, streams[a].height),)) for a in dict.fromkeys(read)]
        return Stage(op.name, home, ((0, streams[home].height),), tuple(everything))
    spans = op.bands.spans
    bands: tuple[Span, ...] = tuple((start, stop) for _, start, stop in spans)
    needs: dict[str, list[Span]] = {}
    for kind, start, _ in spans:
        call = op.bands.calls[kind]
        for value, rows in zip(call.args[:-1], call.rows[:-1], strict=True):
            if value in streams and value != op.output:
                needs.setdefault(value, []).append(_need(streams[value], rows, start))
    reads = tuple(Read(v, tuple(own)) for v, own in needs.items())
    if op.bands.accumulates:
        height = streams[home].height
        return Stage(op.name, home, ((0, height),) * len(bands), reads, True)
    return Stage(op.name, home, bands, reads)


def _need(stream: Stream, rows: BandRows | None, start: int) -> Span:
    """The rows of an argument that a band from row `start` on reads."""
    if rows is None:
        return 0, stream.height
    first = start * rows.stride - rows.top
    stop = min(first + rows.count, stream.height)
    return min(max(first, 0), stop), stop


def _works(program: Program, op: Operation) -> tuple[Work, ...]:
    if op.bands is None:
        pointwise = program.types[op.output].shape[:3] == program.types[op.args[0]].shape[:3]
        order = op.order if pointwise else ()
        return (Work(op.inplace, _scratch(program, op.scratch), order, op.args[0]),)
    return tuple(_work(program, op.bands.calls[kind]) for kind, _, _ in op.bands.spans)


def _work(program: Program, call: BandCall) -> Work:
    return Work(call.inplace, _scratch(program, call.scratch), call.order, call.args[0])


def _scratch(program: Program, names: tuple[str, ...]) -> dict[str, int]:
    return {n: program.types[n].size for n in names}
