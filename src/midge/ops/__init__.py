"""Operators, one file each. `load()` imports them all, and each registers itself."""

from __future__ import annotations

import sys

from midge.core.registry import import_all


def load() -> None:
    """Register every operator of this folder."""
    import_all(sys.modules[__name__])
