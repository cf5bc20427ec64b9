"""Compilers, found and not assumed: package -> ELF or shared library. One file a compiler."""

from __future__ import annotations

import sys

from midge.core.registry import import_all
from midge.toolchain.base import TOOLCHAINS, Found, Toolchain
from midge.toolchain.build import (
    HOST_TOOLCHAINS,
    build_image,
    build_library,
    build_shared,
    found_build,
)
from midge.toolchain.image import Image, Section, Symbol

__all__ = [
    "HOST_TOOLCHAINS",
    "TOOLCHAINS",
    "Found",
    "Image",
    "Section",
    "Symbol",
    "Toolchain",
    "build_image",
    "build_library",
    "build_shared",
    "found_build",
]

import_all(sys.modules[__name__])
