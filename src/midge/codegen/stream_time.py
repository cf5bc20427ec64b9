"""The calls of a push: a model that takes frames as they come and keeps rows in rings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from midge.codegen.calls import Calls, pointer
from midge.core.package import Call as PackageCall
from midge.core.package import Part, Tensor
from midge.loop import ir
from midge.loop.program import BandCall, BandRows, Operation, Pushes, Ring


@dataclass(slots=True)
class PushCalls(Calls):
    """As `Calls`, each operation for the rows that are new.

    A ring whose rows do not shift has a cursor: the slot of its latest band. Rings of as many rows
    and slots share one.
    """

    @property
    def pushes(self) -> Pushes:
        assert self.program.pushes is not None
        return self.program.pushes

    @property
    def straight(self) -> bool:
        return True

    @property
    def cursors(self) -> list[tuple[int, int]]:
        """(rows, slots) of the rings that have a cursor."""
        rings = self.pushes.rings.values()
        return list(dict.fromkeys((r.rows, r.slots) for r in rings if not r.shifts))

    def band(self, index: int, op: Operation, call: BandCall) -> list[str]:
        """The rows that move on, those that the call reads, then the call."""
        params = self.kernels[call.kernel].func.params
        height = self.program.types[op.output].shape[1]
        lines = self.shift(op.output)
        args = []
        for value, param, rows in zip(call.args, params, call.rows, strict=True):
            ring = self.pushes.rings.get(value)
            if ring is None or rows is None:
                args.append(self.place(value, param))
            elif rows.pointers:
                lines += self.rows_of(value, ring, param, rows, height - call.count)
                args.append(param.name)
            else:
                first = (height - call.count) * rows.stride - rows.top
                args.append(pointer(param, f"&{self.row_at(value, ring, first)}"))
        return [*lines, *self.text(call.kernel, args)]

    def shift(self, value: str) -> list[str]:
        """Moves the rows that stay, where they lie in order."""
        ring = self.pushes.rings.get(value)
        if ring is None or not ring.shifts or not ring.kept:
            return []
        row, start = self.streams[value].row, self.arena.offset(value)
        size = (ring.slots - ring.rows) * row
        return [f"(void)memmove(&arena[{start}], &arena[{start + ring.rows * row}], {size}U);"]

    def rows_of(
        self, value: str, ring: Ring, param: ir.Param, rows: BandRows, start: int
    ) -> list[str]:
        """Pointers to the rows under the windows from output row `start` on."""
        first = start * rows.stride - rows.top
        row = "i" if ring.shifts else "r"
        head = [f"const {param.dtype.c_name} *{param.name}[{rows.count}];"]
        head.append(f"for (int32_t i = 0; i < {rows.count}; ++i) {{")
        if ring.shifts:
            before = first - (ring.height - ring.slots)
            place = f"({row} + {before})" if before else row
        else:
            head.append(f"    const int32_t r = {self.slot(ring, first)} + i;")
            place = f"((r < {ring.slots}) ? r : (r - {ring.slots}))"
        found = pointer(param, f"&{self.element(value, place)}")
        return [*head, f"    {param.name}[i] = {found};", "}"]

    def row_at(self, value: str, ring: Ring, first: int) -> str:
        """The element where rows from `first` of a window on lie in one piece."""
        if ring.shifts:
            start = self.arena.offset(value)
            place = start + (first - (ring.height - ring.slots)) * self.streams[value].row
            return f"arena[{place}]"
        slot = self.slot(ring, first)
        if first == ring.height - ring.rows:
            return self.element(value, slot)
        return self.element(value, f"(({slot} < {ring.slots}) ? {slot} : ({slot} - {ring.slots}))")

    def slot(self, ring: Ring, first: int) -> str:
        """The slot of row `first` of a window, or that and the number of slots."""
        cursor = f"at_{self.cursors.index((ring.rows, ring.slots))}"
        ahead = (first - (ring.height - ring.rows)) % ring.slots
        return f"({cursor} + {ahead})" if ahead else cursor

    def element(self, value: str, slot: str) -> str:
        start, row = self.arena.offset(value), self.streams[value].row
        place = f"{slot} * {row}" if row > 1 else slot
        return f"arena[{start} + {place}]" if start else f"arena[{place}]"

    def take(self) -> list[str]:
        """What puts the caller's frames where they belong."""
        value = self.program.buffer(self.program.inputs[0])
        ring = self.pushes.rings[value]
        place = self.row_at(value, ring, ring.height - ring.rows)
        size = ring.rows * self.streams[value].row
        return [*self.shift(value), f"(void)memcpy(&{place}, frames, {size}U);"]

    def values(self, safe: Callable[[str], str]) -> dict[str, Any]:
        """For the templates. safe: makes text from the model fit for a comment."""
        pushes = self.pushes
        value = self.program.buffer(self.program.inputs[0])
        row = self.streams[value].row
        steps = [{"comment": safe(c.comment), "body": c.body, "index": c.index} for c in self.cases]
        return {
            "hop": pushes.hop,
            "frames": pushes.frames,
            "elements": row // self.program.types[value].dtype.size,
            "missing": pushes.count * pushes.hop,
            "take": self.take(),
            "steps": steps[: pushes.first],
            "rest": steps[pushes.first :],
            "cursors": [{"rows": rows, "slots": slots} for rows, slots in self.cursors],
            "cursor_type": "uint16_t" if self.most_slots() <= 0xFFFF else "uint32_t",
            "kept": sum(r.slots * self.streams[v].row for v, r in pushes.rings.items() if r.kept),
        }  # fmt: skip

    def most_slots(self) -> int:
        return max((slots for _, slots in self.cursors), default=0)

    def package_calls(self) -> tuple[PackageCall, ...]:
        """Of the pushes that a whole window takes; only the last one makes all calls."""
        return tuple(c for number in range(self.pushes.count) for c in self.calls_of_push(number))

    def calls_of_push(self, number: int) -> Iterator[PackageCall]:
        """The calls of push `number` since the last reset."""
        operations = self.program.operations
        last = number + 1 == self.pushes.count
        for index, op in enumerate(operations if last else operations[: self.pushes.first]):
            kernel = op.kernel if op.bands is None else op.bands.calls[0].kernel
            ring = self.pushes.rings.get(op.output)
            part = self.part(op.output, None) if ring is None else self.band_part(op, ring, number)
            parts = (part,) if part is not None else ()
            yield PackageCall(index, f"{self.program.name}_{kernel}", parts)

    def band_part(self, op: Operation, ring: Ring, number: int) -> Part | None:
        """What a call leaves in push `number` of the rows of the first whole window."""
        stop = ring.height - (self.pushes.count - 1 - number) * ring.rows
        first = max(stop - ring.rows, 0)
        if stop <= first:
            return None
        slot = ring.slots - ring.rows if ring.shifts else number * ring.rows % ring.slots
        places = self.arena.rows[op.output]
        offset = places[slot + first - (stop - ring.rows)]
        tensor = Tensor(op.output, self.program.types[op.output], places[0])
        return Part(tensor, (first, stop), offset)
