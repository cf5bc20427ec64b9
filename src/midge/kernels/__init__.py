"""Schedules by instruction family, one folder each; `load()` registers them all."""

from __future__ import annotations

import importlib
import pkgutil

from midge.core.registry import import_all


def load() -> None:
    """Register the schedules and instructions of every family in this folder."""
    for info in pkgutil.iter_modules(__path__):
        import_all(importlib.import_module(f"{__name__}.{info.name}"))
