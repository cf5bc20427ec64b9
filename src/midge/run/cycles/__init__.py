"""Estimated cycles: an exact count of how often each block ran, times a table. See docs/cycles.md.

One file a CPU family, found by folder; each adds its models to `MODELS` by name.
"""

from __future__ import annotations

import sys

from midge.core.registry import import_all
from midge.run.cycles.model import MODELS, BlockCost, CycleModel, Settings

__all__ = ["BlockCost", "CycleModel", "Settings", "cycle_model"]


def cycle_model(name: str, settings: Settings | None = None) -> CycleModel | None:
    """The model of that name ("cortex-m4"), or None when there is none.

    total cycles = sum over blocks of count * cycles + taken count * taken.
    """
    import_all(sys.modules[__name__])
    build = MODELS.get(name)
    return None if build is None else build(settings or Settings())
