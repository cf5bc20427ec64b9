"""Frameworks that say what a model's right answer is. One file each, by model format."""

from __future__ import annotations

import sys
from pathlib import Path

from midge.core.registry import import_all
from midge.oracle.base import ORACLES, Oracle, OracleSession

__all__ = ["ORACLES", "Oracle", "OracleSession", "oracle_for"]


def oracle_for(path: Path) -> Oracle | None:
    """The framework that knows the format of `path`."""
    import_all(sys.modules[__name__])
    found = (ORACLES[name] for name in ORACLES)
    return next((o for o in found if path.suffix.lower() in o.suffixes), None)
