"""Tensorize: let an instruction do what a nest of loops does."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache

from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.rewrite import allocs_in, map_stmts, touched
from midge.loop.schedule.access import Instructions
from midge.loop.schedule.base import Place, Refused, StepText, find
from midge.loop.schedule.match import Match, Mismatch
from midge.loop.simplify import Simple, Simplifier, simplify
from midge.loop.types import buffer_types


@dataclass(frozen=True, slots=True)
class Tensorize(StepText):
    """Replace the loops that do exactly what an instruction means by a use of it.

    for k in 4: acc = acc + i32(a[i, k]) * i32(b[k])   ->   dot4(a[i, 0], b[0], acc)

    The loop and, if the meaning has more statements, those around it must be the instruction's
    meaning but for names: the same extents, types and operations, each operand a window of a
    buffer with the operand's dimensions last, at a place that the matched loops do not change.
    """

    loop: str
    instruction: str


def tensorize_loop(func: ir.Func, step: Tensorize, instructions: Instructions) -> ir.Func:
    if step.instruction not in instructions:
        near = get_close_matches(step.instruction, instructions, n=3) or list(instructions)
        raise Refused(f"unknown instruction {step.instruction!r}", f"known: {', '.join(near)}")
    instruction = instructions[step.instruction]
    place = find(func, step.loop)
    statements = _candidate(func, place, instruction)
    bounds = place.bounds(func)
    target = Simplifier(buffer_types(func), False, Simple()).block(statements, bounds)
    meaning = _simplified(instruction.meaning)
    try:
        match = Match(func, meaning, bounds)
        match.block(meaning.body, target)
        args = tuple(match.window(p) for p in meaning.params)
    except Mismatch as mismatch:
        raise Refused(f"this is not {step.instruction}: {mismatch}") from None
    use = ir.Instr(step.instruction, args)
    return _replaced(func, statements, use)


# Layers of one shape use the same instructions.
_simplified = lru_cache(maxsize=256)(simplify)


def _candidate(func: ir.Func, place: Place, instruction: Instruction) -> ir.Block:
    """As many statements as the meaning has, with the loop at the meaning's first loop."""
    body = instruction.meaning.body
    before = next((i for i, s in enumerate(body) if isinstance(s, ir.Loop)), None)
    if before is None:
        raise Refused("the meaning of the instruction has no loop")
    siblings = place.outer[-1].body if place.outer else func.body
    start = next(i for i, s in enumerate(siblings) if s is place.loop) - before
    if start < 0 or start + len(body) > len(siblings):
        raise Refused(f"the instruction does more than what stands at {place.loop.var}")
    return siblings[start : start + len(body)]


def _replaced(func: ir.Func, statements: ir.Block, use: ir.Instr) -> ir.Func:
    def stmt(s: ir.Stmt) -> ir.Stmt | ir.Block:
        if s is statements[0]:
            return use
        return () if any(s is x for x in statements) else s

    result = replace(func, body=map_stmts(func.body, stmt))
    gone = {a.buffer for a in allocs_in(statements)}
    left = sorted(gone & touched(result.body))
    if left:
        raise Refused(f"{left[0]} is also used outside of what the instruction does")
    return result
