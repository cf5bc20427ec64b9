"""Whatever executes a package: this machine, an emulator, QEMU. One file a runner."""

from __future__ import annotations

import sys

from midge.core.registry import import_all
from midge.run.base import RUNNERS

__all__ = ["RUNNERS"]

import_all(sys.modules[__name__])
