"""Sizes of a PyTorch program: open ones of its inputs, and what it computes of them on its way.

Once the shapes of the inputs are fixed every size is a number.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from midge.core.errors import ModelError
from midge.core.types import TensorType
from midge.frontends.shapes import Declared

RESULTS = ("as_sym_int", "as_sym_bool", "as_sym_float")
_SYMBOL = re.compile(r"(?:Symbol\('(\w+)'.*\)|([A-Za-z_]\w*))")
_MULTIPLE = re.compile(r"(?:Mul\(Integer\((\d+)\), )?(?:Symbol\('(\w+)'[^)]*\)|([A-Za-z_]\w*))\)?")
_ARITHMETIC: dict[str, Callable[..., Any]] = {
    "sym_max": max, "sym_min": min, "sym_not": operator.not_, "sym_float": float, "sym_int": int,
    "sym_sum": sum, "sym_ite": lambda b, t, f: t if b else f, "floor": math.floor,
    "ceil": math.ceil, "trunc": math.trunc, "round": round,
}  # fmt: skip
_OPERATORS = "add sub mul floordiv truediv mod pow neg pos abs eq ne lt le gt ge and_ or_"
_ARITHMETIC |= {name: getattr(operator, name) for name in _OPERATORS.split()}
_MODULES = ("_operator.", "operator.", "math.", "torch.")


def declared(sizes: Sequence[Mapping[str, Any]]) -> Declared:
    """The shape that a program states of a tensor."""
    return [_declared(size) for size in sizes]


def _declared(size: Mapping[str, Any]) -> int | str | None:
    if "as_int" in size:
        return int(size["as_int"])
    found = _SYMBOL.fullmatch(str(size.get("as_expr", {}).get("expr_str", "")))
    return found[1] or found[2] if found else None


def check_ranges(
    name: str, sizes: Sequence[Mapping[str, Any]], shape: Sequence[int], ranges: Mapping[str, Any]
) -> None:
    """ModelError if an input's open sizes are others than the program was exported for: it may
    have left out what it does of those. Ranges from 2 on are what PyTorch says of any."""
    for number, (size, value) in enumerate(zip(sizes, shape, strict=True)):
        found = _MULTIPLE.fullmatch(str(size.get("as_expr", {}).get("expr_str", "")))
        if found is None:
            continue
        factor = int(found[1] or 1)
        own = ranges.get(found[2] or found[3]) or {}
        least, most = (own.get(n) for n in ("min_val", "max_val"))
        least = least if isinstance(least, int) and least > 2 else 0
        most = most if isinstance(most, int) else value
        if value % factor or not least <= value // factor <= most:
            many = f"multiples of {factor}, " if factor > 1 else ""
            raise ModelError(
                f"dimension {number} of {name!r} is {value}; the program was exported for "
                f"{many}{factor * least} to {factor * most}",
                where=name,
                hint="say another shape: --shape, or export with another range",
            )


def is_of_sizes(node: Mapping[str, Any]) -> bool:
    """Whether an operator computes nothing but sizes."""
    results = node["outputs"]
    return bool(results) and all(key in RESULTS for output in results for key in output)


class Sizes:
    """The sizes that were computed so far, by name."""

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def value(self, size: Mapping[str, Any], src: str) -> Any:
        """An argument that is a size, a float or a truth value of sizes."""
        for kind in ("as_int", "as_bool", "as_float"):
            if kind in size:
                return size[kind]
        name = size.get("as_name")
        if name not in self._known:
            hint = "export with static shapes"
            raise ModelError("a size is computed from values at run time", where=src, hint=hint)
        return self._known[name]

    def compute(
        self, kind: str, arguments: Sequence[Any], node: Mapping[str, Any], src: str
    ) -> None:
        """An operator that computes a size. arguments: with a TensorType for a tensor."""
        (output,) = node["outputs"]
        ((_, result),) = output.items()
        self._known[result["as_name"]] = _computed(kind, arguments, src)


def _computed(kind: str, arguments: Sequence[Any], src: str) -> Any:
    first = arguments[0] if arguments else None
    if isinstance(first, TensorType):
        if kind == "aten.sym_size.int":
            return first.shape[int(arguments[1])]
        if kind == "aten.sym_numel.default":
            return prod(first.shape)
    rule = arithmetic(kind)
    if rule is None or any(isinstance(a, TensorType) for a in arguments):
        what = f"a size is computed by {kind}, which is not supported"
        raise ModelError(what, where=src, hint="export with static shapes")
    try:
        return rule(*arguments)
    except (ArithmeticError, TypeError, ValueError) as error:
        what = f"a size cannot be computed ({error})"
        raise ModelError(what, where=src, hint="say other shapes of the inputs: --shape") from None


def arithmetic(kind: str) -> Callable[..., Any] | None:
    """What computes a size of sizes; None for what is not known."""
    module = next((m for m in _MODULES if kind.startswith(m)), None)
    return _ARITHMETIC.get(kind.removeprefix(module)) if module else None
