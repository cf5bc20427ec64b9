"""The system's gcc, for this machine."""

from __future__ import annotations

from midge.toolchain.base import TOOLCHAINS
from midge.toolchain.gnu import NativeCompiler

TOOLCHAINS.add("gcc", NativeCompiler("gcc", install="apt install gcc"))
