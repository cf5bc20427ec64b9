"""The whole graph as a program: groups, their kernels, equal kernels shared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from midge.core.target import Target
from midge.core.types import Array, TensorType
from midge.graph.ir import OPS, Graph
from midge.loop import ir
from midge.loop.program import Kernel, Operation, Program, resolve
from midge.loop.rewrite import expr_loads, own_exprs
from midge.loop.schedule import Pack, Step, pack_consts
from midge.lower.build import Built, build
from midge.lower.fuse import Group, fuse
from midge.lower.schedules import scheduled


def lower(graph: Graph, target: Target, types: Mapping[str, TensorType]) -> Program:
    """The plain `graph` as loops for `target`; `types` are the model's, with quantisation."""
    aliases = {n.outputs[0]: n.inputs[0] for n in graph.nodes if OPS[n.op].alias}
    consts: dict[str, Array] = {}
    kernels: dict[ir.Func, Kernel] = {}
    operations = []
    for number, group in enumerate(fuse(graph)):
        name = f"{_kind(group)}_{number}"
        built = build(graph, group, name)
        func, steps = scheduled(built.func, group, target)
        built = replace(built, args=_constants(graph, built, steps, consts))
        key = replace(func, name="")
        kernel = kernels.setdefault(key, Kernel(func, tuple(map(str, steps))))
        operations.append(_operation(graph, group, name, kernel, replace(built, func=func)))
    return Program(
        graph.name,
        graph.inputs,
        graph.outputs,
        {n: types.get(n, t) for n, t in graph.types.items()},
        consts,
        aliases,
        tuple(kernels.values()),
        tuple(_resolve(op, aliases) for op in operations),
    )


def _kind(group: Group) -> str:
    """What to call a group: its anchor, or what the model calls the first of its operators."""
    if group.anchor is not None:
        return group.anchor.op
    first = group.nodes[0]
    return first.kind.partition("+")[0].lower() or first.op


def _constants(
    graph: Graph, built: Built, steps: tuple[Step, ...], consts: dict[str, Array]
) -> tuple[str, ...]:
    """Put the constants that `built` reads, packed as its schedule says, into `consts`; returns
    the arguments, with names of their own for packed ones: others may read them as they were."""
    packed = pack_consts(built.func, steps, built.args, graph.consts)
    layout = "; ".join(str(s) for s in steps if isinstance(s, Pack))
    args = []
    for value in built.args:
        name = f"{value} {layout}" if value in packed else value
        if value in graph.consts:
            consts[name] = packed.get(value, graph.consts[value])
        args.append(name)
    return tuple(args)


def _operation(graph: Graph, group: Group, name: str, kernel: Kernel, built: Built) -> Operation:
    kinds = tuple(dict.fromkeys(n.kind or n.op for n in group.nodes))
    srcs = tuple(dict.fromkeys(n.src for n in group.nodes))
    macs = 0
    if group.anchor is not None and (count := OPS[group.anchor.op].macs) is not None:
        types = graph.types
        macs = count(
            [types[v] for v in group.anchor.inputs], [types[v] for v in group.anchor.outputs]
        )
    inplace = [
        value
        for value, param in zip(built.args[:-1], built.func.params[:-1], strict=True)
        if param.mode == "in" and can_overwrite(built.func, param)
    ]
    return Operation(
        name,
        kernel.func.name,
        built.args,
        group.output,
        kinds,
        ", ".join(srcs),
        macs,
        tuple(inplace),
    )


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
        if isinstance(s, ir.Instr):
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
