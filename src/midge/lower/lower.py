"""The whole graph as a program: groups, their kernels, equal kernels shared."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

from midge.core.target import Target
from midge.core.types import Array, TensorType
from midge.graph.ir import OPS, Graph
from midge.loop import ir
from midge.loop.program import Kernel, Operation, Program, resolve
from midge.loop.rewrite import expr_loads, own_exprs
from midge.lower.candidates import Option, Request, options
from midge.lower.fuse import Group, fuse
from midge.lower.layouts import Layouts, choose_layouts

# All options of each operation -> which of them to take.
Choose = Callable[[Sequence[tuple[Option, ...]]], Sequence[int]]

_MOST_OPTIONS = 20


def lower(
    graph: Graph,
    target: Target,
    types: Mapping[str, TensorType],
    optimize: str = "speed",
    choose: Choose | None = None,
) -> Program:
    """The plain `graph` as loops for `target`; `types` are the model's, with quantisation.

    optimize: as in `Request`.  choose: picks among the options of every operation; None: the
    first of each.
    """
    groups = fuse(graph)
    layouts = choose_layouts(graph, groups, target)
    names = [f"{_kind(group)}_{number}" for number, group in enumerate(groups)]
    most = 1 if choose is None else _MOST_OPTIONS
    found = [
        tuple(islice(options(Request(graph, group, target, layouts, optimize), name), most))
        for group, name in zip(groups, names, strict=True)
    ]
    picks = [0] * len(found) if choose is None else choose(found)
    chosen = [own[pick] for own, pick in zip(found, picks, strict=True)]
    return _program(graph, groups, names, chosen, types, layouts)


def _program(
    graph: Graph,
    groups: Sequence[Group],
    names: Sequence[str],
    chosen: Sequence[Option],
    types: Mapping[str, TensorType],
    layouts: Layouts,
) -> Program:
    aliases = {n.outputs[0]: n.inputs[0] for n in graph.nodes if OPS[n.op].alias}
    consts: dict[str, Array] = {}
    kernels: dict[ir.Func, Kernel] = {}
    all_types = {n: types.get(n, t) for n, t in graph.types.items()}
    operations = []
    for group, name, option in zip(groups, names, chosen, strict=True):
        consts |= option.consts
        kernel = kernels.setdefault(replace(option.kernel.func, name=""), option.kernel)
        func = replace(option.kernel.func, name=name)
        operation = _operation(graph, group, kernel, func, option.args)
        all_types |= _scratch_types(operation, kernel.func)
        operations.append(operation)
    return Program(
        graph.name,
        graph.inputs,
        graph.outputs,
        all_types,
        consts,
        aliases,
        tuple(kernels.values()),
        tuple(_resolve(op, aliases) for op in operations),
        layouts,
    )


def _kind(group: Group) -> str:
    """What to call a group: its anchor, or what the model calls the first of its operators."""
    if group.anchor is not None:
        return group.anchor.op
    first = group.nodes[0]
    return first.kind.partition("+")[0].lower() or first.op


def _operation(
    graph: Graph, group: Group, kernel: Kernel, func: ir.Func, args: tuple[str, ...]
) -> Operation:
    """The call of `kernel` that computes `group`; func: the kernel under the operation's name."""
    kinds = tuple(dict.fromkeys(n.kind or n.op for n in group.nodes))
    srcs = tuple(dict.fromkeys(n.src for n in group.nodes))
    macs = 0
    if group.anchor is not None and (count := OPS[group.anchor.op].macs) is not None:
        types = graph.types
        macs = count(
            [types[v] for v in group.anchor.inputs], [types[v] for v in group.anchor.outputs]
        )
    names = [v or f"{func.name}/{p.name}" for v, p in zip(args, func.params, strict=True)]
    inplace = [
        value
        for value, param in zip(names[:-1], func.params[:-1], strict=True)
        if param.mode == "in" and can_overwrite(func, param)
    ]
    scratch = [v for v, p in zip(names, func.params, strict=True) if p.mode == "scratch"]
    return Operation(
        func.name,
        kernel.func.name,
        tuple(names),
        group.output,
        kinds,
        ", ".join(srcs),
        macs,
        tuple(inplace),
        tuple(scratch),
    )


def _scratch_types(op: Operation, func: ir.Func) -> dict[str, TensorType]:
    return {
        value: TensorType(p.shape, p.dtype)
        for value, p in zip(op.args, func.params, strict=True)
        if p.mode == "scratch"
    }


def can_overwrite(func: ir.Func, param: ir.Param) -> bool:
    """Whether output `y` may lie over input `param`: each element is read only where, and before,
    the same element is written."""
    y = func.params[-1]
    if param.shape != y.shape or param.dtype.size != y.dtype.size:
        return False
    return _reads_before_writing(func.body, param.name)


def _reads_before_writing(block: ir.Block, buffer: str) -> bool:
    """Every load of `buffer` is followed, in its own block, by the store to y at its index."""
    for i, s in enumerate(block):
        if isinstance(s, ir.Instr) and any(b in (buffer, "y") for b, _ in s.args):
            return False
        if isinstance(s, ir.Loop | ir.Guard) and not _reads_before_writing(s.body, buffer):
            return False
        later = {t.index for t in block[i:] if isinstance(t, ir.Store) and t.buffer == "y"}
        own = (e for own in own_exprs(s) for e in expr_loads(own))
        if not all(e.index in later for e in own if e.buffer == buffer):
            return False
    return True


def _resolve(op: Operation, aliases: Mapping[str, str]) -> Operation:
    """Arguments as the buffers behind them. A buffer that comes in twice, under whatever name,
    cannot be overwritten: the other argument may read elsewhere."""
    base = partial(resolve, aliases)
    args = tuple(map(base, op.args))
    inplace = tuple(b for b in map(base, op.inplace) if args.count(b) == 1)
    return replace(op, args=args, output=base(op.output), inplace=inplace)
