"""Options as a Python program gives them: by name, with values of Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from difflib import get_close_matches
from numbers import Integral
from operator import index
from typing import Any

from midge.core.errors import UsageError
from midge.core.given import in_python, texts_of
from midge.core.options import (
    MOST_BYTES,
    CompileOptions,
    Pools,
    Shapes,
    byte_size,
    flags,
    registers,
)


def options_of(values: Mapping[str, Any], base: CompileOptions | None = None) -> CompileOptions:
    """`base`, or the usual options, with `values` by name, as a Python program gives them: pools
    may be a mapping of names to bytes. UsageError for names and types that do not exist."""
    known = flags()
    for name in values:
        if name not in known:
            near = ", ".join(get_close_matches(name, known, n=3))
            hint = f"did you mean {near}?" if near else "help(midge.compile) lists them"
            raise UsageError("unknown option", where=name, hint=hint)
    if base is not None and not isinstance(base, CompileOptions):
        raise UsageError(
            f"{base!r} is no CompileOptions", where="options", hint="or give its fields by name"
        )
    typed = {name: _typed(name, value) for name, value in values.items()}
    with in_python():
        return replace(base or CompileOptions(), **typed)


def _typed(name: str, value: Any) -> Any:
    """`value` as the option has it; UsageError for what it cannot be."""
    default = CompileOptions.__dataclass_fields__[name].default
    if name == "pools":
        return _pools_of(value)
    if name == "shapes":
        return shapes_of(value)
    if name == "reserve":
        return registers(list(texts_of(() if value is None else value, name)), name)
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        kind = "bool"
    elif name in ("name", "optimize"):
        if isinstance(value, str) or (value is None and default is None):
            return value
        kind = "str" if default is not None else "str or None"
    else:
        if isinstance(value, str) and flags()[name].parse is byte_size:
            return byte_size(value, name)
        if value is None or (isinstance(value, Integral) and not isinstance(value, bool)):
            return None if value is None else int(value)
        kind = "int or None"
    raise UsageError(f"{value!r} is not {kind}", where=name, hint=flags()[name].help)


def _pools_of(value: Any) -> Pools:
    pairs = value.items() if isinstance(value, Mapping) else value or ()
    try:
        return tuple(
            (str(name), byte_size(size, "pools") if isinstance(size, str) else index(size))
            for name, size in pairs
        )
    except (TypeError, ValueError):
        raise UsageError(
            f"{value!r} is no names and bytes", where="pools", hint='e.g. {"dtcm": 16384}'
        ) from None


def shapes_of(value: Any) -> Shapes:
    """Shapes of inputs as a Python program gives them: a mapping or pairs. UsageError for anything
    else."""
    pairs = value.items() if isinstance(value, Mapping) else value or ()
    try:
        found = tuple((str(name), tuple(index(n) for n in sizes)) for name, sizes in pairs)
    except (TypeError, ValueError):
        found = (("", (-1,)),)
    if any(not name or any(not 0 <= n <= MOST_BYTES for n in sizes) for name, sizes in found):
        raise UsageError(
            f"{value!r} is no names and shapes", where="shapes", hint='e.g. {"input": (1, 16, 3)}'
        )
    return found
