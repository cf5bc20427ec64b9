"""Arm's GNU toolchain for bare metal."""

from __future__ import annotations

from midge.toolchain.base import TOOLCHAINS
from midge.toolchain.gnu import GnuCross

TOOLCHAINS.add(
    "arm-none-eabi-gcc",
    GnuCross(
        "arm-none-eabi-gcc",
        install="apt install gcc-arm-none-eabi, or Arm's GNU toolchain from developer.arm.com",
        archs=frozenset({"arm"}),
    ),
)
