"""What the accessors that flatc makes have, by their names: enumerations, and tables of options."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


def enum(cls: type) -> dict[int, str]:
    return {v: k for k, v in vars(cls).items() if isinstance(v, int) and not k.startswith("_")}


_ACCESSORS: dict[type, dict[str, Callable[[Any], Any]]] = {}


def fields(cls: type) -> dict[str, Callable[[Any], Any]]:
    """snake_case name -> reader, for every scalar and vector field of an options class."""
    if cls not in _ACCESSORS:
        _ACCESSORS[cls] = {
            _snake(n): (_vector(n) if f"{n}AsNumpy" in vars(cls) else _scalar(n))
            for n in vars(cls)
            if n[0].isupper() and n not in ("Init", "GetRootAs") and _is_field(cls, n)
        }
    return _ACCESSORS[cls]


def _is_field(cls: type, name: str) -> bool:
    if re.search(r"(AsNumpy|Length|IsNone|BufferHasIdentifier)$", name):
        return False
    return callable(vars(cls)[name]) and not name.startswith("GetRootAs")


def _scalar(name: str) -> Callable[[Any], Any]:
    return lambda options: getattr(options, name)()


def _vector(name: str) -> Callable[[Any], Any]:
    def get(options: Any) -> tuple[int, ...]:
        values = getattr(options, f"{name}AsNumpy")()
        return () if isinstance(values, int) else tuple(int(v) for v in values)

    return get


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
