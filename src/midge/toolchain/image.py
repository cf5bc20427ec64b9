"""A linked image and what its ELF file says about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from midge.core.errors import ToolchainError
from midge.core.runner import Sizes

_EXECUTABLE = 0x4  # SHF_EXECINSTR
_WRITABLE = 0x1  # SHF_WRITE
_ALLOCATED = 0x2  # SHF_ALLOC


@dataclass(frozen=True, slots=True)
class Symbol:
    """`size` bytes at `address` (of an instruction: without the Thumb bit)."""

    address: int
    size: int
    kind: Literal["func", "object"]


@dataclass(frozen=True, slots=True)
class Section:
    """`data` at `address` while the program runs; zeros follow up to `size` bytes."""

    name: str
    address: int
    size: int
    data: bytes
    executable: bool
    writable: bool


@dataclass(frozen=True, slots=True)
class Image:
    """A linked bare-metal image.

    path: the ELF file.  toolchain, version: what built it.  symbols: functions and objects.
    sections: what occupies memory, by address.  sizes: flash, code, weights and static RAM.
    """

    path: Path
    toolchain: str
    version: str
    symbols: Mapping[str, Symbol]
    sections: tuple[Section, ...]
    sizes: Sizes

    @property
    def code(self) -> tuple[int, int]:
        """Start and stop address of everything executable; ToolchainError when there is none."""
        parts = [s for s in self.sections if s.executable]
        if not parts:
            raise ToolchainError("the image holds no code", where=str(self.path))
        return parts[0].address, max(s.address + s.size for s in parts)

    def function_at(self, address: int) -> str:
        """ "name+0x12" of the function around `address`, or "" outside every function."""
        for name, symbol in self.symbols.items():
            offset = address - symbol.address
            if symbol.kind == "func" and 0 <= offset < max(symbol.size, 1):
                return f"{name}+{offset:#x}"
        return ""


def read_image(path: Path, toolchain: str, version: str, weights_size: int) -> Image:
    """Read an ELF file; `weights_size` of its flash are constants of the model, in bytes."""
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        with path.open("rb") as file:
            elf = ELFFile(file)
            sections = _sections(elf)
            symbols = _symbols(elf, thumb=elf["e_machine"] == "EM_ARM")
    except (OSError, ELFError) as error:
        raise ToolchainError(f"is not a readable ELF file: {error}", where=str(path)) from error
    flash = sum(len(section.data) for section in sections)
    ram = sum(section.size for section in sections if section.writable)
    weights = min(weights_size, flash)
    sizes = Sizes(flash=flash, code=flash - weights, weights=weights, ram=ram)
    return Image(path, toolchain, version, symbols, sections, sizes)


def _sections(elf: Any) -> tuple[Section, ...]:
    found = []
    for section in elf.iter_sections():
        flags, size = section["sh_flags"], section["sh_size"]
        if not flags & _ALLOCATED or not size:
            continue
        data = b"" if section["sh_type"] == "SHT_NOBITS" else section.data()
        found.append(
            Section(
                name=section.name,
                address=section["sh_addr"],
                size=size,
                data=data,
                executable=bool(flags & _EXECUTABLE),
                writable=bool(flags & _WRITABLE),
            )
        )
    return tuple(sorted(found, key=lambda section: section.address))


def _symbols(elf: Any, *, thumb: bool) -> dict[str, Symbol]:
    """Defined symbols by name, in the order of their addresses. "$t" and the like mark
    instruction sets and are left out; of two local symbols of one name the first is kept."""
    table = elf.get_section_by_name(".symtab")
    found: dict[str, Symbol] = {}
    for symbol in sorted(table.iter_symbols() if table else (), key=lambda s: s["st_value"]):
        kind = symbol["st_info"]["type"]
        if symbol["st_shndx"] == "SHN_UNDEF" or not symbol.name or symbol.name[0] == "$":
            continue
        if kind not in ("STT_FUNC", "STT_OBJECT", "STT_NOTYPE"):
            continue
        is_function = kind == "STT_FUNC"
        address = symbol["st_value"] & ~1 if thumb and is_function else symbol["st_value"]
        entry = Symbol(address, symbol["st_size"], "func" if is_function else "object")
        found.setdefault(symbol.name, entry)
    return found
