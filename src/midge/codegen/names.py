"""C names for a program: what a model calls things may be anything, C is strict."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from midge.codegen.reserved import why_reserved
from midge.core.errors import UsageError
from midge.loop.program import Program

_MOST = 100  # letters of a prefix: files get longer names than that


def prefix_from(text: str) -> str:
    """A C identifier made of a file's name, e.g. "kws_int8.v2" -> "kws_int8_v2"."""
    name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_").lower() or "model"
    if name[0].isdigit() or why_reserved(name):
        name = f"model_{name}"
    return name[:_MOST].rstrip("_")


def check_prefix(name: str) -> str:
    """`name` if it can be the prefix of C symbols and of files, else UsageError."""
    where, example = f"name {name!r}", prefix_from(name)
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name.endswith("_"):
        raise UsageError(
            "this is not usable as a C prefix",
            where=where,
            hint=f"use letters, digits and underscores, e.g. {example!r}",
        )
    if len(name) > _MOST:
        raise UsageError(f"has more than {_MOST} letters", where=where, hint="use a shorter one")
    if reason := why_reserved(name):
        raise UsageError(
            f"this is not usable as a C prefix: {reason}",
            where=where,
            hint=f"use another, e.g. {example!r}",
        )
    return name


def const_names(program: Program) -> Mapping[str, str]:
    """Constant buffer -> C name, after the first operation that reads it."""
    params = {k.func.name: k.func.params for k in program.kernels}
    names: dict[str, str] = {}
    for op in program.operations:
        for kernel, args in op.uses:
            for arg, param in zip(args, params[kernel], strict=True):
                if arg in program.consts and arg not in names:
                    name = f"{program.name}_{op.name}_{param.name}"
                    taken = [n for n in names.values() if re.fullmatch(rf"{name}(_v\d+)?", n)]
                    names[arg] = f"{name}_v{len(taken) + 1}" if taken else name
    outside = dict.fromkeys(v for op in program.operations for v in op.borders)
    return names | {v: f"{program.name}_outside_{i}" for i, v in enumerate(outside)}


def port_names(base: str, count: int) -> list[str]:
    """ "input", or "input_0", "input_1", ... where there are several."""
    return [base] if count == 1 else [f"{base}_{i}" for i in range(count)]


_MOST_ALIAS = 40  # letters
_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def port_aliases(base: str, values: Sequence[str]) -> list[str]:
    """What inputs or outputs are called beside that, e.g. "output_scores": by the model's names for
    them, where those are C's as well; "" where not."""
    names = [f"{base}_{v}" for v in values]
    taken = [*port_names(base, len(values)), *(n for n in names if names.count(n) > 1)]
    return [
        name if _IDENTIFIER.fullmatch(v) and len(v) <= _MOST_ALIAS and name not in taken else ""
        for name, v in zip(names, values, strict=True)
    ]


_PLAIN = frozenset(range(32, 127)) - {*b'"?\\'}


def string_literal(text: str) -> str:
    """Any text as a string of C, in UTF-8; no trigraph, no escape that goes on in what follows."""
    data = text.encode("utf-8", "replace")
    spelled = "".join(chr(b) if b in _PLAIN else f"\\{b:03o}" for b in data)
    return f'"{spelled}"'


_LABEL = 64  # characters of a name that are shown; converters join many names into one


# What would end a table's cell, a line or a span of code.
_HARMLESS = str.maketrans({"|": "/", "\\": "/", "`": "'"})


def comment_safe(text: str) -> str:
    """Text from a model file, fit for a C comment and a table cell; long ones lose their middle."""
    plain = "".join(c if c.isprintable() and c.isascii() else "?" for c in text)
    plain = plain.translate(_HARMLESS)
    # Two signs that are one apart do not begin or end a comment, nor a trigraph.
    plain = re.sub(r"(?<=\*)(?=/)|(?<=/)(?=\*)|(?<=\?)(?=\?)", " ", plain)
    if len(plain) <= _LABEL:
        return plain
    half = (_LABEL - 3) // 2
    return f"{plain[:half]}...{plain[-half:]}"


_MARKDOWN = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "[": "\\[", "]": "\\]"})


def markdown_safe(text: str) -> str:
    """Text from a model file, fit for a cell of a Markdown table: no HTML, no links."""
    return comment_safe(text).translate(_MARKDOWN)
