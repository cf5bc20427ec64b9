"""The GNU toolchain for bare-metal RISC-V; the 64-bit one has the 32-bit libraries too."""

from __future__ import annotations

from midge.toolchain.base import TOOLCHAINS
from midge.toolchain.gnu import GnuCross

TOOLCHAINS.add(
    "riscv64-unknown-elf-gcc",
    GnuCross(
        "riscv64-unknown-elf-gcc",
        install="apt install gcc-riscv64-unknown-elf",
        archs=frozenset({"riscv"}),
    ),
)
