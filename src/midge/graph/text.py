"""The graph's text form. `parse_graph(print_graph(g), g.consts) == g`.

Constants of at most 8 elements are printed in full; larger ones by a checksum of their bytes, so
that the text stays readable; parsing takes their arrays from a table and checks them.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping

import numpy as np

from midge.core.errors import VerifyError
from midge.core.types import Array, DType, Quant, TensorType
from midge.graph.ir import Attr, Graph, Node

_INLINE = 8
# Other names stand in quotes: those of other characters, and those that mean something here.
_PLAIN_NAME = re.compile(r"(?!(?:return|const)\Z|Infinity|NaN)[A-Za-z_][\w./]*\Z")


def print_graph(graph: Graph) -> str:
    head = ", ".join(f"{_name(n)}: {_type(graph.types[n])}" for n in graph.inputs)
    classes = f" classes {', '.join(map(json.dumps, graph.classes))}" if graph.classes else ""
    lines = [f"graph {_name(graph.name)}({head}){classes}:"]
    for name, array in graph.consts.items():
        lines.append(f"  const {_name(name)}: {_type(graph.types[name])} = {_value(array)}")
    lines.extend(f"  {_node(graph, node)}" for node in graph.nodes)
    lines.append(f"  return {', '.join(map(_name, graph.outputs))}")
    return "\n".join(lines) + "\n"


def _name(name: str) -> str:
    return name if _PLAIN_NAME.match(name) else json.dumps(name)


def _type(t: TensorType) -> str:
    text = f"{t.dtype.value}[{'x'.join(map(str, t.shape))}]"
    if t.quant is None:
        return text
    scales = " ".join(repr(s) for s in t.quant.scale)
    zeros = " ".join(map(str, t.quant.zero_point))
    axis = "" if t.quant.axis is None else f" axis {t.quant.axis}"
    return f"{text}{{{scales}; {zeros}{axis}}}"


def _value(array: Array) -> str:
    if array.size > _INLINE:
        return f"#{zlib.crc32(array.tobytes()):08x}"
    return json.dumps(array.ravel().tolist())


def _node(graph: Graph, node: Node) -> str:
    outs = ", ".join(f"{_name(o)}: {_type(graph.types[o])}" for o in node.outputs)
    args = [*map(_name, node.inputs)]
    args += [f"{k}={_attr(v)}" for k, v in sorted(node.attrs.items())]
    return f"{outs} = {node.op}({', '.join(args)}) @ {json.dumps(node.src)} {json.dumps(node.kind)}"


def _attr(value: Attr) -> str:
    if isinstance(value, tuple):
        return f"({' '.join(map(str, value))})"
    return json.dumps(value)


_TOKEN = re.compile(
    r"""\s*(?:(?P<string>"(?:[^"\\]|\\.)*")|(?P<crc>\#[0-9a-f]{8})
    |(?P<number>NaN|-?(?:Infinity|\d+(?:\.\d+)?(?:e[+-]?\d+)?))|(?P<word>[A-Za-z_][\w./]*)
    |(?P<punct>[\[\](){},:;=@]))""",
    re.VERBOSE,
)


def parse_graph(text: str, consts: Mapping[str, Array] | None = None) -> Graph:
    """The graph that `text` prints; `consts` holds the arrays printed by checksum.

    Raises VerifyError with the line that is not understood.
    """
    return _Parser(text, consts or {}).graph()


class _Parser:
    def __init__(self, text: str, consts: Mapping[str, Array]) -> None:
        self.text, self.pos, self.given = text, 0, consts
        self.types: dict[str, TensorType] = {}
        self.consts: dict[str, Array] = {}

    def fail(self, expected: str) -> VerifyError:
        rest = self.text[self.pos :].lstrip()
        line = self.text.count("\n", 0, len(self.text) - len(rest)) + 1
        found = rest[:20].partition("\n")[0].rstrip() or "the end"
        return VerifyError(f"expected {expected}, found {found!r}", where=f"graph text line {line}")

    def peek(self) -> str:
        m = _TOKEN.match(self.text, self.pos)
        return m.group().strip() if m else ""

    def take(self, kind: str, what: str) -> str:
        m = _TOKEN.match(self.text, self.pos)
        if m is None or m.group(kind) is None:
            raise self.fail(what)
        self.pos = m.end()
        return m.group(kind)

    def punct(self, c: str) -> None:
        if self.peek() != c:
            raise self.fail(repr(c))
        self.take("punct", c)

    def word(self, w: str) -> None:
        if self.peek() != w:
            raise self.fail(repr(w))
        self.take("word", w)

    def name(self) -> str:
        if self.peek().startswith('"'):
            return self.string()
        return self.take("word", "a name")

    def string(self) -> str:
        start = self.pos
        try:
            return str(json.loads(self.take("string", "a string")))
        except ValueError:
            self.pos = start
            raise self.fail("a string") from None

    def number(self) -> int | float:
        return _number(self.take("number", "a number"))

    def integer(self) -> int:
        value = self.number()
        if not isinstance(value, int):
            raise self.fail("an integer")
        return value

    def graph(self) -> Graph:
        self.word("graph")
        name = self.name()
        self.punct("(")
        inputs = tuple(self.typed_names(")"))
        classes = self.classes()
        self.punct(":")
        while self.peek() == "const":
            self.constant()
        nodes = []
        while self.peek() != "return":
            nodes.append(self.node())
        self.word("return")
        outputs = [self.name()]
        while self.peek() == ",":
            self.punct(",")
            outputs.append(self.name())
        if self.text[self.pos :].strip():
            raise self.fail("the end")
        return Graph(name, inputs, tuple(outputs), self.types, self.consts, tuple(nodes), classes)

    def classes(self) -> tuple[str, ...]:
        """`classes "a", "b"`, or nothing."""
        if self.peek() != "classes":
            return ()
        self.word("classes")
        names = [self.string()]
        while self.peek() == ",":
            self.punct(",")
            names.append(self.string())
        return tuple(names)

    def typed_names(self, stop: str) -> list[str]:
        names: list[str] = []
        while self.peek() != stop:
            if names:
                self.punct(",")
            name = self.name()
            self.punct(":")
            self.types[name] = self.type()
            names.append(name)
        self.punct(stop)
        return names

    def type(self) -> TensorType:
        word = self.take("word", "an element type")
        if word not in DType._value2member_map_:
            raise self.fail("an element type")
        start = self.pos
        self.punct("[")
        end = self.text.find("]", self.pos)
        body = self.text[self.pos : end]
        if end < 0 or not re.fullmatch(r"(\d+(x\d+)*)?", body):
            self.pos = start
            raise self.fail("a shape such as [1x2x3]")
        self.pos = end + 1
        shape = tuple(int(d) for d in body.split("x")) if body else ()
        return TensorType(shape, DType(word), self.quant() if self.peek() == "{" else None)

    def quant(self) -> Quant:
        self.punct("{")
        scales = []
        while self.peek() != ";":
            scales.append(float(self.number()))
        self.punct(";")
        zeros = []
        while self.peek() not in ("}", "axis"):
            zeros.append(self.integer())
        axis = None
        if self.peek() == "axis":
            self.word("axis")
            axis = self.integer()
        self.punct("}")
        try:
            return Quant(tuple(scales), tuple(zeros), axis)
        except ValueError as error:
            raise self.fail(f"a valid quantisation ({error})") from None

    def constant(self) -> None:
        self.word("const")
        name = self.name()
        self.punct(":")
        t = self.types[name] = self.type()
        self.punct("=")
        if self.peek().startswith("#"):
            self.consts[name] = self.stored(name)
            self.take("crc", "a checksum")
        else:
            self.consts[name] = self.listed(t)

    def listed(self, t: TensorType) -> Array:
        """The elements of a constant of type `t`."""
        text = self.text[self.pos :].lstrip()
        kinds = (bool,) if t.dtype is DType.BOOL else (int, float) if t.dtype.is_float else (int,)
        try:
            values, length = json.JSONDecoder().raw_decode(text)
            if not isinstance(values, list) or not all(type(v) in kinds for v in values):
                raise ValueError
            with np.errstate(over="ignore"):
                array = np.array(values, t.dtype.numpy).reshape(t.shape)
        except (ValueError, OverflowError, RecursionError):
            raise self.fail(f"a list of {t.elements} values of {t.dtype.value}") from None
        self.pos = len(self.text) - len(text) + length
        return array

    def stored(self, name: str) -> Array:
        """The given array of constant `name`, whose checksum comes next."""
        if name not in self.given:
            raise self.fail(f"the array of constant {name!r} in the table of constants")
        if f"#{zlib.crc32(self.given[name].tobytes()):08x}" != self.peek():
            raise self.fail(f"an array with this checksum for constant {name!r}")
        return self.given[name]

    def node(self) -> Node:
        outputs = tuple(self.typed_names("="))
        op = self.take("word", "an operator")
        self.punct("(")
        inputs: list[str] = []
        attrs: dict[str, Attr] = {}
        first = True
        while self.peek() != ")":
            if not first:
                self.punct(",")
            first = False
            name = self.name()
            if self.peek() == "=":
                self.punct("=")
                attrs[name] = self.attr()
            else:
                inputs.append(name)
        self.punct(")")
        self.punct("@")
        return Node(op, tuple(inputs), outputs, attrs, self.string(), self.string())

    def attr(self) -> Attr:
        token = self.peek()
        if token == "(":
            self.punct("(")
            values: list[int | float] = []
            while self.peek() != ")":
                values.append(self.number())
            self.punct(")")
            return tuple(values)
        return self.string() if token.startswith('"') else self.number()


def _number(text: str) -> int | float:
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
