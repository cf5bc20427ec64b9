"""The table of runners: each file beside this one that executes packages adds itself."""

from __future__ import annotations

from midge.core.registry import Registry
from midge.core.runner import Runner

RUNNERS: Registry[Runner] = Registry("runner")
