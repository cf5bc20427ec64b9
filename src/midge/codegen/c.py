"""Loop IR to C11 text. No decisions are taken here: one node, one spelling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import assert_never

import numpy as np

from midge.core.types import DType
from midge.loop import ir
from midge.loop.instruction import Instruction
from midge.loop.intrinsics import INTRINSICS
from midge.loop.registers import uses
from midge.loop.rewrite import own_exprs, subexprs, touched, walk
from midge.loop.types import buffer_types, expr_type
from midge.loop.unrolled import expand_unrolled
from midge.runtime import included

_INDENT = "    "
# How tightly an operator binds; operands that bind less, or that compilers warn about, get
# parentheses.
_BINDS = {
    "or": 1, "and": 2, "|": 3, "^": 3, "&": 3, "==": 4, "!=": 4, "<": 5, "<=": 5,
    "<<": 6, ">>": 6, "+": 7, "-": 7, "*": 8, "/": 8, "%": 8,
}  # fmt: skip
_C_OPERATOR = {"and": "&&", "or": "||"}
_UNARY, _ATOM = 9, 10


def emit(func: ir.Func, name: str, instructions: Mapping[str, Instruction] | None = None) -> str:
    """The C definition of `func` as the static function `name`. Instructions with a body are
    functions called `midge_` and their name."""
    func = expand_unrolled(func)
    shapes = {p.name: p.shape for p in func.params}
    rows = {p.name: p.rows for p in func.params if p.rows}
    shapes |= {s.buffer: s.shape for s in walk(func.body) if isinstance(s, ir.Alloc)}
    params = frozenset(p.name for p in func.params)
    emitter = _Emitter(shapes, buffer_types(func), instructions or {}, params, rows)
    head = _wrap_params(f"static MIDGE_KERNEL void {name}(", [_param(p) for p in func.params])
    body = (part for line in emitter.block(func.body) for part in _wrapped(_INDENT + line))
    return "\n".join([head, "{", *body, "}"]) + "\n"


def instruction_name(instruction: Instruction) -> str:
    """The C function of an instruction with a body."""
    return f"midge_{instruction.name}"


def define(instruction: Instruction, name: str) -> str:
    """The C definition of the static function `name` that does what `instruction` means: its
    assembler where the compiler takes it, else the meaning as loops."""
    head, _, loops = emit(instruction.meaning, name).partition("{\n")
    params = instruction.meaning.params
    assert len(params) <= 4, f"{instruction.name}: operands beyond r3"
    operands = [(p, f"r{i}") for i, p in enumerate(params)]
    pinned = [f'{_INDENT}register {_pointer(p)}{r} __asm__("{r}") = {p.name};' for p, r in operands]
    lines = ("push {r7}", *instruction.asm, "pop {r7}")
    outputs = ", ".join(f'"+r"({r})' for _, r in operands)
    kept = {r for _, r in operands} | ({"r9"} if not uses(instruction, "r9") else set())
    clobbers = ", ".join(f'"{r}"' for r in _CLOBBERS if r not in kept)
    body = [
        *pinned,
        f"{_INDENT}__asm__ volatile(",
        *(f'{_INDENT * 2}"{line}\\n"' for line in lines),
        f"{_INDENT * 2}: {outputs}",
        f"{_INDENT * 2}:",
        f"{_INDENT * 2}: {clobbers});",
    ]
    spoken_of = touched(instruction.meaning.body)
    unused = [f"{_INDENT}(void){p.name};" for p in params if p.name not in spoken_of]
    plain = [*unused, loops.removesuffix("}\n").rstrip()]
    return "\n".join(
        [f"{head}{{", f"#if {instruction.needs}", *body, "#else", *plain, "#endif", "}", ""]
    )


# Of r7, the frame pointer of Thumb code, the assembler takes care itself. r9, which some systems
# keep for their own, is named only where it is written.
_CLOBBERS = (
    *(f"r{i}" for i in range(13) if i != 7), "lr", "cc", "memory",
)  # fmt: skip


def _pointer(p: ir.Param) -> str:
    const = "const " if p.mode in ("in", "const") else ""
    return f"{const}{p.dtype.c_name} *" + ("const *" if p.rows else "")


def headers(func: ir.Func, instructions: Mapping[str, Instruction] | None = None) -> set[str]:
    """The runtime headers that the C of `func` needs."""
    found: set[str] = set()
    for s in walk(func.body):
        if isinstance(s, ir.Instr) and instructions:
            instruction = instructions[s.name]
            if instruction.header:
                found.add(instruction.header)
            if instruction.asm:
                found |= headers(instruction.meaning)
        for own in own_exprs(s):
            for e in subexprs(own):
                match e:
                    case ir.Call(name, _):
                        found |= included(INTRINSICS[name].header)
                    case ir.Bin("min" | "max"):
                        found.add("midge_minmax.h")
    return found


def _param(p: ir.Param) -> str:
    const = "const " if p.mode in ("in", "const") else ""
    if p.rows:
        return f"{const}{p.dtype.c_name} *const {p.name}[{math.prod(p.shape[: p.rows])}]"
    return f"{const}{p.dtype.c_name} {p.name}[{max(p.elements, 1)}]"


def _wrap_params(head: str, params: list[str]) -> str:
    one_line = f"{head}{', '.join(params)})"
    if len(one_line) <= 100:
        return one_line
    return f"{head}\n{_INDENT}" + f",\n{_INDENT}".join(params) + ")"


_WIDTH = 100


def _wrapped(line: str) -> Iterator[str]:
    """`line` in pieces of at most 100 columns where that is possible."""
    indent = " " * (len(line) - len(line.lstrip()) + 2 * len(_INDENT))
    while len(line) > _WIDTH and (cut := _break(line)) is not None:
        yield line[:cut]
        line = indent + line[cut:].lstrip()
    yield line


def _break(line: str) -> int | None:
    """The column at which to break a long line. Of the spaces after an operator or a comma: in the
    second half of the columns the last of the least deep ones, else the last that fits; else after
    the last parenthesis of a call that fits."""
    start = len(line) - len(line.lstrip())
    depth, spaces, calls = 0, [], []
    for i, c in enumerate(line[: _WIDTH + 1]):
        depth += (c in "([") - (c in ")]")
        if c == " " and i > start and (line[i - 1] in ",+*=&|?:" or line[i - 2 : i] == " -"):
            spaces.append((depth, i))
        if c == "(" and start < i < _WIDTH and line[i - 1].isalnum():
            calls.append(i + 1)
    second = [(d, i) for d, i in spaces if i > _WIDTH // 2]
    if second:
        return min(second, key=lambda p: (p[0], -p[1]))[1]
    return max([i for _, i in spaces] or calls, default=None)


@dataclass(frozen=True, slots=True)
class _Emitter:
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, DType]
    instructions: Mapping[str, Instruction]
    params: frozenset[str]  # one of shape () is a pointer, a local one a variable
    rows: Mapping[str, int]  # of arrays of pointers: how many axes are theirs

    def block(self, body: ir.Block) -> Iterator[str]:
        i = 0
        while i < len(body):
            s = body[i]
            follows = body[i + 1] if i + 1 < len(body) else None
            if isinstance(s, ir.Alloc) and s.shape == () and _defines(follows, s.buffer):
                assert isinstance(follows, ir.Store)
                yield f"{s.dtype.c_name} {s.buffer} = {self.expr(follows.value)};"
                i += 2
                continue
            if isinstance(s, ir.Guard) and _otherwise(s, follows):
                assert isinstance(follows, ir.Guard)
                yield from self.guard(s.cond, s.body, follows.body)
                i += 2
                continue
            yield from self.stmt(s)
            i += 1

    def stmt(self, s: ir.Stmt) -> Iterator[str]:
        match s:
            case ir.Store(buffer, index, value):
                yield self.store(buffer, index, value)
            case ir.Loop(var, extent, body):
                yield f"for (int32_t {var} = 0; {var} < {extent}; ++{var}) {{"
                yield from (_INDENT + line for line in self.block(body))
                yield "}"
            case ir.Guard(cond, body, other):
                yield from self.guard(cond, body, other)
            case ir.Alloc(buffer, dtype, shape):
                size = f"[{math.prod(shape)}]" if shape else ""
                yield f"{dtype.c_name} {buffer}{size};"
            case ir.Instr(name, args):
                yield self.instruction(self.instructions[name], args)
            case _:
                assert_never(s)

    def guard(self, cond: ir.Expr, body: ir.Block, other: ir.Block) -> Iterator[str]:
        yield f"if ({self.expr(cond)}) {{"
        yield from (_INDENT + line for line in self.block(body))
        if other:
            yield "} else {"
            yield from (_INDENT + line for line in self.block(other))
        yield "}"

    def store(self, buffer: str, index: tuple[ir.Expr, ...], value: ir.Expr) -> str:
        target = self.element(buffer, index)
        wide = self.types[buffer] in (DType.I32, DType.I64, DType.F32)
        match value:
            case ir.Bin("+" | "-" as op, ir.Load(b, i), rhs) if wide and (b, i) == (buffer, index):
                return f"{target} {op}= {self.expr(rhs)};"
        return f"{target} = {self.expr(value)};"

    def instruction(
        self, instr: Instruction, args: tuple[tuple[str, tuple[ir.Expr, ...]], ...]
    ) -> str:
        params = instr.meaning.params
        for p, (buffer, index) in zip(params, args, strict=True):
            column = index[self.rows.get(buffer, 0) :] if p.rows else ()
            assert all(i == ir.i32(0) for i in column), f"{instr.name}: {p.name} is not a whole row"
        names = [p.name for p in params]
        addresses = [
            f"(&{self.pointer(b, i) if p.rows else self.element(b, i)})"
            for p, (b, i) in zip(params, args, strict=True)
        ]
        if not instr.c:
            return f"{instruction_name(instr)}({', '.join(a[1:-1] for a in addresses)});"
        return instr.c.format(**dict(zip(names, addresses, strict=True)))

    def element(self, buffer: str, index: tuple[ir.Expr, ...]) -> str:
        shape = self.shapes[buffer]
        if not shape:
            return f"{buffer}[0]" if buffer in self.params else buffer
        lead = self.rows.get(buffer, 0)
        place = self.pointer(buffer, index) if lead else buffer
        return f"{place}[{self.expr(_flat(index[lead:], shape[lead:]))}]"

    def pointer(self, buffer: str, index: tuple[ir.Expr, ...]) -> str:
        """The pointer to the row of an element."""
        lead = self.rows[buffer]
        return f"{buffer}[{self.expr(_flat(index[:lead], self.shapes[buffer][:lead]))}]"

    def expr(self, e: ir.Expr, least: int = 0) -> str:
        """C for `e`, in parentheses if it binds less tightly than `least`."""
        text, binds = self.spell(e)
        return f"({text})" if binds < least else text

    def spell(self, e: ir.Expr) -> tuple[str, int]:
        match e:
            case ir.Const():
                return _const(e)
            case ir.Var(name):
                return name, _ATOM
            case ir.Load(buffer, index):
                return self.element(buffer, index), _ATOM
            case ir.Bin("min" | "max" as op, lhs, rhs):
                suffix = self.type(e).value
                return f"midge_{op}_{suffix}({self.expr(lhs)}, {self.expr(rhs)})", _ATOM
            case ir.Bin("<<", lhs, rhs):
                return self.shift_left(e, lhs, rhs)
            case ir.Bin(op, lhs, rhs):
                return self.binary(op, lhs, rhs)
            case ir.Cast(dtype, arg):
                return f"({dtype.c_name}){self.expr(arg, _UNARY)}", _UNARY
            case ir.Select(cond, then, other):
                parts = (self.expr(cond, 1), self.expr(then, 3), self.expr(other, 3))
                return "{} ? {} : {}".format(*parts), 0
            case ir.Call(name, args):
                return f"midge_{name}({', '.join(self.expr(a) for a in args)})", _ATOM
            case _:
                assert_never(e)

    def binary(self, op: str, lhs: ir.Expr, rhs: ir.Expr) -> tuple[str, int]:
        binds = _BINDS[op]
        strict = op in ("|", "^", "&", ">>", "/", "%")
        left = self.expr(lhs, _UNARY if strict else binds + 2 * (op == "or"))
        right = self.expr(rhs, _UNARY if strict else binds + 1 + (op == "or"))
        return f"{left} {_C_OPERATOR.get(op, op)} {right}", binds

    def shift_left(self, e: ir.Expr, lhs: ir.Expr, rhs: ir.Expr) -> tuple[str, int]:
        """As a multiplication where possible: shifting a negative value is undefined in C."""
        dtype = self.type(e)
        if isinstance(rhs, ir.Const):
            return self.binary("*", lhs, ir.const(1 << int(rhs.value), dtype))
        unsigned = f"u{dtype.c_name}"
        shifted = f"({unsigned}){self.expr(lhs, _UNARY)} << {self.expr(rhs, _UNARY)}"
        return f"({dtype.c_name})({shifted})", _UNARY

    def type(self, e: ir.Expr) -> DType:
        return expr_type(e, self.types)


def _flat(index: tuple[ir.Expr, ...], shape: tuple[int, ...]) -> ir.Expr:
    """The place of an element in a buffer of `shape`."""
    terms = []
    stride = 1
    for i, n in zip(reversed(index), reversed(shape), strict=True):
        terms.append(ir.mul(i, ir.i32(stride)))
        stride *= n
    return ir.total(terms[::-1])


def _defines(s: ir.Stmt | None, buffer: str) -> bool:
    """Whether `s` gives the scalar `buffer` its first value, not reading it."""
    if not isinstance(s, ir.Store) or s.buffer != buffer:
        return False
    return not any(isinstance(e, ir.Load) and e.buffer == buffer for e in subexprs(s.value))


def _otherwise(guard: ir.Guard, follows: ir.Stmt | None) -> bool:
    """Whether `follows` runs exactly when `guard` does not: its condition is the negation, and
    depends on loop variables only, which the guard's body cannot change."""
    if not isinstance(follows, ir.Guard) or _negation(guard.cond) != follows.cond:
        return False
    if guard.other or follows.other:
        return False
    return not any(isinstance(e, ir.Load | ir.Call) for e in subexprs(guard.cond))


_OPPOSITE: dict[str, ir.BinOp] = {"<": "<=", "<=": "<", "==": "!=", "!=": "=="}


def _negation(e: ir.Expr) -> ir.Expr | None:
    """The condition that holds when `e` does not, if it is made of comparisons."""
    match e:
        case ir.Bin("<" | "<=" as op, lhs, rhs):
            return ir.Bin(_OPPOSITE[op], rhs, lhs)
        case ir.Bin("==" | "!=" as op, lhs, rhs):
            return ir.Bin(_OPPOSITE[op], lhs, rhs)
        case ir.Bin("and" | "or" as op, lhs, rhs):
            left, right = _negation(lhs), _negation(rhs)
            if left is not None and right is not None:
                return ir.Bin("or" if op == "and" else "and", left, right)
    return None


def _const(e: ir.Const) -> tuple[str, int]:
    match e.dtype:
        case DType.BOOL:
            return ("true" if e.value else "false"), _ATOM
        case DType.F32:
            text = float_literal(float(e.value))
        case DType.I64:
            text = f"INT64_C({e.value})"
            return (text, _ATOM)
        case _:
            text = str(e.value) if e.value != -(2**31) else "INT32_MIN"
    return text, _ATOM if not text.startswith("-") else _UNARY


def float_literal(value: float) -> str:
    """The shortest decimal that is this binary32 value."""
    assert not math.isnan(value), "constants are numbers"
    return float_text(str(np.float32(value)))


def float_text(decimal: str) -> str:
    """NumPy's text of a binary32 value that is a number as a C literal."""
    if decimal.endswith("inf"):
        return f"({decimal.replace('inf', '1.0f')} / 0.0f)"
    return f"{decimal}f" if "." in decimal or "e" in decimal else f"{decimal}.0f"
