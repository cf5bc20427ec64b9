"""The table that oracle files fill."""

from __future__ import annotations

from typing import Any

from midge.core.registry import Registry

ORACLES: Registry[Any] = Registry("oracle")
