"""The package folder: C, weights, runtime headers, metadata, README and build files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from midge.codegen import weights
from midge.codegen.arrange import align_of, layout_of
from midge.codegen.build_id import MARK, runtime_checks, runtime_header, with_build_id
from midge.codegen.c import define, emit, float_literal, headers, instruction_name
from midge.codegen.calls import Calls
from midge.codegen.memory import live_of, tensors_of
from midge.codegen.metadata import Origin, metadata_of
from midge.codegen.names import (
    comment_safe,
    const_names,
    markdown_safe,
    port_aliases,
    port_names,
    string_literal,
)
from midge.codegen.picture import timeline
from midge.codegen.places import places_of
from midge.codegen.pools import hot_constants, pool_rows, used_pools
from midge.codegen.refusals import right_cpu, uses_r9
from midge.codegen.reserved import library_name
from midge.codegen.stream_time import PushCalls
from midge.core.options import CompileOptions
from midge.core.package import Operator, Package, Pushes, Tensor
from midge.core.target import Target
from midge.core.types import DType, TensorType
from midge.loop.instruction import merged
from midge.loop.program import Kernel, Operation, Program
from midge.plan.arena import Arena
from midge.runtime import LICENSE

# What a build asks for that says nothing itself.
_OPTIMIZE = {"speed": "-O3", "balanced": "-O2", "size": "-Os", "debug": "-O1"}


def make_package(
    program: Program,
    arena: Arena,
    target: Target,
    options: CompileOptions,
    origin: Origin,
    totals: Mapping[str, int] | None = None,
    constants: weights.Writer = weights.files,
) -> Package:
    """All files of the package for `program` with its tensors placed by `arena`. totals: how many
    channels the model has of those tensors that have fewer here.  constants: how they are written.
    """
    return _Maker(program, arena, target, options, origin, totals or {}, constants).package()


class _Maker:
    def __init__(
        self,
        program: Program,
        arena: Arena,
        target: Target,
        options: CompileOptions,
        origin: Origin,
        totals: Mapping[str, int],
        constants: weights.Writer,
    ) -> None:
        self.program, self.arena, self.target = program, arena, target
        self.constants = constants
        self.options, self.origin = options, origin
        self.totals = totals
        self.consts = const_names(program)
        self.kernels = {k.func.name: k for k in program.kernels}
        self.users: dict[str, list[Operation]] = {name: [] for name in self.kernels}
        for op in program.operations:
            for name in dict.fromkeys(k for k, _ in op.uses):
                self.users[name].append(op)
        self.streams = layout_of(program).streams
        kind = Calls if program.pushes is None else PushCalls
        self.hot = hot_constants(program, arena, options.hot_room)
        self.used = used_pools(program, arena, self.hot)
        self.calls = kind(program, arena, self.consts, self.kernels, self.streams, self.hot)
        self.weights_size = sum(program.consts[n].nbytes for n in self.consts)
        self.operators = tuple(map(self.operator, program.operations))
        self.inputs = self.ports(program.inputs, "input")
        self.outputs = self.ports(program.outputs, "output")
        self.tensors = self.tensor_rows()
        self.rows = self.operator_rows()

    def package(self) -> Package:
        name = self.program.name
        kernels = [self.kernel(k) for k in self.program.kernels]
        model, metadata = self.model(), self.metadata()
        includes = sorted({"midge_compiler.h"}.union(*(k["headers"] for k in kernels)))
        if self.program.exact:
            includes.insert(0, "midge_exact.h")
        runtime = ["midge_status.h", *includes]
        instructions = self.instructions()
        sources = [f"{name}.c", *([f"{name}_weights.c"] if self.consts else [])]
        values: dict[str, Any] = {
            "m": model, "U": name.upper(), "inputs": self.inputs, "outputs": self.outputs,
            "cascade": self.cascade(), "push": self.push(),
            "pools": pool_rows(self.used),
            "hot": [
                {"name": self.consts[n], "address": at, "size": self.program.consts[n].nbytes}
                for n, at in self.hot.items()
            ],
            "timeline": timeline(self.program, self.arena),
            "kernels": kernels, "instructions": instructions,
            "calls": [{"text": "\n    ".join(c.body), "comment": comment_safe(c.comment)}
                      for c in self.calls.cases],
            "includes": includes, "sources": sources, "memory_map": self.memory_map(),
            "runtime": runtime_checks(runtime), "cpus": right_cpu(self.program, self.target),
            "uses_r9": uses_r9(i["text"] for i in instructions),
            "has_weights": bool(self.consts), "tensors": self.tensors,
            "classes": [
                {"text": comment_safe(c), "literal": string_literal(c)}
                for c in self.origin.classes
            ],
            "has_bools": any(t.dtype is DType.BOOL for t in self.program.types.values()),
            "operators": self.rows,
        }  # fmt: skip
        files = {
            **{h: runtime_header(h) for h in runtime},
            f"{name}.h": _render("header.h.j2", values),
            f"{name}.c": _render("source.c.j2", values),
            **self.weight_files(),
            "README.md": _render("README.md.j2", values),
            "CMakeLists.txt": _render("CMakeLists.txt.j2", values),
            "Makefile": _render("Makefile.j2", values),
        }
        files, metadata = with_build_id(files, metadata)
        return Package(
            name,
            self.target,
            files,
            tuple(sources),
            tuple(map(self.tensor, self.program.inputs)),
            tuple(map(self.tensor, self.program.outputs)),
            self.operators,
            max([self.arena.size, *(base + size for _, base, size in self.used)]),
            self.weights_size,
            metadata,
            self.options.optimize,
            () if self.plain else self.calls.package_calls(),
            bool(self.program.arriving) and self.pushes is None,
            self.pushes,
            places_of(self.program, self.arena) if self.options.check_memory else (),
            self.used,
        )

    @property
    def pushes(self) -> Pushes | None:
        found = self.program.pushes
        return None if found is None else Pushes(found.hop, found.count, found.first)

    @property
    def plain(self) -> bool:
        """Whether each operator is one call that leaves a tensor in one piece."""
        return self.calls.straight and self.pushes is None and not self.program.inside

    def push(self) -> dict[str, Any] | None:
        """What the templates need of a model that takes frames as they come."""
        return self.calls.values(comment_safe) if isinstance(self.calls, PushCalls) else None

    @property
    def first_size(self) -> int:
        """Bytes of the arena, or of its first memory."""
        return self.used[0][2] if self.used else self.arena.size

    def cascade(self) -> dict[str, Any] | None:
        """What the template needs of a model that is computed by bands; None if it is not."""
        calls = self.calls
        if calls.straight:
            return None
        return {
            "tables": calls.table_texts(),
            "order": calls.order_text(),
            "length": len(calls.order),
            "counters": calls.counters,
            "wait": len(calls.cases),
            "feeds": self.feeds(),
            "cases": [
                {"number": i, "comment": comment_safe(c.comment), "body": c.body, "index": c.index}
                for i, c in enumerate(calls.cases)
            ],
        }

    def feeds(self) -> dict[str, Any] | None:
        """The input that comes row by row, if there is one."""
        if not self.program.arriving:
            return None
        (value,) = self.program.arriving
        stream = self.streams[self.program.buffer(value)]
        size = self.program.types[value].dtype.size
        return {
            "rows": stream.height, "row": stream.row, "elements": stream.row // size,
            "place": self.calls.address(self.calls.at(self.program.buffer(value), "context->fed")),
        }  # fmt: skip

    def tensor(self, value: str) -> Tensor:
        scattered = value in self.program.scattered
        order = None if scattered else self.program.layouts.get(value)
        return Tensor(value, self.program.types[value], self.offset(value), order)

    def offset(self, value: str) -> int:
        return self.calls.offset(self.program.buffer(value))

    def operator(self, op: Operation) -> Operator:
        return Operator(
            op.name, self.kernel_name(op.kernel), op.kinds, op.src, op.macs,
            (self.tensor(op.output),),
        )  # fmt: skip

    def kernel_name(self, kernel: str) -> str:
        return f"{self.program.name}_{kernel}"

    def model(self) -> dict[str, Any]:
        return {
            "name": self.program.name,
            "library": library_name(self.program.name),
            "version": self.origin.version,
            "target": self.target.name,
            "model_hash": self.origin.model_hash,
            "license": LICENSE,
            "measured": self.origin.measured,
            "arena_size": self.first_size,
            "arena_size_min": max(self.first_size, 1),
            "arena_align": self.arena_align(),
            "weights_size": self.weights_size,
            "lower_bound": self.arena.plan.lower_bound,
            "static_arena": self.options.static_arena,
            "optimize": _OPTIMIZE[self.options.optimize],
            "build_type": "MinSizeRel" if self.options.optimize == "size" else "Release",
            "build": f"0x{MARK}U",
            "what": self.what(),
            "narrow_int": "int-16-bit" in self.target.features,
            "macs": sum(op.macs for op in self.program.operations),
        }

    def what(self) -> str:
        """What kind of model it is, by what it computes with."""
        trees = [op for op in self.program.operations if "tree" in "+".join(op.kinds).lower()]
        if not trees:
            return "A neural network"
        others = any(op.macs for op in self.program.operations if op not in trees)
        return "A model with decision trees" if others else "Decision trees"

    def arena_align(self) -> int:
        placed = (*self.arena.rows, *self.arena.scratch)
        return max(align_of(self.program.types[n].dtype) for n in placed)

    def ports(self, values: Sequence[str], base: str) -> list[dict[str, Any]]:
        names = port_names(base, len(values)), port_aliases(base, values)
        return [self.port(*names) for names in zip(values, *names, strict=True)]

    def port(self, value: str, port: str, alias: str) -> dict[str, Any]:
        t = self.program.types[value]
        quant = t.quant
        zero = quant.zero_point[0] if quant else 0
        fed = value in self.program.arriving
        return {
            "port": port,
            "alias": f"{self.program.name}_{alias}" if alias and not fed else "",
            "U": f"{self.program.name}_{port}".upper(),
            "title": port.replace("_", " ").capitalize(),
            "label": comment_safe(value),
            "dtype": t.dtype.value,
            "c_type": t.dtype.c_name,
            "dims": str(list(t.shape)),
            "shape": t.shape,
            "size": t.size,
            "elements": t.elements,
            "scale": float_literal(quant.scale[0]) if quant else "",
            "real": f"{float_literal(quant.scale[0])[:-1]} * {_offset(zero)}" if quant else "",
            "zero_point_c": f"({zero})" if zero < 0 else zero,
            "offset": self.offset(value),
            "fed": fed,
        }

    def kernel(self, kernel: Kernel) -> dict[str, Any]:
        name = kernel.func.name
        users = self.users[name]
        lines = [comment_safe(f"{op.name}: {'+'.join(op.kinds)} ({op.src})") for op in users]
        if kernel.schedule:
            lines.append(f"Schedule: {'; '.join(kernel.schedule)}.")
        return {
            "title": lines[0],
            "lines": lines[1:],
            "text": emit(kernel.func, self.kernel_name(kernel.func.name), kernel.instructions),
            "headers": headers(kernel.func, kernel.instructions),
        }

    def instructions(self) -> list[dict[str, Any]]:
        """The functions of instructions with a body, each once."""
        known = merged(k.instructions for k in self.program.kernels)
        found = {name: i for name, i in known.items() if i.asm}
        return [
            {
                "lines": textwrap.wrap(found[name].note, 96),
                "text": define(found[name], instruction_name(found[name])),
            }
            for name in sorted(found)
        ]

    def weight_files(self) -> dict[str, str]:
        arrays = [(c, self.program.consts[n]) for n, c in self.consts.items()]
        return self.constants(self.program.name, arrays, MARK) if arrays else {}

    def tensor_rows(self) -> list[dict[str, Any]]:
        rows = tensors_of(self.program, self.arena, self.streams)
        return [{**row, "label": comment_safe(row["label"])} for row in rows]

    def memory_map(self) -> list[str]:
        """Where tensors lie; of those in bands also how much of them is there at once."""
        bands = any(r["kept"] != r["size"] for r in self.tensors)
        head = ["lowest", "alive", "whole"] if bands else ["offset", "bytes"]
        keys = ["offset", "kept", "size"] if bands else ["offset", "size"]
        return [
            "".join(f"{word:>8}" for word in head) + "  tensor: written by -> last read by",
            *(
                "".join(f"{r[key]:>8}" for key in keys)
                + f"  {r['label']}: {r['born']} -> {r['dies']}"
                for r in self.tensors
            ),
        ]

    def operator_rows(self) -> list[dict[str, Any]]:
        seen: set[str] = set()
        rows = []
        live = live_of(self.program, self.arena)
        for step, op in enumerate(self.program.operations):
            read = (*(a for _, args in op.uses for a in args), *op.borders)
            mine = [a for a in dict.fromkeys(read) if a in self.consts and a not in seen]
            seen.update(mine)
            t: TensorType = self.program.types[op.output]
            rows.append(
                {
                    "name": op.name,
                    "kinds": "+".join(op.kinds),
                    "src": op.src,
                    "output": str(t),
                    "macs": op.macs,
                    "constants": sum(self.program.consts[a].nbytes for a in mine),
                    "live": live[step],
                    "channels": self.channels(op.output),
                }
            )
        return rows

    def channels(self, value: str) -> dict[str, int] | None:
        """How many channels of the model are left, if not all."""
        if value not in self.totals:
            return None
        return {"kept": self.program.types[value].shape[-1], "total": self.totals[value]}

    def metadata(self) -> dict[str, Any]:
        return metadata_of(
            self.program,
            self.arena,
            self.target,
            self.options,
            self.origin,
            align=self.arena_align(),
            pools={n: size for n, _, size in self.used},
            weights_size=self.weights_size,
            ports={"inputs": self.inputs, "outputs": self.outputs},
            tensors=self.tensors,
            operators=self.rows,
        )


def _offset(zero: int) -> str:
    return f"(q - {zero})" if zero >= 0 else f"(q + {-zero})"


@cache
def _environment() -> Any:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("midge.codegen"),
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
        autoescape=False,
    )
    made.filters["markdown"] = markdown_safe
    return made


def _render(template: str, values: Mapping[str, Any]) -> str:
    return str(_environment().get_template(template).render(values))
