"""The loop IR as text that a person reads and that parses back to an equal function.

    func conv(x: i8[4x3] in, w: i8[3x3] const, y: i8[4] out):
      for oh in 4:
        alloc acc: i32
        acc = 0
        for k in 3 unrolled:
          if 0 <= oh + k - 1 and oh + k - 1 < 4:
            acc = acc + i32(x[oh + k - 1, 0]) * i32(w[k, 0])
        y[oh] = i8(requantize_twice(acc, 5, -3))

Operators bind as in Python; `min`, `max` and `select(cond, then, other)` look like calls, a cast
like a call of its type, an instruction like a call on a line of its own. A number is i32 without
a point and f32 with one; any other type is written behind it: `5:i8`, `0.5:f16`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, assert_never, cast

import numpy as np

from midge.core.types import DType
from midge.loop import ir
from midge.loop.tokens import COMPARISON, DTYPES, NAME, PRECEDENCE, Tokens, fail

RESERVED = frozenset(DTYPES) | {
    "func", "for", "in", "if", "else", "alloc", "pass", "unrolled", "and", "or", "min", "max",
    "select", "true", "false", "inf", "nan", "out", "inout", "const", "scratch",
}  # fmt: skip
"""Words that cannot name a buffer or a loop variable."""


def print_func(func: ir.Func) -> str:
    """The text of a function; `parse_func` is its inverse for every function that verifies."""
    params = ", ".join(
        f"{p.name}: {_type(p.dtype, p.shape)} {p.mode}{'*' * p.rows}" for p in func.params
    )
    lines = [f"func {func.name}({params}):", *_block(func.body, "  ")]
    return "\n".join(lines) + "\n"


def print_stmt(stmt: ir.Stmt) -> str:
    """The text of one statement with everything inside it."""
    return "\n".join(_stmt(stmt, ""))


def print_expr(e: ir.Expr) -> str:
    """The text of an expression, with as few parentheses as precedence allows."""
    return _expr(e, 0)


def _type(dtype: DType, shape: tuple[int, ...]) -> str:
    return f"{dtype.value}[{'x'.join(map(str, shape))}]" if shape else dtype.value


def _block(body: ir.Block, indent: str) -> Iterator[str]:
    for s in body:
        yield from _stmt(s, indent)
    if not body:
        yield f"{indent}pass"


def _stmt(s: ir.Stmt, indent: str) -> Iterator[str]:
    match s:
        case ir.Store(buffer, index, value):
            yield f"{indent}{_access(buffer, index)} = {print_expr(value)}"
        case ir.Loop(var, extent, body, kind):
            yield f"{indent}for {var} in {extent}{' unrolled' if kind == 'unrolled' else ''}:"
            yield from _block(body, indent + "  ")
        case ir.Guard(cond, body, other):
            yield f"{indent}if {print_expr(cond)}:"
            yield from _block(body, indent + "  ")
            if other:
                yield f"{indent}else:"
                yield from _block(other, indent + "  ")
        case ir.Alloc(buffer, dtype, shape):
            yield f"{indent}alloc {buffer}: {_type(dtype, shape)}"
        case ir.Instr(name, args):
            yield f"{indent}{name}({', '.join(_access(b, i) for b, i in args)})"
        case _:
            assert_never(s)


def _access(buffer: str, index: tuple[ir.Expr, ...]) -> str:
    return f"{buffer}[{_list(index)}]" if index else buffer


def _list(items: tuple[ir.Expr, ...]) -> str:
    return ", ".join(map(print_expr, items))


def _expr(e: ir.Expr, least: int) -> str:
    """`e`, in parentheses if it binds less tightly than `least`."""
    match e:
        case ir.Const(value, dtype):
            return _const(value, dtype)
        case ir.Var(name):
            return name
        case ir.Load(buffer, index):
            return _access(buffer, index)
        case ir.Bin("min" | "max" as op, lhs, rhs):
            return f"{op}({_list((lhs, rhs))})"
        case ir.Bin(op, lhs, rhs):
            level = PRECEDENCE[op]
            left = level + 1 if level == COMPARISON else level
            text = f"{_expr(lhs, left)} {op} {_expr(rhs, level + 1)}"
            return f"({text})" if level < least else text
        case ir.Cast(dtype, arg):
            return f"{dtype.value}({print_expr(arg)})"
        case ir.Select(cond, then, other):
            return f"select({_list((cond, then, other))})"
        case ir.Call(name, args):
            return f"{name}({_list(args)})"
        case _:
            assert_never(e)


def _const(value: float, dtype: DType) -> str:
    if dtype is DType.BOOL:
        return "true" if value else "false"
    text = _float(value, dtype) if dtype.is_float else str(int(value))
    if dtype is DType.F32:
        return text
    return text if dtype is DType.I32 else f"{text}:{dtype.value}"


def _float(value: float, dtype: DType) -> str:
    """The shortest decimal that reads back as the same value of the type."""
    if not math.isfinite(value):
        return str(float(value))
    with np.errstate(over="ignore"):
        rounded = dtype.numpy.type(value)
    return str(rounded) if float(rounded) == value else repr(float(value))


def parse_func(text: str) -> ir.Func:
    """The function that `text` spells; VerifyError with the line and what was expected there.

    A line may go on in the next inside parentheses; `#` starts a comment. Names and types are not
    checked here: that is `verify`.
    """
    lines: list[_Line] = []
    for number, line in enumerate(text.splitlines(), 1):
        code = line.split("#", 1)[0].rstrip()
        start = code.lstrip(" ")
        if lines and lines[-1].code.count("(") > lines[-1].code.count(")"):
            lines[-1] = replace(lines[-1], code=f"{lines[-1].code} {start}".rstrip())
        elif start:
            lines.append(_Line(number, len(code) - len(start), start))
    return _Parser(lines, set()).func()


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    indent: int
    code: str


_TYPE = rf"(?P<dtype>{'|'.join(DTYPES)})(?:\[(?P<shape>\d+(?:x\d+)*)\])?"
_FUNC = re.compile(rf"func (?P<name>{NAME})\((?P<params>.*)\):")
_PARAM = re.compile(rf"(?P<name>{NAME}): {_TYPE} (?P<mode>in|out|inout|const|scratch)(?P<rows>\**)")
_ALLOC = re.compile(rf"alloc (?P<name>{NAME}): {_TYPE}")
_FOR = re.compile(rf"for (?P<var>{NAME}) in (?P<extent>\d+)(?P<unrolled> unrolled)?:")
_IF = re.compile(r"if (?P<cond>.*):")


@dataclass(slots=True)
class _Parser:
    """Lines to statements. `buffers`: the names seen so far that are buffers, not variables."""

    lines: list[_Line]
    buffers: set[str]
    position: int = 0

    def func(self) -> ir.Func:
        if not self.lines:
            fail(1, "func name(params):", "the end")
        head = self.lines[0]
        found = self.match(_FUNC, "func name(params):")
        names = [p.strip() for p in found["params"].split(",")] if found["params"].strip() else []
        params = tuple(self.param(p, head.number) for p in names)
        body = self.block(head)
        if self.position < len(self.lines):
            left = self.lines[self.position]
            fail(left.number, "the end of the function", left.code)
        return ir.Func(found["name"], params, body)

    def param(self, text: str, number: int) -> ir.Param:
        found = _PARAM.fullmatch(text)
        if found is None:
            fail(number, "a parameter `name: type[shape] mode`", text)
        self.buffers.add(found["name"])
        mode = cast(Literal["in", "out", "inout", "const", "scratch"], found["mode"])
        return ir.Param(
            found["name"], DTYPES[found["dtype"]], _shape(found), mode, len(found["rows"])
        )

    def match(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        line = self.lines[self.position]
        found = pattern.fullmatch(line.code)
        if found is None:
            fail(line.number, expected, line.code)
        self.position += 1
        return found

    def block(self, head: _Line) -> ir.Block:
        """The lines indented more than `head`, all alike."""
        lines, start = self.lines, self.position
        if start == len(lines) or lines[start].indent <= head.indent:
            fail(head.number, "an indented block (or `pass`) below", head.code)
        indent = lines[start].indent
        if lines[start].code == "pass":
            self.position += 1
            return ()
        body: list[ir.Stmt] = []
        while self.position < len(lines) and lines[self.position].indent > head.indent:
            line = lines[self.position]
            if line.indent != indent:
                fail(line.number, f"an indentation of {indent} spaces", str(line.indent))
            body.append(self.stmt(line))
        return tuple(body)

    def other(self, head: _Line) -> ir.Block:
        """What follows an `else` of the `if` in the line `head`."""
        if self.position == len(self.lines):
            return ()
        line = self.lines[self.position]
        if line.indent != head.indent or line.code != "else:":
            return ()
        self.position += 1
        return self.block(line)

    def stmt(self, line: _Line) -> ir.Stmt:
        word = re.match(r"\w*", line.code)
        match word[0] if word else "":
            case "alloc":
                found = self.match(_ALLOC, "alloc name: type[shape]")
                self.buffers.add(found["name"])
                return ir.Alloc(found["name"], DTYPES[found["dtype"]], _shape(found))
            case "for":
                found = self.match(_FOR, "for name in extent:")
                kind: Literal["serial", "unrolled"] = "unrolled" if found["unrolled"] else "serial"
                return ir.Loop(found["var"], int(found["extent"]), self.block(line), kind)
            case "if":
                found = self.match(_IF, "if condition:")
                cond = Tokens.read(found["cond"], line.number, self.buffers).all(Tokens.expr)
                return ir.Guard(cond, self.block(line), self.other(line))
            case _:
                self.position += 1
                return Tokens.read(line.code, line.number, self.buffers).all(Tokens.simple)


def _shape(found: re.Match[str]) -> tuple[int, ...]:
    return tuple(map(int, found["shape"].split("x"))) if found["shape"] else ()
