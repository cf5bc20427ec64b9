"""A named table that refuses duplicates and helps with typos; discovery by folder."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from difflib import get_close_matches
from types import ModuleType
from typing import Generic, TypeVar

from midge.core.errors import MidgeError, UsageError

T = TypeVar("T")


class Registry(Generic[T]):
    """Items by name. `error` is the type raised for an unknown name."""

    def __init__(self, kind: str, error: type[MidgeError] = UsageError) -> None:
        self._kind = kind
        self._error = error
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Register `item`; ValueError if the name is taken."""
        if name in self._items:
            raise ValueError(f"{self._kind} {name!r} is registered twice")
        self._items[name] = item
        return item

    def get(self, name: str) -> T | None:
        return self._items.get(name)

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            near = get_close_matches(name, self._items, n=3)
            hint = f"known: {', '.join(self)}"
            if near:
                hint = f"did you mean {', '.join(near)}?" + (f" {hint}" if len(self) <= 8 else "")
            raise self._error(f"unknown {self._kind}", where=name, hint=hint)
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._items))

    def __len__(self) -> int:
        return len(self._items)


def import_all(package: ModuleType) -> None:
    """Import every module of `package`, so that each can register itself."""
    for info in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{info.name}")
