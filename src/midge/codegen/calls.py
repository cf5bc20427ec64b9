"""The calls of the run function: one after the other, or band by band from a table."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from midge.core.package import Call as PackageCall
from midge.core.package import Part, Tensor
from midge.loop import ir
from midge.loop.program import BandCall, BandRows, Kernel, Operation, Program
from midge.plan.arena import Arena, Stream

# About the bytes of flash of the calls of a kernel: for bands (95 in vww, 139 in kws), for all.
_OF_A_BAND, _OF_A_CALL = 128, 28
_WIDTH = 92
_WORDS = re.compile(r"\w+")


def flash_of_calls(banded: Iterable[bool]) -> int:
    """About the bytes of flash of what calls kernels, each of them band by band or not."""
    return sum(_OF_A_BAND if bands else _OF_A_CALL for bands in banded)


@dataclass(frozen=True, slots=True)
class Case:
    """What one entry of the table does. body: lines of C; index: of the operation."""

    comment: str
    body: tuple[str, ...]
    index: int


@dataclass(slots=True)
class Calls:
    """consts: constant -> C name.  kernels: by name.  streams: of `codegen.arrange`."""

    program: Program
    arena: Arena
    consts: Mapping[str, str]
    kernels: Mapping[str, Kernel]
    streams: Mapping[str, Stream]
    hot: Mapping[str, int] = field(default_factory=dict)  # constants copied to RAM -> address
    cases: list[Case] = field(default_factory=list)
    numbers: dict[tuple[int, int], int] = field(default_factory=dict)  # (operation, kind) -> case
    tables: dict[str, str] = field(default_factory=dict)  # stream -> C name of its rows' offsets

    def __post_init__(self) -> None:
        for index, op in enumerate(self.program.operations):
            calls = op.bands.calls if op.bands is not None else (None,)
            for kind, call in enumerate(calls):
                self.numbers[index, kind] = len(self.cases)
                body = self.whole(op) if call is None else self.band(index, op, call)
                self.cases.append(Case(comment(op, call), tuple(body), index))

    @property
    def straight(self) -> bool:
        """Whether every operation is one call."""
        return not any(op.bands for op in self.program.operations)

    @property
    def first(self) -> int:
        """Stages before the first operation: inputs that come row by row."""
        return len(self.program.arriving)

    @property
    def order(self) -> tuple[int, ...]:
        """Numbers of cases, in the order of execution; the number of cases stands for a row of
        the input."""
        found = []
        for call in self.arena.calls:
            if call.stage < self.first:
                found.append(len(self.cases))
                continue
            bands = self.program.operations[call.stage - self.first].bands
            kind = bands.spans[call.band][0] if bands is not None else 0
            found.append(self.numbers[call.stage - self.first, kind])
        return tuple(found)

    def whole(self, op: Operation) -> list[str]:
        params = self.kernels[op.kernel].func.params
        args = [self.place(a, p) for a, p in zip(op.args, params, strict=True)]
        return self.text(op.kernel, args)

    def band(self, index: int, op: Operation, call: BandCall) -> list[str]:
        """Rows that the call reads and writes, then the call."""
        assert op.bands is not None
        params = self.kernels[call.kernel].func.params
        lines = [f"const int32_t row = (int32_t)done[{self.counter(index)}];"]
        args = []
        for value, param, rows in zip(call.args, params, call.rows, strict=True):
            if value in call.scratch:
                args.append(self.scratch(op, value, param))
            elif rows is None:
                args.append(self.place(value, param))
            elif rows.pointers:
                lines += self.pointers(value, param, rows)
                args.append(param.name)
            else:
                args.append(self.row(value, param, rows))
        used = any("row" in _WORDS.findall(text) for text in (*args, *lines[1:]))
        lines = lines if used else []
        lines += self.text(call.kernel, args)
        step = f"done[{self.counter(index)}] = (uint16_t)(row + {call.count});"
        if not used:
            step = f"done[{self.counter(index)}] += {call.count}U;"
        return [*lines, step]

    def counter(self, index: int) -> int:
        """The position of an operation among those with bands."""
        return sum(op.bands is not None for op in self.program.operations[:index])

    @property
    def counters(self) -> int:
        return self.counter(len(self.program.operations))

    def place(self, value: str, param: ir.Param) -> str:
        """A buffer in one piece."""
        if value in self.hot:
            return self.pointer(param, f"arena[{self.hot[value]}]")
        if value in self.consts:
            return self.consts[value]
        return self.pointer(param, f"arena[{self.offset(value)}]")

    def offset(self, value: str) -> int:
        """Where a buffer in one piece starts, or a part of one."""
        return self.arena.offset(self.program.home(value)) + self.within(value)

    def within(self, value: str) -> int:
        """Bytes from the start of a row of its buffer to the value's own first."""
        inside = self.program.inside.get(value)
        return inside.start * self.program.types[value].dtype.size if inside is not None else 0

    def scratch(self, op: Operation, value: str, param: ir.Param) -> str:
        """Scratch memory, which may lie elsewhere in every call."""
        assert op.bands is not None
        offsets = self.arena.scratch[value]
        own = {o for o, (kind, _, _) in zip(offsets, op.bands.spans, strict=True)
               if value in op.bands.calls[kind].scratch}  # fmt: skip
        if len(own) == 1:
            return self.pointer(param, f"arena[{own.pop()}]")
        if value not in self.tables:
            self.tables[value] = f"{self.program.name}_scratch_{len(self.tables)}"
        return self.pointer(param, f"arena[{self.tables[value]}[row]]")

    def entries(self, value: str) -> tuple[int, ...]:
        """The table of a stream: the offset of every row; of scratch memory: for every row with
        which a band begins, and 0 for others."""
        if value not in self.arena.scratch:
            return self.arena.rows[value]
        op = next(o for o in self.program.operations if value in _scratch_of(o))
        assert op.bands is not None
        found = [0] * op.bands.spans[-1][2]
        for (_, start, _), offset in zip(op.bands.spans, self.arena.scratch[value], strict=True):
            found[start] = offset
        return tuple(found)

    def row(self, value: str, param: ir.Param, rows: BandRows) -> str:
        """The first row of a band that lies in one piece."""
        first = _times("row", rows.stride, -rows.top)
        found = self.at(value, first)
        if not rows.outside:
            return self.pointer(param, found)
        const = f"(const void *){self.consts[rows.outside]}"
        return f"{self.beyond(value, first)} ? {const} : {self.pointer(param, found)}"

    def pointers(self, value: str, param: ir.Param, rows: BandRows) -> list[str]:
        kind = f"const {param.dtype.c_name}"
        first = _times("row", rows.stride, -rows.top)
        found = self.pointer(param, self.at(value, "r"))
        if rows.outside:
            const = self.consts[rows.outside]
            found = f"{self.beyond(value, 'r')} ? {const} : {found}"
        target = f"{param.name}[i] = {found};"
        if len(target) > _WIDTH and rows.outside:
            target = target.replace(" ? ", "\n            ? ").replace(" : ", "\n            : ")
        return [
            f"{kind} *{param.name}[{rows.count}];",
            f"for (int32_t i = 0; i < {rows.count}; ++i) {{",
            f"    const int32_t r = {first} + i;",
            *(f"    {line}" for line in target.split("\n")),
            "}",
        ]

    def beyond(self, value: str, row: str) -> str:
        """Whether a row is not in the image."""
        place = row if row.isidentifier() else f"({row})"
        return f"(({place} < 0) || ({place} >= {self.streams[value].height}))"

    def at(self, value: str, row: str) -> str:
        """The arena's element where a row starts."""
        home, within = self.program.home(value), self.within(value)
        stream = self.streams[home]
        if not stream.bands:
            start = self.offset(value)
            place = f"{row} * {stream.step}" if row.isidentifier() else f"({row}) * {stream.step}"
            return f"arena[{start} + {place}]" if start else f"arena[{place}]"
        if home not in self.tables:
            self.tables[home] = f"{self.program.name}_rows_{len(self.tables)}"
        place = f"{self.tables[home]}[{row}]"
        return f"arena[{place} + {within}]" if within else f"arena[{place}]"

    def text(self, kernel: str, args: list[str]) -> list[str]:
        name = f"{self.program.name}_{kernel}"
        line = f"{name}({', '.join(args)});"
        if len(line) <= _WIDTH:
            return [line]
        return [f"{name}(", *(f"    {a}," for a in args[:-1]), f"    {args[-1]});"]

    def table_texts(self) -> list[str]:
        """The definitions of the tables of rows."""
        size = "uint16_t" if self.arena.size <= 0xFFFF else "uint32_t"
        return [
            f"static const {size} {name}[{len(self.entries(value))}] = {{\n"
            f"{_numbers(self.entries(value))}}};\n"
            for value, name in self.tables.items()
        ]

    def order_text(self) -> str:
        order = self.order
        size = "uint8_t" if len(self.cases) < 255 else "uint16_t"
        name = f"{self.program.name}_order[{len(order)}]"
        return f"static const {size} {name} = {{\n{_numbers(order)}}};\n"

    def package_calls(self) -> tuple[PackageCall, ...]:
        """For whoever watches a run."""
        found = []
        for call in self.arena.calls:
            if call.stage < self.first:
                continue
            op = self.program.operations[call.stage - self.first]
            kernel = op.kernel
            parts: tuple[Part, ...] = (self.part(op.output, None),)
            if op.bands is not None:
                kind, start, stop = op.bands.spans[call.band]
                kernel = op.bands.calls[kind].kernel
                last = call.band + 1 == len(op.bands.spans)
                if not op.bands.accumulates:
                    parts = (self.part(op.output, (start, stop)),)
                elif not last:
                    parts = ()
            found.append(
                PackageCall(call.stage - self.first, f"{self.program.name}_{kernel}", parts)
            )
        return tuple(found)

    def part(self, value: str, rows: tuple[int, int] | None) -> Part:
        """What a call leaves of a tensor."""
        home, within = self.program.home(value), self.within(value)
        stream = self.streams[home]
        first = rows[0] if rows is not None else 0
        order = self.program.layouts.get(value) if not stream.bands else None
        start, *_ = offsets = self.arena.rows[home]
        tensor = Tensor(value, self.program.types[value], start + within, order)
        inside = self.program.inside.get(value)
        pitch = inside.pitch if inside is not None else 0
        plane = self.program.planes.get(value, 0)
        return Part(tensor, rows, offsets[first] + within, plane, pitch)

    def pointer(self, param: ir.Param, element: str) -> str:
        """The argument for `param` that points to an element of the arena, which may be in one of
        several memories."""
        return pointer(param, self.address(element))

    def address(self, element: str) -> str:
        """Of an element of the arena, for C."""
        if not self.arena.plan.pools:
            return f"&{element}"
        return f"{self.program.name}_at(context, {element[len('arena[') : -1]})"


def _scratch_of(op: Operation) -> set[str]:
    return {name for call in (op.bands.calls if op.bands else ()) for name in call.scratch}


def comment(op: Operation, call: BandCall | None) -> str:
    text = f"{op.name}: {'+'.join(op.kinds)} ({op.src})"
    if call is None:
        return text
    return f"{text}, {call.count} row{'s' if call.count > 1 else ''}"


def pointer(param: ir.Param, address: str) -> str:
    """The argument for `param` that points to bytes of the arena. C++ takes no void pointer for it;
    by way of one no compiler doubts the alignment, which the planner sees to."""
    const = "const " if param.mode in ("in", "const") else ""
    own = f"({const}{param.dtype.c_name} *)"
    return f"{own}{address}" if param.dtype.size == 1 else f"{own}({const}void *){address}"


def _times(name: str, factor: int, offset: int) -> str:
    text = name if factor == 1 else f"{factor} * {name}"
    if offset == 0:
        return text
    return f"{text} - {-offset}" if offset < 0 else f"{text} + {offset}"


def _numbers(values: tuple[int, ...]) -> str:
    text = ", ".join(map(str, values))
    return "".join(f"    {line}\n" for line in textwrap.wrap(text, 92))
